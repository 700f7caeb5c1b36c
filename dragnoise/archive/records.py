"""Conversion of snapshots to documents and named tensors, and back; only this module knows a snapshot's fields."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dragnoise.archive.documents import EditDocument, IterationDocument, Points
from dragnoise.archive.typed_json import Broken
from dragnoise.config import DragConfig
from dragnoise.editors.base import EditState
from dragnoise.geometry import Drag
from dragnoise.session.history import Snapshot


def document_of(snapshot: Snapshot, *, config: int, mask: int | None, drags: int | None) -> IterationDocument:
    """A snapshot's numbers; `config`, `mask` and `drags` are indices."""
    state = snapshot.state
    return IterationDocument(
        iteration=snapshot.iteration,
        status=snapshot.status,
        seconds=snapshot.seconds,
        losses=dict(snapshot.losses),
        grad_norm=_or_null(snapshot.grad_norm),
        anchors=points(snapshot.anchors),
        distances=tuple(snapshot.distances.tolist()),
        config=config,
        mask=mask,
        drags=drags,
        state=EditDocument(
            anchors=points(state.anchors),
            step=state.step,
            count=state.count,
            tensors=tuple(state.tensors) if snapshot.is_whole else None,
        ),
    )


def snapshot_of(
    told: IterationDocument,
    tensors: Mapping[str, Tensor],
    *,
    config: DragConfig,
    mask: np.ndarray | None,
    drags: tuple[Drag, ...] | None,
) -> Snapshot:
    """The snapshot of a document and its tensors by name, which are empty for a thinned one; raises Broken."""
    what, names = f"iteration {told.iteration}", told.state.tensors or ()
    if told.state.tensors is not None and not names:
        raise Broken(f"{what} lists no tensor")
    if told.state.count != told.iteration:
        raise Broken(f"count of {what} is {told.state.count!r:.40}, which cannot be")
    if ("total" in told.losses) != bool(told.losses) or (told.grad_norm is None) == bool(told.losses):
        raise Broken(f"losses of {what} have no 'total', or do not fit its grad_norm")
    return Snapshot(
        iteration=told.iteration,
        losses=dict(told.losses),
        grad_norm=math.nan if told.grad_norm is None else told.grad_norm,
        seconds=told.seconds,
        status=told.status,
        anchors=array(told.anchors),
        distances=array(told.distances),
        state=EditState(
            {name: tensors[name] for name in names},
            torch.tensor(told.state.anchors, dtype=torch.float64).reshape(-1, 2),
            told.state.step,
            told.state.count,
        ),
        config=config,
        mask=mask,
        drags=drags,
    )


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
