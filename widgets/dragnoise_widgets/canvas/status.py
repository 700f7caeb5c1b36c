"""The line under a canvas: an error, or a hint on what to do next; and the reports of errors."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable
from typing import Any

from dragnoise_widgets.formatting import error_message
from dragnoise_widgets.sketch.sketch import Sketch, Tool


def hint(sketch: Sketch, *, tool: Tool, has_picture: bool, view_only: bool) -> str:
    """A hint on what to do next; mostly empty."""
    edit = sketch.edit
    if not has_picture:
        return "There is no picture yet."
    if view_only:
        return ""
    if tool == "paint":
        return "Paint where the picture may change." if edit.mask is None else ""
    if tool == "erase":
        return "There is no mask to take from." if edit.mask is None else ""
    if edit.pending is not None:
        return "Now click where this point should go."
    return "" if edit.drags else "Press on what should move, pull, and let go where it should end."


def line(error: str, otherwise: str) -> str:
    """As HTML; an error goes before a hint."""
    if error:
        return f'<span style="color: var(--jp-error-color1, #d32f2f)">{html.escape(error)}</span>'
    return f'<span style="opacity: 0.7">{html.escape(otherwise)}</span>'


class Reports:
    """The errors of a canvas: the last one, and those who are told.

    show: brings the line under the canvas in line with `message`.
    """

    def __init__(self, show: Callable[[], Any]) -> None:
        self.message = ""  # the last error, until something else is done
        self._show = show
        self._callbacks: list[Callable[[str], Any]] = []

    def register(self, callback: Callable[[str], Any], remove: bool = False) -> None:
        """Call callback(message), or no longer, when there is an error."""
        if remove:
            self._callbacks.remove(callback)
        else:
            self._callbacks.append(callback)

    def guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it; what it raises is reported and not passed on, for ipywidgets would lose it."""
        try:
            return function(*arguments)
        except Exception as error:
            return self.report(error_message(error))

    def report(self, message: str) -> None:
        """Show an error under the canvas until something else is done, and tell those registered."""
        self.message = message
        self._show()
        for callback in list(self._callbacks):
            with contextlib.suppress(Exception):
                callback(message)
