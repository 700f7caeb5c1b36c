"""Low memory: components of a pipeline on the device only while in use, VAE tiling, gradient checkpointing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch

from dragnoise.interrupts import release

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Memory = Literal["normal", "low"]

TILE = 512
"""Side of the VAE's tiles in picture pixels, in low memory."""


_MOVING = threading.Lock()
_VISITS: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()
"""Number of current users of each component, over all threads."""


@contextmanager
def on_device(part: torch.nn.Module, device: torch.device) -> Iterator[torch.device]:
    """Context manager: a component of a pipeline is on the device while it is in use, otherwise on the CPU.

    With several users the first one moves it to the device and the last one moves it back.
    """
    with _MOVING:
        others = _VISITS.get(part, 0)
        if not others:
            _bring(part, device)
        _VISITS[part] = others + 1
    try:
        yield device
    finally:
        with _MOVING:
            _VISITS[part] -= 1
            if not _VISITS[part]:
                _park(part, device)


def _bring(part: torch.nn.Module, device: torch.device) -> None:
    try:
        part.to(device)
    except BaseException:
        _park(part, device)  # some of it may be there already
        raise


def _park(part: torch.nn.Module, device: torch.device) -> None:
    part.to("cpu")
    if device.type != "cpu":
        release()


def enable_low_memory(pipeline: DiffusionPipeline, device: torch.device) -> None:
    """Configure a pipeline for `memory="low"`.

    All but the U-Net goes to the CPU, the VAE works in tiles, and while gradients flow the U-Net keeps
    its layers' inputs alone and runs them again on the way back: the numbers are the same.  Attention
    is sliced where the device has no fused attention, which needs less memory than slices do.
    """
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module) and part is not pipeline.unet:
            part.to("cpu")
    _tile(pipeline.vae)
    pipeline.unet.enable_gradient_checkpointing()
    if device.type == "mps":
        pipeline.unet.set_attention_slice("auto")


def _tile(vae: Any) -> None:
    """Let a VAE work in tiles of at most `TILE` pixels; a picture that is no larger goes as a whole."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    for switch in ("enable_slicing", "enable_tiling"):
        getattr(vae, switch, lambda: None)()
    if not isinstance(vae, AutoencoderKL | AutoencoderTiny):
        return
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_sample_min_size = min(vae.tile_sample_min_size, TILE)
    vae.tile_latent_min_size = vae.tile_sample_min_size // factor
    if isinstance(vae, AutoencoderTiny) and not hasattr(vae, "_whole"):
        _tile_large_pictures_alone(vae, factor)


def _tile_large_pictures_alone(vae: Any, factor: int) -> None:
    """Patch diffusers' AutoencoderTiny, which assumes a factor of 8 and tiles small pictures too."""
    vae.spatial_scale_factor = factor
    encode, decode = vae._tiled_encode, vae._tiled_decode

    def tiled_encode(x: torch.Tensor) -> torch.Tensor:
        return encode(x) if max(x.shape[-2:]) > vae.tile_sample_min_size else vae.encoder(x)

    def tiled_decode(z: torch.Tensor) -> torch.Tensor:
        return decode(z) if max(z.shape[-2:]) > vae.tile_latent_min_size else vae.decoder(z)

    vae._tiled_encode, vae._tiled_decode, vae._whole = tiled_encode, tiled_decode, True
