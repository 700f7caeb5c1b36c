"""Smooth inpainting of a masked area from the picture around it; numpy."""

from __future__ import annotations

import numpy as np
from PIL import Image

SMOOTHING = 30
"""Iterations of averaging over neighbours within the filled area."""


def inpainted(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with the area of a mask, which must not cover all of it, filled smoothly, (H, W, 3) float64."""
    known = (~mask).astype(float)
    result = np.where(mask[..., None], _pulled(pixels * known[..., None], known), pixels)
    for _ in range(SMOOTHING):
        p = np.pad(result, ((1, 1), (1, 1), (0, 0)), mode="edge")
        around = (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2]) / 4
        result = np.where(mask[..., None], around, result)
    return np.asarray(result)


def _pulled(sums: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) from sums of known ones, and coarse ones where nothing is known, (h, w): pull-push."""
    here = sums / np.maximum(known, 1e-9)[..., None]
    if known.min() > 0 or max(known.shape) == 1:
        return np.asarray(here)
    low = _pulled(_halved(sums), _halved(known))
    size = known.shape[::-1]
    channels = [
        Image.fromarray(low[..., c].astype(np.float32)).resize(size, Image.Resampling.BILINEAR) for c in range(3)
    ]
    share = known.clip(0, 1)[..., None]
    return np.asarray(share * here + (1 - share) * np.stack([np.asarray(c) for c in channels], -1))


def _halved(values: np.ndarray) -> np.ndarray:
    """Means of 2 x 2, with zeros beside an odd side."""
    padded = np.pad(values, [(0, values.shape[0] % 2), (0, values.shape[1] % 2)] + [(0, 0)] * (values.ndim - 2))
    return np.asarray((padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]) / 4)
