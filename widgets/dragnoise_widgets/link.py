"""A canvas and a session kept alike: what is drawn is what is dragged, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dragnoise import DragSession
from dragnoise_widgets.masks import alike

if TYPE_CHECKING:
    from dragnoise_widgets.canvas import DragCanvas

Call = Callable[[Callable[[DragSession], Any]], Any]

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

    def drawn(change: Any) -> None:
        ahead.add(change.name)
        call(push)

    def push(session: DragSession) -> None:
        """The canvas as it is by now: what was drawn in between need not be."""
        for name in TRAITS:
            if name in ahead:
                pushing.add(name)
                ahead.discard(name)  # first, for it may be changed again while it is being told
                try:
                    canvas.guarded(_make_alike, session, canvas, name)
                finally:
                    pushing.discard(name)

    def pull(session: DragSession) -> None:
        for name in TRAITS:
            if name not in ahead and name not in pushing:
                canvas.guarded(_make_alike, canvas, session, name)

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
    """What is drawn on a picture of another size is none of the session's business."""
    value, known, pictures = getattr(source, name), getattr(target, name), (target.image, source.image)
    if None in pictures or pictures[0].size != pictures[1].size:
        return
    if not (alike(value, known) if name == "mask" else value == known):
        setattr(target, name, value)
