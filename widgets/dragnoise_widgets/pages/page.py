"""Page: a tab of the inspector with one figure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from dragnoise.identity import same
from dragnoise_widgets.pages.figures import FigureImage
from dragnoise_widgets.pages.view_state import ViewState

WIDE = 760
"""CSS pixels of a figure at most."""

SHARE = 0.05
"""Largest share of the time that figures may take while something runs."""

Paint = Callable[[Figure, ViewState], object]
"""Fills an empty figure; a ValueError that it raises is shown as a note instead."""

Key = Callable[[ViewState], tuple[Any, ...]]
"""The objects and numbers that a figure depends on; it is redrawn only when they change."""


def by_history(view: ViewState) -> tuple[Any, ...]:
    """The key of figures of the iterations."""
    return (view.history, view.k, view.drags, view.other)


class Page(widgets.VBox):
    """A tab with one figure, which is drawn anew only when its key has changed.

    height: CSS pixels.  above: widgets over the figure.
    """

    def __init__(self, paint: Paint, *, key: Key = by_history, height: int = 300, above: tuple[Any, ...] = ()) -> None:
        self.paint, self.key = paint, key
        self.plot = FigureImage(WIDE, height)
        self.due = 0.0  # when it may be drawn again while something runs, `time.monotonic()`
        self._drawn: tuple[Any, ...] | None = None
        self._drawing = threading.RLock()  # a tab is opened on one thread and brought up to date on another
        super().__init__([*above, self.plot])

    def show(self, view: ViewState) -> None:
        """Draw what differs; while something runs only so often that it hardly slows it down."""
        with self._drawing:
            key = self.key(view)
            if (self._drawn is not None and same(key, self._drawn)) or (view.running and time.monotonic() < self.due):
                return
            self._drawn = key
            self.plot.draw(lambda figure: self.paint(figure, view))
            self.due = time.monotonic() + self.plot.seconds * (1 / SHARE - 1)

    def forget(self) -> None:
        """Draw at the next `show`, whatever its key."""
        self._drawn = None
