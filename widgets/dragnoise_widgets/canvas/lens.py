"""Aids on the canvas: a lens at the pointer while a point is pulled, and what the mask's colour means."""

from __future__ import annotations

import math
from typing import Any

from dragnoise_widgets.sketch.view import SMALLEST, UNIT, Point, View

CASE, LIGHT = "rgba(15, 18, 24, 0.8)", "#ffffff"

LARGER, RADIUS, AWAY = 3.0, 46, 84
"""How much larger than on the canvas; the lens's radius and how far its middle is from the pointer, in CSS pixels."""

CROSS = 14
"""Half the length of the lines that cross at the point, in CSS pixels."""


def needs_lens(view: View) -> bool:
    """Is the picture so small that marks hide much of it?  Zoomed in as much as the lens does, nothing is hidden."""
    return max(view.image) < SMALLEST and view.window.zoom < LARGER


def lens_middle(view: View, at: Point) -> Point:
    """Where the lens stands for a pointer at `at`, both in canvas pixels: aside of it, towards the canvas's middle."""
    width, height = view.canvas
    dx, dy = width / 2 - at[0], height / 2 - at[1]
    length = math.hypot(dx, dy)
    if length < 1:
        dx, dy, length = 0.0, -1.0, 1.0
    return at[0] + AWAY * UNIT * dx / length, at[1] + AWAY * UNIT * dy / length


def lens(canvas: Any, view: View, drawable: Any, point: Point) -> None:
    """Draw the lens, if the picture needs one, for a pointer at an image point.  drawable: the whole picture."""
    if not needs_lens(view):
        return
    at, (left, top, width, height) = view.to_canvas(point), view.picture
    x, y = lens_middle(view, at)
    radius = RADIUS * UNIT
    canvas.save()
    canvas.begin_path()
    canvas.arc(x, y, radius, 0, 2 * math.pi)
    canvas.clip()
    canvas.fill_style = "#000"
    canvas.fill_rect(x - radius, y - radius, 2 * radius, 2 * radius)
    canvas.image_smoothing_enabled = False
    canvas.draw_image(
        drawable, x + (left - at[0]) * LARGER, y + (top - at[1]) * LARGER, width * LARGER, height * LARGER
    )
    canvas.restore()
    for style, thick in ((CASE, 4), (LIGHT, 2)):
        canvas.stroke_style, canvas.line_width = style, thick * UNIT
        canvas.stroke_circle(x, y, radius)
    reach = CROSS * UNIT
    for style, thick in ((CASE, 3), (LIGHT, 1)):
        canvas.stroke_style, canvas.line_width = style, thick * UNIT
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):  # open in the middle, where the point is
            canvas.stroke_line(x + 4 * UNIT * dx, y + 4 * UNIT * dy, x + reach * dx, y + reach * dy)


def legend(canvas: Any, view: View, style: str) -> None:
    """Say in the lower left corner what the mask's colour, `style`, means."""
    side, gap, below = 12 * UNIT, 8 * UNIT, view.canvas[1]
    canvas.fill_style = CASE
    canvas.fill_rect(0, below - side - 2 * gap, 186 * UNIT, side + 2 * gap)
    canvas.fill_style = style
    canvas.fill_rect(gap, below - side - gap, side, side)
    canvas.font, canvas.fill_style = f"{13 * UNIT:g}px sans-serif", LIGHT
    canvas.text_align, canvas.text_baseline = "left", "middle"
    canvas.fill_text("painted = may change", 2 * gap + side, below - side / 2 - gap)
