"""What a session does with files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dragnoise.archive import container
from dragnoise.archive.autosave import Autosave
from dragnoise.given import as_integer, shown
from dragnoise.history import History
from dragnoise.identity import ModelInfo
from dragnoise.model import Model, require_model
from dragnoise.state import State

if TYPE_CHECKING:
    from typing_extensions import Self


class Saves:
    """The part of `DragSession` that is saved and opened."""

    _history: History
    _model: Model | None
    _made_with: ModelInfo
    _autosave: Autosave | None = None

    def save(self, path: str | Path) -> Path:
        """Write everything but the model to one file, such as "edit.drag"; returns its path.

        Picture, prompt, drags, mask, numbers, LoRA, the inverted latents and every snapshot with the
        optimiser's state.  A kill or a full disk at any moment leaves what was there before.

        Raises OSError when it cannot be written, TypeError or ValueError for a path that is none.
        """
        if self._autosave is not None:
            self._autosave.flush()  # it may be writing the same file
        return container.write(self._state_with_anchors(), path)

    @classmethod
    def open(cls, path: str | Path, model: Model | None = None, *, afresh: bool = False) -> Self:
        """The session that was saved to a file.

        model: the one that it was made with, to go on with the bits of a session that was never
            closed; without one it can be looked at and plotted, `session.made_with` says which it needs,
            and `session.model` can be set later.
        afresh: with any model, leave out what the file's own has made: its latents, iterations and LoRA.

        Nothing in a file can make it run code.  Raises `dragnoise.archive.ArchiveError`, a ValueError, for a
        broken file, OSError when it cannot be read, ValueError for a model with other weights than the file's, and
        `OutOfMemory`.  The same weights in another dtype or on another device give a UserWarning.
        """
        if model is not None:
            require_model(model)
        if not isinstance(afresh, bool):
            raise TypeError(f"afresh must be True or False, not {shown(afresh)}.")
        session = cls.__new__(cls)
        session._model = None
        state = container.read(path)
        session._become(state.afresh() if afresh else state)
        if model is not None:
            session.model = model
        return session

    @property
    def made_with(self) -> ModelInfo:
        """The session's model, or the one that it needs when it was opened without: its name, and how to load it."""
        return self._made_with if self._model is None else self._model.info

    def autosave(
        self, path: str | Path | None, *, every: int = 10, on_error: Callable[[Exception | None], Any] | None = None
    ) -> None:
        """Save to a file from now on: after each `every`-th iteration or step of a LoRA's fit, the last one of either,
        and the inversion.

        None ends it and waits for what is being written.  When it cannot be written, a warning says so and the edit
        goes on; `on_error` is called with the exception then, and with None when it has worked again, in another
        thread.  Branches do not inherit it.  Raises TypeError or ValueError for a path that is none and for `every`
        below 1.
        """
        every = as_integer("every", every, 1)
        old, self._autosave = self._autosave, None if path is None else Autosave(path, every, on_error=on_error)
        if old is not None:
            old.close()

    def _save_if_due(self, done: int, *, last: bool) -> None:
        """Save after so many iterations or steps; `last` ones are always saved."""
        if self._autosave is not None and (last or done % self._autosave.every == 0):
            self._autosave.save(self._state_with_anchors())

    def _state_with_anchors(self) -> State:
        state = self._state()
        if state.anchors is None and state.history and self._model is not None:
            state = dataclasses.replace(state, anchors=self._anchors_if_possible())
        return state

    def _anchors_if_possible(self) -> np.ndarray | None:
        """Where the anchors are now; nothing that goes wrong with a forward shall keep anyone from saving."""
        try:
            return self.anchors
        except (RuntimeError, FloatingPointError):
            return None

    if TYPE_CHECKING:
        model: Model

        @property
        def anchors(self) -> np.ndarray: ...

        def _state(self) -> State: ...

        def _become(self, state: State) -> None: ...
