"""Layout of a session's file: part names, limits, and the dataclasses that session.json is written from and read into.

A file is a zip of uncompressed parts:

    session.json                  `SessionDocument`
    picture.png                   8-bit RGB
    masks/<i>.png                 8-bit grey, above 0 where the picture may change
    latents.safetensors           "latents", (edit_from + 1, C, h, w)
    lora.safetensors              `dragnoise.lora.files.pack`
    iterations/<k>.safetensors    the tensors of iteration k by name, those that `EditDocument.tensors` lists

Every tensor is float32.  Version 1, of dragnoise 0.1, is read too: see `SessionDocument1`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from dragnoise.archive.typed_json import Broken, Range
from dragnoise.config import DragConfig
from dragnoise.editors.base import Status
from dragnoise.geometry import Frame
from dragnoise.models.fingerprint import ModelInfo

FORMAT, VERSION = "dragnoise session", 2

LARGEST = {"picture": 2**27, "masks": 2**29, "session.json": 2**25}
"""Pixels of a picture and of all masks, bytes of JSON at most, so that a small hostile file cannot fill the memory."""

Count = Annotated[int, Range(0)]
Points = tuple[tuple[float, float], ...]


def iteration_part(k: int) -> str:
    """Name of the part that holds iteration k's tensors."""
    return f"iterations/{k}.safetensors"


@dataclass(frozen=True, kw_only=True)
class EditDocument:
    """The state that an editor goes on from.

    anchors: (m, 2) grid pixels.  step: of the schedule.  count: updates so far.
    tensors: names of the tensors, the variable's first; None when they were let go to save memory.
    """

    anchors: Points
    step: Count
    count: Count
    tensors: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class IterationDocument:
    """A snapshot.  `config`, `mask` and `drags` are indices.

    Iteration 0, and one that minimised nothing, has no losses and null for grad_norm.
    """

    iteration: Count
    status: Status
    seconds: float
    losses: Mapping[str, float]
    grad_norm: float | None
    anchors: Points
    distances: tuple[float, ...]
    config: Count
    mask: Count | None
    drags: Count | None
    state: EditDocument


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """Fields of session.json that all versions have in common: all but the iterations.

    masks, latents: how many there are.  config, mask: indices into `configs` and the masks.
    history_limit: in bytes, null for no limit.  anchors: where they are after the last iteration, if known.
    """

    format: str
    version: int
    name: str
    origin: tuple[str, int] | None
    prompt: str
    model: ModelInfo
    frame: Frame
    drags: tuple[Any, ...]
    configs: tuple[Mapping[str, Any], ...]
    config: Count
    masks: Count
    mask: Count | None
    history_limit: Annotated[float, Range(1)] | None
    latents: Count
    anchors: Points | None
    lora: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class SessionDocument(_Shared):
    """All fields of session.json.  former_drags: drags that earlier iterations were made with."""

    former_drags: tuple[tuple[Any, ...], ...]
    history: tuple[IterationDocument, ...]


# ------------------------------------------------------------------------------------- version 1


@dataclass(frozen=True, kw_only=True)
class IterationDocument1:
    """A snapshot of version 1, which knew one editor; its tensors are "bottleneck", "first" and "second"."""

    iteration: Count
    loss: float | None
    alignment_loss: float | None
    mask_loss: float | None
    grad_norm: float | None
    seconds: float
    status: Status
    anchors: Points
    distances: tuple[float, ...]
    grid_anchors: Points
    whole: bool
    updates: Annotated[int, Range(1)] | None
    config: Count
    mask: Count | None


@dataclass(frozen=True, kw_only=True)
class SessionDocument1(_Shared):
    """session.json of version 1."""

    history: tuple[IterationDocument1, ...]


RENAMED1 = {"first": "adam.first", "second": "adam.second"}
"""Tensors of an iteration that had other names in version 1."""


def upgraded(old: SessionDocument1, configs: tuple[DragConfig, ...]) -> SessionDocument:
    """A document of version 1 as one of this version; `configs` are the parsed `old.configs`."""
    shared = {field.name: getattr(old, field.name) for field in dataclasses.fields(_Shared)}
    return SessionDocument(
        **shared, former_drags=(), history=tuple(_upgraded(iteration, configs) for iteration in old.history)
    )


def _upgraded(old: IterationDocument1, configs: tuple[DragConfig, ...]) -> IterationDocument:
    names = ("bottleneck",) if old.iteration == 0 else ("bottleneck", "adam.first", "adam.second")
    losses = {"total": old.loss, "alignment": old.alignment_loss, "mask": old.mask_loss} if old.iteration else {}
    return IterationDocument(
        iteration=old.iteration,
        status=old.status,
        seconds=old.seconds,
        losses={name: _required(loss, name, old.iteration) for name, loss in losses.items()},
        grad_norm=old.grad_norm,
        anchors=old.anchors,
        distances=old.distances,
        config=old.config,
        mask=old.mask,
        drags=None,
        state=EditDocument(
            anchors=old.grid_anchors,
            step=configs[old.config].edit_from if old.config < len(configs) else 0,
            count=old.iteration if old.updates is None else old.updates,
            tensors=names if old.whole else None,
        ),
    )


def _required(loss: float | None, name: str, iteration: int) -> float:
    if loss is None:
        raise Broken(f"{name} loss of iteration {iteration} is null instead of a number")
    return loss
