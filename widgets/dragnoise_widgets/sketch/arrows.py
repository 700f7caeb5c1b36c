"""The middle of an arrow, by which it is moved as a whole: pure functions, in image pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from dragnoise.geometry import Drag
from dragnoise_widgets.sketch.sketch import End
from dragnoise_widgets.sketch.view import Point

GRIP = (0.25, 0.75)
"""The part of an arrow's length that moves it; what is nearer to an end belongs to that end."""

NEAR = 0.6
"""Hit radius of an arrow, relative to that of a point."""


def middle(drag: Drag) -> Point:
    """The point halfway between the ends."""
    (ax, ay), (bx, by) = drag.anchor, drag.objective
    return (ax + bx) / 2, (ay + by) / 2


def arrow_at(drags: Sequence[Drag], point: Point, reach: float) -> int | None:
    """The index of the nearest arrow whose middle part is within `NEAR` * reach; of equally near ones the topmost."""
    far = [(_distance(drag, point), -index) for index, drag in enumerate(drags)]
    near = min((each for each in far if each[0] <= NEAR * reach), default=None)
    return None if near is None else -near[1]


def moved(drag: Drag, end: End, to: Point, size: tuple[int, int]) -> Drag:
    """The drag with that end at `to`, or with its middle as near to it as both stay in a picture of (width, height)."""
    if end != "arrow":
        return replace(drag, **{end: to})
    steps = []
    for at, wanted, a, b, length in zip(middle(drag), to, drag.anchor, drag.objective, size, strict=True):
        steps.append(min(max(wanted - at, -min(a, b)), length - 1 - max(a, b)))
    (ax, ay), (bx, by), (dx, dy) = drag.anchor, drag.objective, steps
    return Drag((ax + dx, ay + dy), (bx + dx, by + dy))


def _distance(drag: Drag, point: Point) -> float:
    """From a point to the middle part of an arrow; infinite beyond its ends."""
    (ax, ay), (bx, by), (x, y) = drag.anchor, drag.objective, point
    dx, dy = bx - ax, by - ay
    along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)
    if not GRIP[0] <= along <= GRIP[1]:
        return math.inf
    return math.dist(point, (ax + along * dx, ay + along * dy))
