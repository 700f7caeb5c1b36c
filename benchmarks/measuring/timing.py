"""Times of functions taken in turns, the ceiling of a device's arithmetic, and peak memory of a piece of work."""

from __future__ import annotations

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Times:
    """Seconds of some runs: by the clock, and of the processor, which other programs of the machine touch less."""

    clock: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Median by the clock."""
        return statistics.median(self.clock)

    @property
    def work(self) -> float:
        """Median of the processor's."""
        return statistics.median(self.processor)


def in_turns(
    works: Mapping[str, Callable[[], object]], rounds: int, *, warmup: int = 1, device: str = "cpu"
) -> dict[str, Times]:
    """Each function once in every round, after rounds that do not count."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for round_ in range(warmup + rounds):
        for name, work in works.items():
            wait(device)
            started, used = time.perf_counter(), time.process_time()
            work()
            wait(device)
            if round_ >= warmup:
                taken[name].append((time.perf_counter() - started, time.process_time() - used))
    return {name: Times(*map(tuple, zip(*runs, strict=True))) for name, runs in taken.items()}


def wait(device: str) -> None:
    """Until a CUDA device has done what it was asked."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def ceiling(device: str, dtype: torch.dtype, *, rounds: int = 5) -> tuple[float, float]:
    """Operations a second of the fastest large matrix product, by the clock and by the processor's time."""
    side = 8192 if device.startswith("cuda") else 1024
    a, b = (torch.randn(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    times = in_turns({"matmul": lambda: a @ b}, rounds, warmup=2, device=device)["matmul"]
    return 2 * side**3 / min(times.clock), 2 * side**3 / max(min(times.processor), 1e-9)


# ---------------------------------------------------------------------------------------- memory


@contextmanager
def peak(device: str) -> Iterator[list[int]]:
    """Gives a list that holds, at the end, the peak of the memory used inside, in bytes.

    On CUDA by the allocator; elsewhere of the whole process, where the system can forget an earlier peak (Linux).
    """
    gc.collect()
    found: list[int] = []
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield found
        found.append(torch.cuda.max_memory_allocated())
        return
    with_reset = Path("/proc/self/clear_refs")
    if with_reset.exists():
        with_reset.write_text("5")
    yield found
    found.append(peak_resident())


def peak_resident() -> int:
    """Bytes of this process in memory at their peak."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident() -> int:
    """Bytes of this process in memory now; the peak where the system does not say."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return peak_resident()
