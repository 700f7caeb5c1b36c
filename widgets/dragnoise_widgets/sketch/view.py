"""View: the mapping between image pixels and canvas pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dragnoise_widgets.sketch.window import WHOLE, Window

Point = tuple[float, float]

SMALLEST, LARGEST = 480, 640
"""The longer side of a canvas in CSS pixels: small pictures are shown larger, large ones smaller."""

NARROWEST, BESIDE = 260, 460
"""In CSS pixels: the shorter side of a canvas at least, and the height of all that stands over and under it."""

COARSE = 0.5
"""A pointer moves by whole CSS pixels: in steps of this many image pixels, their fractions tell nothing."""

UNIT = 2.0
"""Canvas pixels per CSS pixel of the page: twice as many keep lines and letters sharp on dense screens."""


@dataclass(frozen=True)
class View:
    """image: (width, height) of the picture.  css: of the canvas on a page with room.  canvas: of its own pixels.
    window: the part of the picture that the canvas shows.

    Image coordinates name pixel centres, (0, 0) the middle of the upper left one; canvas coordinates
    start at that pixel's corner, as the browser counts them.
    """

    image: tuple[int, int]
    css: tuple[int, int]
    canvas: tuple[int, int]
    window: Window = WHOLE

    @classmethod
    def of(cls, image: tuple[int, int], window: Window = WHOLE, seen: float = 0.0) -> View:
        """The view of a picture of (width, height), or of a part of it.

        seen: the canvas's width on the page in CSS pixels, so that marks are as large on a narrow page; 0 if unknown.
        """
        scale = min(max(max(image), SMALLEST), LARGEST) / max(image)
        width, height = (max(round(side * scale), 1) for side in image)
        unit = UNIT * seen / width if seen else UNIT
        canvas = max(round(unit * width), 1), max(round(unit * height), 1)
        return cls(image, (width, height), canvas, window)

    @property
    def width(self) -> str:
        """The width on the page as CSS: `css[0]`, less in a narrow or low window."""
        aspect = self.image[0] / self.image[1]
        least, of_window = round(NARROWEST * min(aspect, 1)), f"{aspect:.4f} * (100vh - {BESIDE}px)"
        return f"min({self.css[0]}px, 100%, max({least}px, {of_window}))"

    @property
    def scale(self) -> float:
        """Canvas pixels per image pixel (both axes agree to a rounding)."""
        return self.canvas[0] / self.image[0] * self.window.zoom

    def to_canvas(self, point: Point) -> Point:
        """(x, y) in image pixels -> in canvas pixels."""
        (x, y), (w, h), (cw, ch), part = point, self.image, self.canvas, self.window
        return (x + 0.5 - part.left) * part.zoom * cw / w, (y + 0.5 - part.top) * part.zoom * ch / h

    def to_image(self, point: Point) -> Point:
        """(x, y) in canvas pixels -> in image pixels, not clamped.

        To a tenth; where a CSS pixel is `COARSE` image pixels or more, the whole one under the pointer.
        """
        (x, y), (w, h), (cw, ch), part = point, self.image, self.canvas, self.window
        across, down = x * w / cw / part.zoom + part.left, y * h / ch / part.zoom + part.top
        if self.length(1) >= COARSE:
            return float(math.floor(across)), float(math.floor(down))
        return round(across - 0.5, 1), round(down - 0.5, 1)

    @property
    def picture(self) -> tuple[float, float, float, float]:
        """(x, y, width, height) in canvas pixels of the whole picture, of which the canvas shows a part."""
        x, y = self.to_canvas((-0.5, -0.5))
        return x, y, self.canvas[0] * self.window.zoom, self.canvas[1] * self.window.zoom

    def length(self, css: float) -> float:
        """A length in CSS pixels -> in image pixels."""
        return css * UNIT / self.scale
