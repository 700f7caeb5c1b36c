"""A canvas and a session kept alike: what is drawn is what is dragged, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dragnoise import DragSession

if TYPE_CHECKING:
    from dragnoise_widgets.canvas import DragCanvas

Call = Callable[[Callable[[DragSession], Any]], Any]


def link(canvas: DragCanvas, session: DragSession, call: Call) -> Callable[[], None]:
    """Keep the drags and the mask of both alike from now on; returns what ends it.

    To begin with the canvas takes the session's picture, unless it shows one of that size, and its
    drags and mask; where the session has none, it gets the canvas's.
    call: runs a function of the session when the session may be changed, soon rather than at once.
    """

    def push(_: Any = None) -> None:
        call(lambda session: canvas.guarded(_to_session, canvas, session))

    def pull(session: DragSession) -> None:
        canvas.guarded(_to_canvas, canvas, session)

    if canvas.image is None or canvas.image.size != session.image.size:
        canvas.image = session.image
    if session.drags:
        canvas.drags = session.drags
    if session.mask is not None:
        canvas.mask = session.mask
    canvas.observe(push, ["drags", "mask"])
    unwatch = session.watch(pull)
    push()

    ends = [unwatch, lambda: canvas.unobserve(push, ["drags", "mask"])]

    def unlink() -> None:
        while ends:
            ends.pop()()

    return unlink


def _to_session(canvas: DragCanvas, session: DragSession) -> None:
    """The canvas as it is by now: what was drawn in between need not be."""
    if canvas.drags != session.drags:
        session.drags = canvas.drags
    if not _alike(canvas.mask, session.mask):
        session.mask = canvas.mask


def _to_canvas(canvas: DragCanvas, session: DragSession) -> None:
    if canvas.drags != session.drags:
        canvas.drags = session.drags
    if not _alike(canvas.mask, session.mask):
        canvas.mask = session.mask


def _alike(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)
