"""Session states by canvas edit, so that undo and redo restore the iterations too."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from dragnoise.config import DragConfig
from dragnoise.geometry import Drag
from dragnoise_widgets.sketch.masks import alike
from dragnoise_widgets.sketch.sketch import Edit, Sketch

LIMIT = 2**29
"""Bytes of bottlenecks and moments that the states may hold besides the session's own; the oldest go first."""

RESTORED = ("drags", "mask", "history", "anchors")
"""Fields of a session's state that undo brings back; config, LoRA, name and all others stay as they are."""

MADE_WITH = ("config", "frame")
"""Fields that the history was made with; the engine knows which changes of them it outlasts."""


class Undoable(Protocol):
    """The part of `DragSession` that undo and redo use."""

    drags: Any
    mask: Any
    config: Any
    state: Any

    @property
    def history(self) -> Any: ...


class UndoStates:
    """The state that a session had with each edit in the past and the future of a canvas.

    Edits are told apart by identity: undo and redo bring the same objects back, while an equal edit that is
    drawn anew is another one.
    """

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._states: dict[int, tuple[Edit, Any]] = {}  # by the id of the edit; the latest last
        self._current: Edit | None = None  # the one that the session is at

    def follow(self, sketch: Sketch) -> None:
        """Note that session and canvas have been made equal: the session is at the canvas's edit."""
        self._current = sketch.edit

    def apply(self, session: Undoable, sketch: Sketch, names: set[str]) -> None:
        """Give the session the drags and the mask (those of both in `names`) of the canvas's edit.

        After undo or redo it gets the iterations too that it had with them.  A new edit is set as usual; where that
        ends the iterations and the session had some with equal drags and an equal mask before, it gets those.
        """
        edit, before = sketch.edit, session.state
        drags = edit.drags if "drags" in names else before.drags
        mask = before.mask if "mask" not in names else None if edit.mask is None else edit.mask.array
        if drags == before.drags and alike(mask, before.mask):
            self._current = edit
            return
        if self._current is not None:
            self._put(self._current, before, sketch)
        state = self._of(edit, before, drags, mask)
        if state is None:
            _set(session, drags, mask)
            if not session.history:
                state = self._alike(before, drags, mask)
        if state is not None:
            _restore(session, state, before.config)
        self._current = edit

    @property
    def nbytes(self) -> int:
        """Memory that the histories take, those of shared iterations once."""
        return sum({id(s): s.nbytes for _, state in self._states.values() for s in state.history}.values())

    def __len__(self) -> int:
        return len(self._states)

    def _put(self, edit: Edit, state: Any, sketch: Sketch) -> None:
        reachable = {id(one) for one in (*sketch.past, *sketch.future, sketch.edit, edit)}
        self._states = {key: value for key, value in self._states.items() if key in reachable}
        self._states.pop(id(edit), None)
        self._states[id(edit)] = edit, state
        while len(self._states) > 1 and self.nbytes > self._limit:
            del self._states[next(iter(self._states))]

    def _of(self, edit: Edit, now: Any, drags: tuple[Drag, ...], mask: np.ndarray | None) -> Any:
        _, state = self._states.get(id(edit), (edit, None))
        return state if state is not None and _fits(state, now, drags, mask) else None

    def _alike(self, now: Any, drags: tuple[Drag, ...], mask: np.ndarray | None) -> Any:
        """The newest state with these drags, this mask, and iterations."""
        states = (state for _, state in reversed(self._states.values()))
        return next((state for state in states if state.history and _fits(state, now, drags, mask)), None)


def _fits(state: Any, now: Any, drags: tuple[Drag, ...], mask: np.ndarray | None) -> bool:
    """Is it a state with these drags and this mask, and do its iterations belong to the inversion that there is now?"""
    if state.drags != drags or not alike(state.mask, mask):
        return False
    same_inversion = len(state.trajectory) == len(now.trajectory) and all(
        one is other for one, other in zip(state.trajectory, now.trajectory, strict=True)
    )
    return not state.history or (same_inversion and state.lora is now.lora)


def _restore(session: Undoable, state: Any, config: DragConfig) -> None:
    """Drags, mask and iterations of `state` with the numbers of today."""
    fields = {name: getattr(state, name) for name in (*RESTORED, *MADE_WITH)}
    session.state = dataclasses.replace(session.state, **fields)
    if state.config != config:
        session.config = config


def _set(session: Undoable, drags: tuple[Drag, ...], mask: np.ndarray | None) -> None:
    if session.drags != drags:
        session.drags = drags
    if not alike(session.mask, mask):
        session.mask = mask
