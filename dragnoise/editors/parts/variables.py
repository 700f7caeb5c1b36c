"""Variables: the tensor that an editor optimises, and the U-Net's forward as a function of it."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dragnoise.editors.base import Task
from dragnoise.models.unet import MID, Decoded, Encoded


def feature_of(decoded: Decoded, task: Task) -> Tensor:
    """The supervision feature F, (C, h, w) float32."""
    return decoded.features[task.config.supervision_block][0].float()


class Variable(Protocol):
    """What is optimised.

    name: of the tensor in an `EditState`.  original: its value before any update, (1, C, h, w) float32 on the device.
    """

    name: str
    original: Tensor

    @property
    def reference(self) -> Tensor:
        """The supervision feature of the unedited picture at the same step, (C, h, w) float32; made once."""

    def forward(self, value: Tensor, *, upto: int | None) -> Decoded:
        """The U-Net with this value, up to up block `upto`, or to the noise.  Gradients reach `value`."""

    def latents(self, value: Tensor) -> Tensor:
        """The latent that the forward denoises, (1, C, h, w) float32."""


class Bottleneck:
    """The mid block's output s_t at one step (DragNoise): the encoder runs once, an iteration decodes.

    With another `config.variable` it is that block's output, see `CutUNet.sites`, and the U-Net is cut there.
    step, latents: default `edit_from` and the inverted latent; otherwise an edited latent of a lower step, whose
    reference is the inversion's own latent of that step.
    """

    def __init__(self, task: Task, step: int | None = None, latents: Tensor | None = None) -> None:
        self.site, sites = task.config.variable, task.model.unet.sites
        if self.site not in sites:
            raise ValueError(f"variable={self.site!r} is no block of this model; choose one of {', '.join(sites)}.")
        self.name: str = "bottleneck" if self.site == MID else self.site
        self._task, self.step = task, task.config.edit_from if step is None else step
        self._latents = task.latents if latents is None else latents
        cached = latents is None and self.site == MID
        self.encoded = task.first_pass() if cached else self._encode(self._latents)
        self.original = self.encoded.bottleneck.float()

    def forward(self, value: Tensor, *, upto: int | None) -> Decoded:
        return self._task.model.decode(value, self.encoded, upto=upto)

    @cached_property
    @torch.no_grad()
    def reference(self) -> Tensor:
        task, encoded = self._task, self.encoded
        if self._latents is not task.latents:
            encoded = self._encode(task.trajectory[self.step])
        return feature_of(task.model.decode(encoded.bottleneck, encoded, upto=task.config.supervision_block), task)

    def latents(self, value: Tensor) -> Tensor:
        return self._latents

    @torch.no_grad()
    def _encode(self, latents: Tensor) -> Encoded:
        task = self._task
        return task.model.encode(latents, task.schedule.timestep(self.step), task.text, site=self.site)


class Latent:
    """The latent z_t at one step, default `edit_from` (DragDiffusion): gradients go through the whole U-Net."""

    name = "latent"

    def __init__(self, task: Task, step: int | None = None) -> None:
        self._task, self.step = task, task.config.edit_from if step is None else step
        self.original = task.latents.float()

    def forward(self, value: Tensor, *, upto: int | None) -> Decoded:
        task = self._task
        encoded = task.model.encode(value, task.schedule.timestep(self.step), task.text)
        return task.model.decode(encoded.bottleneck, encoded, upto=upto)

    @cached_property
    @torch.no_grad()
    def reference(self) -> Tensor:
        return feature_of(self.forward(self.original, upto=self._task.config.supervision_block), self._task)

    def latents(self, value: Tensor) -> Tensor:
        return value
