"""The feature resized to the grid as a whole, and windows of it, with the released programs' arithmetic.

`semantics.sample` gives the same but for rounding, and needs less memory.  Over the large windows of GoodDrag and
FreeDrag rounding decides now and then on which side of zero a difference lies, and so the gradient; so these editors
compute what the programs do, in float32 and in their order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dragnoise import semantics
from dragnoise.semantics import Grid


def resized(feature: Tensor, grid: Grid) -> Tensor:
    """(C, h, w) -> (C, height, width), bilinear."""
    return F.interpolate(feature[None], (grid[1], grid[0]), mode="bilinear", align_corners=False)[0]


def window_at(dense: Tensor, centre: Tensor, radius: int, *, each: bool = False) -> tuple[Tensor, Tensor]:
    """A resized feature in the window of a point -> (C, (2 radius + 1)^2), row by row, and which places are on it.

    centre: (2,) as (x, y) grid pixels.  Bilinear, with the weights of the centre for all places, or with those of
    `each` place, which differ by float32's rounding.  Places that are not on the map have the values of its border.
    """
    offsets = semantics.window(radius, like=centre.float())
    places = centre.float() + offsets
    low = (places if each else centre.float()).floor()
    share = (places if each else centre.float()) - low
    low = (low if each else low + offsets).long()
    size = torch.tensor([dense.shape[2], dense.shape[1]])
    there = ((low >= 0) & (low + (share > 0) <= size - 1)).all(1)
    x0, y0 = low.clamp(min=0).minimum(size - 1).to(dense.device).unbind(-1)
    x1, y1 = (low + 1).clamp(min=0).minimum(size - 1).to(dense.device).unbind(-1)
    x, y = share.to(dense).unbind(-1)
    read = dense[:, y0, x0] * ((1 - x) * (1 - y)) + dense[:, y1, x0] * ((1 - x) * y)
    return read + dense[:, y0, x1] * (x * (1 - y)) + dense[:, y1, x1] * (x * y), there.to(dense.device)


def track(dense: Tensor, initial: Tensor, anchors: Tensor, radius: int) -> Tensor:
    """Eq. 4 on a resized feature: initial (m, C), anchors (m, 2) -> (m, 2) float64; the first of the nearest places."""
    found = []
    for anchor, wanted in zip(anchors, initial.to(dense), strict=True):
        values, there = window_at(dense, anchor, radius)
        apart = (values - wanted[:, None]).abs().sum(0).masked_fill(~there, torch.inf)
        found.append(anchor + semantics.window(radius, like=anchor)[int(apart.argmin())])
    return torch.stack(found)
