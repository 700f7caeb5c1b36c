"""Restoring details that the autoencoder loses, where an edit equals a known picture, with a soft edge; ours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageFilter

SAME, CHANGED = 10, 30
"""Largest difference of a channel, of 255, up to which a pixel counts as equal, and from which on as changed."""

MARGIN = 2
"""Width of the margin round changed pixels that counts as changed too, in pixels of the working picture."""


def keep_pixels(edited: Image.Image, *known: tuple[Image.Image, Image.Image]) -> Image.Image:
    """The edited picture, RGB, with the details of known ones where it equals them, in the size of the first of these.

    edited: as the model decoded it.  known: pairs of what the autoencoder makes of a picture, in the size of `edited`,
    and the picture itself, of any size; where several are equal to the edited one the first counts.

    edited + sum_i w_i (picture_i - plain_i), with w_i = 1 where edited and plain_i differ by at most `SAME`, 0 from
    `CHANGED` on and within `MARGIN` of it, and a blur between; limited to what earlier pairs have left, so that
    moved content is not mixed with what was there before.
    """
    size = known[0][1].size
    result, left = floats(edited, size), np.ones((size[1], size[0], 1))
    for plain, picture in known:
        share = left * np.asarray(equal(edited, plain).resize(size, Image.Resampling.BILINEAR), float)[..., None] / 255
        result = result + share * (floats(picture, size) - floats(plain, size))
        left = left - share
    return Image.fromarray(result.round().clip(0, 255).astype(np.uint8))


def equal(edited: Image.Image, plain: Image.Image) -> Image.Image:
    """The weights w of two RGB pictures of one size, times 255: grey."""
    difference = np.asarray(ImageChops.difference(edited, plain)).max(-1)
    share = np.clip((CHANGED - difference.astype(float)) / (CHANGED - SAME), 0, 1)
    weights = Image.fromarray((share * 255).round().astype(np.uint8))
    shrunk = weights.filter(ImageFilter.MinFilter(2 * MARGIN + 1))
    return ImageChops.darker(shrunk.filter(ImageFilter.BoxBlur(MARGIN - 1)), weights)


def floats(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """An RGB picture brought to a size (W, H), (H, W, 3) float64."""
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR), float)
