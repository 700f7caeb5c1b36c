"""Differences of two pictures: PSNR, and a picture of where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dragnoise.images.pictures import as_picture
from dragnoise.validation import as_number

SEEN = 12
"""Levels of 255, in the channel that differs most, above which a pixel counts as changed."""

BEST = 120.0
"""Upper limit of the PSNR in dB; equal pictures have it."""

TINT = (255, 120, 0)
"""Colour of the difference."""


def psnr(one: Any, other: Any, where: np.ndarray | None = None) -> float:
    """PSNR in dB of two pictures, all or over the pixels of a bool mask (H, W); at most `BEST`, also if equal.

    one, other: PIL or (H, W, 3) uint8, of the same size.
    """
    a, b = (np.asarray(x, float)[... if where is None else where] for x in (one, other))
    error = np.square(a - b).mean()
    return float(10 * np.log10(255**2 / error)) if error > 255**2 / 10 ** (BEST / 10) else BEST


@dataclass(frozen=True, eq=False)
class Difference:
    """How two pictures differ.

    picture: the first one in dim grey, tinted where they differ.  psnr: in dB.  changed: share of the pixels that
    differ by more than `SEEN` levels.  caption: both in words.
    """

    picture: Image.Image
    psnr: float
    changed: float

    @property
    def caption(self) -> str:
        return f"{self.changed:.0%} of the pixels differ by more than {SEEN} levels, {self.psnr:.1f} dB"


def difference(one: Any, other: Any, *, gain: float = 4.0) -> Difference:
    """The difference of two pictures of one size, see `images.pictures.Picture`; with another size the second is
    resized to the first's.

    gain: the tint is full at a difference of 255 / gain levels in the channel that differs most, > 0.
    """
    gain = as_number("gain", gain, above=True)
    first, second = as_picture(one), as_picture(other)
    if second.size != first.size:
        second = second.resize(first.size, Image.Resampling.LANCZOS)
    a, b = np.asarray(first), np.asarray(second)
    far = np.abs(a.astype(int) - b).max(-1)
    amount = np.clip(far * (gain / 255), 0, 1)[..., None]
    grey = np.asarray(first.convert("L"), float)[..., None] / 3
    view = (grey * (1 - amount) + np.array(TINT) * amount + 0.5).astype(np.uint8)
    return Difference(Image.fromarray(view), psnr(a, b), float((far > SEEN).mean()))
