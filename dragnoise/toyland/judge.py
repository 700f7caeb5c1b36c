"""The suite's judge: a small network that says where the landmarks of any picture are.

It is trained on renders by the same recipe and knows nothing of the diffusion model or of the
features that an edit was optimised on.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from dragnoise.atomic_write import write_bytes
from dragnoise.pictures import as_picture
from dragnoise.toyland.autoencoder import to_unit
from dragnoise.toyland.checkpoint import Average, Checkpoint
from dragnoise.toyland.pictures import TRAIN_SEED, landmark_table
from dragnoise.toyland.scenes import LANDMARKS, SIZE

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"


class LandmarkNet(nn.Module):
    """(B, 3, 128, 128) in -1..1 -> (B, 14, 2) points (x, y) in picture pixels.

    An hourglass makes a 32x32 heat map a landmark; the point is the map's mean place.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(_conv(3, w // 2, 2), _conv(w // 2, w, 2), _conv(w, w))
        self.down1 = nn.Sequential(_conv(w, 2 * w, 2), _conv(2 * w, 2 * w))
        self.down2 = nn.Sequential(_conv(2 * w, 3 * w, 2), _conv(3 * w, 3 * w))
        self.down3 = nn.Sequential(_conv(3 * w, 3 * w, 2), _conv(3 * w, 3 * w))
        self.up2 = _conv(6 * w, 3 * w)
        self.up1 = _conv(5 * w, 2 * w)
        self.up0 = nn.Sequential(_conv(3 * w, 2 * w), nn.Conv2d(2 * w, len(LANDMARKS), 1))

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.down1(a)
        c = self.down2(b)
        d = self.down3(c)
        c = self.up2(torch.cat([_double(d), c], 1))
        b = self.up1(torch.cat([_double(c), b], 1))
        heat = self.up0(torch.cat([_double(b), a], 1)).float().flatten(2).softmax(-1)
        side = torch.arange(SIZE // 4, device=x.device) * 4 + 1.5
        y, x_ = torch.meshgrid(side, side, indexing="ij")
        return heat @ torch.stack([x_.flatten(), y.flatten()], -1)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.SiLU(inplace=True)
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


@cache
def load_judge() -> LandmarkNet:
    """The trained judge that comes with the package."""
    net = LandmarkNet()
    net.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    return net.eval().requires_grad_(False)


@torch.no_grad()
def judge(picture: Any) -> dict[str, tuple[float, float]]:
    """Where the landmarks of a 128x128 picture (path, PIL image or array) are: {name: (x, y)} in pixels.

    Always all of `LANDMARKS`; a point that the picture does not show is a guess.
    Raises ValueError for a picture of another size.
    """
    image = as_picture(picture)
    if image.size != (SIZE, SIZE):
        raise ValueError(f"the judge looks at {SIZE}x{SIZE} pictures, not {image.size[0]}x{image.size[1]}.")
    points = load_judge()(to_unit(np.array(image)[None]))[0]
    return {name: (float(x), float(y)) for name, (x, y) in zip(LANDMARKS, points, strict=True)}


def train_judge(
    pictures: np.ndarray,
    folder: Path,
    *,
    steps: int = 5000,
    batch: int = 32,
    lr: float = 2e-3,
    held_out: int = 1000,
    stop: int | None = None,
) -> LandmarkNet:
    """Train (or go on training) to `steps` updates, or leave at `stop`.

    Pictures are blurred, shifted in colour and noised, as edits may be.  The last `held_out` are kept
    for the errors that are logged.
    """
    torch.manual_seed(0)
    net = LandmarkNet()
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    average = Average(net, 0.998)
    checkpoint = Checkpoint(folder, "judge", model=net, optimiser=optimiser, average=average)
    start = int(checkpoint.resume().get("step", 0))
    seeds = range(TRAIN_SEED, TRAIN_SEED + len(pictures))
    points, there = landmark_table(seeds)
    count, last = len(pictures) - held_out, time.time()
    for step in tqdm(range(start, min(steps, stop or steps)), "judge", steps, initial=start, mininterval=5):
        rng = np.random.default_rng(step)
        rows = np.sort(rng.choice(count, batch, replace=False))
        x = spoil(to_unit(pictures[rows]), torch.Generator().manual_seed(step))
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 200) * min(1.0, 2 * (1 - step / steps) + 0.02)
        with torch.autocast("cpu", torch.bfloat16):
            found = net(x)
        error = (found.float() - torch.from_numpy(points[rows])).norm(dim=-1)
        loss = error[torch.from_numpy(there[rows])].mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        average.update(net)
        if (step + 1) % 250 == 0 or step + 1 in (steps, stop):
            checkpoint.save(step=step + 1)
            checkpoint.log(step=step + 1, loss=float(loss.detach()), seconds=time.time() - last)
            last = time.time()
    average.copy_to(net)
    net.eval().requires_grad_(False)
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
    write_bytes(path, save({k: v.half().contiguous() for k, v in net.state_dict().items()}))
