"""anywidget module that runs in the browser: keyboard, wheel and mouse events that a canvas takes from the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from dragnoise_widgets.canvas import keys

FRAME = "dragnoise-canvas"
"""The CSS class of the box that holds a canvas and its `PageEvents`; page_events.js looks for it."""


class PageEvents(anywidget.AnyWidget):
    """Invisible; to be put in one box of class `FRAME` with the canvas.

    on_key: called with (key, shift, ctrl, meta, repeat) for every key that the canvas takes: the printable ones,
        those of `keys.NAMED`, and undo and redo.  No notebook shortcut sees them.
    """

    _esm = (
        Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    )  # anywidget would not let go of one with a path
    _css = f".{FRAME} canvas {{ cursor: crosshair; outline-offset: -2px; touch-action: none }}"

    named = traitlets.List(traitlets.Unicode(), default_value=list(keys.NAMED)).tag(sync=True)

    def __init__(self, on_key: Callable[[str, bool, bool, bool, bool], Any]) -> None:
        self._on_key = on_key
        super().__init__(layout={"display": "none"})
        self.on_msg(self._received)

    def _received(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and content.get("event") == "key" and isinstance(content.get("key"), str):
            modifiers = (bool(content.get(name)) for name in ("shift", "ctrl", "meta", "repeat"))
            self._on_key(content["key"], *modifiers)
