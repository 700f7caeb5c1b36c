"""The contract of an editor: what it is given, the immutable state it moves, and the steps it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from dragnoise.config import DragConfig
from dragnoise.editors.parts.carried import Carried
from dragnoise.geometry import Frame
from dragnoise.models.model import Model
from dragnoise.models.text import Text
from dragnoise.models.unet import Encoded
from dragnoise.sampling.ddim import DDIMState, Schedule

Status = Literal["running", "reached", "stalled", "denoised", "max_iterations"]
"""Whether there is anything left to do, or why not.

"stalled": the anchors have stopped moving short of the goal.  "denoised": the latent is clean, of editors whose units
are denoising steps.
"""


@dataclass(frozen=True, eq=False)
class Task:
    """An edit, ready for optimisation.

    trajectory: latents of inversion steps 0..`config.edit_from`, (1, C, h, w) float32 on the device; the last is z_t.
    first_pass: gives the encoder's pass on z_t, and `carried` the picture carried along the drags, each computed once.
    text: of `Model.embed`.
    picture: as it was given.  mask: (H, W) bool of it, or None.
    anchors, objectives: (m, 2) float64 in grid pixels.
    """

    model: Model
    config: DragConfig
    schedule: Schedule
    frame: Frame
    trajectory: tuple[Tensor, ...]
    first_pass: Callable[[], Encoded]
    carried: Callable[[], Carried]
    text: Text
    picture: Image.Image
    anchors: Tensor
    objectives: Tensor
    mask: np.ndarray | None

    @property
    def latents(self) -> Tensor:
        """z_t at step `config.edit_from`, (1, C, h, w) float32."""
        return self.trajectory[-1]


@dataclass(frozen=True, eq=False)
class EditState:
    """Where an edit stands after an update, immutable: what a snapshot keeps and an archive writes.

    tensors: by name, float32 on the CPU; the first is the variable that is optimised, (1, C, h, w), such as
        "bottleneck" or "latent"; others belong to it, such as Adam's "adam.first" and "adam.second".
    anchors: (m, 2) float64 in grid pixels, where the update found them.
    step: of the schedule, where the variable lives.  count: updates so far.
    """

    tensors: Mapping[str, Tensor]
    anchors: Tensor
    step: int
    count: int

    @property
    def variable(self) -> Tensor:
        """The tensor that is optimised."""
        return next(iter(self.tensors.values()))

    @property
    def nbytes(self) -> int:
        """Memory that the tensors take."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class Report:
    """What an update was computed from.

    losses: by name, unweighted, such as "alignment" and "mask"; "total" is what was minimised.  Empty for a unit
        that minimises nothing, such as a denoising step.
    grad_norm: L2 norm of the gradient at the variable; NaN where there is none.
    """

    losses: Mapping[str, float]
    grad_norm: float


class Editor(Protocol):
    """A method of drag editing as a pure state machine; cached results are internal to it."""

    task: Task

    def start(self) -> EditState:
        """The state before any update."""

    def locate(self, state: EditState) -> Tensor:
        """Where the anchors are in this state, (m, 2) float64 grid pixels."""

    def advance(self, state: EditState) -> tuple[EditState, Report]:
        """One unit of work: an update, or a denoising step.  Raises FloatingPointError for numbers not finite."""

    def status(self, state: EditState) -> Status:
        """Is there anything left to do?"""

    def render(self, state: EditState) -> Iterator[DDIMState]:
        """Denoise to the clean latent, a state per step."""

    def feature(self, state: EditState) -> Tensor:
        """The supervision feature F of this state, (C, h, w) float32."""

    def predicted(self, state: EditState) -> Tensor:
        """The clean latent that the U-Net predicts of this state in one step, (1, C, h, w); changes nothing."""

    def initial_features(self, state: EditState) -> Tensor:
        """The unedited picture's feature at the state's step and the initial anchors, (m, C): f_i of Eq. 4."""

    def retasked(self, task: Task) -> Editor:
        """This editor for a task whose numbers differ only where `FieldInfo.forgets` is "nothing"."""

    def release(self) -> None:
        """Let go of graphs; they are computed again when needed."""
