"""The log panel: messages and tracebacks, the newest first."""

from __future__ import annotations

import html
import time
import traceback
from collections import deque

import ipywidgets as widgets

LINES = 300
"""Entries kept; older ones go."""


class Log(widgets.HTML):
    """A box of lines with the time of day; an error's traceback unfolds on a click."""

    def __init__(self) -> None:
        super().__init__(layout={"height": "300px", "overflow": "auto", "width": "auto"})
        self._entries: deque[str] = deque(maxlen=LINES)
        self.text: deque[str] = deque(maxlen=LINES)

    def note(self, message: str) -> None:
        """Add a line."""
        self._add(message, "")

    def error(self, message: str, error: BaseException | str) -> None:
        """Add an error: a line, and below it the traceback."""
        said = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        self._add(message, said)

    def _add(self, message: str, details: str) -> None:
        clock = time.strftime("%H:%M:%S")
        self.text.append(f"{clock} {message}" + (f"\n{details}" if details else ""))
        line = f'<span style="opacity: 0.6">{clock}</span> {html.escape(message)}'
        if details:
            red = "color: var(--jp-error-color1, #d32f2f)"
            line = (
                f'<details><summary style="{red}; cursor: pointer">{line}</summary>'
                f'<pre style="margin: 0 0 0 16px; line-height: 1.3">{html.escape(details)}</pre></details>'
            )
        else:
            line = f"<div>{line}</div>"
        self._entries.append(line)
        self.value = f'<div style="font-size: 12px; line-height: 1.6">{"".join(reversed(self._entries))}</div>'
