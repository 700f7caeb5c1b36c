"""What several tests share: dense references, pictures, and what a good error message looks like."""

from __future__ import annotations

import math
import re

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def resized(feature: Tensor, grid: tuple[int, int]) -> Tensor:
    """The whole map (C, h, w) resized to (width, height) -> (C, height, width)."""
    size = (grid[1], grid[0])
    return torch.nn.functional.interpolate(feature[None], size, mode="bilinear", align_corners=False)[0]


def at(dense: Tensor, x: float, y: float) -> Tensor:
    """A dense map (C, H, W) at one place, bilinear, clamped to its border -> (C,)."""
    x, y = min(max(x, 0.0), dense.shape[2] - 1.0), min(max(y, 0.0), dense.shape[1] - 1.0)
    x0, y0 = math.floor(x), math.floor(y)
    x1, y1 = min(x0 + 1, dense.shape[2] - 1), min(y0 + 1, dense.shape[1] - 1)
    upper = dense[:, y0, x0] * (1 - (x - x0)) + dense[:, y0, x1] * (x - x0)
    lower = dense[:, y1, x0] * (1 - (x - x0)) + dense[:, y1, x1] * (x - x0)
    return upper * (1 - (y - y0)) + lower * (y - y0)


def smooth_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


def assert_one_sentence(error: BaseException, *named: str) -> None:
    """One line, one full stop at its end, and everything in `named` said; quoted reasons in (...) count for nothing."""
    message = str(error)
    assert "\n" not in message
    assert message.endswith(".")
    assert not re.search(r"[.!?] ", re.sub(r"\(.*\)", "", message)), message
    for part in named:
        assert part in message
