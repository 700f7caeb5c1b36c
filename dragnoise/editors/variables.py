"""Variables: the tensor that an editor optimises, and the U-Net's forward as a function of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from dragnoise.editors.base import Task
from dragnoise.models.unet import Decoded


class Variable(Protocol):
    """What is optimised.

    name: of the tensor in an `EditState`.  original: its value before any update, (1, C, h, w) float32 on the device.
    """

    name: str
    original: Tensor

    def forward(self, value: Tensor, *, upto: int | None) -> Decoded:
        """The U-Net with this value, up to up block `upto`, or to the noise.  Gradients reach `value`."""

    def latents(self, value: Tensor) -> Tensor:
        """The latent that the forward denoises, (1, C, h, w) float32."""


class Bottleneck:
    """The mid block's output s_t at step `edit_from` (DragNoise): the encoder runs once, an iteration decodes."""

    name = "bottleneck"

    def __init__(self, task: Task) -> None:
        self._task, self._encoded = task, task.first_pass()
        self.original = self._encoded.bottleneck.float()

    def forward(self, value: Tensor, *, upto: int | None) -> Decoded:
        return self._task.model.decode(value, self._encoded, upto=upto)

    def latents(self, value: Tensor) -> Tensor:
        return self._task.latents


class Latent:
    """The latent z_t at step `edit_from` (DragDiffusion): gradients go through the whole U-Net."""

    name = "latent"

    def __init__(self, task: Task) -> None:
        self._task, self.original = task, task.latents.float()

    def forward(self, value: Tensor, *, upto: int | None) -> Decoded:
        task = self._task
        encoded = task.model.encode(value, task.schedule.timestep(task.config.edit_from), task.text)
        return task.model.decode(encoded.bottleneck, encoded, upto=upto)

    def latents(self, value: Tensor) -> Tensor:
        return value
