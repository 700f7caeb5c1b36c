"""Percentile bootstrap intervals (Efron 1979) of a statistic of independent cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

RESAMPLES, LEVEL = 2000, 0.95


class Interval(NamedTuple):
    """A statistic and the ends of its interval at `LEVEL`."""

    value: float
    low: float
    high: float


def interval(
    values: Sequence[float] | np.ndarray, statistic: Callable[..., Any] = np.median, *, seed: int = 0
) -> Interval:
    """The statistic of (n,) values, and its interval over `RESAMPLES` draws of n with replacement.

    statistic: takes an array and `axis`, such as np.mean.  Raises ValueError without values.
    """
    x = np.asarray(values, float)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"an interval needs a row of at least one value, not shape {x.shape}.")
    draws = x[np.random.default_rng(seed).integers(0, len(x), (RESAMPLES, len(x)))]
    low, high = np.quantile(statistic(draws, axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(statistic(x, axis=0)), float(low), float(high))
