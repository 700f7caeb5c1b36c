"""Mutual self-attention (MasaCtrl, Cao et al. 2023): an edited picture reads the unedited one's keys and values."""

from __future__ import annotations

import math
from typing import Any

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from dragnoise.models.model import Model
from dragnoise.models.unet import sharing_copy

LAYERS = 16
"""Self-attention layers of Stable Diffusion 1.5's U-Net, by which layer numbers are counted."""


class SharedKeysAndValues(AttnProcessor2_0):
    """Self-attention over a batch in which all items attend to the keys and values of the first one."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        source = hidden_states[:1].expand_as(hidden_states)
        return super().__call__(attn, hidden_states, source, attention_mask, temb)


def self_attentions(unet: Any) -> list[Attention]:
    """The self-attention layers of a U-Net in the order of execution."""
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    return [
        layer
        for block in blocks
        for name, layer in block.named_modules()
        if name.endswith("attn1") and isinstance(layer, Attention)
    ]


def with_shared_keys_and_values(model: Model, first_layer: int) -> Model:
    """A model whose self-attentions from number `first_layer` of 16 on share the first batch item's keys and values.

    On a U-Net with another number of layers, in proportion.  It shares every weight with `model`, which stays as it
    is and may be used by other threads at the same time.
    """
    unet = sharing_copy(model.unet.unet)
    layers = self_attentions(unet)
    return _shared(model, unet, layers[math.ceil(first_layer * len(layers) / LAYERS) :])


def with_shared_blocks(model: Model, *, up_blocks_alone: bool) -> Model:
    """As `with_shared_keys_and_values`, for the self-attentions of the up blocks, or for all there are."""
    unet: Any = sharing_copy(model.unet.unet)
    layers = self_attentions(unet)
    if up_blocks_alone:
        layers = [layer for layer in layers if any(layer is module for module in unet.up_blocks.modules())]
    return _shared(model, unet, layers)


def _shared(model: Model, unet: Any, layers: list[Attention]) -> Model:
    for layer in layers:
        layer.set_processor(SharedKeysAndValues())
    return model.with_unet(unet)
