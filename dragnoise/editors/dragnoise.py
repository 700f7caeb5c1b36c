"""DragNoise (Liu et al., CVPR 2024): the bottleneck at one timestep is optimised, and propagates to later steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dragnoise.editors.alternating import Alternating
from dragnoise.editors.base import Editor, EditState, Task
from dragnoise.editors.parts.single_timestep import SingleTimestep
from dragnoise.editors.parts.variables import Bottleneck
from dragnoise.editors.rendering import substitution
from dragnoise.sampling.ddim import DDIMState

PRESET: dict[str, Any] = {}
"""The paper's numbers are `DragConfig`'s defaults; `DragConfig.released()` has those of the authors' program."""


class SingleStep(SingleTimestep):
    """Bottleneck x the convention's losses x one timestep x substitution."""

    def __init__(self, task: Task) -> None:
        self._bottleneck = Bottleneck(task)
        super().__init__(task, self._bottleneck)

    def render(self, state: EditState) -> Iterator[DDIMState]:
        return substitution(self.task, state.variable, self._bottleneck)


def make(task: Task) -> Editor:
    """The editor of the task's schedule."""
    config = task.config
    return SingleStep(task) if config.schedule == "single" and config.start == "inverted" else Alternating(task)
