"""Rendering: how an optimised variable becomes a clean latent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dragnoise.editors.base import Task
from dragnoise.editors.parts.area import editable_area, soft_edge
from dragnoise.editors.parts.variables import Bottleneck
from dragnoise.models.model import Model
from dragnoise.sampling import ddim
from dragnoise.sampling.ddim import DDIMState


def holding(task: Task) -> Callable[[Tensor, int], Tensor] | None:
    """A function that puts the inversion's own latents back outside the editable area, with a soft edge.

    It takes the latent of a step, (1, C, h, w), and the step.  None if nothing is held.
    """
    if task.config.hold == "nothing":
        return None
    h, w = task.latents.shape[-2:]
    area = editable_area(task, (w, h))
    if area is None:
        return None
    free = soft_edge(area) ** (1 / task.config.edit_from)  # after all steps together the edge is soft; 0 stays 0
    return lambda z, step: free * z + (1 - free) * task.trajectory[step].to(z)


def substitution(
    task: Task, edited: Tensor, variable: Bottleneck, *, latents: Tensor | None = None
) -> Iterator[DDIMState]:
    """Semantic propagation (DragNoise, section 3.2): denoise with the edited bottleneck, a state per step.

    variable: with its original and its encoder's pass at the step to begin at; latents: of that step, default z_t.
    """
    config, original = task.config, variable.original
    yield from ddim.denoise(
        task.model, task.latents if latents is None else latents, task.text, task.schedule, variable.step,
        edited=edited.to(original), original=original, refine_from=config.refine_from, propagation=config.propagation,
        site=config.variable, hold=holding(task), first=variable.encoded,
    )  # fmt: skip


def key_value_sharing(
    task: Task,
    edited: Tensor,
    sharing: Model,
    *,
    share_from: int,
    original: Tensor | None = None,
    start: int | None = None,
) -> Iterator[DDIMState]:
    """Denoise the unedited and the edited latent as a batch of two, a state of the edited one per step (MasaCtrl).

    sharing: the model whose later self-attentions read the unedited picture's keys and values, see
    `attention.with_shared_keys_and_values`; used from the step of that number on, counted from the first as 0.
    original, start: the unedited latent and the step of both, default z_t at step `edit_from`.
    """
    z = torch.cat([task.latents if original is None else original, edited.to(task.latents)])
    hold = holding(task)
    for done, step in enumerate(range(task.config.edit_from if start is None else start, 0, -1)):
        model = sharing if done >= share_from else task.model
        state = next(ddim.denoise(model, z, task.text, task.schedule, step))
        z = state.latents
        if hold is not None:
            z = torch.cat([z[:1], hold(z[1:], step - 1)])
        yield dataclasses.replace(state, latents=z[1:], bottleneck=state.bottleneck[1:])


@torch.no_grad()
def clean(task: Task, latents: Tensor) -> Iterator[DDIMState]:
    """Yield the single state of an edit whose latent is clean already."""
    z = latents.to(task.latents)
    yield DDIMState(0, 0, z, task.model.encode(z, task.schedule.timestep(0), task.text).bottleneck.float())
