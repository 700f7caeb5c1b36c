"""Quality of an edited picture compared with the true answer: PSNR, SSIM and lost landmarks of the creature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dragnoise.images.difference import psnr
from dragnoise.toyland.cases import DragCase
from dragnoise.toyland.detector import sightings
from dragnoise.toyland.scenes import LANDMARKS, SIZE, landmarks

CREATURE = tuple(name for name in LANDMARKS if name not in ("sun", "peak"))
"""Landmarks that belong to the creature."""

NEAR = 4.0
"""A landmark farther than this from its true place, in pixels, is lost."""

_MARGIN, _FOUND = (
    2.0,
    3.0,
)  # pixels: a visible landmark is this far inside the picture, and the judge finds it this near


@dataclass(frozen=True)
class Quality:
    """What is measured of one picture; all distances are picture pixels.

    missed: mean distance of the dragged landmarks from their objectives.
    outside: PSNR in dB to the given picture outside the case's mask.
    inside, ssim: PSNR in dB and mean SSIM to the true answer inside the mask.
    landmarks: mean distance of all visible landmarks of the creature from where the true answer has them.
    lost: those that are more than `NEAR` away or that the judge is not sure to see.
    """

    missed: float
    outside: float
    inside: float
    ssim: float
    landmarks: float
    lost: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Is every visible landmark of the creature there and in its place?"""
        return not self.lost


def quality(case: DragCase, picture: np.ndarray, given: np.ndarray, answer: np.ndarray) -> Quality:
    """Measure a picture, all pictures (128, 128, 3) uint8, against the given one and the true answer of a case."""
    seen, truth = sightings(picture), landmarks(case.answer)
    names = visible(truth, answer)
    away = {name: math.dist(seen[name].point, truth[name]) for name in names}
    drags = zip(case.names, case.drags, strict=True)
    return Quality(
        missed=float(np.mean([math.dist(seen[name].point, drag.objective) for name, drag in drags])),
        outside=psnr(picture, given, ~case.mask),
        inside=psnr(picture, answer, case.mask),
        ssim=float(ssim_map(picture, answer)[case.mask].mean()),
        landmarks=float(np.mean(list(away.values()))) if away else 0.0,
        lost=tuple(name for name in names if away[name] > NEAR or not seen[name].sure),
    )


def visible(truth: dict[str, tuple[float, float]], picture: np.ndarray) -> list[str]:
    """The creature's landmarks that can be seen in a render: inside it, and found by the judge with certainty."""
    seen = sightings(picture)
    return [
        name
        for name in CREATURE
        if name in truth
        and all(_MARGIN <= v <= SIZE - 1 - _MARGIN for v in truth[name])
        and seen[name].sure
        and math.dist(seen[name].point, truth[name]) <= _FOUND
    ]


def ssim_map(a: np.ndarray, b: np.ndarray, *, sigma: float = 1.5, radius: int = 5) -> np.ndarray:
    """Structural similarity (Wang et al. 2004, Eq. 13) at each pixel, (H, W), mean over the channels.

    a, b: (H, W, C) uint8.  Gaussian windows of 11x11 pixels, mirrored at the edges, population statistics.
    """
    x, y = a.astype(float), b.astype(float)
    mean_x, mean_y = _smooth(x, sigma, radius), _smooth(y, sigma, radius)
    var_x = _smooth(x * x, sigma, radius) - mean_x**2
    var_y = _smooth(y * y, sigma, radius) - mean_y**2
    covariance = _smooth(x * y, sigma, radius) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    result: np.ndarray = (above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean(-1)
    return result


def _smooth(x: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Gaussian smoothing of (H, W, C) over both axes."""
    weights = np.exp(-np.square(np.arange(-radius, radius + 1) / sigma) / 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(x, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="symmetric")
        x = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis=axis) @ weights
    return x
