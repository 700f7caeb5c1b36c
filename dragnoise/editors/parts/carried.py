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

from dragnoise.config import DragConfig
from dragnoise.editors.parts import motion
from dragnoise.geometry import Frame, reach_of
from dragnoise.images.masks import mask_tensor
from dragnoise.images.pictures import as_seen, padded_picture
from dragnoise.models.model import Model


@dataclass(frozen=True, eq=False)
class Carried:
    """A picture before and after it was carried along drags, and the field of the motion.

    before, after: RGB of `Frame.padded`.  latents: of both, (1, C, h, w) float32 on the device.
    field: (H, W, 2) pixels (x, y); what lies at q comes from q - field(q).
    """

    before: Image.Image
    after: Image.Image
    latents: tuple[Tensor, Tensor]
    field: np.ndarray

    def latent(self, z: Tensor, alpha: float) -> Tensor:
        """z_t' of the inverted latent z_t, (1, C, h, w), at the timestep of this cumulative alpha."""
        signal = alpha**0.5
        before, after = (latent.to(z) for latent in self.latents)
        return signal * after + shifted(z - signal * before, torch.from_numpy(self.field))


@torch.no_grad()
def carry(
    model: Model,
    config: DragConfig,
    picture: Image.Image,
    frame: Frame,
    anchors: Tensor,
    objectives: Tensor,
    mask: np.ndarray | None,
) -> Carried:
    """The picture carried along the drags, as the model sees it.

    anchors, objectives: (m, 2) grid pixels.  mask: (H, W) bool of the picture, or None.
    """
    seen = as_seen(padded_picture(picture, frame), frame.padded)
    size = seen.size[::-1]
    starts, ends = (frame.grid_to_cells(points, size).numpy() for points in (anchors, objectives))
    inside = None if mask is None else mask_tensor(frame.pad(mask), seen.size)[0, 0].numpy() >= 0.5
    reach = reach_of(config, frame, anchors, objectives) * max(seen.size) / max(frame.grid)
    pixels, field = motion.moved(np.asarray(seen), starts, ends, mask=inside, reach=reach)
    after = Image.fromarray(pixels)
    before_latent, after_latent = (model.encode_picture(each, frame.padded) for each in (seen, after))
    return Carried(seen, after, (before_latent, after_latent), field)


def shifted(rest: Tensor, field: Tensor) -> Tensor:
    """The rest (1, C, h, w) moved by whole cells along a field (H, W, 2) of the picture's pixels."""
    h, w = rest.shape[-2:]
    factor = torch.tensor([field.shape[1] / w, field.shape[0] / h], dtype=torch.float32)
    cells = F.adaptive_avg_pool2d(field.permute(2, 0, 1)[None], (h, w))[0].permute(1, 2, 0) / factor
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    from_x = (x - cells[..., 0].round().long()).clamp(0, w - 1)
    from_y = (y - cells[..., 1].round().long()).clamp(0, h - 1)
    return rest[..., from_y.to(rest.device), from_x.to(rest.device)]
