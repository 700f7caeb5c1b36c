"""The inverted latent with picture and noise carried along the drags, a start for the optimisation; ours.

What is dragged keeps its details: they lie in z_t, and a changed bottleneck alone cannot take them along.  With z_0 the
picture's latent, z_t is sqrt(a) z_0 and a rest, which is mostly noise.  The picture is warped in pixels and encoded
anew; the rest is moved by whole cells, for noise that is averaged is no noise any more:

    z_t' = sqrt(a) E(warp(picture)) + shift(z_t - sqrt(a) E(picture))

The warp is chosen by `editors.parts.motion`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dragnoise.editors.base import Task
from dragnoise.editors.parts import motion
from dragnoise.images.pictures import padded_picture


@torch.no_grad()
def carried_latent(task: Task) -> Tensor:
    """z_t' at step `config.edit_from`, (1, C, h, w) float32."""
    z, signal = task.latents, task.schedule.alpha(task.config.edit_from) ** 0.5
    picture = padded_picture(task.picture, task.frame)
    pixels = np.asarray(picture)
    starts, ends = (task.frame.grid_to_cells(p, pixels.shape[:2]).numpy() for p in (task.anchors, task.objectives))
    mask = None if task.mask is None else task.frame.pad(task.mask)
    moved, field = motion.moved(pixels, starts, ends, mask=mask, reach=task.config.reach * max(picture.size))
    before, after = (task.model.encode_picture(p, task.frame.padded).to(z) for p in (picture, Image.fromarray(moved)))
    return signal * after + shifted(z - signal * before, torch.from_numpy(field))


def shifted(rest: Tensor, field: Tensor) -> Tensor:
    """The rest (1, C, h, w) moved by whole cells along a field (H, W, 2) of the picture's pixels."""
    h, w = rest.shape[-2:]
    factor = torch.tensor([field.shape[1] / w, field.shape[0] / h], dtype=torch.float32)
    cells = F.adaptive_avg_pool2d(field.permute(2, 0, 1)[None], (h, w))[0].permute(1, 2, 0) / factor
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    from_x = (x - cells[..., 0].round().long()).clamp(0, w - 1)
    from_y = (y - cells[..., 1].round().long()).clamp(0, h - 1)
    return rest[..., from_y.to(rest.device), from_x.to(rest.device)]
