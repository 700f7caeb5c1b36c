"""First stage of the recipe: a tiny autoencoder, 128x128x3 pictures <-> 32x32x4 latents."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from tqdm import tqdm

from dragnoise.toyland.checkpoint import Average, Checkpoint


def build_autoencoder(scaling_factor: float = 1.0) -> AutoencoderTiny:
    """An untrained f=4 autoencoder with 4 latent channels."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 2, 2),
        decoder_block_out_channels=(40, 40, 40),
        num_decoder_blocks=(2, 2, 1),
        latent_channels=4,
        scaling_factor=scaling_factor,
    )


def to_unit(batch: np.ndarray) -> torch.Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) float32 in -1..1, channels last in memory."""
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def train_autoencoder(
    pictures: np.ndarray,
    folder: Path,
    *,
    steps: int = 6000,
    batch: int = 24,
    lr: float = 1.5e-3,
    held_out: int = 500,
    stop: int | None = None,
) -> AutoencoderTiny:
    """Train (or go on training) to `steps` updates, or leave at `stop`.

    The last `held_out` pictures are kept for the PSNR that is logged.
    """
    torch.manual_seed(0)
    model = build_autoencoder().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average(model, 0.999)
    checkpoint = Checkpoint(folder, "autoencoder", model=model, optimiser=optimiser, average=average)
    start = int(checkpoint.resume().get("step", 0))
    train, last = pictures[:-held_out], time.time()
    for step in tqdm(range(start, min(steps, stop or steps)), "autoencoder", steps, initial=start):
        torch.manual_seed(step)
        rng = np.random.default_rng(step)
        rows = np.sort(rng.choice(len(train), batch, replace=False))
        x = to_unit(np.ascontiguousarray(train[rows])).contiguous(memory_format=torch.channels_last)
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-5
        with torch.autocast("cpu", torch.bfloat16):
            z = model.encoder(x)
            noise = 0.05 * z.detach().float().std() * torch.randn_like(z.float())
            y = model.decoder(z + noise)
        loss = reconstruction_loss(y.float(), x) + 1e-4 * z.float().square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model)
        if (step + 1) % 250 == 0 or step + 1 in (steps, stop):
            checkpoint.save(step=step + 1)
            checkpoint.log(step=step + 1, loss=float(loss.detach()), seconds=time.time() - last)
            last = time.time()
    average.copy_to(model)
    model.eval().requires_grad_(False)
    z = encode_all(model, pictures[:1000]).astype(np.float32)
    checkpoint.log(psnr=psnr(model, pictures[-held_out:]), std=float(z.std()))
    model.register_to_config(scaling_factor=float(1 / z.std()))
    return model


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 + 2 MSE + half the L1 of the gradients: edges count, nothing washes out."""
    d = y - x
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return d.abs().mean() + 2 * F.mse_loss(y, x) + 0.5 * edges


@torch.no_grad()
def encode_all(model: AutoencoderTiny, pictures: np.ndarray, batch: int = 100) -> np.ndarray:
    """(n, 128, 128, 3) uint8 -> (n, 4, 32, 32) float16 latents, not scaled."""
    latents = np.empty((len(pictures), 4, pictures.shape[1] // 4, pictures.shape[2] // 4), np.float16)
    for i in tqdm(range(0, len(pictures), batch), "encoding", disable=len(pictures) < 10 * batch):
        x = to_unit(np.ascontiguousarray(pictures[i : i + batch])).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents[i : i + batch] = model.encoder(x).float().numpy()
    return latents


@torch.no_grad()
def psnr(model: AutoencoderTiny, pictures: np.ndarray, batch: int = 100) -> float:
    """Mean PSNR in dB of encode-decode over some pictures, after rounding to bytes."""
    values = []
    for i in range(0, len(pictures), batch):
        x = to_unit(np.ascontiguousarray(pictures[i : i + batch]))
        y = model.decoder(model.encoder(x)).clamp(-1, 1)
        error = ((y - x) * 127.5).round().square().mean((1, 2, 3))
        values.append(10 * torch.log10(255**2 / error.clamp_min(1e-6)))
    return float(torch.cat(values).mean())
