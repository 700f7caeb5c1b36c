"""Metrics of pixels: GoodDrag's DAI, SSIM and PSNR inside and outside of a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dragnoise.geometry import Drag
from dragnoise.images.difference import psnr
from dragnoise.toyland.measures import ssim_map

DAI_SIDES = (1, 5, 10, 20)
"""Half sides of DAI's patches in the paper."""


def dai(given: np.ndarray, edited: np.ndarray, drags: Sequence[Drag], gamma: int, *, released: bool = False) -> float:
    """Dragging accuracy index of GoodDrag (arXiv 2404.07206, Eq. 13), lower is better.

    given, edited: (H, W, 3) uint8.  Mean over the drags of |patch of given at the anchor - patch of edited at the
    objective|^2 / (1 + 2 gamma)^2, in RGB of 0..1, summed over the channels: 0 for equal patches, at most 3; patches
    are squares of half side gamma, and what either has beyond the border is left out.  released: divided by the number
    of drags once more, as the authors' program does.
    """
    one, other = given.astype(float) / 255, edited.astype(float) / 255
    height, width = one.shape[:2]
    sums = []
    for drag in drags:
        (x, y), (to_x, to_y) = ((int(a + 0.5), int(b + 0.5)) for a, b in (drag.anchor, drag.objective))
        up, left = min(gamma, y, to_y), min(gamma, x, to_x)
        down, right = min(gamma, height - 1 - max(y, to_y)), min(gamma, width - 1 - max(x, to_x))
        a = one[y - up : y + down + 1, x - left : x + right + 1]
        b = other[to_y - up : to_y + down + 1, to_x - left : to_x + right + 1]
        sums.append(np.square(a - b).sum() / (1 + 2 * gamma) ** 2)
    mean = float(np.mean(sums))
    return mean / len(sums) if released else mean


def likeness(one: np.ndarray, other: np.ndarray, mask: np.ndarray | None, name: str) -> dict[str, float]:
    """PSNR in dB, at most 120, and mean SSIM of -1 to 1 of two pictures (H, W, 3) uint8.

    The keys are `name` with _psnr and _ssim for the whole, and with _inside or _outside between for a mask's parts;
    a part without any pixel is left out.
    """
    similar = ssim_map(one, other)
    parts = {"": np.ones(one.shape[:2], bool)} | ({} if mask is None else {"_inside": mask, "_outside": ~mask})
    found = {}
    for part, where in parts.items():
        if where.any():
            found[f"{name}{part}_psnr"] = psnr(one, other, where)
            found[f"{name}{part}_ssim"] = float(similar[where].mean())
    return found
