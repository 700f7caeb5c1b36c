"""The suite's judge: a small network that finds the landmarks of a picture.

It is trained on renders and has no part in the diffusion model or in the features that an edit is
optimised on.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from dragnoise.images.pictures import as_picture
from dragnoise.locks import PATCHING
from dragnoise.toyland.scenes import LANDMARKS, SIZE


def to_unit(batch: np.ndarray) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) float32 in -1..1, channels last in memory."""
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div(127.5).sub(1)


WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"


class LandmarkNet(nn.Module):
    """(B, 3, 128, 128) in -1..1 -> (B, 14, 2) points (x, y) in picture pixels.

    An hourglass makes a 32x32 heat map a landmark; the point is the map's mean place.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(_conv(3, w // 2, 2), _conv(w // 2, w, 2), _conv(w, w))
        self.down1 = nn.Sequential(_conv(w, 2 * w, 2), _conv(2 * w, 2 * w))
        self.down2 = nn.Sequential(_conv(2 * w, 3 * w, 2), _conv(3 * w, 3 * w))
        self.down3 = nn.Sequential(_conv(3 * w, 3 * w, 2), _conv(3 * w, 3 * w))
        self.up2 = _conv(6 * w, 3 * w)
        self.up1 = _conv(5 * w, 2 * w)
        self.up0 = nn.Sequential(_conv(3 * w, 2 * w), nn.Conv2d(2 * w, len(LANDMARKS), 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.places(self.heat(x))

    def heat(self, x: Tensor) -> Tensor:
        """(B, 14, 32, 32): the maps before their softmax; a peak measures the evidence for a landmark."""
        a = self.stem(x)
        b = self.down1(a)
        c = self.down2(b)
        d = self.down3(c)
        c = self.up2(torch.cat([_double(d), c], 1))
        b = self.up1(torch.cat([_double(c), b], 1))
        return self.up0(torch.cat([_double(b), a], 1)).float()

    @staticmethod
    def places(heat: Tensor) -> Tensor:
        """(B, 14, 32, 32) maps -> (B, 14, 2) points, the mean place of each map's softmax."""
        side = torch.arange(SIZE // 4, device=heat.device) * 4 + 1.5
        y, x = torch.meshgrid(side, side, indexing="ij")
        return heat.flatten(2).softmax(-1) @ torch.stack([x.flatten(), y.flatten()], -1)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.SiLU(inplace=True)
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


@cache
def load_judge() -> LandmarkNet:
    """The trained judge that comes with the package."""
    with PATCHING:  # while another thread loads a model, new parameters have no values
        net = LandmarkNet()
        net.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    return net.eval().requires_grad_(False)


SURE = {
    "sun": 5.6, "peak": 2.3, "head": 6.1, "left_ear": 4.7, "right_ear": 5.0, "left_eye": 5.2, "right_eye": 5.3,
    "mouth_left": 5.1, "mouth_right": 5.7, "chin": 5.8, "hat_top": 5.4, "tail_tip": 5.4, "left_foot": 6.5,
    "right_foot": 7.2,
}  # fmt: skip
"""The peak of a landmark's heat map from which on the judge is sure: nine tenths of what 99 of 100 renders have."""


class Sighting(NamedTuple):
    """Where the judge sees a landmark (x, y), the peak of its heat map, and whether that is enough to be sure."""

    point: tuple[float, float]
    peak: float
    sure: bool


@torch.no_grad()
def sightings(picture: Any) -> dict[str, Sighting]:
    """What the judge sees in a 128x128 picture (path, PIL image or array), for all of `LANDMARKS`.

    A landmark that it is not sure of is not there, or spoilt, and its point is a guess.
    Raises ValueError for a picture of another size.
    """
    image = as_picture(picture)
    if image.size != (SIZE, SIZE):
        raise ValueError(f"the judge looks at {SIZE}x{SIZE} pictures, not {image.size[0]}x{image.size[1]}.")
    net = load_judge()
    heat = net.heat(to_unit(np.array(image)[None]))
    points, peaks = net.places(heat)[0].tolist(), heat[0].amax((1, 2)).tolist()
    return {
        name: Sighting((x, y), peak, peak >= SURE[name])
        for name, (x, y), peak in zip(LANDMARKS, points, peaks, strict=True)
    }


def judge(picture: Any) -> dict[str, tuple[float, float]]:
    """Where the landmarks of a 128x128 picture (path, PIL image or array) are: {name: (x, y)} in pixels.

    Always all of `LANDMARKS`; a point that the picture does not show is a guess, see `sightings`.
    Raises ValueError for a picture of another size.
    """
    return {name: sighting.point for name, sighting in sightings(picture).items()}
