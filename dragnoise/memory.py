"""What fits: parts of a pipeline that visit the accelerator, and giving its memory back."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from diffusers import AutoencoderKL, DiffusionPipeline

Memory = Literal["normal", "low"]

TILE = 512
"""Side of the VAE's tiles in picture pixels, in low memory."""


@contextmanager
def visit(part: torch.nn.Module, device: torch.device) -> Iterator[torch.device]:
    """A part of a pipeline that lives on the CPU and comes to the device for as long as it works."""
    part.to(device)
    try:
        yield device
    finally:
        part.to("cpu")
        if device.type != "cpu":
            release()


def economise(pipeline: DiffusionPipeline, device: torch.device) -> None:
    """Bring a pipeline into the shape of `memory="low"`.

    All but the U-Net goes to the CPU, the VAE works in tiles, and while gradients flow the U-Net keeps
    its layers' inputs alone and runs them again on the way back: the numbers are the same.  Attention
    is sliced where the device has no fused attention, which needs less memory than slices do.
    """
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module) and part is not pipeline.unet:
            part.to("cpu")
    vae = pipeline.vae
    for switch in ("enable_slicing", "enable_tiling"):
        getattr(vae, switch, lambda: None)()
    if isinstance(vae, AutoencoderKL) and vae.tile_sample_min_size > TILE:
        vae.tile_sample_min_size = TILE
        vae.tile_latent_min_size = TILE // 2 ** (len(vae.config.block_out_channels) - 1)
    pipeline.unet.enable_gradient_checkpointing()
    if device.type == "mps":
        pipeline.unet.set_attention_slice("auto")


def release() -> None:
    """Give unused memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
