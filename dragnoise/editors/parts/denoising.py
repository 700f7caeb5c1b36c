"""The base of editors that optimise nothing: a unit is a denoising step, beside the inversion's latents."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from dragnoise import semantics
from dragnoise.editors.base import EditState, Report, Status, Task
from dragnoise.editors.parts.latent_editor import LATENT, clean_prediction, forward
from dragnoise.editors.parts.supervision import require_block
from dragnoise.editors.rendering import clean, holding
from dragnoise.models.model import Model
from dragnoise.models.text import Text
from dragnoise.numerics import not_finite
from dragnoise.sampling.ddim import DDIMState


class Denoising:
    """An edited latent that comes down the schedule, a step a unit; subclasses say how.

    Where the anchors are is not measured: from the first unit on they are taken to be at their objectives.
    """

    def __init__(self, task: Task) -> None:
        require_block(task)
        self.task = task
        self._kept: tuple[Tensor, int, Tensor] | None = None  # latent and step of the last feature, and the feature

    def start(self) -> EditState:
        task = self.task
        return EditState({LATENT: task.latents.float().cpu()}, task.anchors, task.config.edit_from, 0)

    def locate(self, state: EditState) -> Tensor:
        return self.task.objectives if state.count else self.task.anchors

    def feature(self, state: EditState) -> Tensor:
        return self._feature(state.variable, state.step)

    def predicted(self, state: EditState) -> Tensor:
        return clean_prediction(self.task, state.variable.to(self.task.latents), state.step)

    def initial_features(self, state: EditState) -> Tensor:
        feature = self._feature(self.task.trajectory[state.step], state.step)
        return semantics.sample(feature, self.task.anchors, self.task.frame.grid)

    def status(self, state: EditState) -> Status:
        if state.step == 0:
            return "denoised"
        return "max_iterations" if state.count >= self.task.config.most_iterations else "running"

    def advance(self, state: EditState) -> tuple[EditState, Report]:
        if state.step == 0:
            raise ValueError("this edit is denoised to the end, so no step is left; go back by session.rewind.")
        z, losses, grad_norm = self.edited(state.variable.to(self.task.latents), state.step, state.count)
        return self._after(state, z), Report(losses, grad_norm)

    def edited(self, z: Tensor, step: int, count: int) -> tuple[Tensor, dict[str, float], float]:
        """The latent one step below, edited, the losses by name if there are any, and the norm of their gradient."""
        with torch.no_grad():
            return self.down(self.moved(z, step, count), step).latents, {}, math.nan

    def moved(self, z: Tensor, step: int, count: int) -> Tensor:
        """What is done to a latent, (1, C, h, w), before its denoising step; count: units so far."""
        return z

    def down(self, z: Tensor, step: int) -> DDIMState:
        """One denoising step of a latent, of the edit and of its rendering."""
        raise TypeError(f"{type(self).__name__} does not say how to denoise.")

    def render(self, state: EditState) -> Iterator[DDIMState]:
        """The steps that are left, without any more editing."""
        if state.step == 0:
            yield from clean(self.task, state.variable)
        z, hold = state.variable.to(self.task.latents), holding(self.task)
        for step in range(state.step, 0, -1):
            with torch.no_grad():
                done = self.down(z, step)
            z = done.latents if hold is None else hold(done.latents, step - 1)
            yield DDIMState(done.step, done.timestep, z, done.bottleneck)

    def retasked(self, task: Task) -> Self:
        other = copy.copy(self)
        other.task = task
        return other

    def release(self) -> None:
        self._kept = None

    def _after(self, state: EditState, z: Tensor) -> EditState:
        step, hold = state.step - 1, holding(self.task)
        if hold is not None:
            z = hold(z, step)
        if not bool(z.abs().max().isfinite()):
            raise not_finite(f"the latent of iteration {state.count + 1}")
        return EditState({LATENT: z.float().cpu()}, self.locate(state), step, state.count + 1)

    @torch.no_grad()
    def _feature(self, latent: Tensor, step: int) -> Tensor:
        if self._kept is None or self._kept[0] is not latent or self._kept[1] != step:
            task = self.task
            self._kept = latent, step, forward(task, latent.to(task.latents), step, full=False)[0]
        return self._kept[2]


def beside_inversion(task: Task, sharing: Model, z: Tensor, step: int) -> DDIMState:
    """A DDIM step with the keys and values of the inversion, see `prediction_beside_inversion`."""
    prediction, bottleneck = prediction_beside_inversion(task, sharing, z, step, task.text)
    below = task.schedule.down(prediction, z, step)
    return DDIMState(step - 1, task.schedule.timestep(step - 1) if step > 1 else 0, below, bottleneck)


def prediction_beside_inversion(task: Task, sharing: Model, z: Tensor, step: int, text: Text) -> tuple[Tensor, Tensor]:
    """The U-Net's prediction and bottleneck of an edited latent that reads the keys and values of the inversion.

    They are those of the inversion's forward to `step`: of its latent below, and the timestep that it was asked at.
    z: (1, C, h, w).  sharing: a model whose self-attentions read those of the first batch item.
    """
    schedule = task.schedule
    asked = step if task.config.inversion == "target" else step - 1
    timesteps = torch.tensor([schedule.timestep(asked), schedule.timestep(step)], device=z.device)
    encoded = sharing.encode(torch.cat([task.trajectory[step - 1].to(z), z]), timesteps, text)
    return sharing.predict(encoded.bottleneck, encoded)[1:], encoded.bottleneck[1:].float()
