"""Number of OpenMP threads that torch uses beside a notebook page, and release of idle ones."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

SOFT = 1
"""`omp_pause_soft` of OpenMP 5.0, section 3.2: what the program has set is kept."""


@cache
def limit_threads() -> None:
    """Let torch compute with fewer threads than the machine has cores, so that browser and kernel have one.

    Threads of OpenMP wait for each other without sleeping.  When another program takes one of two cores, two threads
    are four times slower than one: 24 iterations on the embedded model then take 14 s in place of 4 s.  Done once a
    process, for the calling thread and all that begin later: whoever calls `torch.set_num_threads` afterwards decides.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if 1 < cores <= torch.get_num_threads():
        torch.set_num_threads(cores - 1)


def release_idle_threads() -> None:
    """Release the calling thread's idle OpenMP threads; its next computation starts new ones, within 0.1 ms.

    GNU's OpenMP counts idle teams too: with more threads than cores, those that work sleep at every turn
    instead of waiting briefly for each other.  With one idle team on two cores, an iteration on the embedded
    model takes half as long again.
    """
    if pause := _pause():
        pause(SOFT)


@cache
def _pause() -> Callable[[int], int] | None:
    """OpenMP's function that releases idle threads, on Linux; OpenMP of other systems does not count idle threads."""
    return getattr(ctypes.CDLL(None), "omp_pause_resource_all", None) if sys.platform == "linux" else None
