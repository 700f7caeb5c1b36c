"""anywidget module that runs in the browser: keyboard, wheel and mouse events that a canvas takes from the page."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from dragnoise_widgets.events import keys

FRAME = "dragnoise-canvas"
"""The CSS class of the box that holds a canvas and its `PageEvents`; page_events.js looks for it."""


class PageEvents(anywidget.AnyWidget):
    """Invisible; to be put in one box of class `FRAME` with the canvas.

    on_key: called with (key, shift, ctrl, meta, repeat) for every key that the canvas takes: the printable ones,
        those of `keys.NAMED`, and undo and redo.  No notebook shortcut sees them.
    on_wheel: called with (x, y, delta) for the wheel with Ctrl or Cmd.  on_pan: called with (dx, dy) while the picture
        is pulled with the middle button, or with Space held.  All in canvas pixels.
    seen: the canvas's width on the page in CSS pixels, 0.0 before there is one.  Set by the page.
    """

    _esm = (
        Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    )  # anywidget would not let go of one with a path
    _css = f".{FRAME} canvas {{ cursor: crosshair; outline-offset: -2px; touch-action: none }}"

    seen = traitlets.Float(0.0).tag(sync=True)
    named = traitlets.List(traitlets.Unicode(), default_value=list(keys.NAMED)).tag(sync=True)

    def __init__(
        self,
        on_key: Callable[[str, bool, bool, bool, bool], Any],
        on_wheel: Callable[[float, float, float], Any],
        on_pan: Callable[[float, float], Any],
    ) -> None:
        self._on_key = on_key
        self._moves: dict[Any, tuple[Callable[..., Any], tuple[str, ...]]] = {
            "wheel": (on_wheel, ("x", "y", "delta")),
            "pan": (on_pan, ("dx", "dy")),
        }
        super().__init__(layout={"display": "none"})
        self.on_msg(self._received)

    def _received(self, _: Any, content: Any, buffers: Any) -> None:
        event = content.get("event") if isinstance(content, dict) else None
        if event == "key" and isinstance(content.get("key"), str):
            modifiers = (bool(content.get(name)) for name in ("shift", "ctrl", "meta", "repeat"))
            self._on_key(content["key"], *modifiers)
        elif event in self._moves:
            function, names = self._moves[event]
            numbers = [content.get(name) for name in names]
            if all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
                function(*numbers)
