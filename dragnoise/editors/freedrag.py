"""FreeDrag (Ling et al., CVPR 2024), as its diffusion program was released: adaptive templates, no point tracking."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dragnoise.config import RELEASED
from dragnoise.editors.base import Editor, EditState, Report, Status, Task
from dragnoise.editors.parts.area import latent_area
from dragnoise.editors.parts.attention import with_shared_keys_and_values
from dragnoise.editors.parts.dense import resized, window_at
from dragnoise.editors.parts.latent_editor import LATENT, LatentEditor, forward
from dragnoise.editors.rendering import key_value_sharing
from dragnoise.geometry import arrived
from dragnoise.models.model import Model
from dragnoise.sampling.ddim import DDIMState

PRESET: dict[str, Any] = RELEASED | {
    "edit_from": 35, "lr": 0.01, "max_iterations": 300, "r1": 4, "mask_weight": 10.0, "expected_distance": 1.0,
    "max_move": 5.0,
}  # fmt: skip
"""Numbers of the released user interface."""

TEMPLATES, ROUND = "templates", "round"
"""Names in an `EditState`: T_k, (1, m, (2 r1 + 1)^2, C); and of each point its distance to T_k in the first step of
the round and after the round, whether it has arrived, and the round's steps so far, (1, 1, m, 4)."""

ROUND_STEPS = 5
"""Gradient steps of a round at most."""


@dataclass(frozen=True, eq=False)
class Round:
    """The numbers of the points, (m,) float64 and bool; done: gradient steps of a round that goes on, else 0."""

    begun: Tensor
    ended: Tensor
    arrived: Tensor
    done: int


@dataclass(frozen=True, eq=False)
class Patches:
    """F in windows: values (n, (2 r1 + 1)^2, C), and which of the places are on the grid, (n, (2 r1 + 1)^2) bool."""

    values: Tensor
    there: Tensor

    def distances(self, templates: Tensor) -> Tensor:
        """Mean L1 distances to templates of the same shape -> (n,), over the places on the grid, infinite for none."""
        apart = (self.values - templates).abs()
        means = [each[kept].mean() if kept.any() else apart.new_tensor(torch.inf)
                 for each, kept in zip(apart, self.there, strict=True)]  # fmt: skip
        return torch.stack(means)


class FreeDrag(LatentEditor):
    """Latent x templates that adapt x rounds of gradient steps at one timestep x key/value sharing.

    A unit is a gradient step.  The first one of a round places the points; the last one judges them, see `_judged`.
    """

    def start(self) -> EditState:
        task, m = self.task, len(self.task.anchors)
        with torch.no_grad():
            feature, _ = forward(task, task.latents.float(), task.config.edit_from, full=False)
        tensors = {
            LATENT: task.latents.float().cpu(),
            TEMPLATES: self._patches(feature, task.anchors).values[None].cpu(),
            ROUND: torch.zeros(1, 1, m, 4, dtype=torch.float32),
        }
        return EditState(tensors, task.anchors, task.config.edit_from, 0)

    def locate(self, state: EditState) -> Tensor:
        return self._placed(state, _round(state))

    def initial_features(self, state: EditState) -> Tensor:
        with torch.no_grad():
            feature, _ = forward(self.task, self.task.latents.float(), state.step, full=False)
        dense = resized(feature, self.task.frame.grid)
        return torch.stack([window_at(dense, anchor, 0)[0][:, 0] for anchor in self.task.anchors])

    def status(self, state: EditState) -> Status:
        now = _round(state)
        if not now.done and bool((now.arrived & self._near(state.anchors)).all()):
            return "reached"
        return "max_iterations" if state.count >= self.task.config.most_iterations else "running"

    @torch.enable_grad()
    def advance(self, state: EditState) -> tuple[EditState, Report]:
        """A gradient step on the distances to the templates, between placing and judging the points where due."""
        now = _round(state)
        points = self._placed(state, now)
        look = self.look(state, grad=True, full=self._holds)
        templates = state.tensors[TEMPLATES][0].to(look.feature)
        each = self._patches(look.feature, points).distances(templates)
        masking = each.new_zeros(())
        if self._holds and state.count > 0:  # before the first update it is exactly zero
            assert look.below is not None and self._area is not None
            masking = ((look.below - self._below) * (1 - self._area)).abs().mean()
        distances = each.detach().double().cpu()
        del look
        tensors, report = self.update(state, {"alignment": each.sum(), "mask": masking}, seen=state.count)
        now = Round(now.begun if now.done else distances, now.ended, now.arrived, now.done + 1)
        tensors |= {TEMPLATES: state.tensors[TEMPLATES].clone(), ROUND: _as_tensor(now)}
        after = EditState(tensors, points, state.step, state.count + 1)
        over = now.done >= ROUND_STEPS or bool((distances < self._threshold).all())
        return (self._judged(after, now) if over else after), report

    def render(self, state: EditState) -> Iterator[DDIMState]:
        return key_value_sharing(self.task, state.variable, self._sharing, share_from=self.task.config.share_from)

    def _placed(self, state: EditState, now: Round) -> Tensor:
        """Where the points are in this round: those that have not arrived advance, stay or go back, by their round."""
        if now.done:
            return state.anchors
        feature = self._feature_ahead(state)
        points = state.anchors.clone()
        for k in (~(now.arrived & self._near(points))).nonzero().flatten().tolist():
            template, target = state.tensors[TEMPLATES][0, k].to(feature), self.task.objectives[k]
            if now.ended[k] < self._threshold:
                places, wanted = self._ahead(points[k], target, 1.0), self.task.config.expected_distance
            elif now.ended[k] < now.begun[k]:
                continue
            else:
                behind = 2 * points[k] - self._ahead(points[k], target, 1.0)[-1]
                places, wanted = self._ahead(behind, target, 2.0), 0.0
            patches = self._patches(feature, places)
            distance = patches.distances(template.expand_as(patches.values))
            points[k] = places[int((distance - wanted).abs().argmin())]
        return points

    def _ahead(self, point: Tensor, target: Tensor, times: float) -> Tensor:
        """Ten places, (10, 2), from a point (2,) towards its target, the last one `times max_move` away at most."""
        start, gap = point.float(), (target - point).float()  # in the program's precision, which decides who is near
        far = start + (times * self.task.config.max_move / (gap.norm() + 1e-8)).clamp(max=1) * gap
        s = torch.arange(1, 11, dtype=torch.float64)[:, None] / 10
        return ((1 - s).float() * start + s.float() * far).double()

    def _judged(self, state: EditState, now: Round) -> EditState:
        """The end of a round: the distances after it, who has arrived, and the templates moved towards the feature."""
        expected, points = self.task.config.expected_distance, state.anchors
        feature = self._feature_ahead(state)
        patches, templates = self._patches(feature, points), state.tensors[TEMPLATES][0].to(feature)
        ended = patches.distances(templates).double().cpu()
        arrived_now = self._near(points) & ~(ended > self._threshold)
        share = 1 / (1 + torch.exp(math.log(9) / (0.6 * expected) * (ended - 0.2 * expected)))
        share = torch.where(arrived_now, 1.0, share)[:, None, None].to(feature)
        tensors = dict(state.tensors) | {
            TEMPLATES: (share * patches.values + (1 - share) * templates)[None].cpu(),
            ROUND: _as_tensor(Round(now.begun, ended, arrived_now, 0)),
        }
        return EditState(tensors, points, state.step, state.count)

    def _feature_ahead(self, state: EditState) -> Tensor:
        """F of a state, from the forward that the next update starts from if there is one."""
        grad = state.count < self.task.config.most_iterations
        with torch.enable_grad():
            return self.look(state, grad=grad, full=grad and self._holds).feature.detach()

    def _patches(self, feature: Tensor, points: Tensor) -> Patches:
        """F in the windows of points (n, 2)."""
        dense = resized(feature, self.task.frame.grid)
        read = [window_at(dense, point, self.task.config.r1, each=True) for point in points]
        return Patches(torch.stack([values.T for values, _ in read]), torch.stack([there for _, there in read]))

    def _near(self, points: Tensor) -> Tensor:
        gaps, config = (self.task.objectives - points).float().norm(dim=-1), self.task.config
        near: Tensor = gaps < config.tolerance if config.is_released else arrived(gaps, config)
        return near

    @property
    def _holds(self) -> bool:
        return self.task.config.mask_weight > 0 and self._area is not None

    @property
    def _threshold(self) -> float:
        return 0.5 * self.task.config.expected_distance

    @cached_property
    def _area(self) -> Tensor | None:
        return latent_area(self.task, blank_mask_holds=False)

    @cached_property
    def _below(self) -> Tensor:
        """The unedited latent one step below."""
        with torch.no_grad():
            below = forward(self.task, self.task.latents.float(), self.task.config.edit_from, full=True)[1]
        assert below is not None
        return below

    @cached_property
    def _sharing(self) -> Model:
        return with_shared_keys_and_values(self.task.model, self.task.config.share_layer)


def _round(state: EditState) -> Round:
    begun, ended, arrived_then, done = state.tensors[ROUND][0, 0].double().unbind(-1)
    return Round(begun, ended, arrived_then > 0, int(done[0]))


def _as_tensor(now: Round) -> Tensor:
    done = torch.full_like(now.ended, now.done)
    return torch.stack([now.begun, now.ended, now.arrived.to(done), done], -1)[None, None].float()


def make(task: Task) -> Editor:
    """The editor of a task."""
    return FreeDrag(task)
