"""Drawing of a canvas's layers: pure functions of a `Scene` on anything with ipycanvas's `Canvas` API."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragnoise_widgets.canvas import lens
from dragnoise_widgets.sketch import arrows, edits
from dragnoise_widgets.sketch.sketch import ENDS, LONE, Move, Pull, Sketch, Spot, Stroke
from dragnoise_widgets.sketch.view import UNIT, Point, View

ANCHOR, OBJECTIVE, PATH, SELECTED = "#e5352b", "#1f7ae0", "#ffd23c", "#ffe27a"
MASK = (0, 200, 150)
LIGHT, DARK = "#ffffff", "rgba(15, 18, 24, 0.8)"
MASK_STYLE = "rgb({}, {}, {})".format(*MASK)
RADIUS = 7.5
"""Of an anchor, in CSS pixels as all lengths below."""
CASED: tuple[tuple[str | None, float], ...] = ((DARK, 5), (LIGHT, 3.8), (None, 2))
"""Styles and widths of a mark's outline, the widest first; None stands for its own colour."""


@dataclass(frozen=True)
class Picture:
    """A drawable (an `ipywidgets.Image`) and the number of times its pixels were replaced."""

    drawable: Any
    version: int = 0


@dataclass(frozen=True)
class Scene:
    """All that the layers show.

    paths: for each anchor where it has been, the latest last.  opacity: the mask's, 0..1.
    cursor: where the pointer hovers, as far as it is shown.  hovered: where the point is that a press would take.
    """

    view: View
    sketch: Sketch
    picture: Picture | None = None
    overlay: Picture | None = None
    opacity: float = 0.45
    paths: tuple[tuple[Point, ...], ...] = ()
    brush: float | None = None
    cursor: Point | None = None
    hovered: Point | None = None


# --------------------------------------------------------------------------------------- layers


def redraw(layers: Sequence[Any], scene: Scene, before: Scene | None = None) -> None:
    """Draw the layers on which `scene` differs from `before`, the lowest first; without `before`, all."""
    for layer, (shows, draw) in zip(layers, LAYERS, strict=True):
        if before is None or shows(scene) != shows(before):
            layer.clear()
            draw(layer, scene)


def draw_picture(canvas: Any, scene: Scene) -> None:
    """The picture, over all of the canvas."""
    if scene.picture is not None:
        canvas.global_alpha = 1
        canvas.image_smoothing_enabled = True
        canvas.draw_image(scene.picture.drawable, *scene.view.picture)


def draw_mask(canvas: Any, scene: Scene) -> None:
    """The mask in colour, without smoothing."""
    if scene.overlay is not None:
        canvas.global_alpha = scene.opacity
        canvas.image_smoothing_enabled = False
        canvas.draw_image(scene.overlay.drawable, *scene.view.picture)


def draw_drags(canvas: Any, scene: Scene) -> None:
    """The drags, the lone anchor and the paths; without the drag that is being moved."""
    held, edit = _held(scene), scene.sketch.edit
    canvas.global_alpha = 1
    for index, drag in enumerate(edit.drags):
        if held is None or held.index != index:
            _arrow(canvas, scene, drag.anchor, drag.objective)
    for path in scene.paths:
        _path(canvas, scene.view, path)
    for index, drag in enumerate(edit.drags):
        if held is None or held.index != index:
            _pair(canvas, scene, index, drag.anchor, drag.objective)
    if edit.pending is not None and held != LONE:
        _lone(canvas, scene, edit.pending)


def draw_interaction(canvas: Any, scene: Scene) -> None:
    """The gesture under way: an arrow, a moved point, a stroke, the brush's ring, or the point under the pointer."""
    gesture, edit = scene.sketch.gesture, scene.sketch.edit
    canvas.global_alpha = 1
    if isinstance(gesture, Stroke):
        _stroke(canvas, scene, gesture)
    elif isinstance(gesture, Pull):
        _arrow(canvas, scene, gesture.start, gesture.now)
        _pair(canvas, scene, len(edit.drags), gesture.start, gesture.now)
    elif isinstance(gesture, Move):
        point = edits.target(scene.sketch, gesture)
        if gesture.spot == LONE:
            _lone(canvas, scene, point)
        else:
            drag = arrows.moved(edit.drags[gesture.spot.index], gesture.spot.end, point, scene.view.image)
            _arrow(canvas, scene, drag.anchor, drag.objective)
            _pair(canvas, scene, gesture.spot.index, drag.anchor, drag.objective)
    elif scene.brush is None and scene.hovered is not None:
        _ring(canvas, scene.view, scene.hovered, RADIUS + 5, LIGHT, 2)
    elif scene.brush is None and scene.cursor is not None and edit.pending is not None:
        _dashed(canvas, scene.view.to_canvas(edit.pending), scene.view.to_canvas(scene.cursor))
    if scene.brush is not None and scene.cursor is not None:
        x, y = scene.view.to_canvas(scene.cursor)
        _circle(canvas, x, y, max(scene.brush / 2 * scene.view.scale, UNIT), None, LIGHT, 1.5)
    if scene.brush is not None and (scene.cursor is not None or gesture is not None):
        lens.legend(canvas, scene.view, MASK_STYLE)
    elif isinstance(gesture, Pull | Move) and scene.picture is not None:
        lens.lens(canvas, scene.view, scene.picture.drawable, gesture.now)


def _held(scene: Scene) -> Spot | None:
    """The point that is being moved, and so is drawn on the uppermost layer."""
    gesture = scene.sketch.gesture
    return gesture.spot if isinstance(gesture, Move) else None


def _drags_show(scene: Scene) -> tuple:
    edit = scene.sketch.edit
    return scene.view, edit.drags, edit.pending, scene.sketch.selected, _held(scene), scene.paths


def _interaction_shows(scene: Scene) -> tuple:
    gesture, pending = scene.sketch.gesture, scene.sketch.edit.pending
    return scene.view, gesture, pending, scene.brush, scene.cursor, scene.hovered, gesture and scene.opacity


LAYERS: tuple[tuple[Callable[[Scene], tuple], Callable[[Any, Scene], None]], ...] = (
    (lambda scene: (scene.view, scene.picture), draw_picture),
    (lambda scene: (scene.view, scene.overlay, scene.opacity), draw_mask),
    (_drags_show, draw_drags),
    (_interaction_shows, draw_interaction),
)
"""For each layer what of a scene it shows, and the function that draws it."""


# ---------------------------------------------------------------------------------------- marks


def _pair(canvas: Any, scene: Scene, index: int, anchor: Point, objective: Point) -> None:
    """A drag's ends and its number; the anchor a ring, the objective a diamond, both open round their middle."""
    view, selected = scene.view, scene.sketch.selected
    for end, point in zip(ENDS, (anchor, objective), strict=True):
        if selected is not None and selected.index == index:
            _ring(canvas, view, point, RADIUS + 3.5, SELECTED, 3 if selected.end == end else 1.5)
    (ax, ay), (bx, by) = view.to_canvas(anchor), view.to_canvas(objective)
    _diamond(canvas, bx, by)
    _anchor(canvas, ax, ay)
    _number(canvas, view, index, (ax, ay), (bx, by))


def _lone(canvas: Any, scene: Scene, point: Point) -> None:
    """An anchor without an objective: the same circle in a dashed ring."""
    x, y = scene.view.to_canvas(point)
    canvas.set_line_dash([4 * UNIT, 3 * UNIT])
    _circle(canvas, x, y, (RADIUS + 5.5) * UNIT, None, LIGHT, 1.8)
    canvas.set_line_dash([])
    _anchor(canvas, x, y)
    _number(canvas, scene.view, len(scene.sketch.edit.drags), (x, y), (x, y + 1))


def _anchor(canvas: Any, x: float, y: float) -> None:
    for style, width in CASED:
        canvas.stroke_style, canvas.line_width = ANCHOR if style is None else style, width * UNIT
        canvas.stroke_circle(x, y, RADIUS * UNIT)
    _middle(canvas, x, y, ANCHOR)


def _diamond(canvas: Any, x: float, y: float) -> None:
    r = (RADIUS + 1.5) * UNIT
    canvas.line_join = "round"
    for style, width in CASED:
        canvas.stroke_style, canvas.line_width = OBJECTIVE if style is None else style, width * UNIT
        canvas.stroke_polygon(np.array([(x, y - r), (x + r, y), (x, y + r), (x - r, y)]))
    _middle(canvas, x, y, OBJECTIVE)


def _middle(canvas: Any, x: float, y: float, style: str) -> None:
    """The point itself, small enough to see what lies round it."""
    for colour, radius in ((LIGHT, 2.2), (style, 1.5)):
        canvas.fill_style = colour
        canvas.fill_circle(x, y, radius * UNIT)


def _circle(canvas: Any, x: float, y: float, radius: float, fill: str | None, line: str, width: float) -> None:
    """radius in canvas pixels, width in CSS pixels; a dark line round the light one."""
    if fill is not None:
        canvas.fill_style = fill
        canvas.fill_circle(x, y, radius)
    for style, thick in ((DARK, width + 2), (line, width)):
        canvas.stroke_style, canvas.line_width = style, thick * UNIT
        canvas.stroke_circle(x, y, radius)


def _ring(canvas: Any, view: View, point: Point, radius: float, style: str, width: float) -> None:
    x, y = view.to_canvas(point)
    _circle(canvas, x, y, radius * UNIT, None, style, width)


def _number(canvas: Any, view: View, index: int, anchor: Point, objective: Point) -> None:
    """The drag's number behind its anchor, kept on the canvas."""
    (ax, ay), (bx, by) = anchor, objective
    length = math.hypot(bx - ax, by - ay)
    dx, dy = ((bx - ax) / length, (by - ay) / length) if length else (0.0, 1.0)
    away, margin = (RADIUS + 11) * UNIT, 9 * UNIT
    x, y = ax - away * dx, ay - away * dy
    width, height = view.canvas
    if not (margin <= x <= width - margin and margin <= y <= height - margin):
        x, y = ax - away * dy, ay + away * dx  # beside it, where behind is off the picture
    if not (margin <= x <= width - margin and margin <= y <= height - margin):
        x, y = ax + away * dy, ay - away * dx
    canvas.font = f"bold {13 * UNIT:g}px sans-serif"
    canvas.text_align, canvas.text_baseline, canvas.line_join = "center", "middle", "round"
    canvas.stroke_style, canvas.line_width, canvas.fill_style = DARK, 4 * UNIT, LIGHT
    canvas.stroke_text(str(index), x, y)
    canvas.fill_text(str(index), x, y)


# ---------------------------------------------------------------------------------------- lines


def _arrow(canvas: Any, scene: Scene, anchor: Point, objective: Point) -> None:
    """From the anchor's circle to the objective's diamond."""
    (ax, ay), (bx, by) = scene.view.to_canvas(anchor), scene.view.to_canvas(objective)
    length = math.hypot(bx - ax, by - ay)
    start, tip, head = RADIUS * UNIT, length - (RADIUS + 3) * UNIT, 9 * UNIT
    if tip - start < head:
        return
    dx, dy = (bx - ax) / length, (by - ay) / length

    def at(along: float, across: float = 0.0) -> Point:
        return ax + along * dx - across * dy, ay + along * dy + across * dx

    _line(canvas, [at(start), at(tip - head * 0.8)], LIGHT, 2.2)
    for style, grow in ((DARK, 1.5 * UNIT), (LIGHT, 0.0)):
        base, half = tip - head - grow, head * 0.5 + grow
        canvas.fill_style = style
        canvas.fill_polygon(np.array([at(tip + grow), at(base, half), at(base, -half)]))


def _line(canvas: Any, points: Sequence[Point], style: str, width: float) -> None:
    """A line through canvas points, light with a dark casing, width in CSS pixels."""
    canvas.line_cap = canvas.line_join = "round"
    for colour, thick in ((DARK, width + 2), (style, width)):
        canvas.stroke_style, canvas.line_width = colour, thick * UNIT
        canvas.stroke_lines(np.array(points))


def _path(canvas: Any, view: View, path: Sequence[Point]) -> None:
    """Where an anchor has been, and a ring where it is."""
    points = [view.to_canvas(point) for point in path]
    if len(points) > 1:
        _line(canvas, points, PATH, 2.2)
    if points:
        _circle(canvas, *points[-1], 4.5 * UNIT, ANCHOR, PATH, 2)


def _dashed(canvas: Any, start: Point, end: Point) -> None:
    """Where an arrow from the lone anchor would lie."""
    (x, y), length, ring = start, math.dist(start, end), (RADIUS + 6.5) * UNIT
    if length > ring:
        start = x + (end[0] - x) * ring / length, y + (end[1] - y) * ring / length
        canvas.set_line_dash([5 * UNIT, 5 * UNIT])
        _line(canvas, [start, end], LIGHT, 1.5)
        canvas.set_line_dash([])


def _stroke(canvas: Any, scene: Scene, stroke: Stroke) -> None:
    """The brush's way so far, in the mask's colour; an eraser's is light."""
    points = [scene.view.to_canvas(point) for point in stroke.points]
    width = max(stroke.size * scene.view.scale, UNIT)
    canvas.global_alpha = scene.opacity
    if len(points) == 1:
        canvas.fill_style = LIGHT if stroke.erase else MASK_STYLE
        canvas.fill_circle(*points[0], width / 2)
    else:
        canvas.stroke_style, canvas.line_width = LIGHT if stroke.erase else MASK_STYLE, width
        canvas.line_cap = canvas.line_join = "round"
        canvas.stroke_lines(np.array(points))
    canvas.global_alpha = 1
