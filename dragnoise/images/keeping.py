"""Given pixels put back where an edit changed nothing, with a soft edge; ours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageFilter

SAME, CHANGED = 6, 18
"""Largest difference of a channel, of 255, up to which a pixel counts as unchanged, and from which on as changed."""

MARGIN = 3
"""Pixels of the working picture round what changed that count as changed too."""


def keep_pixels(edited: Image.Image, plain: Image.Image, given: Image.Image) -> Image.Image:
    """The edited picture, RGB, with the given one's details wherever it equals `plain`, in the given size.

    edited, plain: what the model made with and without the edit, of one size.  given: of any size.

    edited + w (given - plain), with w = 1 where edited and plain differ by at most `SAME`, 0 from `CHANGED` on and
    within `MARGIN` of it, and a blur between.  So what moved is nowhere mixed with what was there before.
    """
    difference = np.asarray(ImageChops.difference(edited, plain)).max(-1)
    share = np.clip((CHANGED - difference.astype(float)) / (CHANGED - SAME), 0, 1)
    weights = Image.fromarray((share * 255).round().astype(np.uint8))
    shrunk = weights.filter(ImageFilter.MinFilter(2 * MARGIN + 1))
    soft = ImageChops.darker(shrunk.filter(ImageFilter.BoxBlur(MARGIN - 1)), weights)
    w, a, b = (np.asarray(x.resize(given.size, Image.Resampling.BILINEAR), float) for x in (soft, edited, plain))
    details = w[..., None] / 255 * (np.asarray(given, float) - b)
    return Image.fromarray((a + details).round().clip(0, 255).astype(np.uint8))
