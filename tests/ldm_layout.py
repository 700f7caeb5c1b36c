"""A diffusers pipeline's weights under the names of Stable Diffusion's original checkpoints.

The way back is diffusers' own, so that a checkpoint written here and read there proves both.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

Weights = dict[str, Tensor]

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip


def unet_weights(unet: Any) -> Weights:
    """model.diffusion_model.*"""
    rows = unet.config.layers_per_block + 1
    attends = [hasattr(block, "attentions") for block in unet.up_blocks]
    return {
        f"model.diffusion_model.{_unet_name(name, rows, attends)}": tensor for name, tensor in unet.state_dict().items()
    }


def _unet_name(name: str, rows: int, attends: list[bool]) -> str:
    ends = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    part, _, rest = name.partition(".")
    if part in ends:
        return f"{ends[part]}.{rest}"
    if part in ("time_embedding", "add_embedding"):
        layer, kind = rest.split(".")
        place = 0 if layer == "linear_1" else 2
        return f"time_embed.{place}.{kind}" if part == "time_embedding" else f"label_emb.0.{place}.{kind}"
    if part == "mid_block":
        kind, i, inner = re.fullmatch(r"(\w+)\.(\d+)\.(.*)", rest).groups()  # type: ignore[union-attr]
        return f"middle_block.{2 * int(i) if kind == 'resnets' else 1}.{_inner(kind, inner)}"
    level, kind, i, inner = re.fullmatch(r"(\d+)\.(\w+)\.(\d+)\.(.*)", rest).groups()  # type: ignore[union-attr]
    if part == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{(int(level) + 1) * rows}.0.op.{inner.removeprefix('conv.')}"
        return f"input_blocks.{1 + int(level) * rows + int(i)}.{int(kind != 'resnets')}.{_inner(kind, inner)}"
    if kind == "upsamplers":
        return f"output_blocks.{int(level) * rows + rows - 1}.{2 if attends[int(level)] else 1}.{inner}"
    return f"output_blocks.{int(level) * rows + int(i)}.{int(kind != 'resnets')}.{_inner(kind, inner)}"


def _inner(kind: str, inner: str) -> str:
    part, _, rest = inner.partition(".")
    return f"{RESNET[part]}.{rest}" if kind == "resnets" else inner


def vae_weights(vae: Any, prefix: str = "first_stage_model.") -> Weights:
    """first_stage_model.*, or a VAE alone with an empty prefix."""
    last = len(vae.config.block_out_channels) - 1
    return {prefix + _vae_name(name, last): _vae_tensor(name, tensor) for name, tensor in vae.state_dict().items()}


def _vae_name(name: str, last: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
    name = name.replace("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out")
    name = re.sub(r"mid_block\.attentions\.0\.to_(\w)", r"mid.attn_1.\1", name)
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)


def _vae_tensor(name: str, tensor: Tensor) -> Tensor:
    """Attention was made of 1x1 convolutions."""
    return tensor[:, :, None, None] if "attentions.0.to_" in name and tensor.ndim == 2 else tensor


def clip_weights(encoder: Any, prefix: str) -> Weights:
    """A text encoder under Hugging Face's own names."""
    weights = encoder.state_dict()
    return {prefix + (k if k.startswith("text_") else f"text_model.{k}"): v for k, v in weights.items()}


def open_clip_weights(encoder: Any, prefix: str) -> Weights:
    """A text encoder as OpenCLIP names it: queries, keys and values in one matrix."""
    weights = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    plain = {
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    named = {prefix + new: weights[old] for old, new in plain.items()}
    if "text_projection.weight" in weights:
        named[f"{prefix}text_projection"] = weights["text_projection.weight"].T
    inner = {
        "layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    for i in range(encoder.config.num_hidden_layers):
        old, new = f"encoder.layers.{i}.", f"{prefix}transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            parts = [weights[f"{old}self_attn.{x}_proj.{kind}"] for x in "qkv"]
            named[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
            named |= {f"{new}{theirs}.{kind}": weights[f"{old}{ours}.{kind}"] for ours, theirs in inner.items()}
    return named


def checkpoint(pipeline: Any, kind: str) -> Weights:
    """A whole checkpoint of "sd1", "sd2" or "sdxl"."""
    weights = unet_weights(pipeline.unet) | vae_weights(pipeline.vae)
    if kind == "sd1":
        weights |= clip_weights(pipeline.text_encoder, "cond_stage_model.transformer.")
    elif kind == "sd2":
        weights |= open_clip_weights(pipeline.text_encoder, "cond_stage_model.model.")
    else:
        weights |= clip_weights(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        weights |= open_clip_weights(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    return {name: tensor.contiguous().clone() for name, tensor in weights.items()}
