"""What a session does with files."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dragnoise.archive import container
from dragnoise.given import as_integer, as_path, shown
from dragnoise.history import History
from dragnoise.identity import ModelInfo
from dragnoise.model import Model, require_model
from dragnoise.rescue import is_out_of_memory
from dragnoise.state import State

if TYPE_CHECKING:
    from typing_extensions import Self


class Saves:
    """The part of `DragSession` that is saved and opened."""

    _history: History
    _model: Model | None
    _made_with: ModelInfo
    _autosave: tuple[Path, int] | None = None

    def save(self, path: str | Path) -> Path:
        """Write everything but the model to one file, such as "edit.drag"; returns its path.

        Picture, prompt, drags, mask, numbers, LoRA, the inverted latents and every snapshot with the
        optimiser's state.  A kill or a full disk at any moment leaves what was there before.

        Raises OSError when it cannot be written, TypeError or ValueError for a path that is none.
        """
        state = self._state()
        if state.anchors is None and state.history and self._model is not None:
            state = dataclasses.replace(state, anchors=self._anchors_if_possible())
        return container.write(state, path)

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

    def autosave(self, path: str | Path | None, *, every: int = 10) -> None:
        """Save to a file from now on: after each `every`-th iteration or step of a LoRA's fit, the last one of either,
        and the inversion.

        None ends it.  When it cannot be written, a warning says so and the edit goes on.  Branches do
        not inherit it.  Raises TypeError or ValueError for a path that is none and for `every` below 1.
        """
        every = as_integer("every", every, 1)
        self._autosave = None if path is None else (as_path(path), every)

    def _save_if_due(self, done: int, *, last: bool) -> None:
        """Save after so many iterations or steps; `last` ones are always saved."""
        if self._autosave is None:
            return
        path, every = self._autosave
        if last or done % every == 0:
            try:
                self.save(path)
            except (OSError, ValueError, RuntimeError, MemoryError) as error:  # torch's memory is a RuntimeError
                reason = "the memory is used up." if is_out_of_memory(error) else error
                warnings.warn(f"autosave did not work, and the edit goes on: {reason}", RuntimeWarning, stacklevel=3)

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
