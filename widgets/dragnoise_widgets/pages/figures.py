"""FigureImage: a matplotlib figure shown in an image widget and redrawn in place, without pyplot."""

from __future__ import annotations

import html
import io
import time
from collections.abc import Callable

import ipywidgets as widgets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dragnoise_widgets.pages.themes import darken

DOTS = 144
"""Dots per inch: one and a half for each CSS pixel, for dense screens."""


class FigureImage(widgets.VBox):
    """A figure of (width, height) CSS pixels at most, and a line instead of it where there is nothing to draw.

    seconds: what the last drawing took.  dark: is the page dark?
    """

    def __init__(self, width: int, height: int) -> None:
        self.figure = Figure(figsize=(width / 96, height / 96), dpi=DOTS, layout="constrained")
        self.seconds, self.dark = 0.0, False
        self._canvas = FigureCanvasAgg(self.figure)
        self.picture = widgets.Image(format="png", layout={"width": f"{width}px", "max_width": "100%"})
        self.note = widgets.HTML()
        super().__init__([self.picture, self.note], layout={"overflow": "hidden"})
        self.add_class("dragnoise-figure")
        self.say("")

    def draw(self, paint: Callable[[Figure], object]) -> None:
        """Let `paint` fill the empty figure and show it; a ValueError that it raises is shown as a note instead."""
        started = time.perf_counter()
        self.figure.clear()
        try:
            paint(self.figure)
            self.figure.patch.set_alpha(1)
            if self.dark:
                darken(self.figure)
            buffer = io.BytesIO()
            self._canvas.print_png(buffer, pil_kwargs={"compress_level": 1})
            self.picture.value = buffer.getvalue()
            self.picture.layout.display, self.note.layout.display = "", "none"
        except ValueError as error:
            self.say(str(error))
        finally:
            self.seconds = time.perf_counter() - started

    def say(self, note: str) -> None:
        """Show a line of text and no picture."""
        self.note.value = f'<span style="opacity: 0.7">{html.escape(note)}</span>'
        self.picture.layout.display, self.note.layout.display = "none", ""
