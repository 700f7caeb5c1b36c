"""Gestures, edits and undo as pure functions of a `Sketch`, in image pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dragnoise.geometry import Drag
from dragnoise_widgets.sketch import arrows
from dragnoise_widgets.sketch.masks import Mask, brushed
from dragnoise_widgets.sketch.sketch import ENDS, LONE, PENDING, Edit, Move, Pull, Sketch, Spot, Stroke, Tool
from dragnoise_widgets.sketch.view import Point

UNDO_STEPS = 1000
UNDO_BYTES = 2**25
"""Limits of undo: steps, and bytes of their masks (32 MiB); the oldest steps are dropped first."""

STROKE_POINTS = 256
"""A stroke of more points is painted in parts, which undo takes back together."""

# ---------------------------------------------------------------------------------- the pointer


def press(sketch: Sketch, point: Point, *, tool: Tool = "drag", reach: float = 5, brush: float = 10) -> Sketch:
    """The pointer goes down: it grabs a point or an arrow, or starts a new arrow; other tools start a stroke.

    reach: how near a point must be to be meant.  A press without a release before ends that one first.
    """
    sketch, point = release(sketch), inside(sketch, point)
    if tool != "drag":
        return replace(sketch, gesture=Stroke((point,), brush, tool == "erase"))
    spot = spot_at(sketch, point, reach)
    if spot is None:
        return replace(sketch, gesture=Pull(point, point))
    chosen = Spot(spot.index, "objective") if spot.end == "arrow" else spot
    return replace(sketch, gesture=Move(spot, place(sketch.edit, spot), point, point), selected=chosen)


def move(sketch: Sketch, point: Point) -> Sketch:
    """The pointer moves; without a gesture nothing happens."""
    gesture, point = sketch.gesture, inside(sketch, point)
    if isinstance(gesture, Stroke):
        if point == gesture.points[-1]:
            return sketch
        longer = replace(gesture, points=(*gesture.points, point))
        return replace(sketch, gesture=longer) if len(longer.points) < STROKE_POINTS else _paint_part(sketch, longer)
    return sketch if gesture is None else replace(sketch, gesture=replace(gesture, now=point))


def release(sketch: Sketch, *, slack: float = 0) -> Sketch:
    """The pointer goes up where it was last, and what it did becomes part of the edit.

    slack: a press that went no farther is a click.
    """
    gesture, sketch = sketch.gesture, cancel(sketch)
    if isinstance(gesture, Stroke):
        return _paint(sketch, gesture)
    if isinstance(gesture, Pull):
        if math.dist(gesture.start, gesture.now) <= slack:
            return _click(sketch, gesture.start)
        return _append(sketch, Drag(gesture.start, gesture.now), sketch.edit.pending)
    if isinstance(gesture, Move) and math.dist(gesture.start, gesture.now) > slack:
        return put(sketch, gesture.spot, target(sketch, gesture))
    return sketch


def cancel(sketch: Sketch) -> Sketch:
    """Give up the gesture; nothing else changes, and a part of a long stroke that is painted stays."""
    return replace(sketch, gesture=None)


def target(sketch: Sketch, gesture: Move) -> Point:
    """The place where a moved point, or the middle of an arrow, would be put down now."""
    (x, y), (x0, y0), (x1, y1) = gesture.origin, gesture.start, gesture.now
    return inside(sketch, (x + x1 - x0, y + y1 - y0))


def _click(sketch: Sketch, point: Point) -> Sketch:
    pending = sketch.edit.pending
    if pending is None:
        return commit(sketch, replace(sketch.edit, pending=point), selected=LONE)
    return sketch if point == pending else _append(sketch, Drag(pending, point), None)


def _append(sketch: Sketch, drag: Drag, pending: Point | None) -> Sketch:
    edit = replace(sketch.edit, drags=(*sketch.edit.drags, drag), pending=pending)
    return commit(sketch, edit, selected=Spot(len(edit.drags) - 1, "objective"))


def _paint(sketch: Sketch, stroke: Stroke) -> Sketch:
    mask = sketch.edit.mask
    array = np.zeros(sketch.size[::-1], np.bool_) if mask is None else mask.array
    edit = replace(sketch.edit, mask=Mask.of(brushed(array, stroke.points, stroke.size, not stroke.erase)))
    if stroke.begun:  # the undo step is there
        return _now(sketch, edit, sketch.selected)
    return commit(sketch, edit, selected=sketch.selected)


def _paint_part(sketch: Sketch, stroke: Stroke) -> Sketch:
    """Paint a stroke as far as it has come, and go on with it from its last point."""
    painted = _paint(cancel(sketch), stroke)
    begun = stroke.begun or painted.edit != sketch.edit
    return replace(painted, gesture=replace(stroke, points=stroke.points[-1:], begun=begun))


# ----------------------------------------------------------------------------------- the points


def inside(sketch: Sketch, point: Point) -> Point:
    """The nearest point of the picture, as floats."""
    (x, y), (width, height) = point, sketch.size
    return float(min(max(x, 0), width - 1)), float(min(max(y, 0), height - 1))


def place(edit: Edit, spot: Spot) -> Point:
    """The place of a point; IndexError if there is none."""
    if spot.index == PENDING and edit.pending is not None:
        return edit.pending
    if not 0 <= spot.index < len(edit.drags):
        raise IndexError(f"drag {spot.index} is not there any more.")
    drag = edit.drags[spot.index]
    return arrows.middle(drag) if spot.end == "arrow" else getattr(drag, spot.end)


def has(edit: Edit, spot: Spot) -> bool:
    """Is there such a point, or such an arrow?"""
    return spot in spots(edit) or (spot.end == "arrow" and 0 <= spot.index < len(edit.drags))


def spots(edit: Edit) -> list[Spot]:
    """All points, the topmost last."""
    lone = [] if edit.pending is None else [LONE]
    return [Spot(i, end) for i in range(len(edit.drags)) for end in ENDS] + lone


def spot_at(sketch: Sketch, point: Point, reach: float) -> Spot | None:
    """The nearest point within reach; of equally near ones the selected, then the topmost.

    Without one the arrow whose middle is there, but not while an anchor waits for its objective.
    """

    def far(spot: Spot) -> tuple[float, bool]:
        return math.dist(place(sketch.edit, spot), point), spot != sketch.selected

    near = [spot for spot in reversed(spots(sketch.edit)) if far(spot)[0] <= reach]
    index = None if near or sketch.edit.pending is not None else arrows.arrow_at(sketch.edit.drags, point, reach)
    return min(near, key=far, default=None) if index is None else Spot(index, "arrow")


def put(sketch: Sketch, spot: Spot, point: Point) -> Sketch:
    """Put a point or an arrow elsewhere, within the picture; a point on its drag's other end stays where it was."""
    if not has(sketch.edit, spot):
        return sketch
    point = inside(sketch, point)
    if spot == LONE:
        return commit(sketch, replace(sketch.edit, pending=point), selected=spot)
    drags = list(sketch.edit.drags)
    drag = arrows.moved(drags[spot.index], spot.end, point, sketch.size)
    chosen = Spot(spot.index, "objective") if spot.end == "arrow" else spot
    if drag.anchor == drag.objective:
        return replace(sketch, selected=chosen)
    drags[spot.index] = drag
    return commit(sketch, replace(sketch.edit, drags=tuple(drags)), selected=chosen)


def put_axis(sketch: Sketch, spot: Spot, axis: int, value: float) -> Sketch:
    """Change one coordinate of a point, axis 0 is x; IndexError if there is no such point."""
    x, y = place(sketch.edit, spot)
    return put(sketch, spot, (value, y) if axis == 0 else (x, value))


def nudge(sketch: Sketch, dx: float, dy: float) -> Sketch:
    """Move the selected point by so many image pixels; the lone anchor where none is selected."""
    spot = sketch.selected or LONE
    if spot not in spots(sketch.edit):
        return sketch
    x, y = place(sketch.edit, spot)
    return put(sketch, spot, (x + dx, y + dy))


def select(sketch: Sketch, spot: Spot | None) -> Sketch:
    """Select a point, or none."""
    return replace(sketch, selected=spot if spot in spots(sketch.edit) else None)


def toggle(sketch: Sketch, spot: Spot) -> Sketch:
    """Select a point, or deselect it if its drag is selected already."""
    chosen = sketch.selected is not None and sketch.selected.index == spot.index
    return select(sketch, None if chosen else spot)


def other_end(sketch: Sketch) -> Sketch:
    """Select the other end of the selected drag."""
    spot = sketch.selected
    if spot is None or spot == LONE:
        return sketch
    return select(sketch, Spot(spot.index, "anchor" if spot.end == "objective" else "objective"))


def delete(sketch: Sketch, index: int | None = None) -> Sketch:
    """Remove a drag, `PENDING` the lone anchor; by default what is selected, else the lone anchor."""
    if index is None:
        index = sketch.selected.index if sketch.selected else PENDING
    if index == PENDING:
        return commit(sketch, replace(sketch.edit, pending=None))
    drags = sketch.edit.drags
    if not 0 <= index < len(drags):
        return sketch
    return commit(sketch, replace(sketch.edit, drags=drags[:index] + drags[index + 1 :]))


def add(sketch: Sketch) -> Sketch:
    """A drag to be moved or typed over: from the lone anchor or the middle, an eighth of the picture aside."""
    (width, height), pending = sketch.size, sketch.edit.pending
    x, y = anchor = pending or (float((width - 1) // 2), float((height - 1) // 2))
    across, down = max(width // 8, 1), max(height // 8, 1)
    for aside in ((x + across, y), (x - across, y), (x, y + down), (x, y - down)):
        if inside(sketch, aside) == aside:
            return _append(sketch, Drag(anchor, aside), None)
    return sketch  # a picture of one pixel has no room for a drag


# --------------------------------------------------------------------- drags and masks as wholes


def with_drags(sketch: Sketch, drags: Sequence[Drag]) -> Sketch:
    """Other drags, which must be valid for the picture."""
    return commit(sketch, replace(sketch.edit, drags=tuple(drags)), selected=sketch.selected)


def with_mask(sketch: Sketch, array: np.ndarray | None) -> Sketch:
    """Another mask, (H, W) bool of the picture's size, or None."""
    return commit(sketch, replace(sketch.edit, mask=Mask.of(array)), selected=sketch.selected)


def invert_mask(sketch: Sketch) -> Sketch:
    """Invert the mask; None stays None.  Raises ValueError if the result would be empty."""
    mask = sketch.edit.mask
    if mask is None:
        return sketch
    if mask.array.all():
        raise ValueError("the mask covers everything; inverted, nothing might change.")
    return with_mask(sketch, ~mask.array)


# ---------------------------------------------------------------------------------- undo, redo


def commit(sketch: Sketch, edit: Edit, *, selected: Spot | None = None) -> Sketch:
    """Make `edit` the current one, as a step that undo takes back; an equal edit makes no step."""
    if edit == sketch.edit:
        return replace(sketch, selected=_still(selected, edit))
    return _now(replace(sketch, past=_recent((*sketch.past, sketch.edit)), future=()), edit, selected)


def _recent(past: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """The latest edits, within the limits of undo."""
    count, size, seen = 0, 0, None
    for edit in reversed(past[-UNDO_STEPS:]):
        size += 0 if edit.mask is None or edit.mask is seen else len(edit.mask.packed)
        if count and size > UNDO_BYTES:
            break
        count, seen = count + 1, edit.mask
    return past[-count:]


def undo(sketch: Sketch) -> Sketch:
    """Undo one step, if there is one; a gesture under way is cancelled."""
    if not sketch.past:
        return cancel(sketch)
    back = replace(sketch, past=sketch.past[:-1], future=(*sketch.future, sketch.edit), gesture=None)
    return _now(back, sketch.past[-1], sketch.selected)


def redo(sketch: Sketch) -> Sketch:
    """One step forward again, as long as nothing was done since the undo."""
    if not sketch.future:
        return cancel(sketch)
    forth = replace(sketch, past=(*sketch.past, sketch.edit), future=sketch.future[:-1], gesture=None)
    return _now(forth, sketch.future[-1], sketch.selected)


def _now(sketch: Sketch, edit: Edit, selected: Spot | None) -> Sketch:
    """Another edit, without a selection or a moving point that it no longer has."""
    gesture = sketch.gesture
    if isinstance(gesture, Move) and (not has(edit, gesture.spot) or place(edit, gesture.spot) != gesture.origin):
        gesture = None
    return replace(sketch, edit=edit, selected=_still(selected, edit), gesture=gesture)


def _still(spot: Spot | None, edit: Edit) -> Spot | None:
    return spot if spot in spots(edit) else None
