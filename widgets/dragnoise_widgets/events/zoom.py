"""Zoom and pan of a canvas by wheel, pinch, drag and keys."""

from __future__ import annotations

import math
from typing import Any, Protocol

from dragnoise_widgets.sketch.sketch import Sketch
from dragnoise_widgets.sketch.view import Point, View
from dragnoise_widgets.sketch.window import WHOLE, panned, zoomed

STEP = 1.5
"""The factor of a key press."""


class Owner(Protocol):
    """The part of `DragCanvas` that zooming uses."""

    window: Any
    sketch: Sketch

    @property
    def view(self) -> View: ...


class Zoom:
    """Sets a canvas's `window`.  Positions and lengths arrive in canvas pixels."""

    def __init__(self, canvas: Owner) -> None:
        self._owner = canvas
        self._pinched: tuple[Point, float] | None = None  # where the middle of two fingers was, and their distance

    def wheel(self, x: float, y: float, delta: float) -> None:
        """Zoom at (x, y).  delta: of the wheel, > 0 zooms out; 100 units are a factor of two."""
        self._zoom(2 ** (-delta / 100), (x, y))

    def pan(self, dx: float, dy: float) -> None:
        """Move the picture under the pointer by so much."""
        owner = self._owner
        scale = owner.view.scale
        owner.window = panned(owner.window, owner.sketch.size, dx / scale, dy / scale)

    def pinch(self, one: Point, other: Point) -> None:
        """Zoom and pan so that the picture follows two fingers at these positions."""
        middle, apart = ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2), max(math.dist(one, other), 1.0)
        if self._pinched is not None:
            before, far = self._pinched
            self._zoom(apart / far, before)
            self.pan(middle[0] - before[0], middle[1] - before[1])
        self._pinched = middle, apart

    def pinch_ended(self) -> None:
        """End the pinch, when a finger is lifted."""
        self._pinched = None

    def closer(self, steps: int) -> None:
        """Zoom about the middle of what is shown; steps < 0 is farther."""
        width, height = self._owner.view.canvas
        self._zoom(STEP**steps, (width / 2, height / 2))

    def reset(self) -> None:
        """Show the whole picture."""
        self._owner.window = WHOLE

    def _zoom(self, factor: float, at: Point) -> None:
        owner = self._owner
        owner.window = zoomed(owner.window, owner.sketch.size, factor, owner.view.to_image(at))
