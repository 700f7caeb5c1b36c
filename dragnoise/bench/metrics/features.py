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

    The defaults are those of DragBench's MD, which is made with Stable Diffusion 2.1.  side: the picture is brought to
    side x side (RegionDrag: 768); default the picture's own size, cut down to a multiple of the autoencoder's factor.
    """

    timestep: int = 261
    block: int = 1
    ensemble: int = 8
    side: int | None = None


@torch.no_grad()
def dift(
    model: Model,
    picture: Image.Image,
    prompt: str,
    rng: torch.Generator,
    numbers: Dift = Dift(),
    *,
    sampled: bool = False,
) -> Tensor:
    """Features (C, h, w) float32 on the CPU of a picture, the mean over the ensemble.

    rng: on the CPU, advanced by `draws`; with the same state the features are the same.  sampled: the latents are
    drawn from the autoencoder's posterior, as DragBench's program does; default its mean.
    """
    mean, deviation = (part.cpu() for part in model.posterior(picture, working_size(model, picture.size, numbers)))
    drawn = draws(tuple(mean.shape[1:]), rng, numbers, sampled=sampled)
    latent = mean + deviation * drawn[0] if sampled else mean
    alpha = model.scheduler.alphas_cumprod[numbers.timestep].float().cpu()
    noisy = alpha.sqrt() * latent + (1 - alpha).sqrt() * drawn[-1]
    encoded = model.encode(noisy, numbers.timestep, model.embed(prompt))
    return model.decode(encoded.bottleneck, encoded, upto=numbers.block).feature.float().mean(0).cpu()


def working_size(model: Model, size: tuple[int, int], numbers: Dift) -> tuple[int, int]:
    """(width, height) that a picture of a size is brought to."""
    if numbers.side is not None:
        return numbers.side, numbers.side
    width, height = (max(length // model.factor, 1) * model.factor for length in size)
    return width, height


def draws(shape: tuple[int, ...], rng: torch.Generator, numbers: Dift, *, sampled: bool = False) -> list[Tensor]:
    """Random numbers of one picture, each (ensemble, C, h, w): the posterior's if it is sampled, then the noise."""
    count = 2 if sampled else 1
    return [torch.randn((numbers.ensemble, *shape), generator=rng, dtype=torch.float32) for _ in range(count)]


def skip(model: Model, size: tuple[int, int], rng: torch.Generator, numbers: Dift, *, sampled: bool = False) -> None:
    """Advance a generator as one `dift` of a picture of a size (width, height) does."""
    width, height = working_size(model, size, numbers)
    channels = model.unet.unet.config.in_channels
    draws((channels, height // model.factor, width // model.factor), rng, numbers, sampled=sampled)


def sample_seed(seed: int, name: str) -> int:
    """A seed of a sample's own, from the run's seed and its id, so that the order of samples does not matter."""
    return crc32(f"{seed}/{name}".encode())
