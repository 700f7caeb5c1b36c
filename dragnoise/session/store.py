"""Store: a session's state and engine, the one method that writes the state, and the locks of work and writing."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from dragnoise.archive import container
from dragnoise.archive.autosave import Autosave
from dragnoise.interrupts import advice, memory_guard
from dragnoise.models.fingerprint import ModelInfo
from dragnoise.models.model import Model, require_model
from dragnoise.session import replay
from dragnoise.session.cache import Cache
from dragnoise.session.engine import Engine
from dragnoise.session.history import History, OvertakenError, Snapshot, require_limit
from dragnoise.session.state import FORGOTTEN, INPUTS, SessionState
from dragnoise.validation import as_integer, shown

T = TypeVar("T")


class Store:
    """State and locks that the operations of a session share; units of work are serialised, any thread may write.

    engine: computes from the state.  model: None without one.
    """

    def __init__(self, model: Model | None, state: SessionState, cache: Cache) -> None:
        self.engine, self._state = Engine(model, cache), state
        self._autosave: Autosave | None = None
        self._watchers: tuple[Callable[[], Any], ...] = ()
        self._writing = threading.RLock()  # held for the moment of a write
        self.working = threading.RLock()  # held for one unit of work, see `unit`

    # ---- the state

    @property
    def state(self) -> SessionState:
        return self._state

    def write(self, *, seen: SessionState | None = None, what: str = "", **changes: Any) -> SessionState:
        """Change the state and return it; the only writer.  Fields that become invalid are reset, see `state.FORGETS`.

        seen: the state that the changes were computed from; OvertakenError, with `what` as its subject, if one of the
        `state.INPUTS` is another one by now.
        """
        with self._writing:
            if seen is not None and any(getattr(self._state, name) is not getattr(seen, name) for name in INPUTS):
                raise OvertakenError(f"{what} was overtaken by a change of the session; repeat the call.")
            state = self._state = self._state.changed(**changes)
        if changes.keys() & {"drags", "mask"}:
            for callback in self._watchers:
                callback()
        return state

    def restore(self, state: SessionState) -> None:
        """Restore an earlier state of this session: drags, mask, config and iterations."""
        if not isinstance(state, SessionState) or state.image is not self._state.image:
            raise ValueError("session.state takes an earlier session.state of the same session.")
        self.write(**{field.name: getattr(state, field.name) for field in dataclasses.fields(state)})

    def limit_history(self, limit: float) -> None:
        """Set `state.history_limit`, the bytes that the history's tensors may take; math.inf keeps everything."""
        checked = require_limit(limit)
        with self.working:
            state = self._state
            self.write(history_limit=checked, history=state.history.within(checked), anchors=state.anchors)

    def watch(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """Call callback() in the thread that has set drags or mask; returns the function that ends it."""
        if not callable(callback):
            raise TypeError(f"watch() takes a function, not {shown(callback)}.")
        self._watchers = (*self._watchers, callback)

        def unwatch() -> None:
            self._watchers = tuple(watcher for watcher in self._watchers if watcher is not callback)

        return unwatch

    # ---- the model

    @property
    def model(self) -> Model | None:
        return self.engine.given

    @model.setter
    def model(self, model: Model) -> None:
        """Set the model.  Replacing one drops all results; the first one in an opened session must match them."""
        require_model(model)
        if model is self.model:
            return
        state = self._state
        if self.model is not None:
            state = dataclasses.replace(state, **FORGOTTEN)
        else:
            state.require_made_with(model)
        state.require_fit(model)
        frame = state.frame if self.model is None else model.frame(state.image.size, state.config)
        with memory_guard(lambda: advice(model, frame, state.config)):
            state = dataclasses.replace(state, frame=frame).on(model.device)
        with self._writing:
            self.engine, self._state = Engine(model, Cache()), state

    @property
    def made_with(self) -> ModelInfo:
        """Info of the model or, without one, of the model that the state was made with."""
        return self._state.made_with if self.model is None else self.model.info

    # ---- work

    def unit(self) -> memory_guard:
        """One unit of work, `with store.working, store.unit()`: the session's only one, undone when memory runs out.

        The lock is a context of its own because only one that is written in C is left in any case: Ctrl-C can come
        before the first line of any `__exit__` that is written in Python.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "a session needs gradients, and torch.inference_mode() is on, which allows none of what is made inside "
                "it; leave that block, or use torch.no_grad() in its place."
            )
        return memory_guard(self._let_go)

    def units(self, results: Iterator[T]) -> Iterator[T]:
        """Each result as a unit of work."""
        while True:
            with self.working, self.unit():
                result = next(results, None)
            if result is None:
                return
            yield result

    def append_latents(self, before: tuple[torch.Tensor, ...], latents: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The trajectory with one more step; OvertakenError unless it is still the one `before`."""
        with self._writing:
            if self._state.trajectory is not before:
                raise OvertakenError("this inversion was overtaken by a change; call session.invert() again.")
            after = (*before, latents)
            self.write(trajectory=after)
        return after

    def anchors(self) -> np.ndarray:
        """(m, 2) float64, image pixels: where the anchors are now; without a model, as far as it is known."""
        state = self._state
        if not state.history:
            return np.array([d.anchor for d in state.drags], np.float64).reshape(-1, 2)
        if state.anchors is not None or self.model is None or state.history[-1].iteration == 0:
            return state.history[-1].anchors if state.anchors is None else state.anchors
        with self.working, self.unit():
            editor = self.engine.editor(self._state)
            return state.frame.to_image(editor.locate(self._state.history[-1].state)).numpy()

    def _let_go(self) -> str:
        self.engine.release()
        return advice(self.model, self._state.frame, self._state.config)

    # ---- time travel

    def rewind(self, k: int) -> None:
        """Go back to iteration k; what came after is forgotten."""
        with self.working, self.unit():
            state = self._state
            state.history.require(k)
            if k != len(state.history) - 1 or not state.history[-1].is_whole:
                self.write(seen=state, what="going back", history=self._upto(state, k))

    def snapshot(self, k: int) -> Snapshot:
        """Snapshot k with its tensors."""
        with self.working, self.unit():
            state = self._state
            return replay.whole(state.history, k, partial(self.engine.editor_of, state))

    def branch(self, k: int | None, name: str) -> Store:
        """A new store of this name with the history up to iteration k, default the last."""
        with self.working, self.unit():
            state = self._state
            last = len(state.history) - 1
            at = last if k is None else k
            history = state.history if k is None else self._upto(state, k)
            anchors, origin = (state.anchors if at == last else None), (state.name, max(at, 0))
            state = dataclasses.replace(state, history=history, anchors=anchors, name=name, origin=origin)
        return Store(self.model, state, self.engine.cache)

    def _upto(self, state: SessionState, k: int) -> History:
        return replay.upto(state.history, k, partial(self.engine.editor_of, state))

    # ---- files

    def save(self, path: str | Path) -> Path:
        """Write everything but the model to one file; returns its path."""
        if self._autosave is not None:
            self._autosave.flush()
        return container.write(self.to_save(), path)

    def autosave(
        self, path: str | Path | None, *, every: int = 10, on_error: Callable[[Exception | None], Any] | None = None
    ) -> None:
        """Start autosaving to `path`, None stops it.  on_error: called with a save's error, or None once one works."""
        every = as_integer("every", every, 1)
        old, self._autosave = self._autosave, None if path is None else Autosave(path, every, on_error=on_error)
        if old is not None:
            old.close()

    @property
    def autosaved(self) -> Autosave | None:
        """The `Autosave` of this session, or None."""
        return self._autosave

    def save_if_due(self, done: int, *, last: bool) -> None:
        """Autosave if it is due after `done` iterations or steps of a fit; last: they were the last ones."""
        if self._autosave is not None:
            self._autosave.due(self.to_save, done, last=last)

    def to_save(self) -> SessionState:
        """The state as a file holds it: without half an inversion, and with where the anchors are now."""
        state = dataclasses.replace(self._state, made_with=self.made_with)
        if not state.inverted:
            state = dataclasses.replace(state, trajectory=())
        if state.anchors is None and state.history and self.model is not None:
            with contextlib.suppress(RuntimeError, FloatingPointError):  # a failed forward shall not prevent a save
                state = dataclasses.replace(state, anchors=self.anchors())
        return state
