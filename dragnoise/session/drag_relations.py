"""Relations between drags: those that oppose each other, and those that ask for a turn; drags and lengths in words."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence

import numpy as np

from dragnoise.geometry import Drag

OPPOSED = -0.5
"""Two drags oppose each other when the cosine between them is below this, and their paths come within `PATH`."""

PATH = 0.1
"""Of the picture's longer side: drags whose paths come as near to each other move the same thing."""

TURN = (30.0, 150.0)
"""Degrees of a turn that is told; nearer to half a turn, drags oppose each other."""

SIZE = (0.6, 1.7)
"""What is turned keeps about its size."""

FIT = 0.2
"""Of the motion, as a share of its squared length, the most that the turn may leave unexplained."""


def opposed(one: Drag, other: Drag, side: int) -> bool:
    """Do two drags go against each other, close together?  side: the picture's longer side in pixels."""
    a, b, c, d = (np.array(point) for point in (one.anchor, one.objective, other.anchor, other.objective))
    cosine = float((b - a) @ (d - c)) / (np.linalg.norm(b - a) * np.linalg.norm(d - c))
    share = np.linspace(0, 1, 33)[:, None]
    paths = (a + share * (b - a))[:, None] - (c + share * (d - c))
    return bool(cosine < OPPOSED and np.linalg.norm(paths, axis=-1).min() < PATH * side)


def turn_of(drags: Sequence[Drag]) -> float:
    """Degrees by which the drags together turn what they hold, clockwise > 0 as y goes down; 0 where they do not."""
    fit = _fit(drags)
    if fit is None:
        return 0.0
    factor, unexplained = fit
    degrees = math.degrees(cmath.phase(factor))
    turns = TURN[0] <= abs(degrees) <= TURN[1] and SIZE[0] <= abs(factor) <= SIZE[1] and unexplained <= FIT
    return degrees if turns else 0.0


def half_turned(drags: Sequence[Drag], size: tuple[int, int]) -> tuple[Drag, ...]:
    """Drags from the same anchors that turn half as far about the same centre, within a picture of (width, height).

    Raises ValueError for drags without a turn, see `turn_of`.
    """
    if (fit := _fit(drags)) is None or not turn_of(drags):
        raise ValueError("these drags ask for no turn; give two or more that turn something by 30 to 150 degrees.")
    (anchors, objectives), factor = _complex(drags), fit[0]
    centre = (objectives.mean() - factor * anchors.mean()) / (1 - factor)
    ends = centre + cmath.sqrt(factor) * (anchors - centre)
    across, down = (np.clip(v, 0, side - 1).tolist() for v, side in zip((ends.real, ends.imag), size, strict=True))
    return tuple(Drag(drag.anchor, end) for drag, end in zip(drags, zip(across, down, strict=True), strict=True))


def _fit(drags: Sequence[Drag]) -> tuple[complex, float] | None:
    """The complex factor that takes anchors to objectives about their centres, and the share that it leaves over."""
    if len(drags) < 2:
        return None
    anchors, objectives = _complex(drags)
    a, b = anchors - anchors.mean(), objectives - objectives.mean()
    size = float((abs(a) ** 2).sum())
    motion = float((abs(objectives - anchors) ** 2).sum())
    if size == 0 or motion == 0:
        return None
    factor = complex((a.conj() * b).sum() / size)
    return factor, float((abs(b - factor * a) ** 2).sum()) / motion


def _complex(drags: Sequence[Drag]) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and objectives as complex numbers, x + iy."""
    ends = np.array([(drag.anchor, drag.objective) for drag in drags], float)
    return ends[:, 0, 0] + 1j * ends[:, 0, 1], ends[:, 1, 0] + 1j * ends[:, 1, 1]


def in_words(which: Sequence[int], one: str, many: str) -> str:
    """Drags by their numbers, with the verb that fits: "drag 0 is", "drags 0, 1 and 2 are"."""
    head = ", ".join(map(str, which[:-1]))
    return f"drags {head} and {which[-1]} {many}" if head else f"drag {which[-1]} {one}"


def pixels(length: float | np.floating) -> str:
    """A length in words: "12 px", or with a decimal below 10 that is no 0."""
    return f"{length:.0f} px" if length >= 9.95 else f"{length:.1f}".removesuffix(".0") + " px"
