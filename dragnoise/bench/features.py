"""DIFT features (Tang et al. 2023) of a picture: a noisy latent's activations in an up block, mean of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import torch
from PIL import Image
from torch import Tensor

from dragnoise.models.model import Model


@dataclass(frozen=True)
class Dift:
    """Which features: timestep, up block counted from 0, how many draws of noise are averaged, side of the picture.

    The defaults are those of the published MD with Stable Diffusion 2.1.  side: the picture is brought to
    side x side, default the model's native one.
    """

    timestep: int = 261
    block: int = 1
    ensemble: int = 8
    side: int | None = None


@torch.no_grad()
def dift(model: Model, picture: Image.Image, prompt: str, rng: torch.Generator, numbers: Dift = Dift()) -> Tensor:
    """Features (C, h, w) float32 on the CPU of a picture, the mean over the ensemble.

    rng: on the CPU, advanced by the ensemble's noise; with the same state the features are the same.
    """
    side = numbers.side or model.native
    latent = model.encode_picture(picture, (side, side)).cpu()
    noise = torch.randn((numbers.ensemble, *latent.shape[1:]), generator=rng, dtype=torch.float32)
    alpha = model.scheduler.alphas_cumprod[numbers.timestep].float().cpu()
    noisy = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
    encoded = model.encode(noisy, numbers.timestep, model.embed(prompt))
    return model.decode(encoded.bottleneck, encoded, upto=numbers.block).feature.float().mean(0).cpu()


def sample_seed(seed: int, name: str) -> int:
    """A seed of a sample's own, from the run's seed and the sample's id, so that the order of samples is of no account.

    "As published" the seed 42 is set once a run, and each sample's noise depends on all before it.
    """
    return crc32(f"{seed}/{name}".encode())
