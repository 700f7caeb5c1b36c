"""fit(): adapters learn one picture, a step at a time."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from PIL import Image
from torch import Tensor, nn

from dragnoise.conditioning import Text
from dragnoise.given import as_float, as_integer, shown
from dragnoise.lora.adapters import HALF_SCALE, TARGETS, Adapter, Lora, Training, bare_unet, sharing_copy
from dragnoise.lora.cache import LoraCache
from dragnoise.model import Model
from dragnoise.rescue import rescue

KEPT_AT_MOST = 4 * 64 * 64
"""Latent pixels of a step's whole batch beyond which `fit` computes layers again rather than keep what they saw."""

MOST = 2**14
"""Rank and batch at most, so that a slip of the finger is not a computer without memory."""


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


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The numbers of a fit.

    rank: of every adapter, 1..`MOST`.  lr: AdamW's learning rate, above 0, at most 1.  batch_size: noised
    copies of the picture in a step, 1..`MOST`.  seed: of everything drawn, >= 0.

    The defaults are those that DragDiffusion, whose fit DragNoise takes over, was first released
    with for 200 steps; both programs' later 60 to 80 steps go with lr=5e-4.

    Raises ValueError when a number is out of its range.
    """

    rank: int = 16
    lr: float = 2e-4
    batch_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        as_integer("rank", self.rank, 1, MOST)
        as_integer("batch_size", self.batch_size, 1, MOST)
        as_integer("seed", self.seed, 0)
        lr: object = self.lr
        if not 0 < (as_float(lr) or 0) <= 1:
            raise ValueError(f"lr={shown(lr)} must be a number above 0 and at most 1.")
        for name, kind in (("rank", int), ("lr", float), ("batch_size", int), ("seed", int)):
            object.__setattr__(self, name, kind(getattr(self, name)))


@dataclass(frozen=True, eq=False)
class Subject:
    """What is fitted: a picture at its working size (width, height), its prompt, and the model to learn them.

    latent_noise: standard deviation of the noise that goes on the latent, as in `DragConfig`.
    """

    model: Model
    picture: Image.Image
    size: tuple[int, int]
    prompt: str
    latent_noise: float = 0.0

    def key(self, settings: LoraSettings) -> str:
        """64 hexadecimal digits that change with the picture, the prompt, the model or the settings."""
        said = repr((self.picture.size, self.size, self.prompt, float(self.latent_noise), asdict(settings)))
        digest = hashlib.sha256(said.encode())
        digest.update(self.picture.tobytes())
        digest.update(self.model.digests[0])
        return digest.hexdigest()


def fit(
    subject: Subject,
    settings: LoraSettings,
    steps: int,
    *,
    start: Lora | None = None,
    gradient_checkpointing: bool | None = None,
    cache: LoraCache | None = None,
) -> Iterator[tuple[LoraStep, Lora]]:
    """Fit adapters to a picture with the model's own training loss, to `steps` steps in all.

    start: a LoRA to go on with, if it comes from the same subject and settings; otherwise the fit
        begins anew.  Going on gives the same bits as never having stopped, on a
        GPU up to rounding.
    gradient_checkpointing: see `checkpoints`.
    cache: where to look for the result first, and to put it at last; a result that was found there is
        one step.

    Every LoRA yielded is of its own and complete.  The model and torch's random state are not touched.
    Raises ValueError for a wrong `gradient_checkpointing`, FloatingPointError when a number stops being
    finite, and `OutOfMemory`.
    """
    model, key = subject.model, subject.key(settings)
    checkpointing = checkpoints(subject, settings, gradient_checkpointing)
    if start is not None and (start.training is None or start.training.key != key):
        start = None
    if start is not None and start.steps >= steps:
        return
    name = f"{key}-{steps}"
    with rescue(lambda: _advice(model, settings, checkpointing)):
        if cache is not None and (found := cache.get(name, model)) is not None:
            yield LoraStep(steps, found.losses[-1], settings.lr, 0.0), found
            return
        for step, lora in _train(subject, settings, key, start, checkpointing, steps):
            yield step, lora
    if cache is not None:
        cache.put(name, lora)


def _train(
    subject: Subject, settings: LoraSettings, key: str, start: Lora | None, checkpointing: bool, steps: int
) -> Iterator[tuple[LoraStep, Lora]]:
    """In a frame of its own, which `rescue` empties: when memory runs out, the trainee is gone."""
    trainee = _Trainee(subject, settings, key, start, checkpointing)
    for step in range(len(trainee.losses) + 1, steps + 1):
        yield trainee.step(step)


def checkpoints(subject: Subject, settings: LoraSettings, asked: bool | None) -> bool:
    """Does a fit keep its layers' inputs alone and compute them again on the way back?

    That costs about a third more time, gives the same bits, and saves most of the memory that grows
    with the picture (`benchmarks/memory.py` counts it).  asked: yes, no, or None for yes when the
    batch is larger than four pictures of 512x512 pixels, in pixels of the latent: `KEPT_AT_MOST`.  A
    model in low memory does so in any case.  Raises ValueError for what is none of the three.
    """
    if not (asked is None or isinstance(asked, bool)):
        raise ValueError(f"gradient_checkpointing={shown(asked)} must be True, False or None.")
    if asked is None:
        width, height = (side // subject.model.factor for side in subject.size)
        asked = settings.batch_size * width * height > KEPT_AT_MOST
    return asked or subject.model.memory == "low"


def draw(
    mean: Tensor, deviation: Tensor, settings: LoraSettings, step: int, *, timesteps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A step's latents and noise, (B, C, h, w) float32 each, and timesteps (B,) of 0..`timesteps` - 1.

    mean, deviation: of the latent, (1, C, h, w).  Depends on the seed and the step alone.
    """
    rng = _generator(settings.seed, step)
    shape = (settings.batch_size, *mean.shape[1:])
    latents = mean + deviation * torch.randn(shape, generator=rng).to(mean)
    noise = torch.randn(shape, generator=rng).to(mean)
    return latents, noise, torch.randint(timesteps, (settings.batch_size,), generator=rng).to(mean.device)


def noised(latents: Tensor, noise: Tensor, alphas: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """What the U-Net sees and what it ought to predict of it, (B, C, h, w) each.

    alphas: (B,) cumulative.  kind: "epsilon", "v_prediction" (Salimans & Ho 2022, section 4) or "sample".
    """
    signal, spread = alphas.sqrt()[:, None, None, None], (1 - alphas).sqrt()[:, None, None, None]
    seen = signal * latents + spread * noise
    return seen, {"epsilon": noise, "v_prediction": signal * noise - spread * latents, "sample": latents}[kind]


class _Trainee:
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
        self.layers = _attach(unet, settings)
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
        """A copy of where it stands."""
        adapters = {n: Adapter(down.detach().clone(), up.detach().clone()) for n, (down, up) in self.layers.items()}
        moments = {name: (*self._moments(down), *self._moments(up)) for name, (down, up) in self.layers.items()}
        return Lora(adapters, losses=self.losses, training=Training(self.key, moments, self.loss_scale))

    def step(self, step: int) -> tuple[LoraStep, Lora]:
        """Forward, backward, update."""
        started = time.perf_counter()
        latents, noise, t = draw(self.mean, self.deviation, self.settings, step, timesteps=len(self.alphas))
        seen, target = noised(latents, noise, self.alphas[t], self.model.prediction)
        loss, gradients = self._gradients(seen, t, target, step)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimiser.step()
        self.losses = (*self.losses, loss)
        lora = self.lora
        return LoraStep(step, loss, self.settings.lr, time.perf_counter() - started), lora

    def _moments(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        state = self.optimiser.state[parameter]
        return state["exp_avg"].clone(), state["exp_avg_sq"].clone()

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
                    "step": torch.tensor(float(start.steps)),
                    "exp_avg": first.to(parameter.device, copy=True),
                    "exp_avg_sq": second.to(parameter.device, copy=True),
                }
        self.losses, self.loss_scale = start.losses, start.training.loss_scale


def _attach(unet: nn.Module, settings: LoraSettings) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    """Put float32 adapters on every attention: layer -> (down, up), down normal with variance 1/rank², up zero."""
    config = LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=list(TARGETS))
    with torch.random.fork_rng(devices=[]):  # peft draws weights of its own first
        inject_adapter_in_model(config, unet)
    rng = _generator(settings.seed, 0)
    layers = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, LoraLayer):
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            down.data = (torch.randn(down.shape, generator=rng) / settings.rank).to(down.device)
            up.data = torch.zeros_like(up, dtype=torch.float32)
            layers[name] = down, up
    return layers


def _autocast(model: Model) -> AbstractContextManager[object]:
    return nullcontext() if model.dtype == torch.float32 else torch.autocast(model.device.type, model.dtype)


def _generator(seed: int, step: int) -> torch.Generator:
    """On the CPU, so that it draws the same for every device."""
    (word,) = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word))


def _advice(model: Model, settings: LoraSettings, checkpointing: bool) -> str:
    """What to try, in the order of effect as `benchmarks/memory.py` counts it."""
    usual, tries = LoraSettings().rank, []
    if settings.rank > 16 * usual:  # with AdamW's moments more than all else
        tries.append(f"rank={usual}")
    if not checkpointing:
        tries.append("gradient_checkpointing=True")
    if settings.batch_size > 1:
        tries.append("batch_size=1")
    tries.append("a smaller picture with session.config = session.config.replace(side=...)")
    if model.dtype in (torch.float32, torch.float64):
        tries.append("load_model(..., dtype=torch.float16)")
    if model.memory != "low":
        tries.append('load_model(..., memory="low")')
    return (
        f"the memory of {str(model.device)!r} is used up by the LoRA's fit, and the LoRA stands where it stood: try "
        f"{', then '.join(tries)}."
    )
