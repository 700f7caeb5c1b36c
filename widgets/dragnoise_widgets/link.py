"""A canvas and a session kept alike: what is drawn is what is dragged, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dragnoise_widgets.masks import alike
from dragnoise_widgets.undo_states import UndoStates

if TYPE_CHECKING:
    from dragnoise import DragSession
    from dragnoise_widgets.canvas import DragCanvas

Call = Callable[[Callable[["DragSession"], Any]], Any]

TRAITS = ["drags", "mask"]
"""What a canvas and a session have in common."""


def link(canvas: DragCanvas, session: DragSession, call: Call) -> Callable[[], None]:
    """Keep the drags and the mask of both alike from now on; returns what ends it.

    To begin with the canvas takes the session's picture, unless it shows one of that size, and its
    drags and mask; where the session has none, it gets the canvas's.
    call: runs a function of the session when the session may be changed, soon rather than at once.
    """

    ahead: set[str] = set()  # what was changed on the canvas, and the session has not heard of yet
    pushing: set[str] = set()  # what the session is just being told
    states = UndoStates()

    def drawn(change: Any) -> None:
        ahead.add(change.name)
        call(push)

    def push(session: DragSession) -> None:
        """The canvas as it is by now: what was drawn in between need not be."""
        names = set(ahead)
        pushing.update(names)
        ahead.difference_update(names)  # first, for it may be changed again while it is being told
        try:
            if names and _show_the_same(canvas, session):
                canvas.guarded(states.apply, session, canvas.sketch, names)
        finally:
            pushing.difference_update(names)

    def pull(session: DragSession) -> None:
        for name in TRAITS:
            if name not in ahead and name not in pushing:
                canvas.guarded(_make_alike, canvas, session, name)
        if not ahead and not pushing:
            states.follow(canvas.sketch)

    if canvas.image is None or canvas.image.size != session.image.size:
        canvas.image = session.image
    if session.drags:
        canvas.drags = session.drags
    if session.mask is not None:
        canvas.mask = session.mask
    canvas.observe(drawn, TRAITS)
    unwatch = session.watch(pull)
    ahead.update(TRAITS)
    call(push)

    ends = [unwatch, lambda: canvas.unobserve(drawn, TRAITS)]

    def unlink() -> None:
        while ends:
            ends.pop()()

    return unlink


def _make_alike(target: Any, source: Any, name: str) -> None:
    value, known = getattr(source, name), getattr(target, name)
    if not _show_the_same(target, source):
        return
    if not (alike(value, known) if name == "mask" else value == known):
        setattr(target, name, value)


def _show_the_same(one: Any, other: Any) -> bool:
    """Have both a picture of one size?  What is drawn on another one is none of the session's business."""
    return None not in (one.image, other.image) and one.image.size == other.image.size
