"""Training of the suite's judge on renders, and its error on held-out ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from dragnoise.atomic_write import atomic_write
from dragnoise.toyland.cases import TRAIN_SEED
from dragnoise.toyland.detector import WEIGHTS, LandmarkNet, to_unit
from dragnoise.toyland.scenes import LANDMARKS, SIZE
from recipes.toyland.checkpoint import Average, Checkpoint
from recipes.toyland.device import CPU, Device
from recipes.toyland.pictures import landmark_table


def train_judge(
    pictures: np.ndarray,
    folder: Path,
    *,
    steps: int = 3500,
    batch: int = 32,
    lr: float = 2e-3,
    held_out: int = 1000,
    device: Device = CPU,
    stop: int | None = None,
) -> LandmarkNet:
    """Train (or go on training) to `steps` updates, or leave at `stop`.

    Pictures are blurred, shifted in colour and noised, as edits may be.  The last `held_out` are kept
    for the errors that are logged.
    """
    torch.manual_seed(0)
    net = LandmarkNet().to(device.place)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    average = Average(net, 0.998)
    checkpoint = Checkpoint(folder, "judge", model=net, optimiser=optimiser, average=average)
    start = checkpoint.resume()
    seeds = range(TRAIN_SEED, TRAIN_SEED + len(pictures))
    points, there = (torch.from_numpy(part) for part in landmark_table(seeds))
    count, last = len(pictures) - held_out, min(steps, stop or steps)
    for step in tqdm(range(start, last), "judge", steps, initial=start, mininterval=10):
        rows = np.sort(np.random.default_rng(step).choice(count, batch, replace=False))
        x = spoil(to_unit(pictures[rows]), torch.Generator().manual_seed(step)).to(device.place)
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 200) * min(1.0, 2 * (1 - step / steps) + 0.02)
        with device.autocast():
            found = net(x)
        error = (found.float() - points[rows].to(device.place)).norm(dim=-1)
        loss = error[there[rows].to(device.place)].mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        average.update(net)
        checkpoint.after(step + 1, batch, loss, last=step + 1 == last)
    average.copy_to(net)
    net.cpu().eval().requires_grad_(False)
    checkpoint.log(**judge_errors(net, pictures[-held_out:], seeds[-held_out:]))
    return net


def spoil(x: Tensor, rng: torch.Generator) -> Tensor:
    """Random blur, brightness, contrast and noise on (B, 3, H, W)."""
    share = torch.rand(len(x), 1, 1, 1, generator=rng) * (torch.rand(len(x), 1, 1, 1, generator=rng) < 0.5)
    x = x + share * (F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1) - x)
    x = x * (1 + 0.15 * torch.randn(len(x), 1, 1, 1, generator=rng)) + 0.08 * torch.randn(
        len(x), 3, 1, 1, generator=rng
    )
    return x + 0.06 * torch.rand(len(x), 1, 1, 1, generator=rng) * torch.randn(x.shape, generator=rng)


@torch.no_grad()
def judge_errors(net: LandmarkNet, pictures: np.ndarray, seeds: range) -> dict[str, float]:
    """Mean distance in pixels between the judge's points and the true ones that are inside the picture."""
    points, there = landmark_table(seeds)
    inside = there & (points >= 0).all(-1) & (points < SIZE).all(-1)
    found = np.concatenate([net(to_unit(pictures[i : i + 100])).numpy() for i in range(0, len(pictures), 100)])
    error = np.linalg.norm(found - points, axis=-1)
    return {name: float(error[inside[:, i], i].mean()) for i, name in enumerate(LANDMARKS)}


def save_judge(net: LandmarkNet, path: Path = WEIGHTS) -> None:
    """Write fp16 safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(save({k: v.half().contiguous() for k, v in net.state_dict().items()}))
