"""Cache of rendered pictures by iteration, limited in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dragnoise.identity import Identity

if TYPE_CHECKING:
    from dragnoise.session.history import History
    from dragnoise.session.state import SessionState

LIMIT = 2**28
"""Bytes of pixels that the pictures of all sessions may take together, 256 MiB; those not asked for longest go."""


class PictureCache:
    """Pictures by iteration and by what they were rendered with; for all threads.

    An iteration is identified by its array of anchors, which branches of a session have in common: what was rendered
    on one is found on the other.  What it was rendered with is `SessionState.rendering`.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.nbytes = 0
        self._pictures: OrderedDict[tuple[Any, ...], Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._pictures)

    def put(self, anchors: np.ndarray, state: SessionState, picture: Image.Image) -> None:
        """Keep a picture, and let go of others to make room; one that is larger than the limit is kept alone."""
        key = _key(anchors, state)
        with self._lock:
            self._drop(key)
            self._pictures[key] = picture
            self.nbytes += size_of(picture)
            while self.nbytes > self.limit and len(self._pictures) > 1:
                self._drop(next(iter(self._pictures)))

    def get(self, anchors: np.ndarray, state: SessionState) -> Image.Image | None:
        """The picture of an iteration, if there is one."""
        key = _key(anchors, state)
        with self._lock:
            if key not in self._pictures:
                return None
            self._pictures.move_to_end(key)
            return self._pictures[key]

    def has(self, anchors: np.ndarray, state: SessionState) -> bool:
        """Is there a picture?  Does not count as asking for it."""
        return _key(anchors, state) in self._pictures

    def _drop(self, key: tuple[Any, ...]) -> None:
        if key in self._pictures:
            self.nbytes -= size_of(self._pictures.pop(key))


PICTURES = PictureCache()
"""The one that all studios of the process share."""


class Album:
    """The pictures of a session by its history; one of another run, or rendered with other inputs, is not found."""

    def __init__(self, pictures: PictureCache = PICTURES) -> None:
        self._pictures = pictures

    def put(self, history: History, k: int, state: SessionState, picture: Image.Image) -> None:
        """Keep the picture of iteration k, rendered in this state."""
        if 0 <= k < len(history):
            self._pictures.put(history[k].anchors, state, picture)

    def copy(self) -> Album:
        """An album with the same pictures."""
        return Album(self._pictures)

    def get(self, history: History, k: int, state: SessionState) -> Image.Image | None:
        """The picture of iteration k as this state would render it, if there is one."""
        return self._pictures.get(history[k].anchors, state) if 0 <= k < len(history) else None

    def nearest(self, history: History, k: int, state: SessionState) -> tuple[int, Image.Image] | None:
        """The picture of the iteration nearest to k, and which that is; of two the earlier."""
        for i in sorted(range(len(history)), key=lambda i: (abs(i - k), i)):
            if self._pictures.has(history[i].anchors, state):
                picture = self.get(history, i, state)
                return None if picture is None else (i, picture)
        return None


def size_of(picture: Image.Image) -> int:
    """Bytes that a picture's pixels take; pillow pads RGB to four bytes."""
    return picture.width * picture.height * (1 if picture.mode in ("L", "1", "P") else 4)


def _key(anchors: np.ndarray, state: SessionState) -> tuple[Any, ...]:
    return Identity(anchors), state.rendering
