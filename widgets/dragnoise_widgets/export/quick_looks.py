"""Quick looks of the sessions of a studio: pictures predicted in one step after an iteration, found by snapshot."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dragnoise_widgets.export.missed_looks import MissedLooks

if TYPE_CHECKING:
    from dragnoise import DragSession, Model
    from dragnoise.inspection.quick_look import QuickLooks
    from dragnoise.session.history import Snapshot

MODELS = 2
"""Models whose looks are kept; those of the one not used for longest go."""

SEEN = 64
"""StudioQuickLooks that are kept as PIL images too, so that the same look is the same object."""


class StudioQuickLooks:
    """Makes and finds quick looks, which never change a session; for all threads.

    preview_vae, share: see `QuickLooks`, None for its own; read when a model is looked at for the first time.
    on_error: told what went wrong, once, such as a VAE that cannot be read; that model is not looked at any more.
    """

    def __init__(
        self, preview_vae: Any = None, share: float | None = None, *, on_error: Callable[[Exception], Any] | None = None
    ) -> None:
        self.preview_vae, self.share, self._on_error = preview_vae, share, on_error
        self._given_up: weakref.WeakSet[Model] = weakref.WeakSet()
        self._models: tuple[QuickLooks, ...] = ()  # the newest last
        self._seen: dict[int, tuple[np.ndarray, Image.Image]] = {}
        self._asked: tuple[np.ndarray | None, int] = None, 0  # the newest anchors, and how many looks were missing
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def make(self, session: DragSession, *, skip: bool = True) -> None:
        """Look at the session's last iteration, unless that would take too much of the iterations' time.

        skip: may it be skipped for that?
        """
        model = session.model
        if model is None or model in self._given_up:
            return
        try:
            self._of_model(model).look(session, skip=skip)
        except Exception as error:
            self._given_up.add(model)
            if self._on_error is None:
                raise
            self._on_error(error)

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

    def missed(self, session: DragSession) -> MissedLooks | None:
        """The command that makes the looks that the iterations have not got; None where there are none to be made.

        Asked again for the same history it gives one only if fewer are missing than before: of a history that is longer
        than the looks that are kept, some always are.
        """
        history, model = session.history, session.model
        if len(history) < 2 or model is None or model in self._given_up:
            return None
        missing = tuple(s.iteration for s in history[1:] if s.is_whole and self.of(s) is None)
        newest, fewest = self._asked
        if not missing or (newest is history[-1].anchors and len(missing) >= fewest):
            return None
        self._asked = history[-1].anchors, len(missing)
        return MissedLooks(self, missing)

    def _of_model(self, model: Model) -> QuickLooks:
        from dragnoise.inspection.quick_look import SHARE, QuickLooks

        with self._loading:
            found = next((one for one in self._models if one.model is model), None)
            if found is None:
                share = SHARE if self.share is None else self.share
                found = QuickLooks(model, preview_vae=self.preview_vae, share=share)
                self._models = (*self._models, found)[-MODELS:]
            return found
