"""anywidget module that runs in the browser: names, roles, announcements, theme, dropped pictures, busy kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from dragnoise.geometry import Drag
from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.controls import UNSEEN_LABELS

ARROW = (
    "url(\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'%3E%3Cpath fill='none' "
    "stroke='%23909090' stroke-width='2.2' d='M5 7l4 4 4-4'/%3E%3C/svg%3E\")"
)
"""The arrow of a drop-down list, in a grey that is seen on a light page and on a dark one."""

STYLE = f"""
.dragnoise-studio {{ position: relative }}
.dragnoise-live {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }}
.dragnoise-busy:not(:empty) {{ position: absolute; top: 2px; right: 8px; z-index: 9; padding: 2px 10px;
  border-radius: 4px; background: var(--jp-warn-color1, #f5b041); color: #222; line-height: 22px }}
.dragnoise-answer:not(:empty) {{ position: absolute; z-index: 9; max-width: 360px; padding: 4px 10px;
  border-radius: 4px; background: var(--jp-inverse-layout-color1, #333); line-height: 18px; pointer-events: none;
  color: var(--jp-ui-inverse-font-color1, #fff) }}
.dragnoise-studio {{ --jp-widgets-dropdown-arrow: {ARROW} }}
.dragnoise-studio select option {{ background: var(--jp-layout-color1, #fff); color: var(--jp-ui-font-color1, #222) }}
.dragnoise-studio [class*=Collapse-header]:focus-visible, .dragnoise-studio [role=tab]:focus-visible {{
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: -2px }}
.dragnoise-open-picture {{ font-size: 0 }} /* the number of files that ipywidgets writes behind the words */
.dragnoise-open-picture i, .dragnoise-open-picture::after {{ font-size: var(--jp-widgets-font-size, 13px) }}
.dragnoise-open-picture::after {{ content: "Upload a picture" }}
{UNSEEN_LABELS}
"""


class Access(anywidget.AnyWidget):
    """To be put into a widget of class `dragnoise-studio`, all of which it works on.  Invisible but for one line.

    said: what a screen reader announces when it changes.  answer: an error, or what was done last, which is shown where
        something was pressed if the status line is out of sight.  canvas: the accessible name of the canvas.
    dark: has the page a dark theme?  Set by the page.
    on_picture: called with (name, bytes) of an image file that was dropped or pasted.

    The page asks for an answer whenever something is done in the studio, and says so when none has come in 300 ms,
    for the kernel does nothing for a studio while a cell runs, unless it has subshells.
    """

    _esm = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    _css = STYLE

    answer = traitlets.Unicode("").tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    canvas = traitlets.Unicode("").tag(sync=True)
    dark = traitlets.Bool(False).tag(sync=True)

    def __init__(self, on_picture: Callable[[str, bytes], Any]) -> None:
        self._on_picture = on_picture
        super().__init__(layout={"height": "0", "margin": "0", "overflow": "visible"})
        self.on_msg(self._received)

    def tell(self, said: str, answer: str) -> None:
        """Announce something; `answer` is its part that answers to a press."""
        self.answer, self.said = answer, said

    def follow(self, canvas: DragCanvas) -> None:
        """Name the canvas after its drags, and announce what changes there."""

        def changed(_: Any = None) -> None:
            text = described(canvas.drags, canvas.selected)
            self.canvas = f"Picture, {text}. A adds a drag, arrows move its end, question mark lists all keys."
            if canvas.drags:
                self.said = text

        canvas.observe(changed, ["drags", "selected"])
        changed()

    def _received(self, _: Any, content: Any, buffers: Any) -> None:
        event = content.get("event") if isinstance(content, dict) else None
        if event == "ping":
            self.send({"pong": content.get("n")})
        elif event == "file" and buffers:
            self._on_picture(str(content.get("name", "")), bytes(buffers[0]))


def described(drags: Sequence[Drag], selected: int) -> str:
    """ "2 drags, drag 0 chosen, from 30, 40 to 44, 36" """
    count = f"{len(drags)} drag{'' if len(drags) == 1 else 's'}"
    if not 0 <= selected < len(drags):
        return count
    (ax, ay), (bx, by) = drags[selected].anchor, drags[selected].objective
    return f"{count}, drag {selected} chosen, from {ax:g}, {ay:g} to {bx:g}, {by:g}"
