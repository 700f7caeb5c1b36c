"""The models of a studio's sessions: each is loaded once as long as a session has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dragnoise
from dragnoise_widgets.export.model_names import EMBEDDED, how

if TYPE_CHECKING:
    from dragnoise import DragSession, Model, ModelInfo


class Models:
    """sessions: gives the sessions whose models are in use; a model that none of them has makes room for another."""

    def __init__(self, sessions: Callable[[], Sequence[DragSession]]) -> None:
        self._sessions = sessions
        self._loaded: dict[str, Model] = {}  # by name and arguments

    def load(self, name: str, **given: Any) -> Model:
        """The model of this name, loaded with these arguments of `load_model`, or found among those in use."""
        used = self._used()
        if not given:
            for model in used:
                if model.name == name:
                    return model
        key = f"{name} {sorted(given.items())}"
        if key not in self._loaded:
            self._loaded = {k: model for k, model in self._loaded.items() if any(model is one for one in used)}
            self._loaded[key] = dragnoise.load_model(name, **given)
        return self._loaded[key]

    def at_hand(self, info: ModelInfo) -> Model | None:
        """The model that a file names, if it is in use or embedded; None if it lies elsewhere."""
        if info.fingerprint:
            for model in self._used():
                if model.info.fingerprint == info.fingerprint:
                    return model
        if info.name == EMBEDDED and set(info.options) <= {"memory"}:
            return self.load(info.name, **how(info))
        return None

    def _used(self) -> list[Model]:
        return [session.model for session in self._sessions() if session.model is not None]
