"""First stage of the recipe: a tiny autoencoder, 128x128x3 pictures <-> 32x32x4 latents."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor
from tqdm import tqdm

from dragnoise.toyland.detector import to_unit
from dragnoise.toyland.scenes import SIZE
from recipes.toyland.checkpoint import Average, Checkpoint
from recipes.toyland.device import CPU, Device
from recipes.toyland.initial import take_weights, weights_folder
from recipes.toyland.optimiser import Optimiser
from recipes.toyland.recipe import Recipe

LATENT_NOISE = 0.05
"""Noise on the latents while training, in their standard deviations: a denoiser is never exact."""

NEAR_LANDMARKS = 0.75
"""Share of the squares that lie round a landmark."""


def build_autoencoder(decoder_blocks: tuple[int, int, int] = (2, 2, 1), scaling_factor: float = 1.0) -> AutoencoderTiny:
    """An untrained f=4 autoencoder with 4 latent channels."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 2, 2),
        decoder_block_out_channels=(40, 40, 40),
        num_decoder_blocks=decoder_blocks,
        latent_channels=4,
        scaling_factor=scaling_factor,
    )


def start_autoencoder(recipe: Recipe) -> AutoencoderTiny:
    """The autoencoder that a training begins with: random, or with the weights of `recipe.init`.

    Residual blocks that `init` has not are added where they change nothing.
    """
    torch.manual_seed(0)
    model = build_autoencoder(recipe.decoder_blocks)
    folder = weights_folder(recipe.init)
    if folder is not None:
        given = AutoencoderTiny.from_pretrained(str(folder / "vae"), torch_dtype=torch.float32)
        take_weights(model.encoder, given.encoder.state_dict())
        add_blocks(model.decoder.layers, given.decoder.layers)
        model.register_to_config(scaling_factor=given.config.scaling_factor)
    return model


@torch.no_grad()
def add_blocks(layers: torch.nn.Sequential, given: torch.nn.Sequential) -> None:
    """Copy `given` into `layers`, which has some residual blocks more at the end of its levels, in place.

    The new ones add zero, and what they get is never negative, so that their ReLU changes nothing either.
    """
    kept = iter(given)
    source = next(kept, None)
    for layer in layers:
        if type(layer) is type(source):
            layer.load_state_dict(source.state_dict())
            source = next(kept, None)
        elif hasattr(layer, "fuse"):
            for parameter in layer.get_submodule("conv.4").parameters():
                parameter.zero_()
        else:
            raise ValueError(f"cannot begin with an autoencoder that has {type(source).__name__} for {layer}.")


def train_autoencoder(
    pictures: np.ndarray,
    centres: np.ndarray,
    folder: Path,
    recipe: Recipe,
    *,
    device: Device = CPU,
    stop: int | None = None,
) -> AutoencoderTiny:
    """Train (or go on training) to `recipe.autoencoder_steps` updates, or leave at `stop`.

    centres (n, points, 2): where squares may lie, x and y in pixels, for each of the pictures.
    The last `recipe.held_out` pictures are kept for the PSNR that is logged.
    """
    steps, batch, count = recipe.autoencoder_steps, recipe.autoencoder_batch, len(pictures) - recipe.held_out
    model = start_autoencoder(recipe).to(device.place)
    trained = model.decoder if recipe.frozen_encoder else model
    model.encoder.requires_grad_(not recipe.frozen_encoder)
    optimiser = Optimiser(trained, recipe.autoencoder_lr)
    average = Average(model, 0.998)
    checkpoint = Checkpoint(folder, "autoencoder", model=model, optimiser=optimiser, average=average)
    start = checkpoint.resume()
    last = min(steps, stop or steps)
    for step in tqdm(range(start, last), "autoencoder", steps, initial=start, mininterval=10):
        rng, torch_rng = np.random.default_rng(step), device.generator(step)
        rows = np.sort(rng.choice(count, batch, replace=False))
        x = to_unit(squares(pictures, centres, rows, recipe.crop, rng)).to(device.place).contiguous()
        optimiser.set_lr(recipe.autoencoder_lr * min(1, (step + 1) / 100) * (1 - step / steps))
        with device.autocast():
            z = model.encoder(x)
            noise = torch.randn(z.shape, generator=torch_rng, device=z.device)
            y = model.decoder(z + LATENT_NOISE * z.detach().float().std() * noise)
        loss = reconstruction_loss(y.float(), x, recipe.edge_weight, recipe.detail_weight)
        loss = loss + 1e-4 * z.float().square().mean()  # keeps latents small
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimiser.step()
        average.update(model)
        checkpoint.after(step + 1, batch, loss, last=step + 1 == last)
    average.copy_to(model)
    model.cpu().eval().requires_grad_(False)
    if not recipe.frozen_encoder:
        model.register_to_config(scaling_factor=float(1 / encode_all(model, pictures[:500]).astype(np.float32).std()))
    checkpoint.log(psnr=psnr(model, pictures[-recipe.held_out :]))
    return model


def squares(
    pictures: np.ndarray, centres: np.ndarray, rows: np.ndarray, side: int, rng: np.random.Generator
) -> np.ndarray:
    """(rows, side, side, 3): squares of some pictures, most of them round a landmark; whole pictures for side 0."""
    if not side:
        return np.ascontiguousarray(pictures[rows])
    cut = np.empty((len(rows), side, side, 3), np.uint8)
    for i, row in enumerate(rows):
        if rng.random() < NEAR_LANDMARKS:
            x, y = centres[row, rng.integers(len(centres[row]))] + rng.uniform(-side / 4, side / 4, 2) - side / 2
        else:
            x, y = rng.uniform(0, SIZE - side, 2)
        # on the grid of the latents, as in a whole picture
        x, y = (int(np.clip(v, 0, SIZE - side)) // 4 * 4 for v in (x, y))
        cut[i] = pictures[row, y : y + side, x : x + side]
    return cut


def reconstruction_loss(y: Tensor, x: Tensor, edge_weight: float = 0.5, detail_weight: float = 0.0) -> Tensor:
    """L1 + 2 MSE + weighted L1 of the gradients and of Laplacian bands -> scalar.  y, x (B, 3, h, w) in -1..1."""
    d = y - x
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    loss = d.abs().mean() + 2 * F.mse_loss(y, x) + edge_weight * edges
    return loss + detail_weight * laplacian(d).abs().mean() if detail_weight else loss


def laplacian(x: Tensor) -> Tensor:
    """The finest Laplacian band of (B, C, h, w): what a blur of three by three takes away."""
    return x - F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)


@torch.no_grad()
def encode_all(model: AutoencoderTiny, pictures: np.ndarray, batch: int = 100) -> np.ndarray:
    """(n, 128, 128, 3) uint8 -> (n, 4, 32, 32) float16 latents, not scaled."""
    device = next(model.parameters()).device
    latents = np.empty((len(pictures), 4, pictures.shape[1] // 4, pictures.shape[2] // 4), np.float16)
    for i in tqdm(range(0, len(pictures), batch), "encoding", disable=len(pictures) < 10 * batch, mininterval=10):
        x = to_unit(np.ascontiguousarray(pictures[i : i + batch])).to(device)
        latents[i : i + batch] = model.encoder(x).float().cpu().numpy()
    return latents


@torch.no_grad()
def psnr(model: AutoencoderTiny, pictures: np.ndarray, batch: int = 50) -> float:
    """Mean PSNR in dB of encode-decode over some pictures, after rounding to bytes."""
    values = []
    for i in range(0, len(pictures), batch):
        x = to_unit(np.ascontiguousarray(pictures[i : i + batch]))
        y = model.decoder(model.encoder(x)).clamp(-1, 1)
        error = ((y - x) * 127.5).round().square().mean((1, 2, 3))
        values.append(10 * torch.log10(255**2 / error.clamp_min(1e-6)))
    return float(torch.cat(values).mean()) if values else math.nan
