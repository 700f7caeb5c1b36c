"""DDIM inversion and denoising: generators, a state per step.

A schedule of n steps has timesteps tau_1 < ... < tau_n; latent k is the one at tau_k, latent 0 the
picture's own.  Inversion climbs from 0 to k, denoising comes down again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dragnoise.models.model import Model
from dragnoise.models.text import Text
from dragnoise.models.unet import MID, Encoded


@dataclass(frozen=True)
class DDIMState:
    """One step done: now at step `step` of the schedule (0 is the clean latent), of `total` to come.

    latents: (1, C, h, w) after the step; timestep: tau_step, 0 at the end; bottleneck: the mid
    block's output that the step was computed with, or that of the block that is substituted.
    """

    step: int
    timestep: int
    latents: Tensor
    bottleneck: Tensor


class Schedule:
    """Timesteps and cumulative alphas of an n-step DDIM schedule over the model's noise schedule.

    Step k goes between tau_{k-1} and tau_k, whatever the spacing.  diffusers' `DDIMScheduler` takes the fixed stride
    T // n instead, which is the same where the timesteps are that far apart ("leading"; "trailing" where n divides T)
    and leaves noise behind where they are further apart.

    Raises ValueError, in one sentence, for a number of steps that this noise schedule has no timesteps for, and for a
    noise level from which the model's kind of prediction gives no clean latent.
    """

    def __init__(self, model: Model, steps: int) -> None:
        scheduler = copy.copy(model.scheduler)  # other schedules may be made of it at the same time
        self.prediction = model.prediction
        trained = scheduler.config.num_train_timesteps
        if steps > trained:
            raise ValueError(f"steps={steps} must be at most {trained}, the timesteps that {model.name!r} has.")
        scheduler.set_timesteps(steps)
        # "trailing" gives one timestep too many, -1, for 62 numbers of steps, by rounding
        self.timesteps: list[int] = scheduler.timesteps[:steps].tolist()[::-1]  # tau_1 .. tau_n
        if self.timesteps[-1] >= trained:  # "leading" alone, by its offset
            offset = scheduler.config.steps_offset
            fewer = next((n for n in range(steps - 1, 1, -1) if (n - 1) * (trained // n) + offset < trained), 1)
            raise ValueError(
                f"steps={steps} needs timestep {self.timesteps[-1]} and the last one of {model.name!r} is "
                f"{trained - 1}; use steps={fewer}, the next smaller number that this noise schedule has timesteps for."
            )
        self._alphas: list[float] = scheduler.alphas_cumprod.double().tolist()
        self._final = float(scheduler.final_alpha_cumprod)
        self._stride = trained // steps
        levels = {self._alphas[t] for t in self.timesteps}
        if self.prediction == "epsilon" and 0 in levels:
            raise ValueError(
                f"steps={steps} begins at timestep {self.timesteps[-1]} of {model.name!r}, where nothing but noise is "
                "left (rescale_betas_zero_snr) and a predicted noise does not say what picture is in it; pass "
                'prediction="v_prediction" to load_model() if that is what the model predicts.'
            )
        if self.prediction == "sample" and 1 in levels | {self._alphas[self.timestep(0)]}:
            raise ValueError(
                f"the noise schedule of {model.name!r} begins without any noise, where a predicted picture does not "
                "say what noise is in it; give its scheduler betas above 0."
            )

    def timestep(self, step: int) -> int:
        """tau_step; the clean latent, step 0, counts as one stride below tau_1, not under 0."""
        return self.timesteps[step - 1] if step else max(self.timesteps[0] - self._stride, 0)

    def alpha(self, step: int) -> float:
        """Cumulative alpha at tau_step; the scheduler's `final_alpha_cumprod` for the clean latent."""
        return self._alphas[self.timesteps[step - 1]] if step else self._final

    def ddpm_sigma(self, step: int) -> float:
        """Standard deviation of the noise that a DDPM step from `step` adds (Eq. 16 of Song et al. with eta 1)."""
        now, below = self.alpha(step), self.alpha(step - 1)
        return ((1 - below) / (1 - now) * (1 - now / below)) ** 0.5

    def down(self, prediction: Tensor, z: Tensor, step: int) -> Tensor:
        """Latent `step` - 1 from latent `step`, z, and what the U-Net predicts of it at tau_step."""
        z0, noise = clean_and_noise(prediction, z, self.alpha(step), self.prediction)
        return noised(z0, noise, self.alpha(step - 1))

    def clean(self, prediction: Tensor, z: Tensor, step: int) -> Tensor:
        """The clean latent in latent `step`, z, by what the U-Net predicts of it at tau_step: x0 in one step."""
        return clean_and_noise(prediction, z, self.alpha(step), self.prediction)[0]

    def up(self, prediction: Tensor, z: Tensor, step: int, *, asked: int | None = None) -> Tensor:
        """Latent `step` from latent `step` - 1, z, and what the U-Net predicts of it at tau_asked.

        asked: `step` - 1 (default; diffusers' `DDIMInverseScheduler.step`) or `step`.
        """
        alpha, alpha_asked = self.alpha(step - 1), self.alpha(step - 1 if asked is None else asked)
        if self.prediction == "sample" and alpha_asked == 1:  # no noise: the level of the timestep that was asked at
            alpha_asked = self._alphas[self.timestep(0)]
        z0, noise = clean_and_noise(prediction, z, alpha, self.prediction, alpha_asked=alpha_asked)
        return noised(z0, noise, self.alpha(step))


def clean_and_noise(
    prediction: Tensor, z: Tensor, alpha: float, kind: str, *, alpha_asked: float | None = None
) -> tuple[Tensor, Tensor]:
    """The clean latent z0 and the noise in z according to a U-Net's prediction, all (B, C, h, w).

    alpha: cumulative, of z = sqrt(alpha) z0 + sqrt(1 - alpha) noise, which holds of the result.  kind: "epsilon", which
    needs alpha > 0; "v_prediction" (Salimans & Ho 2022, appendix D), which divides by nothing; or "sample", which needs
    alpha < 1.  alpha_asked: of the timestep that the U-Net was asked at, default `alpha`; where it differs, the noise
    is what the U-Net takes for it at that level, and alpha must be above 0.
    """
    if alpha_asked is not None and alpha_asked != alpha:
        _, noise = clean_and_noise(prediction, z, alpha_asked, kind) if kind != "epsilon" else (z, prediction)
        return (z - (1 - alpha) ** 0.5 * noise) / alpha**0.5, noise
    signal, spread = alpha**0.5, (1 - alpha) ** 0.5
    if kind == "epsilon":
        return (z - spread * prediction) / signal, prediction
    if kind == "v_prediction":
        return signal * z - spread * prediction, signal * prediction + spread * z
    return prediction, (z - signal * prediction) / spread


def noised(z0: Tensor, noise: Tensor, alpha: Any) -> Tensor:
    """A clean latent at a noise level; with both from `clean_and_noise` a DDIM step (Eq. 12 of Song et al., eta 0).

    z0, noise: (B, C, h, w).  alpha: cumulative, a float or a tensor (B, 1, 1, 1).
    """
    return alpha**0.5 * z0 + (1 - alpha) ** 0.5 * noise


def invert(model: Model, z0: Tensor, text: Text, schedule: Schedule, upto: int, *, at: str) -> Iterator[DDIMState]:
    """Climb from the clean latent z0 (1, C, h, w) to step `upto`, a state per step.

    at: where the noise is asked for, the timestep a step starts from ("source") or goes to ("target").
    """
    z = z0.float()
    for step in range(1, upto + 1):
        asked = step - 1 if at == "source" else step
        with torch.no_grad():
            encoded = model.encode(z, schedule.timestep(asked), text)
            z = schedule.up(model.predict(encoded.bottleneck, encoded), z, step, asked=asked)
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
    site: str = MID,
    hold: Callable[[Tensor, int], Tensor] | None = None,
    first: Encoded | None = None,
) -> Iterator[DDIMState]:
    """Come down from step `start` to the clean latent, a state per step.

    With `edited`, semantic propagation (section 3.2): at every step above `refine_from` the mid
    block's output is replaced by it, or with "delta" moved by `edited - original`, the difference
    made at `start`.  site: of another block that is meant instead, see `CutUNet.sites`.  hold: called
    with the latent of every step and the step, gives the latent to go on with.  first: the encoder's pass on z at
    `start`, cut at the site, if it has been made.
    """
    z = z.float()
    for step in range(start, 0, -1):
        with torch.no_grad():
            substituted = edited if step > refine_from else None
            encoded, first = first, None
            if encoded is None:
                instead = substituted if propagation == "replace" else None
                encoded = model.encode(z, schedule.timestep(step), text, site=site, instead=instead)
            bottleneck = encoded.bottleneck
            if substituted is not None:
                bottleneck = propagate(encoded, substituted, original, propagation)
            z = schedule.down(model.predict(bottleneck, encoded), z, step)
            if hold is not None:
                z = hold(z, step - 1)
        yield DDIMState(step - 1, schedule.timestep(step - 1) if step > 1 else 0, z, bottleneck.float())


@torch.no_grad()
def predicted(model: Model, z: Tensor, text: Text, schedule: Schedule, step: int) -> Tensor:
    """The clean latent that the U-Net predicts of latent `step`, z (1, C, h, w), in one step."""
    encoded = model.encode(z, schedule.timestep(step), text)
    return schedule.clean(model.predict(encoded.bottleneck, encoded), z.float(), step)


def propagate(encoded: Encoded, edited: Tensor, original: Tensor | None, propagation: str) -> Tensor:
    """The bottleneck that a step of `denoise` uses instead of its own."""
    own = encoded.bottleneck
    if propagation == "replace":
        return edited.to(own)
    if original is None:
        raise ValueError('propagation="delta" needs the unedited bottleneck beside the edited one.')
    return own + (edited - original).to(own)
