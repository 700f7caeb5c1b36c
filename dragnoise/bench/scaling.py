"""How long a run takes on more workers: a discrete simulation of measured or published seconds, and a rehearsal."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from concurrent.futures import Executor, as_completed
from typing import Any

import numpy as np

from dragnoise.bench.reports.tables import table
from dragnoise.validation import as_integer

DRAGBENCH = {1: 108, 2: 63, 3: 25, 4: 6, 5: 2, 6: 1}
"""Pairs -> pictures: DragBench's 205 pictures and 349 pairs, of which 97 pictures have several; the shares among these
are assumed."""


def dragbench_seconds(seconds_a_point: Sequence[float], *, a_picture: float = 0.0, seed: int = 0) -> list[float]:
    """Seconds of each job of DragBench with editors that take so many seconds a point, in a random order of pictures.

    a_picture: seconds that each picture and editor takes besides, to fit a LoRA and to measure.
    """
    counts = [count for count, pictures in DRAGBENCH.items() for _ in range(pictures)]
    order = np.random.default_rng(seed).permutation(counts)
    return [float(count * seconds + a_picture) for count in order for seconds in seconds_a_point]


def makespan(seconds: Sequence[float], workers: int, *, start: float = 0.0) -> float:
    """Seconds until all jobs are done: each worker takes the next job in order as soon as it is free.

    That is what the executors do.  start: seconds that each worker needs before its first job, to load the model.
    Raises ValueError for fewer workers than one.
    """
    workers = as_integer("workers", workers, 1)
    free = [float(start)] * workers
    ends = [heapq.heapreplace(free, free[0] + duration) + duration for duration in seconds]
    return max(ends, default=0.0)


def rehearse(seconds: Sequence[float], executor: Executor, *, pace: float = 1000.0) -> float:
    """Seconds that the jobs would take on an executor, found by sleeping on it `pace` times as fast."""
    begin = time.perf_counter()
    for future in as_completed([executor.submit(time.sleep, duration / pace) for duration in seconds]):
        future.result()
    return (time.perf_counter() - begin) * pace


def scaling(seconds: Sequence[float], workers: Sequence[int], *, start: float = 0.0, form: str = "text") -> str:
    """A table of the time and the gain for each number of workers, in a format of `tables.FORMATS`."""
    alone = makespan(seconds, 1, start=start)
    rows = []
    for count in workers:
        took = makespan(seconds, count, start=start)
        rows.append([str(count), _told(took), f"{alone / took:.1f}" if took else ""])
    return table(["workers", "time", "times as fast as one"], rows, form)


def measured_seconds(records: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds of each job of a run's records: LoRA, edit and measuring."""
    return [record["cost"]["seconds_with_lora"] + record["cost"].get("measuring_seconds", 0.0) for record in records]


def _told(seconds: float) -> str:
    unit, name = (3600, "h") if seconds >= 5400 else (60, "min") if seconds >= 90 else (1, "s")
    return f"{seconds / unit:.1f} {name}"
