"""Mouse, touch and keys of a canvas, turned into changes of its sketch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from dragnoise_widgets.events import keys
from dragnoise_widgets.events.zoom import Zoom
from dragnoise_widgets.sketch import edits, validators
from dragnoise_widgets.sketch.sketch import Sketch, Spot
from dragnoise_widgets.sketch.view import Point, View


class Owner(Protocol):
    """The part of `DragCanvas` that pointer and keys use."""

    canvas: Any
    image: Any
    tool: Any
    brush_size: Any
    view_only: Any
    window: Any
    sketch: Sketch
    actions: dict[str, Callable[[], Any]]

    @property
    def view(self) -> View: ...

    def change(self, step: Callable[[Sketch], Sketch], *, before: Callable[[], Any] | None = None) -> None: ...

    def guarded(self, function: Callable[..., Any], *arguments: Any) -> Any: ...

    def add(self) -> None: ...

    def undo(self) -> None: ...

    def redo(self) -> None: ...

    def delete(self, index: int | None = None) -> None: ...

    def nudge(self, dx: float, dy: float) -> None: ...


REACH, TOUCH_REACH, SLACK = 11, 24, 4
"""In CSS pixels: the hit radius of the mouse, that of a finger, and the largest movement of a click."""

_ANYTIME = ("thinner", "thicker", "deselect", "help", "closer", "fit")
"""Commands of keys that are allowed on a view-only canvas."""


class Pointer:
    """Listens to a canvas.  Positions arrive in canvas pixels; nothing here raises, errors are reported.

    cursor: where the brush hovers, or what leads on from a lone anchor; None where neither is shown.
    hovered: the point that a press would take.  pulled: called with the sketch whenever a pull goes on or ends.
    """

    def __init__(self, canvas: Owner) -> None:
        self.cursor: Point | None = None
        self.hovered: Spot | None = None
        self.pulled: Callable[[Sketch], Any] | None = None
        self._owner = canvas
        surface = canvas.canvas
        for register, handler in (
            (surface.on_mouse_down, self.down),
            (surface.on_mouse_move, self.move),
            (surface.on_mouse_up, self.up),
            (surface.on_mouse_out, self.out),
            (surface.on_touch_start, self.touch_start),
            (surface.on_touch_move, self.touch_move),
            (surface.on_touch_end, self.touch_end),
            (surface.on_touch_cancel, self.touch_cancel),
            (surface.on_key_down, self.key),
        ):
            register(partial(canvas.guarded, handler))
        self.zoom = Zoom(canvas)
        self._commands: dict[str, Callable[..., Any]] = {
            "tool": partial(setattr, canvas, "tool"),
            "choose": self._choose,
            "other_end": lambda: canvas.change(edits.other_end),
            "add": canvas.add,
            "undo": canvas.undo,
            "redo": canvas.redo,
            "delete": canvas.delete,
            "nudge": canvas.nudge,
            "thinner": partial(self._resize_brush, -1),
            "thicker": partial(self._resize_brush, 1),
            "closer": self.zoom.closer,
            "fit": self.zoom.reset,
            "deselect": self._deselect,
        }

    # ---- mouse -------------------------------------------------------------------------------

    def down(self, x: float, y: float) -> None:
        """A button goes down."""
        self._press(x, y, REACH)

    def move(self, x: float, y: float) -> None:
        """The mouse moves, with or without a button."""
        point = self._point(x, y)
        if point is not None:
            self._move(point, before=partial(self._hover, point))

    def up(self, x: float, y: float) -> None:
        """The button goes up."""
        self._release(self._point(x, y))

    def out(self, x: float, y: float) -> None:
        """The mouse leaves: what it was doing ends at the edge."""
        self._release(self._point(x, y), leave=True)

    # ---- touch: the first finger is the mouse; a second one gives the gesture up --------------

    def touch_start(self, touches: list[Point]) -> None:
        """A finger goes down."""
        if len(touches) == 1:
            self._press(*touches[0], TOUCH_REACH)
        else:
            self.touch_cancel(touches)
            self.zoom.pinch_ended()
            self._pinch(touches)

    def touch_move(self, touches: list[Point]) -> None:
        """A finger moves."""
        if len(touches) == 1 and (point := self._point(*touches[0])) is not None:
            self._move(point)
        else:
            self._pinch(touches)

    def touch_end(self, touches: list[Point]) -> None:
        """A finger goes up; `touches` are those still down."""
        self.zoom.pinch_ended()
        if not touches:
            self._release(None, leave=True)

    def touch_cancel(self, touches: list[Point]) -> None:
        """The browser has cancelled the touch: the gesture is discarded."""
        self._leave()
        self._owner.change(edits.cancel)
        self._tell()

    # ---- keys --------------------------------------------------------------------------------

    def key(self, key: str, shift: bool, ctrl: bool, meta: bool, repeat: bool = False) -> None:
        """A key goes down while the canvas has the focus."""
        name, *arguments = keys.command(key, shift, ctrl, meta, repeat) or ("",)
        owner = self._owner
        if name in owner.actions:
            owner.actions[name]()
        elif name in _ANYTIME or not owner.view_only:
            self._commands.get(name, _nothing)(*arguments)

    def _choose(self, index: int) -> None:
        """Select the drag of this number, if there is one."""
        if index < len(self._owner.sketch.edit.drags):
            self._owner.change(partial(edits.select, spot=Spot(index, "objective")))

    def _resize_brush(self, steps: int) -> None:
        """Make the brush thicker (1) or thinner (-1) by about an eighth."""
        owner = self._owner
        wider = owner.brush_size + steps * max(round(owner.brush_size / 8), 1)
        owner.brush_size = min(max(wider, 1.0), validators.brush_limit(owner.sketch.size))

    def _pinch(self, touches: list[Point]) -> None:
        """Zoom and pan by two fingers; more fingers, and positions that are not numbers, are ignored."""
        if len(touches) == 2 and all(self._point(*touch) is not None for touch in touches):
            self.zoom.pinch(*touches)

    def _deselect(self) -> None:
        self._leave()
        self._owner.change(lambda sketch: edits.select(edits.cancel(sketch), None))

    # ---- what they share ---------------------------------------------------------------------

    def _press(self, x: float, y: float, reach: float) -> None:
        owner, point = self._owner, self._point(x, y)
        if point is None or owner.view_only or owner.image is None:
            return
        reach = owner.view.length(reach)
        owner.change(partial(edits.press, point=point, tool=owner.tool, reach=reach, brush=owner.brush_size))

    def _release(self, point: Point | None, leave: bool = False) -> None:
        slack = self._owner.view.length(SLACK)

        def end(sketch: Sketch) -> Sketch:
            return edits.release(sketch if point is None else edits.move(sketch, point), slack=slack)

        self._owner.change(end, before=self._leave if leave else partial(self._hover, point))
        self._tell()

    def _move(self, point: Point, before: Callable[[], Any] | None = None) -> None:
        self._owner.change(partial(edits.move, point=point), before=before)
        if self._owner.sketch.gesture is not None:
            self._tell()

    def _tell(self) -> None:
        if self.pulled is not None:
            self.pulled(self._owner.sketch)

    def _hover(self, point: Point | None) -> None:
        """Set `cursor` and `hovered` for a pointer at this point."""
        self._leave()
        owner, sketch = self._owner, self._owner.sketch
        if point is None or owner.view_only:
            return
        if owner.tool != "drag":
            self.cursor = edits.inside(sketch, point)
        elif sketch.gesture is None:
            self.hovered = edits.spot_at(sketch, point, owner.view.length(REACH))
            self.cursor = None if sketch.edit.pending is None else edits.inside(sketch, point)

    def _leave(self) -> None:
        self.cursor = self.hovered = None

    def _point(self, x: Any, y: Any) -> Point | None:
        """The position in image pixels; None for invalid numbers, as a page without a layout sends them."""
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in (x, y)):
            return None
        return self._owner.view.to_image((x, y))


def _nothing(*arguments: Any) -> None:
    """The command of a key that is not bound to any: does nothing."""
