"""The inverted latent with picture and noise carried along the drags, a start for the optimisation; ours.

What is dragged keeps its details: they lie in z_t, and a changed bottleneck alone cannot take them along.  With z_0 the
picture's latent, z_t is sqrt(a) z_0 and a rest, which is mostly noise.  The picture is warped in pixels and encoded
anew; the rest is moved by whole cells, for noise that is averaged is no noise any more:

    z_t' = sqrt(a) E(warp(picture)) + shift(z_t - sqrt(a) E(picture))

The warp is chosen by `editors.parts.motion`, at the size that the model sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dragnoise.editors.base import Task
from dragnoise.editors.parts import motion
from dragnoise.images.masks import mask_tensor
from dragnoise.images.pictures import as_seen, padded_picture


@dataclass(frozen=True, eq=False)
class Carried:
    """A picture before and after it was carried along drags, RGB of `Frame.padded`, and the field of the motion.

    field: (H, W, 2) pixels (x, y); what lies at q comes from q - field(q).
    """

    before: Image.Image
    after: Image.Image
    field: np.ndarray


def carried_picture(task: Task) -> Carried:
    """The picture carried along the drags, as the model sees it."""
    frame = task.frame
    picture = as_seen(padded_picture(task.picture, frame), frame.padded)
    size = picture.size[::-1]
    starts, ends = (frame.grid_to_cells(p, size).numpy() for p in (task.anchors, task.objectives))
    mask = None if task.mask is None else mask_tensor(frame.pad(task.mask), picture.size)[0, 0].numpy() >= 0.5
    moved, field = motion.moved(
        np.asarray(picture), starts, ends, mask=mask, reach=task.config.reach * max(picture.size)
    )
    return Carried(picture, Image.fromarray(moved), field)


@torch.no_grad()
def carried_latent(task: Task) -> Tensor:
    """z_t' at step `config.edit_from`, (1, C, h, w) float32."""
    z, signal, carried = task.latents, task.schedule.alpha(task.config.edit_from) ** 0.5, carried_picture(task)
    before, after = (task.model.encode_picture(p, task.frame.padded).to(z) for p in (carried.before, carried.after))
    return signal * after + shifted(z - signal * before, torch.from_numpy(carried.field))


def shifted(rest: Tensor, field: Tensor) -> Tensor:
    """The rest (1, C, h, w) moved by whole cells along a field (H, W, 2) of the picture's pixels."""
    h, w = rest.shape[-2:]
    factor = torch.tensor([field.shape[1] / w, field.shape[0] / h], dtype=torch.float32)
    cells = F.adaptive_avg_pool2d(field.permute(2, 0, 1)[None], (h, w))[0].permute(1, 2, 0) / factor
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    from_x = (x - cells[..., 0].round().long()).clamp(0, w - 1)
    from_y = (y - cells[..., 1].round().long()).clamp(0, h - 1)
    return rest[..., from_y.to(rest.device), from_x.to(rest.device)]
