"""One step of a fit: noise, prediction, gradients, update, on a model that shares its own weights with another."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dragnoise.locks import PATCHING
from dragnoise.lora.adapters import HALF_SCALE, TARGETS, Adapter, Lora, Training, bare_unet
from dragnoise.lora.settings import LoraSettings, Subject
from dragnoise.models.model import Model
from dragnoise.models.text import Text
from dragnoise.models.unet import sharing_copy
from dragnoise.sampling.ddim import noised


@dataclass(frozen=True)
class LoraStep:
    """One step of a fit.

    step: counted from 1.  loss: mean squared error of the prediction, before the step's update; it
    varies much with the timesteps drawn.  lr: learning rate.  seconds: time the step took.
    """

    step: int
    loss: float
    lr: float
    seconds: float


class Trainee:
    """A model with adapters in training, that shares all its own weights with the subject's."""

    def __init__(
        self, subject: Subject, settings: LoraSettings, key: str, start: Lora | None, checkpointing: bool
    ) -> None:
        self.subject, self.settings, self.key = subject, settings, key
        model = subject.model
        self.mean, deviation = model.posterior(subject.picture, subject.size)
        self.deviation = (deviation.square() + subject.latent_noise**2).sqrt()
        self.text: Text = model.embed(subject.prompt)
        self.alphas = model.scheduler.alphas_cumprod.to(model.device, torch.float32)
        unet: Any = sharing_copy(bare_unet(model))
        self.layers = attach(unet, settings)
        if checkpointing:
            unet.train()  # older diffusers look at both
            unet.enable_gradient_checkpointing()
        self.model = model.with_unet(unet)
        self.optimiser = torch.optim.AdamW(self.parameters, lr=settings.lr, betas=(0.9, 0.999), weight_decay=0.01)
        self.loss_scale = HALF_SCALE if model.dtype == torch.float16 else 1.0
        self.losses: tuple[float, ...] = ()
        if start is not None:
            self._resume(start)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """(down, up) of each layer, layer after layer."""
        return [parameter for pair in self.layers.values() for parameter in pair]

    @property
    def lora(self) -> Lora:
        """The LoRA after the last step; it shares the current tensors, which no later step modifies."""
        adapters = {name: Adapter(down.detach(), up.detach()) for name, (down, up) in self.layers.items()}
        moments = {name: (*self._moments(down), *self._moments(up)) for name, (down, up) in self.layers.items()}
        return Lora(adapters, losses=self.losses, training=Training(self.key, moments, self.loss_scale))

    def step(self, step: int) -> tuple[LoraStep, Lora]:
        """Forward, backward, update."""
        started = time.perf_counter()
        latents, noise, t = draw(self.mean, self.deviation, self.settings, step, timesteps=len(self.alphas))
        seen, target = training_pair(latents, noise, self.alphas[t], self.model.prediction)
        loss, gradients = self._gradients(seen, t, target, step)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self._leave_given_tensors()
        self.optimiser.step()
        self.losses = (*self.losses, loss)
        lora = self.lora
        return LoraStep(step, loss, self.settings.lr, time.perf_counter() - started), lora

    def _moments(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        state = self.optimiser.state[parameter]
        return state["exp_avg"], state["exp_avg_sq"]

    def _leave_given_tensors(self) -> None:
        """Continue with copies of the tensors that the last `lora` shares, so that no later step can change it."""
        for parameter in self.parameters:
            parameter.data = parameter.data.clone()
            state = self.optimiser.state.get(parameter, {})
            for moment in state.keys() & {"exp_avg", "exp_avg_sq"}:
                state[moment] = state[moment].clone()

    def _gradients(self, seen: Tensor, t: Tensor, target: Tensor, step: int) -> tuple[float, list[Tensor]]:
        """The loss and its gradients; the loss scale comes down for good when a half-precision one overflows."""
        while True:
            with torch.enable_grad(), _autocast(self.model):
                encoded = self.model.encode(seen, t, self.text)
                loss = F.mse_loss(self.model.predict(encoded.bottleneck, encoded), target)
                scaled = loss * self.loss_scale
            gradients = [g / self.loss_scale for g in torch.autograd.grad(scaled, self.parameters)]
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(self._not_finite("loss", step))
            if bool(torch.stack([g.isfinite().all() for g in gradients]).all()):
                return value, gradients
            if self.loss_scale <= 1:
                raise FloatingPointError(self._not_finite("gradient", step))
            self.loss_scale /= 2

    def _not_finite(self, what: str, step: int) -> str:
        return (
            f"the {what} of step {step} of the LoRA's fit is not finite, and the LoRA stays at step {step - 1}: try an "
            f"lr below {self.settings.lr:g}, or dtype=torch.float32 when loading the model."
        )

    def _resume(self, start: Lora) -> None:
        assert start.training is not None
        for name, pair in self.layers.items():
            adapter, moments = start.adapters[name], start.training.moments[name]
            for parameter, tensor, (first, second) in zip(
                pair, (adapter.down, adapter.up), (moments[:2], moments[2:]), strict=True
            ):
                parameter.data.copy_(tensor)
                self.optimiser.state[parameter] = {
                    "step": torch.tensor(float(start.steps), dtype=torch.float32),
                    "exp_avg": first.to(parameter.device, copy=True),
                    "exp_avg_sq": second.to(parameter.device, copy=True),
                }
        self.losses, self.loss_scale = start.losses, start.training.loss_scale


def draw(
    mean: Tensor, deviation: Tensor, settings: LoraSettings, step: int, *, timesteps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A step's latents and noise, (B, C, h, w) float32 each, and timesteps (B,) of 0..`timesteps` - 1.

    mean, deviation: of the latent, (1, C, h, w).  Depends on the seed and the step alone.
    """
    rng = _generator(settings.seed, step)
    shape = (settings.batch_size, *mean.shape[1:])
    latents = mean + deviation * torch.randn(shape, generator=rng, dtype=torch.float32).to(mean)
    noise = torch.randn(shape, generator=rng, dtype=torch.float32).to(mean)
    return latents, noise, torch.randint(timesteps, (settings.batch_size,), generator=rng).to(mean.device)


def training_pair(latents: Tensor, noise: Tensor, alphas: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The noised latents that the U-Net sees and its training target, (B, C, h, w) each.

    alphas: (B,) cumulative.  kind: "epsilon", "v_prediction" (Salimans & Ho 2022, section 4) or "sample".
    """
    alphas = alphas[:, None, None, None]
    velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
    return noised(latents, noise, alphas), {"epsilon": noise, "v_prediction": velocity, "sample": latents}[kind]


def attach(unet: nn.Module, settings: LoraSettings) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    """Put float32 adapters on every attention: layer -> (down, up), down normal with variance 1/rank², up zero."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    config = LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=list(TARGETS))
    with PATCHING, torch.random.fork_rng(devices=[]):  # peft draws weights of its own first
        inject_adapter_in_model(config, unet)
    rng = _generator(settings.seed, 0)
    layers = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, LoraLayer):
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            down.data = (torch.randn(down.shape, generator=rng, dtype=torch.float32) / settings.rank).to(down.device)
            up.data = torch.zeros_like(up, dtype=torch.float32)
            layers[name] = down, up
    return layers


def _autocast(model: Model) -> AbstractContextManager[object]:
    return nullcontext() if model.dtype == torch.float32 else torch.autocast(model.device.type, model.dtype)


def _generator(seed: int, step: int) -> torch.Generator:
    """On the CPU, so that it draws the same for every device."""
    (word,) = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word))
