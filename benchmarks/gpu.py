"""`python -m benchmarks gpu`: what only a GPU can show, in under ten minutes; `--dry` tries it on the CPU, in little.

Sections: times beside plain, peak memory, whether two runs give the same bits, half against single precision, running
out of memory and going on, and ways that may be faster.  What is found is written after every section, and a section
that fails leaves its error.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import report
from benchmarks.measuring.counting import counted, counting
from benchmarks.measuring.timing import ceiling, in_turns, peak
from benchmarks.phases import OURS, Bench
from benchmarks.shapes import SHAPES
from dragnoise import DragSession
from dragnoise.interrupts import OutOfMemory

Row = tuple[str, str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", default="sd15", choices=[name for name in SHAPES if name != "toyland"])
    parser.add_argument("--side", type=int, help="of the picture in pixels, default the shape's own")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no further section begins")
    parser.add_argument("--compile", action="store_true", help="torch.compile among the ways that may be faster")
    parser.add_argument("--dry", action="store_true", help="on the CPU with a tiny pipeline")
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), help="some of the sections")
    parser.add_argument("--folder", default="benchmarks/results")


def main(given: argparse.Namespace, command: str) -> None:
    if not (given.dry or torch.cuda.is_available()):
        raise SystemExit("there is no CUDA device; --dry tries this on the CPU.")
    kind = "cpu" if given.dry else "cuda"
    half = torch.bfloat16 if given.dry else torch.float16
    if given.dry:
        given.shape, given.side, given.rounds = "tiny", given.side or 64, min(given.rounds, 2)
    place = Place(given.shape, given.side, kind, half, given.rounds, compiled=given.compile)
    rows: list[Row] = []
    result: dict[str, Any] = {
        "title": f"{given.shape} on {kind}", "shape": given.shape, "side": given.side or SHAPES[given.shape].side,
        "device": "dry" if given.dry else "gpu", "dtype": str(half).removeprefix("torch."), "command": command,
        "date": time.strftime("%Y-%m-%d"), "machine": report.machine(kind), "versions": report.versions(),
    }  # fmt: skip
    started = time.perf_counter()
    for name in given.only or SECTIONS:
        section = SECTIONS[name]
        if time.perf_counter() - started > 60 * given.minutes:
            found: list[Row] = [(name, "not begun, the time was up", "")]
        else:
            found = attempted(name, partial(section, place))
        rows += found
        for row in found:
            print(": ".join(cell for cell in row if cell), flush=True)
        path = report.write(result | {"rows": rows}, given.folder)
        gc.collect()
    print(f"{time.perf_counter() - started:.0f} s; written to {path} and {report.update(given.folder)}.")


def attempted(name: str, section: Callable[[], list[Row]]) -> list[Row]:
    """What a section finds, or its error."""
    try:
        return section()
    except Exception as error:  # the next sections may still work
        return [(name, f"failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}", "")]


class Place:
    """Where and what is measured; a bench of either precision, of which one is kept at a time."""

    def __init__(self, shape: str, side: int | None, device: str, half: torch.dtype, rounds: int, *, compiled: bool):
        self.shape, self.side, self.device, self.half, self.rounds = shape, side, device, half, rounds
        self.compiled = compiled
        self._kept: tuple[torch.dtype, Bench] | None = None

    def bench(self, dtype: torch.dtype | None = None) -> Bench:
        """In half precision unless told otherwise."""
        dtype = dtype or self.half
        if self._kept is None or self._kept[0] != dtype:
            self._kept = None
            self._kept = dtype, Bench(self.shape, side=self.side, steps=7, device=self.device, dtype=dtype)
        return self._kept[1]


# ---------------------------------------------------------------------------------------- sections


def times(place: Place) -> list[Row]:
    """Ours beside plain, in turns, and an iteration against what its operations take at the ceiling."""
    top, _ = ceiling(place.device, place.half)
    rows: list[Row] = [("ceiling, a large matrix product", f"{top / 1e12:.2f} TFLOP/s", "")]
    for name, works in place.bench().all():
        taken = in_turns(works, place.rounds, warmup=2, device=place.device)
        ours = taken[OURS].seconds
        said = ", ".join(
            f"{side} {t.seconds * 1000:.1f} ms ({t.seconds / ours:.2f}x)" for side, t in taken.items() if side != OURS
        )
        wanted = {"iteration": "plain >= 3.5x", "LoRA step": "plain >= 1.5x"}.get(name, "")
        rows.append((name, f"{ours * 1000:.1f} ms; {said}", wanted))
        if name == "iteration":
            with counting():
                work = Bench(place.shape, side=place.side, steps=7, device="meta").iterations(only=())[OURS]
                work()
            counts = counted(work)
            rows.append((
                "iteration against its operations", f"{ours * top / counts.flops:.2f} times as long, "
                f"{counts.reads} blocking reads, {counts.blocking_uploads} waiting uploads",
                "<= 1.3 times, <= 1 read",
            ))  # fmt: skip
    return rows


def memory(place: Place) -> list[Row]:
    """Peaks of every phase, weights and all."""
    rows = []
    for name, works in place.bench().all():
        work = works[OURS]
        works.clear()
        work()
        with peak(place.device) as found:
            work()
        rows.append((f"peak memory, {name}", f"{found[0] / 2**30:.2f} GiB", "<= 8" if "LoRA" in name else "<= 4"))
    return rows


def same_bits(place: Place) -> list[Row]:
    """Two runs of one edit, and an iteration gone back to and done again."""
    bench = place.bench()
    runs = [edited(bench, 10) for _ in range(2)]
    apart = [float((a.variable - b.variable).abs().max()) for a, b in zip(*(run.history for run in runs), strict=True)]
    pictures = [np.asarray(run.render(), int) for run in runs]
    last = runs[0].history[10].variable
    runs[0].rewind(5)
    for _ in range(5):
        again = runs[0].step()
    return [
        ("two runs of 10 iterations", f"largest difference of the variable {max(apart):.3g}", "0"),
        ("their pictures", f"largest difference {np.abs(pictures[0] - pictures[1]).max()} of 255", "0"),
        ("back by 5 and on again", f"largest difference {float((again.variable - last).abs().max()):.3g}", "0"),
    ]


def precision(place: Place) -> list[Row]:
    """Anchors of 20 iterations in half and in single precision, on this shape and on the embedded model."""
    rows = []
    for shape, side in ((place.shape, place.side), ("toyland", None)):
        ends = []
        for dtype in (place.half, torch.float32):
            if shape == place.shape:
                bench = place.bench(dtype)
            else:
                bench = Bench(shape, side=side, steps=7, device=place.device, dtype=dtype)
            session = edited(bench, 20)
            ends.append((session.anchors, session.history[20].loss))
        away = float(np.linalg.norm(ends[0][0] - ends[1][0], axis=-1).max())
        losses = f"loss {ends[0][1]:.4g} and {ends[1][1]:.4g}"
        what = f"{shape}: {str(place.half).removeprefix('torch.')} against float32, 20 iterations"
        rows.append((what, f"anchors at most {away:.2f} px apart, {losses}", "<= 1 px"))
    return rows


def out_of_memory(place: Place) -> list[Row]:
    """An iteration that runs out of memory is said so, changes nothing, and goes on with the same bits afterwards."""
    bench = place.bench()
    undisturbed, session = edited(bench, 4), edited(bench, 3)
    before, said = len(session.history), "nothing"
    session.store.engine.release()
    with scarce(place.device, bench):
        try:
            session.step()
        except OutOfMemory as error:
            said = str(error)
    kept = len(session.history) == before
    after = session.step()
    apart = float((after.variable - undisturbed.history[4].variable).abs().max())
    return [
        ("memory used up", said, "OutOfMemory, with advice"),
        ("and then", f"history {'kept' if kept else 'changed'}, next variable differs by {apart:.3g}", "kept, 0"),
    ]


def faster_ways(place: Place) -> list[Row]:
    """An iteration and a rendering with one thing changed each, against ours as it is: times as long."""
    rows = []
    for name, way in ways(place):
        with way(place.bench()) as bench:
            if bench is None:
                rows.append((name, "not tried", "< 1"))
                continue
            works = {"as it is": place.bench().iterations(only=())[OURS], name: bench.iterations(only=())[OURS]}
            renders = {"as it is": place.bench().rendering()[OURS], name: bench.rendering()[OURS]}
            taken = [in_turns(pair, place.rounds, warmup=3, device=place.device) for pair in (works, renders)]
        said = [each[name].seconds / each["as it is"].seconds for each in taken]
        rows.append((name, f"iteration {said[0]:.2f} times, rendering {said[1]:.2f} times as long", "< 1"))
    return rows


SECTIONS: dict[str, Callable[[Place], list[Row]]] = {
    "times": times, "memory": memory, "same bits": same_bits, "precision": precision, "out of memory": out_of_memory,
    "faster ways": faster_ways,
}  # fmt: skip


# ---------------------------------------------------------------------------------------- helpers


def edited(bench: Bench, iterations: int) -> DragSession:
    """A new session after so many iterations."""
    session = bench.session(bench.config(), masked=True, points=2)  # with the model's own rate
    for _ in range(iterations):
        session.step()
    return session


@contextmanager
def scarce(device: str, bench: Bench) -> Iterator[None]:
    """Inside, memory runs out: on CUDA it is taken, elsewhere the U-Net's decoder says so."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        ballast = torch.empty(max(free - 64 * 2**20, 0), dtype=torch.uint8, device=device)
        try:
            yield
        finally:
            del ballast
            torch.cuda.empty_cache()
        return

    def refuse(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory, as a trial")

    hook = bench.model.unet.unet.up_blocks[0].register_forward_pre_hook(refuse)
    try:
        yield
    finally:
        hook.remove()


def ways(place: Place) -> list[tuple[str, Any]]:
    """Names of ways that may be faster, and context managers that give a bench that works so, or None."""

    @contextmanager
    def channels_last(bench: Bench) -> Iterator[Bench]:
        other = Bench(place.shape, side=place.side, steps=7, device=place.device, dtype=place.half)
        other.model.pipeline.unet.to(memory_format=torch.channels_last)
        yield other

    @contextmanager
    def tuned_convolutions(bench: Bench) -> Iterator[Bench]:
        before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        yield bench
        torch.backends.cudnn.benchmark = before

    @contextmanager
    def compiled(bench: Bench) -> Iterator[Bench | None]:
        if not place.compiled:
            yield None
            return
        other = Bench(place.shape, side=place.side, steps=7, device=place.device, dtype=place.half)
        unet: Any = other.model.pipeline.unet
        for part in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            part.compile()
        yield other

    return [
        ("channels_last", channels_last),
        ("cudnn.benchmark", tuned_convolutions),
        ("torch.compile of the blocks", compiled),
    ]
