"""Model fingerprints: how to load a model again, and how to tell it from others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

PARTS = ("text_encoder", "text_encoder_2", "unet", "vae")
"""Components of a pipeline whose weights determine a picture."""

SAMPLES = 64
"""Values of every tensor that a fingerprint looks at, at equal distances."""

SCHEDULE = (
    "num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "trained_betas", "rescale_betas_zero_snr",
    "set_alpha_to_one", "steps_offset", "timestep_spacing",
)  # fmt: skip
"""Fields of a scheduler that its timesteps and its alphas come from."""

EMBEDDED = "toyland"
"""The name of the model that comes with dragnoise."""

FORMER = {
    "c2fb74b304af0b37bc1280d6c6cdf304b86f6cb72cdd022d690f0321845cd07a":
        "d4d557bc75f6e63dc9608f18ab907b04df7391fe0a998c8872a3e4dd0e6ce9ab",
    "a5eda535553ffe90ab6ea9462531e0306229cdcf45b74842e6b5da9d74fb57fd":
        "206e5898738baefeb7ce1ff9f2a3dca3cb6e797d33bf90fbe223486712e49f56",
    "539518da7c186adbff154adb884b8eb123e29e186fe0b6c60afa749b010a366f":
        "ad45fc9b2bc7d01fa6f762b2871b3634ce0441a4f183dcd8ac91ce4a999ce448",
    "c9bfa55bc4c261efb9c87688aeb9da7fe25fa497984591a3a3c0ae4517e75dad":
        "fff9e95a6d212c9308d1f5d765a4b029fecee444d3b035a049032fd4b4475850",
}  # fmt: skip
"""Fingerprints (float32, bfloat16, float16) and signs of a former embedded model -> those of today's.

They differ in the VAE's decoder alone, so inversion and iterations give the same bits and only pictures differ.
"""

OPTIONS = ("vae", "config", "variant", "prediction", "memory")
"""Arguments of `load_model` that change what a model is."""


class Fingerprinted(Protocol):
    """The attributes of `Model` that this module reads."""

    name: str
    options: dict[str, Any]
    memory: Any
    prediction: str
    pipeline: Any
    scheduler: Any

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def digests(self) -> tuple[bytes, bytes]: ...


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a session's file says of its model, which it does not hold.

    name, dtype, options: `load_model(info.name, dtype=info.dtype, **info.options)` loads it again; a
        VAE that was given as an object is not among the options, and a model that was made of a
        pipeline has the name it was given.
    prediction: "epsilon", "v_prediction" or "sample".  device: "cpu", "cuda" or "mps".
    fingerprint: 64 hexadecimal digits of the weights, the noise schedule and the prediction.
    signs: the same with the weights' signs alone, which are the same in every dtype.

    A field is empty where the file does not say it.
    """

    name: str = ""
    dtype: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    prediction: str = ""
    device: str = ""
    fingerprint: str = ""
    signs: str = ""

    def __str__(self) -> str:
        options = (f"{key}={value!r}" for key, value in self.options.items())
        said = (self.fingerprint[:8], self.prediction, f"{self.dtype} on {self.device}", *options)
        return f"{self.name!r} ({', '.join(said)})" if self.fingerprint else repr(self.name)

    @property
    def sources(self) -> tuple[str, ...]:
        """Hub ids, folders and files that `load_model` would read for it; none for the embedded model.

        They are what a file says, so that a person is asked before one is loaded; nothing is looked for.
        """
        names = (
            self.name if self.name != EMBEDDED else "",
            self.options.get("vae", ""),
            self.options.get("config", ""),
        )
        return tuple(name for name in names if name)

    def question(self, file: str = "this file") -> str:
        """What to ask a person before the model that a file names is loaded; empty where nothing need be asked."""
        if not self.sources:
            return ""
        named = " and ".join(map(repr, self.sources))
        return (
            f"{file} names the model {named}, which would be read from this computer or fetched from the hub; load it "
            "only if you trust where the file came from."
        )

    def is_same(self, other: ModelInfo) -> bool:
        """Whether both may be the same model, perhaps in two dtypes; without a fingerprint a model matches any."""
        if not (self.fingerprint and other.fingerprint) or _now(self.fingerprint) == _now(other.fingerprint):
            return True
        return self.dtype != other.dtype and _now(self.signs) == _now(other.signs)


def _now(digest: str) -> str:
    return FORMER.get(digest, digest)


def info(model: Fingerprinted) -> ModelInfo:
    """The `ModelInfo` of a model."""
    options: dict[str, object] = {**model.options, "memory": model.memory if model.memory != "normal" else None}
    fingerprint, signs = model.digests
    schedule = repr([model.scheduler.config.get(name) for name in SCHEDULE]).encode()
    return ModelInfo(
        name=model.name,
        dtype=str(model.dtype).removeprefix("torch."),
        options={key: str(options[key]) for key in OPTIONS if isinstance(options.get(key), str | Path)},
        prediction=model.prediction,
        device=model.device.type,
        fingerprint=hashlib.sha256(fingerprint + schedule).hexdigest(),
        signs=hashlib.sha256(signs + schedule).hexdigest(),
    )


def digests(model: Fingerprinted) -> tuple[bytes, bytes]:
    """Digests of the weights and their signs: names, shapes, `SAMPLES` values of all tensors; dtypes in the first."""
    exact, signs = hashlib.sha256(model.prediction.encode()), hashlib.sha256(model.prediction.encode())
    parts = model.pipeline.components
    for part in PARTS:
        module = parts.get(part)
        for name, tensor in module.state_dict().items() if isinstance(module, nn.Module) else ():
            exact.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            signs.update(f"{part}.{name} {tuple(tensor.shape)}".encode())
            flat = tensor.flatten()
            values = flat[:: max(len(flat) // SAMPLES, 1)].cpu().double()
            exact.update(values.numpy().tobytes())
            signs.update(values.signbit().numpy().tobytes())
    return exact.digest(), signs.digest()
