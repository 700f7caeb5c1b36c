"""DragDiffusion (Shi et al., CVPR 2024), as its program was released: the latent at one timestep is optimised."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from dragnoise.config import RELEASED
from dragnoise.editors.base import Editor, EditState, Task
from dragnoise.editors.parts.attention import with_shared_keys_and_values
from dragnoise.editors.parts.single_timestep import SingleTimestep
from dragnoise.editors.parts.supervision import Supervision, supervision_of
from dragnoise.editors.parts.variables import Latent, Variable
from dragnoise.editors.rendering import key_value_sharing
from dragnoise.models.model import Model
from dragnoise.sampling.ddim import DDIMState

PRESET: dict[str, Any] = RELEASED | {"lr": 0.01, "max_iterations": 80, "r1": 1, "r2": 3, "mask_weight": 0.1}
"""Numbers of the released program for real pictures (its user interface and its benchmark)."""


class DragDiffusion(SingleTimestep):
    """Latent x the convention's losses x one timestep x key/value sharing with the unedited picture.

    The released mask term is there only if the mask has an editable element: without a mask nothing is held.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task, Latent(task))

    def supervise(self, task: Task, variable: Variable) -> Supervision:
        return supervision_of(task, variable, blank_mask_holds=False)

    def render(self, state: EditState) -> Iterator[DDIMState]:
        return key_value_sharing(self.task, state.variable, self._sharing, share_from=self.task.config.share_from)

    @cached_property
    def _sharing(self) -> Model:
        return with_shared_keys_and_values(self.task.model, self.task.config.share_layer)


def make(task: Task) -> Editor:
    """The editor of a task."""
    return DragDiffusion(task)
