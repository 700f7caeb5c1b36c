"""The base of editors that optimise a latent with schedules and losses of their own: its forward, and Adam's update."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from dragnoise import semantics
from dragnoise.editors.base import EditState, Report, Task
from dragnoise.editors.parts.optimiser import Adam
from dragnoise.editors.parts.supervision import require_block
from dragnoise.editors.parts.variables import Latent, feature_of
from dragnoise.numerics import not_finite
from dragnoise.sampling import ddim

LATENT = Latent.name
"""Name in an `EditState` of the edited latent, (1, C, h, w)."""


@dataclass(frozen=True, eq=False)
class Look:
    """The U-Net's forward on a state's latent.

    feature: the supervision feature F, (C, h, w) float32.  below: the latent one DDIM step below, or None unless it
    was asked for.  Both carry gradients to the optimiser's value if `has_graph`.
    """

    latent: Tensor
    feature: Tensor
    below: Tensor | None
    has_graph: bool


class LatentEditor:
    """Base class of these editors; the forward of a state is computed once and kept until the next one."""

    def __init__(self, task: Task) -> None:
        require_block(task)
        self.task = task
        self._adam = Adam(task.latents.float())
        self._look: Look | None = None

    def feature(self, state: EditState) -> Tensor:
        return self.look(state, grad=False, full=False).feature.detach()

    def predicted(self, state: EditState) -> Tensor:
        return clean_prediction(self.task, state.variable.to(self._adam.value), state.step)

    def retasked(self, task: Task) -> Self:
        other = copy.copy(self)
        other.task = task
        return other

    def release(self) -> None:
        self._look = None

    def look(self, state: EditState, *, grad: bool, full: bool) -> Look:
        """The forward of a state, made once.  full: with the latent one step below."""
        look = self._look
        if (
            look is None
            or look.latent is not state.variable
            or (grad and not look.has_graph)
            or (full and look.below is None)
        ):
            self._look = None  # two graphs would need twice the memory
            with torch.no_grad():
                self._adam.value.copy_(state.variable)
            with torch.set_grad_enabled(grad):
                feature, below = forward(self.task, self._adam.value, state.step, full=full)
            if not bool(feature.detach().abs().max().isfinite()):
                raise not_finite(f"the supervision feature of iteration {state.count + 1}")
            self._look = look = Look(state.variable, feature, below, grad)
        return look

    def update(self, state: EditState, losses: Mapping[str, Tensor], *, seen: int) -> tuple[dict[str, Tensor], Report]:
        """An update by Adam from the look of a state -> the new latent and moments by name, and what it was made of.

        losses: "alignment" and "mask", which count as in Eq. 3.  seen: updates that the state's moments have seen.
        """
        config, k = self.task.config, state.count + 1
        total = semantics.objective(losses["alignment"], losses["mask"], config.mask_weight)
        (gradient,) = torch.autograd.grad(total, self._adam.value)
        self._look = None  # its graph is used up
        self._adam.load(state.tensors, seen)
        self._adam.step(gradient, lr=config.lr, eps=config.eps)
        tensors = self._adam.tensors(LATENT)
        checked = {"loss": total, "gradient": gradient.norm(), "latent": self._adam.value.abs().max()}
        numbers = torch.stack([x.detach().float() for x in (*checked.values(), *losses.values())]).tolist()
        for what, value in zip(checked, numbers, strict=False):
            if not math.isfinite(value):
                raise not_finite(f"the {what} of iteration {k}")
        values = dict(zip(losses, numbers[len(checked) :], strict=True))
        return tensors, Report({"total": numbers[0], **values}, grad_norm=numbers[1])


def forward(task: Task, latent: Tensor, step: int, *, full: bool) -> tuple[Tensor, Tensor | None]:
    """The supervision feature of a latent (1, C, h, w) at a step, and if `full` the latent one DDIM step below."""
    decoded = Latent(task, step).forward(latent, upto=None if full else task.config.supervision_block)
    below = None if decoded.noise is None else task.schedule.down(decoded.noise.float(), latent, step)
    return feature_of(decoded, task), below


@torch.no_grad()
def clean_prediction(task: Task, latent: Tensor, step: int) -> Tensor:
    """The clean latent that the U-Net predicts of a latent (1, C, h, w) at a step; at step 0 it is the latent."""
    return ddim.predicted(task.model, latent, task.text, task.schedule, step) if step else latent
