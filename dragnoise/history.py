"""Everything is a snapshot: what there is to know after an iteration, immutable."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from torch import Tensor

from dragnoise.config import DragConfig
from dragnoise.given import as_float, shown

HISTORY_LIMIT = 2**30
"""Bytes of bottlenecks and moments that a session keeps unless told otherwise: 1 GiB.

Stable Diffusion 1.5 takes 1 MB an iteration at 512x512, SDXL 16 MB at 1024x1024.
"""

Status = Literal["running", "reached", "max_iterations"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Adam's state: (1, C, h, w) float32 first and second moments on the CPU, and the update count."""

    first: Tensor
    second: Tensor
    updates: int

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return self.first.nbytes + self.second.nbytes


class ThinnedError(ValueError):
    """A bottleneck or moments were asked for that had been let go to save memory."""


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
    config, mask: the numbers, and the (H, W) bool mask or None, that this update was made with.

    A long history lets go of some bottlenecks and moments to save memory, see `History.within`; asking
    such a snapshot for them raises `ThinnedError`, and `session.snapshot(k)` computes them again.
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
    config: DragConfig | None = None
    mask: np.ndarray | None = None

    def __repr__(self) -> str:
        far = ", ".join(f"{d:.1f}" for d in self.distances)
        return f"Snapshot({self.iteration}: loss {self.loss:.4g}, {far} px to go, {self.status})"

    def __getattr__(self, name: str) -> Any:  # called for what is not there, so never for a whole snapshot
        if name in _HEAVY and "iteration" in vars(self):
            raise ThinnedError(
                f"the {name} of iteration {self.iteration} was let go to keep the history small; "
                f"session.snapshot({self.iteration}) computes it again."
            )
        raise AttributeError(f"a Snapshot has no {name!r}.")

    @property
    def is_whole(self) -> bool:
        """Does it still hold its bottleneck and moments?"""
        return "bottleneck" in vars(self)

    @property
    def nbytes(self) -> int:
        """Memory that the bottleneck and the moments take; 0 when they were let go."""
        if not self.is_whole:
            return 0
        return self.bottleneck.nbytes + (self.moments.nbytes if self.moments else 0)

    def thin(self) -> Snapshot:
        """The same without bottleneck and moments."""
        thinned = copy.copy(self)
        for name in _HEAVY:
            vars(thinned).pop(name, None)
        return thinned

    def whole(self, bottleneck: Tensor, moments: Moments | None) -> Snapshot:
        """The same with them, (1, C, h, w) float32 on the CPU."""
        known = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _HEAVY}
        return Snapshot(**known, bottleneck=bottleneck, moments=moments)


_HEAVY = ("bottleneck", "moments")


class History(Sequence[Snapshot]):
    """The snapshots so far, immutable; `history[k]` is iteration k."""

    def __init__(self, snapshots: Sequence[Snapshot] = ()) -> None:
        self._snapshots = tuple(snapshots)

    @overload
    def __getitem__(self, index: int) -> Snapshot: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Snapshot]: ...
    def __getitem__(self, index: int | slice) -> Snapshot | Sequence[Snapshot]:
        if isinstance(index, slice):
            return self._snapshots[index]
        if not isinstance(index, int | np.integer):
            raise TypeError(f"an iteration is a whole number or a slice, not {shown(index)}.")
        if not -len(self) <= index < len(self):
            raise _beyond(index, len(self))
        return self._snapshots[index]

    def __len__(self) -> int:
        return len(self._snapshots)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self._snapshots)

    def __repr__(self) -> str:
        return f"History({len(self)} snapshots)" if self else "History()"

    @property
    def nbytes(self) -> int:
        """Memory that the bottlenecks and moments take."""
        return sum(snapshot.nbytes for snapshot in self)

    def within(self, limit: float) -> History:
        """This history in at most `limit` bytes, by letting go of bottlenecks and moments.

        Those of every second iteration stay, or every fourth, eighth and so on, and in any case the
        first and the last ones; the rest of each snapshot, such as losses and anchors, always stays.
        """
        thinned, stride = self, 1
        while thinned.nbytes > limit and stride < len(self):
            stride *= 2
            thinned = History([s if s.iteration % stride == 0 or s is self[-1] else s.thin() for s in self])
        return thinned

    def then(self, snapshot: Snapshot) -> History:
        """This history and the next iteration."""
        if snapshot.iteration != len(self):
            raise ValueError(f"iteration {snapshot.iteration} cannot follow {len(self) - 1}.")
        return History([*self._snapshots, snapshot])

    def upto(self, iteration: int) -> History:
        """The history as it was at an iteration, 0..len-1; raises IndexError beyond."""
        self.require(iteration)
        return History(self._snapshots[: iteration + 1])

    def require(self, iteration: object) -> None:
        """Raise TypeError for what is no iteration, and IndexError for one that is not there."""
        require_iteration(iteration, len(self))


def require_iteration(iteration: object, count: int) -> None:
    """Raise TypeError for what is no iteration, and IndexError for one that is not among the first `count`."""
    if isinstance(iteration, bool) or not isinstance(iteration, int | np.integer):
        raise TypeError(f"an iteration is a whole number, not {shown(iteration)}.")
    if not 0 <= iteration < count:
        raise _beyond(iteration, count)


def _beyond(iteration: object, count: int) -> IndexError:
    last = f"choose 0..{count - 1}" if count else "run an iteration first"
    return IndexError(f"there is no iteration {shown(iteration)} in the history; {last}.")


def require_limit(limit: Any) -> float:
    """Raise ValueError or TypeError unless it is a number of bytes above 0; infinity is no limit."""
    number = as_float(limit)
    if number is None:
        raise TypeError(f"history_limit must be a number of bytes, not {shown(limit)}.")
    if math.isnan(number) or number <= 0:
        raise ValueError(f"history_limit={shown(limit)} must be above 0 bytes; math.inf keeps everything.")
    return number
