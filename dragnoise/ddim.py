"""DDIM inversion and denoising: generators, a state per step.

A schedule of n steps has timesteps tau_1 < ... < tau_n; latent k is the one at tau_k, latent 0 the
picture's own.  Inversion climbs from 0 to k, denoising comes down again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dragnoise.conditioning import Text
from dragnoise.model import Model
from dragnoise.unet import Encoded


@dataclass(frozen=True)
class DDIMState:
    """One step done: now at step `step` of the schedule (0 is the clean latent), of `total` to come.

    latents: (1, C, h, w) after the step; timestep: tau_step, 0 at the end; bottleneck: the mid
    block's output that the step was computed with.
    """

    step: int
    timestep: int
    latents: Tensor
    bottleneck: Tensor


class Schedule:
    """Timesteps and cumulative alphas of an n-step DDIM schedule over the model's noise schedule."""

    def __init__(self, model: Model, steps: int) -> None:
        scheduler = copy.copy(model.scheduler)  # other schedules may be made of it at the same time
        scheduler.set_timesteps(steps)
        self.timesteps = [int(t) for t in scheduler.timesteps.flip(0)]  # tau_1 .. tau_n
        self._alphas = scheduler.alphas_cumprod.double()
        self._final = float(scheduler.final_alpha_cumprod)
        self._stride = scheduler.config.num_train_timesteps // steps

    def timestep(self, step: int) -> int:
        """tau_step; the clean latent, step 0, counts as one stride below tau_1, not under 0."""
        return self.timesteps[step - 1] if step else max(self.timesteps[0] - self._stride, 0)

    def alpha(self, step: int) -> float:
        """Cumulative alpha at tau_step; the scheduler's `final_alpha_cumprod` for the clean latent."""
        return float(self._alphas[self.timesteps[step - 1]]) if step else self._final


def as_noise(prediction: Tensor, z: Tensor, alpha: float, kind: str) -> Tensor:
    """The noise in z according to a U-Net's prediction ("epsilon", "v_prediction" or "sample")."""
    if kind == "epsilon":
        return prediction
    if kind == "v_prediction":
        return alpha**0.5 * prediction + (1 - alpha) ** 0.5 * z
    return (z - alpha**0.5 * prediction) / (1 - alpha) ** 0.5


def move(z: Tensor, noise: Tensor, alpha_from: float, alpha_to: float) -> Tensor:
    """One deterministic DDIM step (Eq. 12 of Song et al. 2021, eta 0) between two noise levels."""
    z0 = (z - (1 - alpha_from) ** 0.5 * noise) / alpha_from**0.5
    return alpha_to**0.5 * z0 + (1 - alpha_to) ** 0.5 * noise


def invert(model: Model, z0: Tensor, text: Text, schedule: Schedule, upto: int, *, at: str) -> Iterator[DDIMState]:
    """Climb from the clean latent z0 (1, C, h, w) to step `upto`, a state per step.

    at: where the noise is asked for, the timestep a step starts from ("source") or goes to ("target").
    """
    z = z0.float()
    for step in range(1, upto + 1):
        asked = step - 1 if at == "source" else step
        with torch.no_grad():
            encoded = model.encode(z, schedule.timestep(asked), text)
            prediction = model.predict(encoded.bottleneck, encoded)
            noise = as_noise(prediction, z, schedule.alpha(asked), model.prediction)
            z = move(z, noise, schedule.alpha(step - 1), schedule.alpha(step))
        yield DDIMState(step, schedule.timestep(step), z, encoded.bottleneck.float())


def denoise(
    model: Model,
    z: Tensor,
    text: Text,
    schedule: Schedule,
    start: int,
    *,
    edited: Tensor | None = None,
    refine_from: int = 0,
    propagation: str = "replace",
    original: Tensor | None = None,
) -> Iterator[DDIMState]:
    """Come down from step `start` to the clean latent, a state per step.

    With `edited`, semantic propagation (section 3.2): at every step above `refine_from` the mid
    block's output is replaced by it, or with "delta" moved by `edited - original`, the difference
    made at `start`.
    """
    z = z.float()
    for step in range(start, 0, -1):
        with torch.no_grad():
            encoded = model.encode(z, schedule.timestep(step), text)
            bottleneck = encoded.bottleneck
            if edited is not None and step > refine_from:
                bottleneck = propagate(encoded, edited, original, propagation)
            prediction = model.predict(bottleneck, encoded)
            noise = as_noise(prediction, z, schedule.alpha(step), model.prediction)
            z = move(z, noise, schedule.alpha(step), schedule.alpha(step - 1))
        yield DDIMState(step - 1, schedule.timestep(step - 1) if step > 1 else 0, z, bottleneck.float())


def propagate(encoded: Encoded, edited: Tensor, original: Tensor | None, propagation: str) -> Tensor:
    """The bottleneck that a step of `denoise` uses instead of its own."""
    own = encoded.bottleneck
    if propagation == "replace":
        return edited.to(own)
    if original is None:
        raise ValueError('propagation="delta" needs the unedited bottleneck beside the edited one.')
    return own + (edited - original).to(own)
