"""Where the dragged points ended: mean distance (MD), masked MD and RegionDrag's normalised MD, of feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dragnoise.geometry import Drag


def matched(
    source: Tensor, edited: Tensor, point: tuple[float, float], allowed: Tensor | None = None
) -> tuple[int, int]:
    """The pixel (x, y) of `edited` whose feature is most like, by cosine, that of `source` at a point.

    source, edited: (C, H, W), at the picture's size.  point: (x, y), rounded to a pixel.  allowed: (H, W) bool, the
    pixels that are looked at, at least one; default all.  Of equals the first, row by row, is taken.
    """
    height, width = source.shape[1:]
    x, y = (min(int(v + 0.5), n - 1) for v, n in zip(point, (width, height), strict=True))
    wanted, flat = source[:, y, x], edited.flatten(1)
    likeness = (wanted @ flat / (wanted.norm() * flat.norm(dim=0)).clamp_min(1e-8)).view(height, width)
    if allowed is not None:
        likeness = likeness.masked_fill(~allowed, -math.inf)
    best = int(likeness.argmax())
    return best % width, best // width


def to_size(feature: Tensor, size: tuple[int, int], *, nearest: bool = False) -> Tensor:
    """(C, h, w) -> (C, height, width), bilinear (align_corners=False) as DragBench's MD, or nearest as RegionDrag's."""
    shape = size[1], size[0]
    if nearest:
        return F.interpolate(feature[None], shape, mode="nearest")[0]
    return F.interpolate(feature[None], shape, mode="bilinear", align_corners=False)[0]


def mean_distances(
    source: Tensor, edited: Tensor, drags: Sequence[Drag], size: tuple[int, int], mask: np.ndarray | None = None
) -> list[float]:
    """MD of DragBench (DragDiffusion; FastDrag's program): of each drag the distance in pixels from its objective.

    source, edited: DIFT features (C, h, w) of both pictures, brought bilinearly to `size` (width, height).  The match
    is the argmax of the cosine over all pixels.  A data set's MD is the mean over its pairs, not over its pictures.
    mask: (H, W) bool, for m-MD (DragLoRA): the argmax over the pixels of the mask alone.
    """
    one, other = to_size(source, size), to_size(edited, size)
    allowed = None if mask is None else torch.from_numpy(mask)
    return [math.dist(matched(one, other, drag.anchor, allowed), drag.objective) for drag in drags]


def normalised_distance(source: Tensor, edited: Tensor, drags: Sequence[Drag], size: tuple[int, int]) -> float:
    """RegionDrag's MD of one picture x 100: mean over its drags; a data set's is the mean over its pictures.

    Only pixels within max(5, |anchor - objective| / sqrt 2) of the anchor or of the objective are looked at; the
    difference is divided by width and by height before its length is taken.  Features are resized by nearest.
    """
    one, other = to_size(source, size, nearest=True), to_size(edited, size, nearest=True)
    width, height = size
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    found = []
    for drag in drags:
        reach = max(5.0, math.dist(drag.anchor, drag.objective) / math.sqrt(2))
        near = torch.zeros(height, width, dtype=torch.bool)
        for x, y in (drag.anchor, drag.objective):
            near |= (columns - x) ** 2 + (rows - y) ** 2 <= reach**2
        x, y = matched(one, other, drag.anchor, near)
        found.append(math.hypot((x - drag.objective[0]) / width, (y - drag.objective[1]) / height))
    return 100 * float(np.mean(found))
