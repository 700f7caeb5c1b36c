"""Rendering: how an optimised variable becomes a clean latent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from dragnoise.editors.base import Task
from dragnoise.models.model import Model
from dragnoise.sampling import ddim
from dragnoise.sampling.ddim import DDIMState


def substitution(task: Task, edited: Tensor, original: Tensor) -> Iterator[DDIMState]:
    """Semantic propagation (DragNoise, section 3.2): denoise z_t with the edited bottleneck, a state per step."""
    config = task.config
    yield from ddim.denoise(
        task.model, task.latents, task.text, task.schedule, config.edit_from,
        edited=edited.to(original), original=original, refine_from=config.refine_from, propagation=config.propagation,
    )  # fmt: skip


def key_value_sharing(task: Task, edited: Tensor, sharing: Model) -> Iterator[DDIMState]:
    """Denoise the unedited and the edited z_t as a batch of two, a state of the edited one per step (MasaCtrl).

    sharing: the model whose later self-attentions read the unedited picture's keys and values, see
    `attention.with_shared_keys_and_values`; used from step `share_from` on, counted from the first.
    """
    config = task.config
    z = torch.cat([task.latents, edited.to(task.latents)])
    for done, step in enumerate(range(config.edit_from, 0, -1)):
        model = sharing if done >= config.share_from else task.model
        state = next(ddim.denoise(model, z, task.text, task.schedule, step))
        z = state.latents
        yield dataclasses.replace(state, latents=z[1:], bottleneck=state.bottleneck[1:])
