"""The line under a canvas: an error, or a hint on what to do next."""

from __future__ import annotations

import html

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
