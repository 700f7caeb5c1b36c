"""The schedule that alternates iterations with denoising steps, the change of the bottleneck carried along; ours."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from dragnoise.editors.base import EditState, Report, Status, Task
from dragnoise.editors.parts.single_timestep import SingleTimestep
from dragnoise.editors.parts.variables import Bottleneck
from dragnoise.editors.rendering import holding, substitution
from dragnoise.geometry import arrived
from dragnoise.sampling import ddim

LATENT = "latent"
"""Name in an `EditState` of the edited latent of its step, (1, C, h, w)."""


class Alternating:
    """`step_iterations` updates of the bottleneck at each of `drag_steps` edit steps, a denoising step between.

    Every step has an editor of its own, for the bottleneck of the edited latent; its reference features are those of
    the inversion's latent of that step.  An update that is due for the next step denoises first.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._level: tuple[Tensor | None, SingleTimestep, Bottleneck] | None = None

    def start(self) -> EditState:
        task = self.task
        if task.config.start == "inverted":
            level, _ = self._at(None, task.config.edit_from)
            return _with_latent(level.start(), task.latents.cpu())
        latent = task.carried().latent(task.latents, task.schedule.alpha(task.config.edit_from)).cpu()
        level, _ = self._at(latent, task.config.edit_from)
        begun = level.start()
        return _with_latent(EditState(begun.tensors, task.objectives, begun.step, 0), latent)

    def locate(self, state: EditState) -> Tensor:
        return self._of(state)[0].locate(state)

    def feature(self, state: EditState) -> Tensor:
        return self._of(state)[0].feature(state)

    def predicted(self, state: EditState) -> Tensor:
        return self._of(state)[0].predicted(state)

    def initial_features(self, state: EditState) -> Tensor:
        return self._of(state)[0].initial_features(state)

    def status(self, state: EditState) -> Status:
        config = self.task.config
        if config.start == "inverted":
            return self._of(state)[0].status(state)
        if state.count == 0 and bool(arrived((self.task.objectives - self.task.anchors).norm(dim=-1), config).all()):
            return "reached"  # too short to carry anything, see `geometry.short_drags`
        if state.count < config.most_iterations:
            return "running"  # the anchors are there from the start, what is round them is not
        gaps = (self.task.objectives - self.locate(state)).norm(dim=-1)
        return "reached" if bool(arrived(gaps, config).all()) else "max_iterations"

    def advance(self, state: EditState) -> tuple[EditState, Report]:
        config = self.task.config
        done = config.edit_from - state.step + 1  # steps that were dragged at
        if state.count == done * config.step_iterations and done < config.most_drag_steps:
            state = self._step_down(state)
        after, report = self._of(state)[0].advance(state)
        return _with_latent(after, state.tensors[LATENT]), report

    def render(self, state: EditState) -> Iterator[ddim.DDIMState]:
        """Semantic propagation from where the state stands."""
        _, variable = self._of(state)
        latents = state.tensors[LATENT].to(variable.original)
        return substitution(self.task, state.variable, variable, latents=latents)

    def retasked(self, task: Task) -> Self:
        other = copy.copy(self)
        other.task = task
        if self._level is not None:
            key, level, variable = self._level
            other._level = key, level.retasked(task), variable
        return other

    def release(self) -> None:
        if self._level is not None:
            self._level[1].release()

    @torch.no_grad()
    def _step_down(self, state: EditState) -> EditState:
        """One denoising step with the edited bottleneck, and the same change on the bottleneck of the next step."""
        task, (level, variable) = self.task, self._of(state)
        z, value = state.tensors[LATENT].to(variable.original), state.variable.to(variable.original)
        z = task.schedule.down(level.prediction(state), z, state.step)
        if (hold := holding(task)) is not None:
            z = hold(z, state.step - 1)
        latent, change = z.cpu(), value - variable.original
        _, below = self._at(latent, state.step - 1)
        tensors = dict(state.tensors) | {below.name: (below.original + change).cpu(), LATENT: latent}
        return EditState(tensors, state.anchors, state.step - 1, state.count)

    def _of(self, state: EditState) -> tuple[SingleTimestep, Bottleneck]:
        first = state.step == self.task.config.edit_from and self.task.config.start == "inverted"
        return self._at(None if first else state.tensors[LATENT], state.step)

    def _at(self, latent: Tensor | None, step: int) -> tuple[SingleTimestep, Bottleneck]:
        """The editor of one step, made once; latent: the edited one on the CPU, None for the inverted one."""
        if self._level is None or self._level[0] is not latent:
            self._level = None  # before the next one takes memory
            task = self.task
            variable = Bottleneck(task, step, None if latent is None else latent.to(task.latents))
            level = SingleTimestep(task, variable, tracks_first=task.config.start == "carried")
            self._level = latent, level, variable
        return self._level[1], self._level[2]


def _with_latent(state: EditState, latent: Tensor) -> EditState:
    return EditState({**state.tensors, LATENT: latent}, state.anchors, state.step, state.count)
