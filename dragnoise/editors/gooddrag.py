"""GoodDrag (Zhang et al., ICLR 2025), as its program was released: drag phases at falling noise levels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dragnoise import semantics
from dragnoise.config import RELEASED
from dragnoise.editors.base import Editor, EditState, Report, Status, Task
from dragnoise.editors.parts.area import latent_area
from dragnoise.editors.parts.attention import with_shared_keys_and_values
from dragnoise.editors.parts.dense import resized, track, window_at
from dragnoise.editors.parts.latent_editor import LATENT, LatentEditor, forward
from dragnoise.editors.rendering import clean, key_value_sharing
from dragnoise.geometry import arrived
from dragnoise.models.model import Model
from dragnoise.sampling.ddim import DDIMState

PRESET: dict[str, Any] = RELEASED | {
    "edit_from": 38, "drag_steps": 7, "step_iterations": 30, "track_every": 3, "patience": 10, "max_iterations": 217,
    "lr": 0.02, "r1": 4, "r2": 12, "stride": 4.0, "mask_weight": 0.2,
}  # fmt: skip
"""Numbers of the released user interface: 7 phases of 30 gradient steps and a denoising step each."""

HANDLES, PHASE = "handles", "phase"
"""Names in an `EditState`: the anchors as tracked, (1, 1, m, 2); and gradient steps of the phase so far, trackings in
a row that moved nothing, and whether the drag was broken off, (1, 1, 1, 3)."""


@dataclass(frozen=True, eq=False)
class Level:
    """The unedited picture at one step: F0 resized to the grid, and the latent one step below, None below step 1."""

    step: int
    feature: Tensor
    below: Tensor | None


class GoodDrag(LatentEditor):
    """Latent x the initial feature of the same step as fixed target x phases and denoising x key/value sharing.

    A unit is a gradient step, or the denoising step that ends a phase, also one that was broken off.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._unedited = [task.latents.float()]  # of steps edit_from, edit_from - 1, ...
        self._level: Level | None = None

    def start(self) -> EditState:
        task = self.task
        tensors = {LATENT: task.latents.float().cpu(), **_progress(task.anchors, 0, 0, broken=False)}
        return EditState(tensors, task.anchors, task.config.edit_from, 0)

    def locate(self, state: EditState) -> Tensor:
        done, _, _ = _of_phase(state)
        if done or self.status(state) != "running":
            return _handles(state)
        return self._tracked(state, _handles(state), grad=False)  # the first look of a phase tracks

    def initial_features(self, state: EditState) -> Tensor:
        feature = self._at(state.step).feature
        return torch.stack([window_at(feature, anchor, 0)[0][:, 0] for anchor in self.task.anchors])

    def status(self, state: EditState) -> Status:
        config, (done, still, broken) = self.task.config, _of_phase(state)
        phases_over = config.edit_from - state.step >= config.most_drag_steps
        verdict = self._verdict(_handles(state), still)
        if not done and ((broken and verdict is not None) or phases_over):
            return verdict or "max_iterations"
        return "max_iterations" if state.count >= config.most_iterations else "running"

    @torch.enable_grad()
    def advance(self, state: EditState) -> tuple[EditState, Report]:
        """A gradient step at the state's noise level, or the denoising step that ends its phase."""
        config, (done, still, _) = self.task.config, _of_phase(state)
        if state.step == 0:
            raise ValueError("this edit is denoised to the end, so nothing is left to drag; go back by session.rewind.")
        handles = _handles(state)
        if done == 0:
            handles = self._tracked(state, handles, grad=True)
        if done >= config.step_iterations or self._verdict(handles, still) is not None:
            return self._denoised(state, handles), Report({}, math.nan)
        look, level = self.look(state, grad=True, full=self._holds), self._at(state.step)
        alignment = initial_feature_loss(
            resized(look.feature, self.task.frame.grid), level.feature, self.task.anchors, handles,
            self._near(handles), self.task.objectives, r1=config.r1, stride=config.stride,
        )  # fmt: skip
        masking = alignment.new_zeros(())
        if self._holds and state.count > 0:  # before the first update it is exactly zero
            assert look.below is not None and level.below is not None and self._area is not None
            masking = semantics.released_masking_loss(level.below, look.below, self._area)
        tracked = handles
        if (done + 1) % config.track_every == 0:  # on the feature before this update
            tracked = self._tracked(state, handles, grad=True)
            still = still + 1 if bool((tracked == handles).all()) else 0
        del look
        tensors, report = self.update(state, {"alignment": alignment, "mask": masking}, seen=done)
        tensors |= _progress(tracked, done + 1, still, broken=False)
        return EditState(tensors, handles, state.step, state.count + 1), report

    def render(self, state: EditState) -> Iterator[DDIMState]:
        """Denoise to the end; the step of an unfinished phase is plain, later ones share keys and values."""
        if state.step == 0:
            return clean(self.task, state.variable)
        begun = 1 if _of_phase(state)[0] else 0
        return key_value_sharing(
            self.task, state.variable, self._sharing, share_from=begun, original=self._original(state.step),
            start=state.step,
        )  # fmt: skip

    def release(self) -> None:
        super().release()
        self._level = None

    @torch.no_grad()
    def _denoised(self, state: EditState, handles: Tensor) -> EditState:
        """One plain step of the unedited and the edited latent, as a batch of two."""
        done, still, _ = _of_phase(state)
        self._look = None
        pair = key_value_sharing(
            self.task, state.variable, self.task.model, share_from=0, original=self._original(state.step),
            start=state.step,
        )  # fmt: skip
        stops = self._verdict(handles, still) is not None and done < self.task.config.step_iterations
        stops = stops or still >= self.task.config.patience  # a full phase ends without looking at the distances
        tensors = {LATENT: next(pair).latents.cpu(), **_progress(handles, 0, still, broken=stops)}
        return EditState(tensors, handles, state.step - 1, state.count + 1)

    def _near(self, handles: Tensor) -> Tensor:
        near: Tensor = arrived((self.task.objectives - handles).norm(dim=-1), self.task.config)
        return near

    def _verdict(self, handles: Tensor, still: int) -> Status | None:
        """Why a phase is broken off before its next loss, or None."""
        if bool(self._near(handles).all()):
            return "reached"
        return "stalled" if still >= self.task.config.patience else None

    def _tracked(self, state: EditState, handles: Tensor, *, grad: bool) -> Tensor:
        """Eq. 4 with this step's unedited feature."""
        feature = self.look(state, grad=grad, full=grad and self._holds).feature.detach()
        dense = resized(feature, self.task.frame.grid)
        return track(dense, self.initial_features(state), handles, self.task.config.r2)

    @cached_property
    def _area(self) -> Tensor | None:
        return latent_area(self.task, blank_mask_holds=True)

    @property
    def _holds(self) -> bool:
        return self.task.config.mask_weight > 0 and self._area is not None

    @cached_property
    def _sharing(self) -> Model:
        return with_shared_keys_and_values(self.task.model, self.task.config.share_layer)

    @torch.no_grad()
    def _original(self, step: int) -> Tensor:
        """The unedited latent, denoised plainly from the inverted one to a step."""
        while (at := self.task.config.edit_from - len(self._unedited) + 1) > step:
            below = forward(self.task, self._unedited[-1], at, full=True)[1]
            assert below is not None
            self._unedited.append(below)
        return self._unedited[self.task.config.edit_from - step]

    @torch.no_grad()
    def _at(self, step: int) -> Level:
        """The `Level` of the unedited picture at a step, computed once."""
        if self._level is None or self._level.step != step:
            task = self.task
            feature, below = forward(task, self._original(step), step, full=step > 0)
            self._level = Level(step, resized(feature, task.frame.grid), below)
        return self._level


def initial_feature_loss(
    feature: Tensor, initial: Tensor, anchors: Tensor, handles: Tensor, near: Tensor, objectives: Tensor, *,
    r1: int, stride: float,
) -> Tensor:  # fmt: skip
    """sum_i (2 r1)^2 mean | sg(F0 in the window of the initial anchor) - F in that of handle + d_i | -> scalar.

    d_i leads to the objective, `stride` long at most.  feature, initial: resized, (C, height, width); points (m, 2);
    near (m,) bool: which are left out.  The mean is over channels and the places that both windows have on the grid.
    """
    losses = []
    for k in (~near).nonzero().flatten().tolist():
        handle, gap = handles[k].float(), objectives[k].float() - handles[k].float()
        length = gap.norm()
        ahead = handle + gap / length * length.clamp(max=stride)
        (wanted, there), (now, too) = window_at(initial, anchors[k], r1), window_at(feature, ahead, r1)
        if bool((there & too).any()):
            losses.append((2 * r1) ** 2 * (wanted.detach() - now)[:, there & too].abs().mean())
    return torch.stack(losses).sum() if losses else feature.sum() * 0


def _progress(handles: Tensor, done: int, still: int, *, broken: bool) -> dict[str, Tensor]:
    return {HANDLES: handles[None, None].float(), PHASE: torch.tensor([[[[done, still, broken]]]]).float()}


def _of_phase(state: EditState) -> tuple[int, int, int]:
    done, still, broken = state.tensors[PHASE].flatten().int().tolist()
    return done, still, broken


def _handles(state: EditState) -> Tensor:
    return state.tensors[HANDLES][0, 0].double()


def make(task: Task) -> Editor:
    """The editor of a task."""
    return GoodDrag(task)
