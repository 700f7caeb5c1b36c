"""The inverted latent with picture and noise carried along the drags, a start for the optimisation; ours.

What is dragged keeps its details: they lie in z_t, and a changed bottleneck alone cannot take them along.  With z_0 the
picture's latent, z_t is sqrt(a) z_0 and a rest, which is mostly noise.  The picture is warped in pixels and encoded
anew; the rest is moved by whole cells, for noise that is averaged is no noise any more:

    z_t' = sqrt(a) E(warp(picture)) + shift(z_t - sqrt(a) E(picture))

The field: what lies at a point q comes from q - d(q), d the drags' directions weighted by 1 / (|q - b_i|^2 + 1/4) with
b_i their objectives.  With a mask, all that may change moves as a whole: where the dragged thing was, what lies behind
it is continued.  Without one, d falls to nothing over the outer part of what lies within `reach`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dragnoise.editors.base import Task
from dragnoise.editors.parts.area import editable_area
from dragnoise.images.pictures import padded_picture
from dragnoise.images.warp import sampled


@torch.no_grad()
def carried_latent(task: Task) -> Tensor:
    """z_t' at step `config.edit_from`, (1, C, h, w) float32."""
    z, signal = task.latents, task.schedule.alpha(task.config.edit_from) ** 0.5
    picture = padded_picture(task.picture, task.frame)
    field = displacement(task, picture.size)
    pixels = np.asarray(picture)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    moved = Image.fromarray(sampled(pixels, x - field[..., 0], y - field[..., 1]))
    before, after = (task.model.encode_picture(p, task.frame.padded).to(z) for p in (picture, moved))
    return signal * after + shifted(z - signal * before, torch.from_numpy(field))


def displacement(task: Task, size: tuple[int, int]) -> np.ndarray:
    """d(q) of the working picture's pixels q, (H, W, 2) float32 as (x, y); 0 where nothing may change.

    size: (width, height) of the working picture.
    """
    width, height = size
    scale = torch.tensor([width, height]) / torch.tensor(task.frame.grid)
    starts, ends = ((points + 0.5) * scale - 0.5 for points in (task.anchors, task.objectives))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([x, y], -1).double()
    area = editable_area(task, size)
    share = torch.ones(height, width) if area is None else (area[0, 0].cpu() > 0.5).float()
    if task.mask is None and area is not None:
        share = share * _falling(places, starts, ends, task.config.reach * max(size))
    weights = 1 / ((places[:, :, None] - ends).square().sum(-1) + 0.25)
    field = (weights / weights.sum(-1, keepdim=True)) @ (ends - starts)
    return (field * share[..., None]).float().numpy()


def shifted(rest: Tensor, field: Tensor) -> Tensor:
    """The rest (1, C, h, w) moved by whole cells along a field (H, W, 2) of the picture's pixels."""
    h, w = rest.shape[-2:]
    factor = torch.tensor([field.shape[1] / w, field.shape[0] / h])
    cells = F.adaptive_avg_pool2d(field.permute(2, 0, 1)[None], (h, w))[0].permute(1, 2, 0) / factor
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    from_x = (x - cells[..., 0].round().long()).clamp(0, w - 1)
    from_y = (y - cells[..., 1].round().long()).clamp(0, h - 1)
    return rest[..., from_y.to(rest.device), from_x.to(rest.device)]


def _falling(places: Tensor, starts: Tensor, ends: Tensor, reach: float) -> Tensor:
    """1 within 0.3 reach of a drag, falling evenly to 0 at the reach: (H, W) of places (H, W, 2)."""
    along = ends - starts
    offset = places[:, :, None] - starts
    share = ((offset * along).sum(-1) / along.square().sum(-1).clamp(min=1e-12)).clamp(0, 1)
    far = (offset - share[..., None] * along).norm(dim=-1).amin(-1)
    return ((1 - far / reach) / 0.7).clamp(0, 1).float()
