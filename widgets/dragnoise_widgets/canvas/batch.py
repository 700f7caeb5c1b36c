"""Batches of drawing commands, sent as one message and dropped as a whole when drawing fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ipycanvas import MultiCanvas, hold_canvas

LOCK = threading.RLock()
"""Held while a canvas changes its state or draws: ipycanvas has one queue of commands for the whole process.

Never wait for another thread while holding it, and never call observers.
"""


@contextmanager
def batch(canvas: MultiCanvas) -> Iterator[None]:
    """Collect the drawing commands of the block and send them together at its end.

    If the block raises, what it drew is thrown away, drawing goes on to work, and the exception passes.
    """
    with LOCK:
        manager = canvas._canvas_manager
        manager._current_canvas = None  # a page loaded since does not know which layer was drawn on last
        held, (commands, buffers) = manager._caching, (list(manager._commands_cache), list(manager._buffers_cache))
        try:
            with hold_canvas():
                yield
        except BaseException:
            manager._caching, manager._commands_cache, manager._buffers_cache = held, commands, buffers
            raise
