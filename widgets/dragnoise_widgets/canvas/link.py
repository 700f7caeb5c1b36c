"""Two-way link of a canvas and a session: their drags and masks are kept alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from PIL import Image

from dragnoise_widgets.sketch.masks import alike
from dragnoise_widgets.sketch.sketch import Sketch
from dragnoise_widgets.sketch.undo_states import Undoable, UndoStates


class Drawn(Protocol):
    """The part of `DragCanvas` that a link uses."""

    image: Any
    drags: Any
    mask: Any
    sketch: Sketch

    def observe(self, handler: Callable[[Any], Any], names: Any) -> None: ...

    def unobserve(self, handler: Callable[[Any], Any], names: Any) -> None: ...

    def guarded(self, function: Callable[..., Any], *arguments: Any) -> Any: ...


class Watched(Undoable, Protocol):
    """The part of `DragSession` that a link uses."""

    @property
    def image(self) -> Image.Image: ...

    @property
    def store(self) -> Any: ...


Call = Callable[[Callable[[Any], Any]], Any]
"""Runs a function of the session when the session may be changed."""

TRAITS = ("drags", "mask")
"""Traits that are kept equal on both sides."""

PATIENCE = 2.0
"""Seconds that ending a link waits for a change under way; an observer of the canvas may itself wait for the ending."""


def link(canvas: Drawn, session: Watched, call: Call) -> Callable[[], None]:
    """Keep the drags and the mask of both alike from now on; returns what ends it.

    To begin with the canvas takes the session's picture, unless it shows one of that size, and its
    drags and mask; where the session has none, it gets the canvas's.
    call: runs a function of the session when the session may be changed, soon rather than at once.
    """
    if canvas.image is None or canvas.image.size != session.image.size:
        canvas.image = session.image
    if session.drags:
        canvas.drags = session.drags
    if session.mask is not None:
        canvas.mask = session.mask
    return Link(canvas, session, call).end


@dataclass(frozen=True, eq=False)
class Drawing:
    """The canvas's picture and sketch when a link ended."""

    image: Image.Image | None
    sketch: Sketch


class Link:
    """Keeps a canvas and a session equal until `end()`.

    After `end()` nothing that the session does reaches the canvas, and what was drawn before still reaches the
    session, as it was drawn, whatever the canvas shows by then.
    """

    def __init__(self, canvas: Drawn, session: Watched, call: Call) -> None:
        self._canvas, self._session, self._call = canvas, session, call
        self._lock = threading.RLock()  # held while the canvas is changed, or read for the session
        self._states = UndoStates()
        self._left: Drawing | None = None  # what the canvas showed when the link ended
        self._ahead = set(TRAITS)  # changed on the canvas, and the session has not heard of it yet
        self._pushing: set[str] = set()  # what the session is just being told
        canvas.observe(self._drawn, TRAITS)
        self._unwatch = session.store.watch(partial(self._pull, session))
        call(self._push)

    def end(self) -> None:
        """End the link."""
        locked = self._lock.acquire(timeout=PATIENCE)
        try:
            if self._left is not None:
                return
            self._left = self._on_canvas()
            self._canvas.unobserve(self._drawn, TRAITS)
        finally:
            if locked:
                self._lock.release()
        self._unwatch()

    def _drawn(self, change: Any) -> None:
        self._ahead.add(change.name)
        self._call(self._push)

    def _push(self, session: Watched) -> None:
        """Give the session what the canvas shows now; intermediate drawings are skipped."""
        names = set(self._ahead)
        self._pushing.update(names)
        self._ahead.difference_update(names)  # first, for it may be changed again while it is being told
        try:
            with self._lock:
                drawing = self._on_canvas() if self._left is None else self._left
            if names and _of_one_size(session.image, drawing.image):
                self._canvas.guarded(self._states.apply, session, drawing.sketch, names)
        finally:
            self._pushing.difference_update(names)

    def _pull(self, session: Watched) -> None:
        for name in TRAITS:
            with self._lock:
                if self._left is None and name not in self._ahead and name not in self._pushing:
                    self._canvas.guarded(_show_on, self._canvas, session, name)
        with self._lock:
            if self._left is None and not self._ahead and not self._pushing:
                self._states.follow(self._canvas.sketch)

    def _on_canvas(self) -> Drawing:
        return Drawing(self._canvas.image, self._canvas.sketch)


def _show_on(canvas: Drawn, session: Watched, name: str) -> None:
    """The session's drags or mask on the canvas, unless that shows a picture of another size."""
    value, known = getattr(session, name), getattr(canvas, name)
    if _of_one_size(session.image, canvas.image) and not (alike(value, known) if name == "mask" else value == known):
        setattr(canvas, name, value)


def _of_one_size(one: Image.Image | None, other: Image.Image | None) -> bool:
    return one is not None and other is not None and one.size == other.size
