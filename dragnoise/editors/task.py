"""What an editor is given to work on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dragnoise.conditioning import Text
from dragnoise.config import DragConfig
from dragnoise.ddim import Schedule
from dragnoise.geometry import Frame
from dragnoise.model import Model


@dataclass(frozen=True, eq=False)
class Task:
    """An edit, ready for optimisation.

    latents: (1, C, h, w) float32, the inverted z_t at step `config.edit_from`; text: of `Model.embed`.
    anchors, objectives: (m, 2) float64 in grid pixels; mask: (H, W) bool of the given picture, or None.
    """

    model: Model
    config: DragConfig
    schedule: Schedule
    frame: Frame
    latents: Tensor
    text: Text
    anchors: Tensor
    objectives: Tensor
    mask: np.ndarray | None
