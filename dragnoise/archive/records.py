"""Snapshots as documents and tensors by name, and back: the one place of the archive that knows a snapshot's fields."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dragnoise.archive.documents import EditDocument, IterationDocument, Points
from dragnoise.archive.typed_json import Broken
from dragnoise.config import DragConfig
from dragnoise.history import Moments, Snapshot

MOMENTS = ("adam.first", "adam.second")


def tensors_of(snapshot: Snapshot) -> dict[str, Tensor]:
    """The tensors of a whole snapshot by name; none of a thinned one."""
    if not snapshot.is_whole:
        return {}
    moments = snapshot.moments
    named = {} if moments is None else dict(zip(MOMENTS, (moments.first, moments.second), strict=True))
    return {"bottleneck": snapshot.bottleneck, **named}


def losses_of(snapshot: Snapshot) -> dict[str, float]:
    """The losses of a snapshot by name; NaN at iteration 0."""
    return {"alignment": snapshot.alignment_loss, "mask": snapshot.mask_loss}


def grid_anchors_of(snapshot: Snapshot) -> Tensor:
    """(m, 2) grid pixels: the anchors that the next iteration goes on from."""
    return snapshot.grid_anchors


def document_of(snapshot: Snapshot, *, config: int, mask: int | None) -> IterationDocument:
    """A snapshot's numbers; `config` and `mask` are indices."""
    moments = snapshot.moments if snapshot.is_whole else None
    assert snapshot.config is not None
    return IterationDocument(
        iteration=snapshot.iteration,
        status=snapshot.status,
        seconds=snapshot.seconds,
        loss=_or_null(snapshot.loss),
        losses={name: _or_null(loss) for name, loss in losses_of(snapshot).items()},
        grad_norm=_or_null(snapshot.grad_norm),
        anchors=points(snapshot.anchors),
        distances=tuple(snapshot.distances.tolist()),
        config=config,
        mask=mask,
        state=EditDocument(
            anchors=points(grid_anchors_of(snapshot)),
            step=snapshot.config.edit_from,
            count=snapshot.iteration if moments is None else moments.updates,
            tensors=tuple(sorted(tensors_of(snapshot))) if snapshot.is_whole else None,
        ),
    )


def snapshot_of(
    told: IterationDocument, tensors: Mapping[str, Tensor], *, config: DragConfig, mask: np.ndarray | None
) -> Snapshot:
    """The snapshot of a document and its tensors, which are empty for a thinned one; raises Broken."""
    blank = told.iteration == 0  # before any update there is no loss
    what = f"iteration {told.iteration}"
    if set(told.losses) != {"alignment", "mask"}:
        raise Broken(f"losses of {what} are {sorted(told.losses)!r:.80}, not 'alignment' and 'mask'")
    snapshot = Snapshot(
        iteration=told.iteration,
        loss=_number(told.loss, f"loss of {what}", blank),
        alignment_loss=_number(told.losses["alignment"], f"alignment loss of {what}", blank),
        mask_loss=_number(told.losses["mask"], f"mask loss of {what}", blank),
        grad_norm=_number(told.grad_norm, f"grad_norm of {what}", blank),
        seconds=told.seconds,
        status=told.status,
        anchors=array(told.anchors),
        distances=array(told.distances),
        grid_anchors=torch.tensor(told.state.anchors, dtype=torch.float64).reshape(-1, 2),
        config=config,
        mask=mask,
        bottleneck=torch.empty(0),
        moments=None,
    )
    if told.state.tensors is None:
        return snapshot.thin()
    wanted = {"bottleneck"} if blank else {"bottleneck", *MOMENTS}
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    if set(tensors) != wanted or len(shapes) != 1:
        raise Broken(f"{what} holds {sorted(tensors)} of shapes {sorted(shapes)}, not {sorted(wanted)} of one")
    if not blank and told.state.count < 1:
        raise Broken(f"count of {what} is {told.state.count}, which cannot be after an update")
    first, second = (tensors.get(name) for name in MOMENTS)
    moments = None if first is None or second is None else Moments(first, second, told.state.count)
    return snapshot.whole(tensors["bottleneck"], moments)


def points(array: np.ndarray | Tensor) -> Points:
    """(m, 2) -> pairs of floats."""
    return tuple((float(x), float(y)) for x, y in array.tolist())


def array(values: tuple[float, ...] | Points) -> np.ndarray:
    """Read-only float64."""
    found = np.array(values, np.float64)
    found.flags.writeable = False
    return found


def _or_null(number: float) -> float | None:
    return None if math.isnan(number) else number


def _number(given: float | None, what: str, blank: bool) -> float:
    if given is None and not blank:
        raise Broken(f"{what} is null, which is no number")
    return math.nan if given is None else given
