"""What a session does with its history: back to an iteration, and on from it on another branch."""

from __future__ import annotations

import dataclasses
import itertools
import weakref
from typing import TYPE_CHECKING, cast

import numpy as np

from dragnoise import iteration, replay
from dragnoise.config import DragConfig
from dragnoise.editors import DragNoise
from dragnoise.given import as_text, shown
from dragnoise.history import History, Snapshot, require_limit
from dragnoise.model import Model
from dragnoise.rescue import guarded
from dragnoise.state import State

if TYPE_CHECKING:
    from typing_extensions import Self


class Branches:
    """The part of `DragSession` that travels in time.

    Sessions of one tree know each other by weak references: no branch keeps another one in memory, and
    what they have in common, they share.
    """

    _history: History
    _ahead: iteration.Ahead | None
    _model: Model | None
    _worn: Model | None
    _name: str
    _origin: tuple[str, int] | None
    _history_limit: float
    _parent: weakref.ref[Branches] | None = None
    _children: tuple[weakref.ref[Branches], ...] = ()

    def rewind(self, k: int) -> None:
        """Go back to iteration k, 0..the last; what came after is forgotten.

        Running again gives the same bits, on a GPU up to rounding, see `DragSession`.  Where the bottleneck of
        k was let go to save memory, the iterations from the nearest one kept are run again first.  Raises
        IndexError beyond the history.
        """
        self._history = self._upto(k)
        self._ahead = None

    @guarded
    def snapshot(self, k: int) -> Snapshot:
        """Iteration k with its bottleneck and moments, computed again if they were let go to save memory.

        `history[k]` is the same without the computing.  Raises IndexError beyond the history.
        """
        return replay.snapshot(self._history, k, self._editor_of)

    def branch(self, k: int | None = None, *, name: str | None = None) -> Self:
        """A second session from iteration k on (default: where this one stands).

        It shares the model, the LoRA and the inversion, and goes its own way; watchers and autosave it
        has none.  name: default this one's and a number, such as "main.1".  Raises IndexError beyond
        the history.
        """
        name = self._free_name() if name is None else checked_name(name)
        if k is None:
            k = len(self._history) - 1
            history = self._history
        else:
            history = self._upto(k)
        other = type(self).__new__(type(self))
        other._model, other._worn = self._model, self._worn
        last = len(history) == len(self._history)
        state = self._state()
        other._become(
            dataclasses.replace(
                state,
                history=history,
                anchors=state.anchors if last else None,
                name=name,
                origin=(self._name, max(k, 0)),
            )
        )
        other._parent = weakref.ref(self)
        self._children = (*(ref for ref in self._children if ref()), weakref.ref(other))
        return other

    @property
    def name(self) -> str:
        """What this branch is called, for people; "main" unless named.  Raises TypeError or ValueError for no name."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = checked_name(name)

    @property
    def origin(self) -> tuple[str, int] | None:
        """The name of the session that this one was branched from, and the iteration; None for the first of a tree."""
        return self._origin

    @property
    def parent(self) -> Self | None:
        """The session that this one was branched from, as long as somebody holds it."""
        return cast("Self | None", self._parent() if self._parent else None)

    @property
    def children(self) -> tuple[Self, ...]:
        """The sessions branched from this one that somebody still holds, oldest first."""
        living = tuple(child for ref in self._children if (child := ref()) is not None)
        return cast("tuple[Self, ...]", living)

    @property
    def history_limit(self) -> float:
        """Bytes of bottlenecks and moments that the history may take, default 1 GiB; `math.inf` for no limit.

        Beyond it those of some iterations are let go, see `History.within`; `rewind`, `branch` and
        `snapshot` compute them again, to the bit on a CPU.  Raises TypeError or ValueError for no number above 0.
        """
        return self._history_limit

    @history_limit.setter
    def history_limit(self, limit: float) -> None:
        self._history_limit = require_limit(limit)
        self._history = self._history.within(self._history_limit)

    def _upto(self, k: int) -> History:
        """The history as it was at iteration k, whose snapshot is whole."""
        history = self._history.upto(k)
        return history if history[-1].is_whole else History([*history[:-1], self.snapshot(k)])

    def _free_name(self) -> str:
        taken = {child.name for child in self.children}
        return next(name for i in itertools.count(1) if (name := f"{self._name}.{i}") not in taken)

    if TYPE_CHECKING:  # what a session adds

        def _editor_of(self, config: DragConfig, mask: np.ndarray | None) -> DragNoise: ...

        def _state(self) -> State: ...

        def _become(self, state: State) -> None: ...


def checked_name(name: object) -> str:
    """Raise TypeError or ValueError unless it is a name for a branch."""
    text = as_text("a branch's name", name)
    if not text.strip():
        raise ValueError(f"a branch's name must not be empty, as {shown(name)} is.")
    return text
