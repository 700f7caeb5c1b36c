"""The cache of what can be made again from a session's state and a model, keyed by value and shared by branches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from dragnoise.identity import same
from dragnoise.lora import Lora
from dragnoise.lora.adapters import fuse
from dragnoise.models.model import Model
from dragnoise.models.text import Text
from dragnoise.models.unet import Encoded

T = TypeVar("T")

KEPT = {"worn": 1, "text": 8, "encoded": 1, "decoded": 1, "carried": 1, "known": 1}
"""Results of each kind that are kept, the latest ones."""


class Cache:
    """Models that wear a LoRA, embedded prompts, encoder passes, decoded latents and carried pictures.

    Keys hold the very objects that a result depends on; tensors and models are compared by identity, texts and numbers
    by value.  May be used from several threads; a result may then be made twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, list[tuple[tuple[Any, ...], Any]]] = {kind: [] for kind in KEPT}

    def worn(self, model: Model, lora: Lora | None) -> Model:
        """The model with a LoRA in its weights."""
        if lora is None:
            return model
        return self._get("worn", (model, lora), lambda: fuse(model, lora))

    def text(self, model: Model, prompt: str) -> Text:
        """The prompt as `Model.embed` gives it."""
        return self._get("text", (model, prompt), lambda: model.embed(prompt))

    def encoded(self, model: Model, latents: Tensor, timestep: int, text: Text) -> Encoded:
        """The encoder's pass on latents at a timestep, without gradients."""
        return self._get("encoded", (model, latents, timestep, text), lambda: _encode(model, latents, timestep, text))

    def decoded(self, model: Model, latents: Tensor) -> Tensor:
        """Latents as `Model.decode_latents` gives them, (1, 3, H, W)."""
        return self._get("decoded", (model, latents), lambda: model.decode_latents(latents))

    def carried(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """A picture carried along drags, with its latents: what `make` gives, made once for the parts of a key."""
        return self._get("carried", key, make)

    def known(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What the autoencoder makes of a carried picture: what `make` gives, made once for the parts of a key."""
        return self._get("known", key, make)

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            for kept in self._kept.values():
                kept.clear()

    def _get(self, kind: str, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        with self._lock:
            for known, value in self._kept[kind]:
                if same(known, key):
                    return value
        made = make()
        with self._lock:
            self._kept[kind] = [(key, made), *self._kept[kind]][: KEPT[kind]]
        return made


@torch.no_grad()
def _encode(model: Model, latents: Tensor, timestep: int, text: Text) -> Encoded:
    return model.encode(latents, timestep, text)
