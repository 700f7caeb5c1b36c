"""Consistency rules of a session, the same for a state that is written and for one that was read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from dragnoise.archive.documents import iteration_part
from dragnoise.archive.typed_json import Broken
from dragnoise.config import DragConfig
from dragnoise.editors.base import Status
from dragnoise.geometry import Frame
from dragnoise.session.history import Snapshot
from dragnoise.session.state import SessionState


def require_consistent(state: SessionState) -> None:
    """Raise Broken unless the parts of a session belong together; whether tensors are finite is not looked at."""
    require_frame(state.frame, state.image.size, state.config)
    require_masks([state.mask, *(s.mask for s in state.history)], state.image.size)
    _require_latents(state.trajectory, state.config)
    if state.history and not (state.drags and state.trajectory):
        raise Broken("it holds iterations without drags or latents that they could be of")
    for k, snapshot in enumerate(state.history):
        _require_snapshot(snapshot, k, len(state.drags))
    _require_kept(list(state.history))
    if state.anchors is not None:
        _require_array(state.anchors, (len(state.drags), 2), "anchors of the session")


def require_frame(frame: Frame, size: tuple[int, int], config: DragConfig) -> None:
    """Raise Broken unless a frame can be one of a picture of (width, height) with these numbers."""
    given, working, padded, grid = frame.given, frame.working, frame.padded, frame.grid
    wanted = tuple(max(int(length * config.supervision_scale), 1) for length in padded)
    fits = all(0 <= wide - length < 64 for length, wide in zip(working, padded, strict=True))
    if given != size or not fits or min(working) < 1 or max(working) > 2**16 or grid != wanted:
        raise Broken(f"its frame {given}, {working}, {grid} does not fit a picture of {size}")
    if frame.released != config.is_released:
        raise Broken(f"its frame is not of the convention {config.convention!r}")


def require_masks(masks: list[np.ndarray | None], size: tuple[int, int]) -> None:
    """Raise Broken unless all masks are bool, of the size of a picture of (width, height), and not empty."""
    for mask in unique(masks):
        if mask.dtype != np.bool_ or mask.shape != size[::-1] or not mask.any():
            raise Broken(f"a mask of shape {mask.shape} is empty or not one of a picture of {size}")


def require_tensors(tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise Broken unless all tensors of a part are float32 and finite."""
    for key, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise Broken(f"{key!r:.40} of {name} is {tensor.dtype}, not torch.float32")
        if not bool(tensor.isfinite().all()):
            raise Broken(f"{key!r:.40} of {name} holds numbers that are not finite")


def unique(things: list[np.ndarray | None]) -> list[np.ndarray]:
    """Each object once, in order, without None."""
    return list({id(thing): thing for thing in things if thing is not None}.values())


def _require_latents(trajectory: tuple[Tensor, ...], config: DragConfig) -> None:
    if not trajectory:
        return
    shapes = {tuple(latent.shape) for latent in trajectory}
    shape = next(iter(shapes))
    if len(shapes) != 1 or len(shape) != 4 or shape[0] != 1 or 0 in shape or len(trajectory) != config.edit_from + 1:
        raise Broken(f"its {len(trajectory)} latents have shapes {sorted(shapes)}, not {config.edit_from + 1} of one")


def _require_snapshot(snapshot: Snapshot, k: int, drags: int) -> None:
    what = f"iteration {k}"
    if snapshot.iteration != k:
        raise Broken(f"{what} says that it is iteration {snapshot.iteration}")
    if snapshot.status not in get_args(Status):
        raise Broken(f"status of {what} is {snapshot.status!r:.40}")
    if snapshot.config is None:
        raise Broken(f"{what} has no config")
    losses = {f"{name} loss": loss for name, loss in snapshot.losses.items()}
    if losses:
        losses["loss"] = snapshot.loss
    others = {"grad_norm": snapshot.grad_norm, "seconds": snapshot.seconds}
    for name, number in (losses | others).items():
        if not math.isfinite(number) and not (name == "grad_norm" and not losses and math.isnan(number)):
            raise Broken(f"{name} of {what} is {number}")
    _require_array(snapshot.anchors, (drags, 2), f"anchors of {what}")
    _require_array(snapshot.distances, (drags,), f"distances of {what}")
    _require_array(snapshot.state.anchors.numpy(), (drags, 2), f"grid anchors of {what}")
    if snapshot.drags is not None and len(snapshot.drags) != drags:
        raise Broken(f"{what} has {len(snapshot.drags)} drags, not {drags}")


def _require_array(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape or not np.isfinite(array).all():
        raise Broken(f"{what} are of shape {array.shape}, not {shape}, or not finite")


def _require_kept(history: list[Snapshot]) -> None:
    """The first and the last snapshot are always whole, and tensors of one name have one shape in all iterations."""
    if history and not (history[0].is_whole and history[-1].is_whole):
        raise Broken("the tensors of its first or its last iteration are missing")
    shapes: dict[str, tuple[int, ...]] = {}
    for snapshot in history:
        for name, tensor in snapshot.state.tensors.items():
            shape = tuple(tensor.shape)
            if len(shape) != 4 or shape[0] != 1 or 0 in shape:
                raise Broken(f"{name!r} of {iteration_part(snapshot.iteration)} has the shape {shape}")
            if shapes.setdefault(name, shape) != shape:
                raise Broken(f"its tensors {name!r} have the different shapes {shapes[name]} and {shape}")
