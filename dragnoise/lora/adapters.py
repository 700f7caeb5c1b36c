"""LoRA adapters, and models with adapters in or beside their weights."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from dragnoise.locks import PATCHING
from dragnoise.lora import writing
from dragnoise.models.arguments import as_device
from dragnoise.models.model import Model
from dragnoise.models.unet import sharing_copy
from dragnoise.validation import as_float, as_number, shown

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers of every attention that a fit adapts: queries, keys, values and the output projection."""


HALF_SCALE = 2.0**16
"""Where the loss scale begins in float16, whose gradients would vanish otherwise; it only ever comes down."""


STRONGEST = 2.0
"""The largest strength of a LoRA either way."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """The change of one layer's weight, `scale * up @ down` (Hu et al. 2022, section 4.1).

    down: (rank, in) float32, the A of the paper; up: (out, rank) float32, its B.  Of a convolution
    (rank, in, k, k) and (out, rank, 1, 1).  One of a linear layer also fits a 1x1 convolution, and the reverse.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight that it changes."""
        return (self.up.shape[0], *self.down.shape[1:])

    def delta(self) -> Tensor:
        """The change at full weight, shaped as the layer's weight, float32."""
        return (self.scale * (self.up.flatten(1) @ self.down.flatten(1))).reshape(self.shape)

    def norm(self) -> float:
        """Frobenius norm of `delta()`, by way of rank x rank matrices: |BA|² = tr(BᵀB AAᵀ)."""
        down, up = (x.detach().cpu().double().flatten(1) for x in (self.down, self.up))
        return abs(self.scale) * math.sqrt(max(float(((up.T @ up) * (down @ down.T)).sum()), 0.0))


@dataclass(frozen=True, eq=False)
class Training:
    """What it takes, beside the adapters, to go on with a fit bit by bit.

    key: of picture, prompt, model and settings, see `dragnoise.lora.settings.Subject.key`.
    moments: layer -> AdamW's first and second moment of down, then those of up.
    loss_scale: 1 to `HALF_SCALE`, keeps half-precision gradients from vanishing; 1 in float32.
    """

    key: str
    moments: Mapping[str, tuple[Tensor, Tensor, Tensor, Tensor]]
    loss_scale: float


@dataclass(frozen=True, eq=False)
class Lora:
    """A low-rank change of a U-Net's weights, immutable.

    adapters: by the layer's name in the U-Net, for example
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q".
    weight: its strength, -2 to 2: 1 as it was fitted, 0 off, negative the other way, as sliders are made for.
    losses: of every step of the fit so far; empty when the file it came from does not say.
    training: for going on with the fit; None when it was loaded.

    Raises ValueError for a weight out of its range, for losses that are not finite, or when there are no
    adapters, TypeError for what are none, and for another training.
    """

    adapters: Mapping[str, Adapter]
    weight: float = 1.0
    losses: tuple[float, ...] = ()
    training: Training | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        adapters = cast(object, self.adapters)
        object.__setattr__(self, "weight", as_number("weight", self.weight, -STRONGEST, STRONGEST))
        if not isinstance(adapters, Mapping) or not all(isinstance(a, Adapter) for a in adapters.values()):
            raise TypeError(f"a LoRA's adapters must be Adapters by the names of layers, not {shown(adapters)}.")
        losses, training = cast(object, self.losses), cast(object, self.training)
        finite = isinstance(losses, list | tuple) and all(math.isfinite(as_float(x) or math.nan) for x in losses)
        if not finite:
            raise ValueError(f"a LoRA's losses must be finite numbers, one for each step, not {shown(losses)}.")
        object.__setattr__(self, "losses", tuple(float(x) for x in self.losses))
        if not (training is None or isinstance(training, Training)):
            raise TypeError(f"a LoRA's training must be a Training or None, not {shown(training)}.")
        if not self.adapters:
            raise ValueError("a LoRA needs an adapter for one layer at least.")

    def __repr__(self) -> str:
        return f"Lora(rank {self.rank}, {self.steps} steps, weight {self.weight:g}, {len(self.adapters)} layers)"

    @property
    def rank(self) -> int:
        """The largest of its adapters' ranks, which are one and the same after a fit."""
        return max(adapter.rank for adapter in self.adapters.values())

    @property
    def steps(self) -> int:
        """Steps of the fit so far."""
        return len(self.losses)

    @property
    def norms(self) -> dict[str, float]:
        """Layer -> Frobenius norm of its change at full weight."""
        return {name: adapter.norm() for name, adapter in self.adapters.items()}

    def at(self, weight: float) -> Lora:
        """The same at another strength, -2 to 2, this one if it has that; raises ValueError for any other."""
        other = dataclasses.replace(self, weight=weight)
        return self if other.weight == self.weight else other

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes; the same for the same LoRA."""
        layers = {n: (a.down, a.scale * a.up) for n, a in self.adapters.items()}  # other programs take the scale for 1
        return writing.as_bytes(layers, self.losses)

    def save(self, path: str | Path) -> Path:
        """Write it for diffusers' `load_lora_weights`, at weight 1 in float32; returns the file's path.

        path: a .safetensors file, or a folder that gets a `pytorch_lora_weights.safetensors`.  Raises OSError when it
        cannot be written.
        """
        return writing.write(self.to_bytes(), path)

    def to(self, device: torch.device | str | None) -> Lora:
        """The same on a device, its training too; None is the best there is.

        Raises ValueError for one that cannot be used here.
        """
        device = as_device(device)
        adapters = {n: Adapter(a.down.to(device), a.up.to(device), a.scale) for n, a in self.adapters.items()}
        training = self.training
        if training is not None:
            moments = {n: (m[0].to(device), m[1].to(device), m[2].to(device), m[3].to(device))
                       for n, m in training.moments.items()}  # fmt: skip
            training = dataclasses.replace(training, moments=moments)
        return dataclasses.replace(self, adapters=adapters, training=training)

    def require_fit(self, model: Model) -> None:
        """Raise ValueError, naming the first layer that differs, unless it was made for such a model."""
        unet = bare_unet(model)
        for name, adapter in self.adapters.items():
            try:
                wanted = tuple(unet.get_submodule(name).get_parameter("weight").shape)
            except AttributeError:
                wanted = ()
            if not _same_numbers(adapter.shape, wanted):
                what = f"has shape {wanted}" if wanted else "does not exist"
                raise ValueError(
                    f"this LoRA was made for another kind of model, for its layer {name} has shape {adapter.shape} "
                    f"and that of {model.name!r} {what}; fit one with session.fit_lora()."
                )


def _same_numbers(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Are these weights' shapes the same but for trailing sides of 1: a linear layer and a 1x1 convolution?"""
    return shape[:2] == other[:2] and _sides(shape) == _sides(other)


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return () if all(side == 1 for side in shape[2:]) else shape[2:]


def fuse(model: Model, lora: Lora) -> Model:
    """The model with a LoRA applied.

    Only the layers that the LoRA changes are new; every other tensor is shared with `model`, which stays as it is, to
    the bit, and may be used by other sessions at the same time.  In float32 (and float64) the change is added to the
    weights, so the layers are plain ones and a forward costs what it costs without.  In half precision adding loses
    part of it by rounding, so each changed layer keeps its weights and adds two small matmuls instead (peft's layers).
    Of a change of half a percent of the weights, adding loses 32 % in bfloat16 and keeping it beside 0.2 %; a forward
    of the whole U-Net on those rounded weights in float32 misses the LoRA's effect by 34 %.  It costs, by count, 0.4 %
    of an iteration's operations (Stable Diffusion 1.5, 512x512, rank 16).  The rounding of bfloat16 arithmetic itself
    is larger than the effect of so small a change either way.  Raises ValueError if the LoRA does not fit.
    """
    lora.require_fit(model)
    if lora.weight == 0:
        return model
    with PATCHING:
        unet = sharing_copy(bare_unet(model))
        if model.dtype in (torch.float16, torch.bfloat16):
            _add_beside(unet, lora)
        else:
            _add_to_weights(unet, lora)
    return model.with_unet(unet)


@torch.no_grad()
def _add_to_weights(unet: nn.Module, lora: Lora) -> None:
    for name, adapter in lora.adapters.items():
        layer = unet.get_submodule(name)
        weight = layer.get_parameter("weight")
        fused = weight.float() + lora.weight * adapter.delta().to(weight.device).reshape(weight.shape)
        layer.weight = nn.Parameter(fused.to(weight.dtype), requires_grad=False)


@torch.no_grad()
def _add_beside(unet: nn.Module, lora: Lora) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=lora.rank, lora_alpha=lora.rank, target_modules="|".join(map(re.escape, lora.adapters)))
    inject_adapter_in_model(config, unet, low_cpu_mem_usage=True)  # on the meta device: nothing is drawn
    for name, adapter in lora.adapters.items():
        layer = cast(Any, unet.get_submodule(name))
        sides = layer.weight.ndim - 2
        for part, tensor in ((layer.lora_A, adapter.down), (layer.lora_B, adapter.up)):
            shaped = tensor.reshape(*tensor.shape[:2], *(tensor.shape[2:] or (1,) * sides)[:sides])
            part["default"].weight = nn.Parameter(shaped.to(layer.weight), requires_grad=False)
        layer.scaling["default"] = lora.weight * adapter.scale
    unet.eval()


def bare_unet(model: Model) -> nn.Module:
    """The model's own U-Net, without any LoRA; raises ValueError if someone else attached adapters to it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    unet: nn.Module = model.pipeline.unet
    if any(isinstance(layer, BaseTunerLayer) for layer in unet.modules()):
        raise ValueError(
            f"adapters are attached to the U-Net of {model.name!r} already; call pipeline.unload_lora_weights() and "
            "set session.lora to their file."
        )
    return unet
