"""The schedule "all iterations at one timestep": one forward, one backward and one update an iteration."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from dragnoise import semantics
from dragnoise.editors.base import EditState, Report, Status, Task
from dragnoise.editors.parts.optimiser import Adam
from dragnoise.editors.parts.supervision import Supervision, require_block, supervision_of
from dragnoise.editors.parts.variables import Variable, feature_of
from dragnoise.geometry import arrived
from dragnoise.models.unet import Decoded
from dragnoise.numerics import not_finite
from dragnoise.sampling.ddim import DDIMState


@dataclass(frozen=True, eq=False)
class Look:
    """The forward of a state, which the next update starts from, and the anchors tracked on it.

    variable: of the state that was looked at.  has_graph: were gradients recorded?
    """

    variable: Tensor
    decoded: Decoded
    anchors: Tensor
    has_graph: bool


class SingleTimestep:
    """A variable, optimised by Adam at step `edit_from`; subclasses choose the parts and say how to render.

    Every update ends with the forward of the next one, whose tracking (Eq. 4) says where the anchors are now; so an
    iteration takes one forward, one backward and one blocking read of the device.

    tracks_first: track before any update too; otherwise the anchors are where they were put.
    """

    def __init__(self, task: Task, variable: Variable, *, tracks_first: bool = False) -> None:
        require_block(task)
        self.task, self.variable, self._tracks_first = task, variable, tracks_first
        self.supervision = self.supervise(task, variable)
        self._adam = Adam(variable.original)
        self._live: EditState | None = None  # the state whose tensors the optimiser holds
        self._look: Look | None = None
        self._initial: Tensor | None = None

    def supervise(self, task: Task, variable: Variable) -> Supervision:
        """The losses; those of the task's convention unless a subclass has others."""
        return supervision_of(task, variable)

    def start(self) -> EditState:
        task = self.task
        return EditState({self.variable.name: self.variable.original.cpu()}, task.anchors, task.config.edit_from, 0)

    def locate(self, state: EditState) -> Tensor:
        return self._looked(state, grad=False).anchors

    def feature(self, state: EditState) -> Tensor:
        return feature_of(self._looked(state, grad=False).decoded, self.task).detach()

    def predicted(self, state: EditState) -> Tensor:
        value = state.variable.to(self.variable.original)
        return self.task.schedule.clean(self.prediction(state), self.variable.latents(value), state.step)

    @torch.no_grad()
    def prediction(self, state: EditState) -> Tensor:
        """What the U-Net predicts of a state, (1, C, h, w) float32; the state's forward is run on if it is there."""
        look = self._look
        if look is not None and look.variable is state.variable:
            decoded = self.task.model.unet.finish(look.decoded)
        else:
            decoded = self.variable.forward(state.variable.to(self.variable.original), upto=None)
        assert decoded.noise is not None
        return decoded.noise.float()

    def status(self, state: EditState) -> Status:
        config = self.task.config
        if state.count >= config.most_iterations:
            return "max_iterations"
        gaps = (self.task.objectives - self._looked(state, grad=True).anchors).norm(dim=-1)
        return "reached" if bool(arrived(gaps, config).all()) else "running"

    @torch.enable_grad()  # whatever the caller has switched
    def advance(self, state: EditState) -> tuple[EditState, Report]:
        """Eqs. 1-3, their gradient, an update by Adam, and Eq. 4 on the forward of the result."""
        config, k = self.task.config, state.count + 1
        look = self._looked(state, grad=True)
        self._look = self._live = None  # the graph and Adam's moments are used up below
        losses = self.supervision.losses(look.decoded, self._adam.value, look.anchors, count=state.count)
        total = semantics.objective(losses["alignment"], losses["mask"], config.mask_weight)
        (gradient,) = torch.autograd.grad(total, self._adam.value)
        self._adam.step(gradient, lr=config.lr, eps=config.eps)
        after = EditState(self._adam.tensors(self.variable.name), look.anchors, state.step, k)
        del look
        checked = {"loss": total, "gradient": gradient.norm(), self.variable.name: self._adam.value.abs().max()}
        numbers = [value.detach().float() for value in (*checked.values(), *losses.values())]
        ahead = self._forward(after, grad=True) if k < config.most_iterations else None
        read = torch.stack(numbers + (ahead.numbers if ahead else [])).tolist()  # the one blocking read
        for what, value in zip(checked, read, strict=False):
            if not math.isfinite(value):
                raise not_finite(f"the {what} of iteration {k}")
        if ahead is not None:
            self._look = ahead.resolved(after, read[len(numbers) :])
        self._live = after
        values = dict(zip(losses, read[len(checked) :], strict=False))
        return after, Report({"total": read[0], **values}, grad_norm=read[1])

    def render(self, state: EditState) -> Iterator[DDIMState]:
        raise TypeError(f"{type(self).__name__} does not say how to render.")

    def retasked(self, task: Task) -> Self:
        other = copy.copy(self)
        other.task = task
        other.supervision = copy.copy(self.supervision)
        other.supervision.task = task
        return other

    def release(self) -> None:
        self._look = None

    def initial_features(self, state: EditState) -> Tensor:
        if self._initial is None:
            self._initial = self._at_initial_anchors(self.variable.reference)
        return self._initial

    def _at_initial_anchors(self, feature: Tensor) -> Tensor:
        return semantics.sample(feature, self.task.anchors, self.task.frame.grid)

    def _looked(self, state: EditState, *, grad: bool) -> Look:
        """The forward of a state, made once."""
        look = self._look
        if look is None or look.variable is not state.variable or (grad and not look.has_graph):
            self._look = None  # two graphs would need twice the memory
            if self._live is not state:
                self._adam.load(state.tensors, state.count)
                self._live = state
            ahead = self._forward(state, grad=grad)
            self._look = look = ahead.resolved(state, torch.stack(ahead.numbers).tolist())
        return look

    def _forward(self, state: EditState, *, grad: bool) -> Ahead:
        """The forward of the optimiser's value, and Eq. 4 on it; the initial anchors need no tracking."""
        with torch.set_grad_enabled(grad):
            decoded = self.variable.forward(self._adam.value, upto=self.supervision.upto(state.count))
        feature = feature_of(decoded, self.task).detach()
        numbers = [feature.abs().max()]
        if state.count == 0 and not self._tracks_first:
            if self._initial is None:
                self._initial = self._at_initial_anchors(feature)
            return Ahead(decoded, None, numbers, grad)
        places = semantics.tracking_places(state.anchors, self.task.config.r2)
        index = semantics.nearest_place(feature, self.initial_features(state), places, self.task.frame.grid)
        return Ahead(decoded, places, [*numbers, *index.float()], grad)


@dataclass(frozen=True, eq=False)
class Ahead:
    """A forward pass whose scalar results have not been read from the device yet.

    places: (m, n, 2) where tracking looks, None before any update.  numbers: scalars, the feature's largest absolute
    value and then the index of the nearest place of every anchor.
    """

    decoded: Decoded
    places: Tensor | None
    numbers: list[Tensor]
    has_graph: bool

    def resolved(self, state: EditState, read: list[float]) -> Look:
        """The look, from the numbers as read."""
        if not math.isfinite(read[0]):
            raise not_finite(f"the supervision feature of iteration {state.count + 1}")
        anchors = state.anchors
        if self.places is not None:
            anchors = semantics.chosen_places(self.places, torch.tensor([int(index) for index in read[1:]]))
        return Look(state.variable, self.decoded, anchors, self.has_graph)
