"""Image fidelity: IF = 1 - LPIPS, of the whole picture, of the background and of regions; needs the package lpips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dragnoise.bench.areas import Area, moved
from dragnoise.images.perceptual import Distance, load_lpips

SIDE = 224
"""Both pictures are brought to this side, as the programs of FastDrag, DragLoRA and RegionDrag do."""


@torch.no_grad()
def fidelity(one: Image.Image, other: Image.Image, distance: Distance | None = None) -> float:
    """IF = 1 - LPIPS (AlexNet) of two pictures, 1 for equal ones and lower, also below 0, for others.

    Both in -1..1 and brought to 224 x 224, bilinear without antialiasing, as in the published programs.
    """
    return 1 - float((distance or load_lpips())(_tensor(one), _tensor(other)))


def background_fidelity(
    one: np.ndarray, other: np.ndarray, region: np.ndarray, distance: Distance | None = None
) -> float:
    """IF_bg of DragFlow (arXiv 2510.02253, E.1): of both (H, W, 3) with the bool region (H, W) blackened."""
    return fidelity(_only(one, ~region), _only(other, ~region), distance)


def source_fidelity(one: np.ndarray, other: np.ndarray, source: np.ndarray, distance: Distance | None = None) -> float:
    """IF_s2s of DragFlow: of what both have in the source region; lower means that it was cleared."""
    return fidelity(_only(one, source), _only(other, source), distance)


def target_fidelity(one: np.ndarray, other: np.ndarray, area: Area, distance: Distance | None = None) -> float:
    """IF_s2t of DragFlow: the source region of `one`, moved by the area's map, against `other`, in the target."""
    there = np.asarray(moved(_only(one, area.source), area.map))
    return fidelity(_only(there, area.target), _only(other, area.target), distance)


def region_fidelities(
    one: np.ndarray,
    other: np.ndarray,
    mask: np.ndarray | None,
    areas: Sequence[Area],
    distance: Distance | None = None,
) -> dict[str, float]:
    """if_bg, if_s2t and if_s2s of two pictures (H, W, 3) uint8, the last two as means over the areas.

    The background is what lies outside the areas' sources and targets, or outside the mask where there are no areas;
    a metric without its regions is left out.
    """
    taken = np.logical_or.reduce([a.source | a.target for a in areas]) if areas else mask
    found = {} if taken is None else {"if_bg": background_fidelity(one, other, taken, distance)}
    if areas:
        found["if_s2t"] = float(np.mean([target_fidelity(one, other, a, distance) for a in areas]))
        found["if_s2s"] = float(np.mean([source_fidelity(one, other, a.source, distance) for a in areas]))
    return found


def _only(picture: np.ndarray, where: np.ndarray) -> Image.Image:
    return Image.fromarray(picture * where[..., None].astype(np.uint8))


def _tensor(picture: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(picture.convert("RGB"), np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    return F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False).clamp(-1, 1)  # rounding
