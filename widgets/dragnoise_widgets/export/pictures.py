"""The pictures that there are of a session's iterations: rendered ones and quick looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from dragnoise_widgets.export.picture_cache import Album
from dragnoise_widgets.export.quick_looks import StudioQuickLooks

if TYPE_CHECKING:
    from dragnoise.session.history import History
    from dragnoise.session.state import SessionState

SKIPPED = 10
"""Largest number of iterations that a quick look may be older than the iteration it is shown for."""


@dataclass(frozen=True, eq=False)
class Found:
    """picture: of this iteration.  quick: is it a quick look?"""

    picture: Image.Image
    iteration: int
    quick: bool


def nearest(album: Album, looks: StudioQuickLooks, history: History, k: int, state: SessionState) -> Found | None:
    """The picture of iteration k, or its quick look, or what is nearest to it; None if there is nothing.

    StudioQuickLooks are skipped rather than waited for, so one of a few iterations before will do.
    """
    rendered = album.nearest(history, k, state)
    for i in range(min(k, len(history) - 1), max(k - SKIPPED, -1), -1):
        if rendered is not None and abs(rendered[0] - k) <= k - i:
            break
        if (look := looks.of(history[i])) is not None:
            return Found(look, i, True)
    return None if rendered is None else Found(rendered[1], rendered[0], False)


def for_film(
    album: Album, looks: StudioQuickLooks, history: History, state: SessionState
) -> Callable[[int], Image.Image | None]:
    """A function of an iteration: its picture, None if there is none.

    All are of one kind, but for the first, which is the given picture, and the last: rendered where all are or where
    there are no looks, else quick looks.
    """
    rendered = [album.get(history, k, state) for k in range(len(history))]
    quick = [looks.of(snapshot) for snapshot in history]
    if all(picture is not None for picture in rendered) or not any(picture is not None for picture in quick):
        return lambda k: rendered[k]
    last = len(history) - 1
    chosen = [
        state.image,
        *(rendered[k] or quick[k] if k == last else quick[k] or rendered[k] for k in range(1, last + 1)),
    ]
    return lambda k: chosen[k]
