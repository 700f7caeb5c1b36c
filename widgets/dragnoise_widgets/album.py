"""Pictures of iterations, kept so that the scrubber need not render one twice."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dragnoise.config import DragConfig
from dragnoise.session.history import History

KEPT = 200
"""Pictures at most; the ones made first go."""


class Album:
    """Pictures by iteration; one that is of another run, or rendered with other numbers, is no longer found."""

    def __init__(self) -> None:
        self._pictures: dict[int, tuple[np.ndarray, DragConfig, Image.Image]] = {}

    def put(self, history: History, k: int, config: DragConfig, picture: Image.Image) -> None:
        """Keep the picture of iteration k."""
        if 0 <= k < len(history):
            self._pictures.pop(k, None)
            self._pictures[k] = history[k].anchors, config, picture
            if len(self._pictures) > KEPT:
                del self._pictures[next(iter(self._pictures))]

    def copy(self) -> Album:
        """The same pictures in an album of their own."""
        other = Album()
        other._pictures.update(self._pictures)
        return other

    def get(self, history: History, k: int, config: DragConfig) -> Image.Image | None:
        """The picture of iteration k, if there is one."""
        if k not in self._pictures or k >= len(history):
            return None
        anchors, made_with, picture = self._pictures[k]
        rendered_alike = (made_with.refine_from, made_with.propagation) == (config.refine_from, config.propagation)
        return picture if anchors is history[k].anchors and rendered_alike else None

    def nearest(self, history: History, k: int, config: DragConfig) -> tuple[int, Image.Image] | None:
        """The picture of the iteration nearest to k, and which that is; of two the earlier."""
        for i in sorted(self._pictures, key=lambda i: (abs(i - k), i)):
            if (picture := self.get(history, i, config)) is not None:
                return i, picture
        return None
