"""Everything is a snapshot: what there is to know after an iteration, immutable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from torch import Tensor

Status = Literal["running", "reached", "max_iterations"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Adam's state: (1, C, h, w) float32 first and second moments on the CPU, and the update count."""

    first: Tensor
    second: Tensor
    updates: int


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One iteration.

    iteration: 0 is the state before any update.
    loss, alignment_loss, mask_loss: Eqs. 3, 1 and 2, which this update was computed from; NaN at 0.
        mask_loss is not yet weighted.
    anchors, distances: (m, 2) and (m,) float64 in image pixels, also of before the update.
    grad_norm: L2 norm of the gradient at the bottleneck; NaN at 0.
    bottleneck: (1, C, h, w) float32 on the CPU, after the update; its storage is shared, so copy
        before you write on it.
    status: "running", or why there is nothing left to do after this update.
    seconds: time this iteration took.
    grid_anchors, moments: the engine's own, for going on from here: the anchors in grid pixels and
        the optimiser's state after the update (None before any).
    """

    iteration: int
    loss: float
    alignment_loss: float
    mask_loss: float
    anchors: np.ndarray
    distances: np.ndarray
    grad_norm: float
    bottleneck: Tensor
    status: Status
    seconds: float
    grid_anchors: Tensor
    moments: Moments | None

    def __repr__(self) -> str:
        far = ", ".join(f"{d:.1f}" for d in self.distances)
        return f"Snapshot({self.iteration}: loss {self.loss:.4g}, {far} px to go, {self.status})"


class History(Sequence[Snapshot]):
    """The snapshots so far, immutable; `history[k]` is iteration k."""

    def __init__(self, snapshots: Sequence[Snapshot] = ()) -> None:
        self._snapshots = tuple(snapshots)

    @overload
    def __getitem__(self, index: int) -> Snapshot: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Snapshot]: ...
    def __getitem__(self, index: int | slice) -> Snapshot | Sequence[Snapshot]:
        return self._snapshots[index]

    def __len__(self) -> int:
        return len(self._snapshots)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self._snapshots)

    def __repr__(self) -> str:
        return f"History({len(self)} snapshots)" if self else "History()"

    def then(self, snapshot: Snapshot) -> History:
        """This history and the next iteration."""
        if snapshot.iteration != len(self):
            raise ValueError(f"iteration {snapshot.iteration} cannot follow {len(self) - 1}.")
        return History([*self._snapshots, snapshot])

    def upto(self, iteration: int) -> History:
        """The history as it was at an iteration, 0..len-1; raises IndexError beyond."""
        if isinstance(iteration, bool) or not isinstance(iteration, int | np.integer):
            raise TypeError(f"an iteration is a whole number, not {iteration!r}.")
        if not 0 <= iteration < len(self):
            last = f"choose 0..{len(self) - 1}" if self else "run an iteration first"
            raise IndexError(f"there is no iteration {iteration} in the history; {last}.")
        return History(self._snapshots[: iteration + 1])
