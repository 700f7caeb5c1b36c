"""What tests of the editors compare with: the published steps on diffusers' own U-Net, without code of dragnoise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from helpers import smooth_picture
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model

SIZE = (72, 88)  # width, height: the latent is 9 x 11, the grid 36 x 44
DRAGS = [((20.0, 30.0), (44.0, 20.0)), ((60.0, 50.0), (50.0, 70.0))]
STRIDE = 100  # timesteps between two of ten steps: 1, 101, ..., 901


def make_session(model: Model, config: DragConfig, mask: np.ndarray | None = None, drags: Any = DRAGS) -> DragSession:
    session = DragSession(model, smooth_picture(*SIZE), "a cat", config)
    session.drags, session.mask = drags, mask
    return session


def editable() -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    mask[10:60, 10:60] = True
    return mask


class Plain:
    """A picture inverted to the seventh of ten steps; of dragnoise nothing but the inverted latent."""

    def __init__(self, session: DragSession, mask: np.ndarray | None) -> None:
        self.unet, self.text = session.model.pipeline.unet, session.model.embed("a cat")
        self.alphas = session.model.scheduler.alphas_cumprod
        self.t = 601
        self.z0 = list(session.invert())[-1].latents
        w, h = SIZE[0] // 2, SIZE[1] // 2
        self.grid = (h, w)
        points = torch.tensor([(d.anchor, d.objective) for d in session.drags], dtype=torch.float64)
        cells = (points / torch.tensor(SIZE) * torch.tensor([w, h])).float().round()
        self.handles, self.targets = cells[:, 0].clone(), cells[:, 1]
        self.mask = torch.zeros(1, 1, *self.z0.shape[-2:])
        if mask is not None:
            small = F.interpolate(torch.tensor(mask)[None, None].float(), (h, w), mode="nearest")
            self.mask = F.interpolate(small, self.z0.shape[-2:], mode="nearest")

    def look(self, z: Tensor, t: int | None = None) -> tuple[Tensor, Tensor]:
        """The feature at half the picture's size, and the latent one step below."""
        kept: list[Tensor] = []
        hook = self.unet.up_blocks[2].register_forward_hook(lambda *args: kept.append(args[-1]))
        below = self.down(z, self.t if t is None else t)
        hook.remove()
        return F.interpolate(kept[0], self.grid, mode="bilinear", align_corners=False)[0], below

    def down(self, z: Tensor, t: int) -> Tensor:
        """One DDIM step of a batch."""
        noise = self.unet(z, t, encoder_hidden_states=self.text.expand(len(z), -1, -1)).sample
        now, below = self.alphas[t], self.alphas[max(t - STRIDE, 0)]
        x0 = (z - (1 - now).sqrt() * noise) / now.sqrt()
        return below.sqrt() * x0 + (1 - below).sqrt() * noise

    def patch(self, feature: Tensor, centre: Tensor, radius: int = 1) -> Tensor:
        """Bilinear samples around a point well inside, (C, 2 radius + 1, 2 radius + 1)."""
        (left, top), (x, y), size = centre.floor().int().tolist(), centre - centre.floor(), 2 * radius + 1

        def corner(dx: int, dy: int) -> Tensor:
            return feature[:, top - radius + dy :, left - radius + dx :][:, :size, :size]

        read = corner(0, 0) * ((1 - x) * (1 - y)) + corner(0, 1) * ((1 - x) * y)
        return read + corner(1, 0) * (x * (1 - y)) + corner(1, 1) * (x * y)

    def track(self, feature: Tensor, first: Tensor, start: Tensor, handle: Tensor, radius: int = 3) -> Tensor:
        x, y = handle.int().tolist()
        sx, sy = start.int().tolist()
        left, top = max(x - radius, 0), max(y - radius, 0)
        window = feature[:, top : y + radius + 1, left : x + radius + 1]
        distance = (window - first[:, sy, sx][:, None, None]).abs().sum(0)
        row, column = divmod(int(distance.argmin()), window.shape[2])
        return torch.tensor([left + column, top + row]).float()

    @torch.no_grad()
    def render(self, pair: Tensor, t: int, *, plain_first: bool = False) -> Tensor:
        """The edited latent of a pair [unedited, edited] at timestep t, denoised with mutual self-attention."""
        for k, at in enumerate(range(t, 0, -STRIDE)):
            if plain_first and k == 0:
                pair = self.down(pair, at)
            else:
                with mutual(self.unet):
                    pair = self.down(pair, at)
        return pair[1:]


@contextmanager
def mutual(unet: Any) -> Iterator[None]:
    """The last six of 16 self-attentions take keys and values of the first of a batch for all, softmax written out."""
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    layers = [layer for block in blocks for name, layer in block.named_modules() if name.endswith("attn1")]
    assert len(layers) == 16
    before = {layer: layer.forward for layer in layers[10:]}
    try:
        for layer in before:
            layer.forward = lambda x, *args, layer=layer, **kwargs: attend_by_hand(layer, x)
        yield
    finally:
        for layer, forward in before.items():
            layer.forward = forward


def attend_by_hand(layer: Any, x: Tensor) -> Tensor:
    """Self-attention of a batch of two, keys and values of the first for both, softmax written out."""
    q, k, v = layer.to_q(x), layer.to_k(x[:1]).expand(2, -1, -1), layer.to_v(x[:1]).expand(2, -1, -1)
    q, k, v = (y.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for y in (q, k, v))
    mixed = ((q @ k.transpose(-1, -2)) * layer.scale).softmax(-1) @ v
    return layer.to_out[0](mixed.transpose(1, 2).flatten(2))
