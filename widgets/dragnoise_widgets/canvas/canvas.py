"""DragCanvas: drags and a mask on a picture, by mouse, keys and code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets
import traitlets

from dragnoise.validation import as_integer, as_number, shown
from dragnoise_widgets.canvas import status
from dragnoise_widgets.canvas.batch import LOCK
from dragnoise_widgets.canvas.layers import CanvasLayers
from dragnoise_widgets.canvas.link import Call, Watched, link
from dragnoise_widgets.canvas.table import PointTable
from dragnoise_widgets.canvas.toolbar import Toolbar
from dragnoise_widgets.canvas.trait_sync import Sure, TraitSync
from dragnoise_widgets.events.key_help import KeyHelp
from dragnoise_widgets.events.page_events import FRAME, PageEvents
from dragnoise_widgets.events.pointer import Pointer
from dragnoise_widgets.frontend import enable_custom_widget_manager
from dragnoise_widgets.sketch import edits, serialization, validators
from dragnoise_widgets.sketch.masks import read_mask
from dragnoise_widgets.sketch.sketch import PENDING, Edit, Sketch, Spot
from dragnoise_widgets.sketch.view import Point, View
from dragnoise_widgets.sketch.window import WHOLE

NO_PICTURE = (512, 512)


class DragCanvas(widgets.Box):
    """Pull arrows on a picture, paint a mask, watch anchors move; by hand or from code.

    image: a path, a PIL image, an array, or None; one of another size begins with an empty canvas.
    drags, mask: as a session takes them; setting them can be undone as all else.
    trajectory: a sequence of (m, 2) anchors, one for each iteration.

    Traits, all settable and observable, in image pixels: `image` (PIL.Image or None), `drags` (tuple
    of `Drag`), `mask` ((H, W) bool, read-only, or None), `trajectory` (tuple of (m, 2) arrays), `tool`
    ("drag", "paint", "erase"), `brush_size` (a diameter, 1 to half the picture), `opacity` (of the mask, 0..1),
    `selected` (the index of a drag, -1 for none), `view_only` (hands off; code may still set all), `window` (a
    `Window`: the part that is shown).
    A lone anchor is not among the drags yet: `pending` is its place, or None.

    A focused canvas takes every printable key; `events.keys.KEYMAP` says what they do.  `actions`: functions without
    arguments for the keys that are not the canvas's own, by name: "run_or_pause", "step_forward", "step_back".

    A wrong value raises TypeError or ValueError and changes nothing; what goes wrong in
    the use by hand is shown under the canvas and given to those registered by `on_error`.
    """

    image = traitlets.Any(None)
    drags = Sure(())
    mask = traitlets.Any(None)
    trajectory = Sure(())
    tool = Sure("drag")
    brush_size = Sure(16.0)
    opacity = Sure(0.45)
    selected = Sure(-1)
    view_only = Sure(False)
    window = Sure(WHOLE)

    def __init__(
        self, image: Any = None, *, drags: Sequence[Any] = (), mask: Any = None, trajectory: Sequence[Any] = (),
        view_only: bool = False,
    ) -> None:  # fmt: skip
        enable_custom_widget_manager()
        self.sketch = Sketch(NO_PICTURE)
        self._layers = CanvasLayers()
        self._shown: tuple = ()
        self._publishing = TraitSync(self)
        self._reports = status.Reports(self._show)
        self._paths: tuple[tuple[Point, ...], ...] = ()  # `trajectory`, anchor by anchor
        self.actions: dict[str, Callable[[], Any]] = {}

        self.canvas = self._layers.canvas
        self.pointer = Pointer(self)
        actions = ("undo", "redo", "delete", "invert_mask", "clear_mask", "load_mask")
        self.toolbar = Toolbar(
            {name: partial(self.by_hand, getattr(self, name)) for name in actions} | {"fit": self.pointer.zoom.reset}
        )
        select = partial(self.by_hand, lambda spot: self.change(partial(edits.toggle, spot=spot)))
        put, delete, add = (partial(self.by_hand, action) for action in (self._typed, self.delete, self.add))
        self.table = PointTable({"put": put, "select": select, "delete": delete, "add": add})
        self.status = widgets.HTML(layout={"margin": "0 2px", "min_height": "24px"})
        moves = (partial(self.guarded, move) for move in (self.pointer.zoom.wheel, self.pointer.zoom.pan))
        self.page_events = PageEvents(partial(self.by_hand, self.pointer.key), *moves)
        frame = widgets.Box([self.canvas, self.page_events], layout={"overflow": "hidden"}).add_class(FRAME)
        self.help = KeyHelp()
        self.actions["help"] = self.help.toggle
        left = [self.toolbar, frame, self.toolbar.mask_row, self.status, self.help]
        self.column = widgets.VBox(left, layout={"max_width": "100%", "margin": "0 12px 0 0"})
        super().__init__([self.column, self.table], layout={"display": "flex", "flex_flow": "row wrap"})

        tenths = partial(round, ndigits=1)  # a slider sends 15.999999999999998
        traitlets.link((self, "tool"), (self.toolbar.tool, "value"))
        traitlets.link((self, "opacity"), (self.toolbar.opacity, "value"))
        traitlets.link((self, "brush_size"), (self.toolbar.brush, "value"), transform=(float, tenths))
        self.canvas.on_client_ready(partial(self.guarded, self.redraw))
        self.page_events.observe(lambda _: self.guarded(self._resized), "seen")
        self._layers.show_picture(None, self.view)
        self.begin(image, drags, mask)
        self.trajectory, self.view_only = trajectory, view_only

    # ---- by code as by hand ------------------------------------------------------------------

    def begin(self, image: Any, drags: Sequence[Any] = (), mask: Any = None) -> None:
        """Show a picture with its drags and its mask, and nothing of what was before: undo does not reach it."""
        self.image, self.trajectory = image, ()
        self.drags, self.mask = drags, mask
        self.change(lambda sketch: Sketch(sketch.size, Edit(sketch.edit.drags, None, sketch.edit.mask)))

    @property
    def pending(self) -> Point | None:
        """The anchor that waits for its objective, (x, y) in image pixels, or None."""
        return self.sketch.edit.pending

    def undo(self) -> None:
        """Take the last change of drags or mask back."""
        self.change(edits.undo)

    def redo(self) -> None:
        """Make the change that was taken back again."""
        self.change(edits.redo)

    def delete(self, index: int | None = None) -> None:
        """Remove a drag, -1 the lone anchor; by default what is selected, else the lone anchor."""
        index = None if index is None else as_integer("index", index, PENDING)
        self.change(partial(edits.delete, index=index))

    def add(self) -> None:
        """Add a drag in the middle, or from the lone anchor on, to be moved or typed over."""
        self.change(edits.add)

    def nudge(self, dx: float, dy: float) -> None:
        """Move the selected point, or the lone anchor, by image pixels."""
        right, down = as_number("dx", dx, -math.inf), as_number("dy", dy, -math.inf)
        self.change(partial(edits.nudge, dx=right, dy=down))

    def invert_mask(self) -> None:
        """Invert the mask.  Raises ValueError if the result would be empty."""
        self.change(edits.invert_mask)

    def clear_mask(self) -> None:
        """Remove the mask."""
        self.change(partial(edits.with_mask, array=None))

    def load_mask(self, png: bytes) -> None:
        """Take the bytes of a PNG of the picture's size as the mask; ValueError if they are none."""
        self.change(partial(edits.with_mask, array=read_mask(png, self.sketch.size)))

    def to_json(self) -> str:
        """All that is drawn, as text: drags, lone anchor, mask."""
        return serialization.dumps(self.sketch.edit, self.sketch.size)

    def from_json(self, text: str) -> None:
        """Draw what `to_json` wrote; ValueError or TypeError, and no change, if it does not fit the picture."""
        self.change(partial(edits.commit, edit=serialization.loads(text, self.sketch.size)))

    def link(self, session: Watched, *, call: Call | None = None) -> Callable[[], None]:
        """Keep this canvas and session.drags, session.mask alike, both ways; returns what ends it.

        The canvas takes the session's picture, drags and mask; where the session has none, it gets
        the canvas's.  call: runs a function of the session when it may be changed (`Runner.call`);
        by default at once.
        """
        if not hasattr(session, "store"):
            raise TypeError(f"a canvas is linked with a DragSession, not {shown(session)}.")
        return link(self, session, call or (lambda function: function(session)))

    def on_error(self, callback: Callable[[str], Any], remove: bool = False) -> None:
        """Call callback(message), one sentence, when something goes wrong in a handler."""
        self._reports.register(callback, remove)

    def redraw(self) -> None:
        """Draw everything again, as on a page that was reloaded."""
        with LOCK:
            self._layers.forget()
            self._draw()

    # ---- the state, its picture, and those who watch -----------------------------------------

    def change(self, step: Callable[[Sketch], Sketch], *, before: Callable[[], Any] | None = None) -> None:
        """Let a function of `edits` make the next sketch, draw what differs, and set the traits.

        before: called after the step and before the drawing.
        """
        try:
            with LOCK:
                sketch = step(self.sketch)
                if sketch != self.sketch:
                    self._reports.message = ""
                self.sketch = sketch
                if before is not None:
                    before()
                self._draw()
        finally:  # whether it could be drawn or not
            self._publishing.publish()

    def guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it; what it raises is reported and not passed on, for ipywidgets would lose it."""
        return self._reports.guarded(function, *arguments)

    def by_hand(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`guarded` for a button, a field or a key; clears the error reported before."""
        self._reports.message = ""
        result = self.guarded(function, *arguments)
        self._show()
        return result

    def report(self, message: str) -> None:
        """Show an error under the canvas until something else is done; tell those registered."""
        self._reports.report(message)

    @property
    def apart(self) -> tuple[widgets.Widget, ...]:
        """Helper widgets that are used for drawing and are not displayed themselves."""
        return (*self.canvas._canvases, *self._layers.pictures)

    @property
    def view(self) -> View:
        """The mapping between image pixels and canvas pixels."""
        return View.of(self.sketch.size, self.window, self.page_events.seen)

    def _draw(self) -> None:
        pointer, edit, spot = self.pointer, self.sketch.edit, self.pointer.hovered
        hovered = edits.place(edit, spot) if spot is not None and edits.has(edit, spot) else None
        brush = None if self.tool == "drag" or self.view_only else self.brush_size
        self._layers.draw(
            self.view, self.sketch, opacity=self.opacity, paths=self._paths, brush=brush, cursor=pointer.cursor,
            hovered=hovered,
        )  # fmt: skip
        self._show()

    def _show(self) -> None:
        """Bring buttons, table and status line in line, if there is anything to."""
        with LOCK:
            sketch, view_only, has_picture = self.sketch, self.view_only, self.image is not None
            error, steps = self._reports.message, (not sketch.past, not sketch.future)
            shown = (sketch.size, sketch.edit, sketch.selected, steps, view_only, self.tool, has_picture, error)
            if shown != self._shown:
                self._shown = shown
                self.toolbar.show(sketch, view_only=view_only)
                self.table.show(sketch, view_only=view_only or not has_picture)
                hint = status.hint(sketch, tool=self.tool, has_picture=has_picture, view_only=view_only)
                self.status.value = status.line(error, hint)

    def _typed(self, spot: Spot, axis: int, value: float) -> None:
        self.change(partial(edits.put_axis, spot=spot, axis=axis, value=value))
        self._shown = ()  # what was refused must not stay in its field
        self._show()

    # ---- traits set from outside -------------------------------------------------------------

    @traitlets.validate(
        "image", "drags", "mask", "trajectory", "tool", "brush_size", "opacity", "selected", "view_only", "window"
    )
    def _checked(self, proposal: Any) -> Any:
        if proposal.value is self._publishing.own:
            return proposal.value
        return getattr(validators, proposal.trait.name)(proposal.value, self.sketch, self.image)

    @traitlets.observe("drags", "mask", "selected")
    def _adopt(self, change: Any) -> None:
        self._publishing.adopt(change.name, change.new)

    @traitlets.observe("image")
    def _image_changed(self, change: Any) -> None:
        size = NO_PICTURE if change.new is None else change.new.size
        with LOCK:
            self._reports.message = ""
            if another := size != self.sketch.size or change.new is None:
                self.sketch = Sketch(size)
            self._layers.show_picture(change.new, self.view)
        self.change(edits.cancel)
        if another:
            self.trajectory, self.window = (), WHOLE
            self.toolbar.brush.max = validators.brush_limit(size)
            self.brush_size = max(round(max(size) / 8), 1)

    def _resized(self) -> None:
        self.change(lambda sketch: sketch, before=lambda: self._layers.show_picture(self.image, self.view))

    @traitlets.observe("window")
    def _window_changed(self, change: Any) -> None:
        self.toolbar.fit.disabled = change.new == WHOLE
        self.change(lambda sketch: sketch)

    @traitlets.observe("trajectory")
    def _trajectory_changed(self, change: Any) -> None:
        self._paths = validators.paths(change.new)
        self.change(lambda sketch: sketch)

    @traitlets.observe("tool", "brush_size", "opacity", "view_only")
    def _tools_changed(self, change: Any) -> None:
        self._reports.message = ""
        self.change(edits.cancel if change.name in ("tool", "view_only") else lambda sketch: sketch)
