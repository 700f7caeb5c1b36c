"""Release of the OpenMP threads that torch keeps for every thread that has computed something."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

SOFT = 1
"""`omp_pause_soft` of OpenMP 5.0, section 3.2: what the program has set is kept."""


def disband() -> None:
    """Let the calling thread's team go; its next computation gathers a new one, in a tenth of a millisecond.

    GNU's OpenMP counts idle teams too: with more threads than cores, those that work sleep at every turn
    instead of waiting briefly for each other.  With one idle team on two cores, an iteration on the embedded
    model takes half as long again.
    """
    if pause := _pause():
        pause(SOFT)


@cache
def _pause() -> Callable[[int], int] | None:
    """OpenMP's own function for it, where torch has brought one; other systems' OpenMP does not count so."""
    return getattr(ctypes.CDLL(None), "omp_pause_resource_all", None) if sys.platform == "linux" else None
