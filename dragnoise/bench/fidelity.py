"""Image fidelity: IF = 1 - LPIPS, of the whole picture, of the background and of regions; needs the package lpips."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dragnoise.validation import said

SIDE = 224
"""Both pictures are brought to this side, as the programs of FastDrag, DragLoRA and RegionDrag do."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""LPIPS: two (1, 3, H, W) in -1..1 -> one number."""


@cache
def load_lpips() -> Distance:
    """LPIPS with AlexNet; raises ImportError where the package, torchvision or the weights are missing."""
    try:
        package = importlib.import_module("lpips")
    except Exception as error:  # torchvision that does not fit torch raises RuntimeError on import
        raise ImportError(
            f"IF needs the package lpips, which cannot be imported ({said(error)}); pip install lpips and a "
            "torchvision that fits your torch, or leave IF out."
        ) from error
    try:
        distance: Distance = package.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)
    except Exception as error:  # no network, no cache, a broken download
        raise ImportError(
            f"IF needs the weights of AlexNet, which cannot be loaded ({said(error)}); fetch them once with network by "
            "torchvision.models.alexnet(weights='DEFAULT'), or leave IF out."
        ) from error
    return distance


@torch.no_grad()
def fidelity(one: Image.Image, other: Image.Image, distance: Distance | None = None) -> float:
    """IF = 1 - LPIPS (AlexNet) of two pictures, both at 224 x 224 and in -1..1; higher is more alike."""
    return 1 - float((distance or load_lpips())(_tensor(one), _tensor(other)))


def background_fidelity(
    one: np.ndarray, other: np.ndarray, region: np.ndarray, distance: Distance | None = None
) -> float:
    """IF_bg of DragFlow (arXiv 2510.02253, E.1): of both (H, W, 3) with the bool region (H, W) blackened."""
    return fidelity(_only(one, ~region), _only(other, ~region), distance)


def source_fidelity(one: np.ndarray, other: np.ndarray, source: np.ndarray, distance: Distance | None = None) -> float:
    """IF_s2s of DragFlow: of what both have in the source region; lower means that it was cleared."""
    return fidelity(_only(one, source), _only(other, source), distance)


def target_fidelity(
    one: np.ndarray, other: np.ndarray, source: np.ndarray, target: np.ndarray, shift: tuple[float, float],
    distance: Distance | None = None,
) -> float:  # fmt: skip
    """IF_s2t of DragFlow: the source region of `one`, moved by (dx, dy) pixels, against `other`, in the target region.

    The paper moves by an affine map; this is its translation.
    """
    moved = Image.fromarray(one * source[..., None].astype(np.uint8)).transform(
        one.shape[1::-1], Image.Transform.AFFINE, (1, 0, -shift[0], 0, 1, -shift[1]), Image.Resampling.BILINEAR
    )
    return fidelity(_only(np.asarray(moved), target), _only(other, target), distance)


def _only(picture: np.ndarray, where: np.ndarray) -> Image.Image:
    return Image.fromarray(picture * where[..., None].astype(np.uint8))


def _tensor(picture: Image.Image) -> Tensor:
    small = np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    return torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1)[None]
