"""Snapshots: everything there is to know after an iteration, immutable, and the history made of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from dragnoise.config import DragConfig
from dragnoise.geometry import Drag
from dragnoise.validation import as_float, shown

if TYPE_CHECKING:  # a page shows a history before torch has been imported
    from torch import Tensor

    from dragnoise.editors.base import EditState, Status

HISTORY_LIMIT = 2**30
"""Bytes of tensors that a session's history keeps unless told otherwise: 1 GiB.

Stable Diffusion 1.5 takes 1 MB an iteration at 512x512, SDXL 16 MB at 1024x1024.
"""


class OvertakenError(RuntimeError):
    """An input was changed while something was computed from it; nothing of that was kept."""


class ThinnedError(ValueError):
    """Tensors were asked for that had been let go to save memory."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One iteration.

    iteration: 0 is the state before any update.
    losses: by name, what this update was computed from: "total", and its parts unweighted, for DragNoise "alignment"
        (Eq. 1) and "mask" (Eq. 2).  Empty at 0, and for a denoising step, which minimises nothing.
    anchors, distances: (m, 2) and (m,) float64 in image pixels, also before the update.
    grad_norm: L2 norm of the gradient at the variable; NaN where there are no losses.
    state: the editor's own, after the update, for going on from here.
    status: "running", or why there is nothing left to do after this update.
    seconds: time this iteration took.
    config, mask, drags: the numbers, the (H, W) bool mask or None, and the drags that this update was made with.

    A long history lets go of some states' tensors to save memory, see `History.within`; asking such a snapshot for
    them raises `ThinnedError`, and `session.snapshot(k)` computes them again.
    """

    iteration: int
    losses: Mapping[str, float]
    anchors: np.ndarray
    distances: np.ndarray
    grad_norm: float
    state: EditState
    status: Status
    seconds: float
    config: DragConfig | None = None
    mask: np.ndarray | None = None
    drags: tuple[Drag, ...] | None = None

    def __repr__(self) -> str:
        far = ", ".join(f"{d:.1f}" for d in self.distances)
        return f"Snapshot({self.iteration}: loss {self.loss:.4g}, {far} px to go, {self.status})"

    @property
    def loss(self) -> float:
        """What was minimised (Eq. 3); NaN where nothing was."""
        return self.losses.get("total", math.nan)

    @property
    def alignment_loss(self) -> float:
        """Eq. 1; NaN where there is none."""
        return self.losses.get("alignment", math.nan)

    @property
    def mask_loss(self) -> float:
        """Eq. 2, not yet weighted; NaN where there is none."""
        return self.losses.get("mask", math.nan)

    @property
    def variable(self) -> Tensor:
        """The tensor that the iteration optimised, after the update, (1, C, h, w) float32 on the CPU.

        Its storage is shared, so copy before you write on it.  Raises ThinnedError if it was let go.
        """
        return self._whole("variable").variable

    @property
    def bottleneck(self) -> Tensor:
        """The optimised bottleneck, as `variable`; raises AttributeError if the editor optimises something else."""
        return self._tensor("bottleneck")

    @property
    def latent(self) -> Tensor:
        """The optimised latent, as `variable`; raises AttributeError if the editor optimises something else."""
        return self._tensor("latent")

    @property
    def is_whole(self) -> bool:
        """Does it still hold its tensors?"""
        return bool(self.state.tensors)

    @property
    def nbytes(self) -> int:
        """Memory that the tensors take; 0 when they were let go."""
        return self.state.nbytes

    def thin(self) -> Snapshot:
        """The same without tensors."""
        return dataclasses.replace(self, state=dataclasses.replace(self.state, tensors={}))

    def _tensor(self, name: str) -> Tensor:
        tensors = self._whole(name).tensors
        if name not in tensors:
            raise AttributeError(
                f"this edit has no {name}, for its editor optimises the {next(iter(tensors))}; use snapshot.variable."
            )
        return tensors[name]

    def _whole(self, name: str) -> EditState:
        if not self.is_whole:
            raise ThinnedError(
                f"the {name} of iteration {self.iteration} was let go to keep the history small; "
                f"session.snapshot({self.iteration}) computes it again."
            )
        return self.state


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

    def reopened(self) -> History:
        """This history with the last iteration's "reached" taken back, as when an objective moves."""
        if not self or self[-1].status != "reached":
            return self
        return History([*self._snapshots[:-1], dataclasses.replace(self[-1], status="running")])

    def upto(self, iteration: int) -> History:
        """The history as it was at an iteration, 0..len-1; raises IndexError beyond."""
        self.require(iteration)
        return History(self._snapshots[: iteration + 1])

    def require(self, iteration: object) -> None:
        """Raise TypeError if it is not an iteration, and IndexError for one that is not there."""
        require_iteration(iteration, len(self))


def require_iteration(iteration: object, count: int) -> None:
    """Raise TypeError if it is not an iteration, and IndexError for one that is not among the first `count`."""
    if isinstance(iteration, bool) or not isinstance(iteration, int | np.integer):
        raise TypeError(f"an iteration is a whole number, not {shown(iteration)}.")
    if not 0 <= iteration < count:
        raise _beyond(iteration, count)


def _beyond(iteration: object, count: int) -> IndexError:
    if not count:
        return IndexError("there are no iterations yet; call session.step() or session.run() first.")
    return IndexError(f"there is no iteration {shown(iteration)} in the history; choose 0..{count - 1}.")


def require_limit(limit: Any) -> float:
    """Raise ValueError or TypeError unless it is a number of bytes above 0; infinity is no limit."""
    number = as_float(limit)
    if number is None:
        raise TypeError(f"history_limit must be a number of bytes, not {shown(limit)}.")
    if math.isnan(number) or number <= 0:
        raise ValueError(f"history_limit={shown(limit)} must be above 0 bytes; math.inf keeps everything.")
    return number
