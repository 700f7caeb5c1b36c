"""Quick looks of the sessions of a studio: pictures predicted in one step after an iteration, found by snapshot."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from PIL import Image

from dragnoise import DragSession, Model
from dragnoise.inspection.quick_look import SHARE, QuickLooks
from dragnoise.session.history import Snapshot

MODELS = 2
"""Models whose looks are kept; those of the one not used for longest go."""

SEEN = 64
"""Looks that are kept as PIL images too, so that the same look is the same object."""


class Looks:
    """Makes and finds quick looks, which never change a session; for all threads.

    preview_vae, share: see `QuickLooks`; read when a model is looked at for the first time.
    """

    def __init__(self, preview_vae: Any = None, share: float = SHARE) -> None:
        self.preview_vae, self.share = preview_vae, share
        self._models: tuple[QuickLooks, ...] = ()  # the newest last
        self._seen: dict[int, tuple[np.ndarray, Image.Image]] = {}
        self._lock = threading.Lock()

    def make(self, session: DragSession) -> None:
        """Look at the session's last iteration, unless that would take too much of the iterations' time."""
        if session.model is not None:
            self._of_model(session.model).look(session)

    def of(self, snapshot: Snapshot) -> Image.Image | None:
        """The look at an iteration, None if there is none."""
        array = next((found for one in reversed(self._models) if (found := one.of(snapshot)) is not None), None)
        if array is None:
            return None
        with self._lock:
            known = self._seen.get(id(array))
            if known is None:
                known = self._seen[id(array)] = array, Image.fromarray(array)
                while len(self._seen) > SEEN:
                    del self._seen[next(iter(self._seen))]
            return known[1]

    def _of_model(self, model: Model) -> QuickLooks:
        with self._lock:
            found = next((one for one in self._models if one.model is model), None)
            if found is None:
                found = QuickLooks(model, preview_vae=self.preview_vae, share=self.share)
                self._models = (*self._models, found)[-MODELS:]
            return found
