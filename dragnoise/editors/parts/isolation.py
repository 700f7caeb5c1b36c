"""The thing that drags hold, where its outline is closed within the mask; numpy, ours.

A thing whose outline is closed can move as a whole: a ball on a table, a balloon in the sky.  One that goes on outside
the mask, such as an ear on its head, cannot.  They are told apart by the geodesic distance, the sum of the colour
differences along a path, shortest from the anchor to the edge of the mask: out of a closed outline every path crosses
it, and along a thing's own shading it is cheap.  A pixel then belongs to what it is nearer to, anchors or edge (as in
Criminisi et al., *Geodesic Image Segmentation*, ECCV 2008).  Parts with an outline of their own that all but touch the
thing, such as the basket under a balloon, go with it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from dragnoise.images.masks import dilation, erosion, sweep

CLOSED = 105
"""Geodesic distance from the anchor to outside the mask above which the outline is closed.  A thing that differs
clearly from what is round it has more; a path along an animal's coat has less than 50."""

OUTLINE = 3
"""Width in pixels of the band round the mask in which a path ends, so that a mask may be as tight as the outline."""

PART = 67
"""Geodesic distance from outside the mask above which a pixel has an outline round it."""

GAP = 3
"""Half of the largest distance in pixels between a thing and a part of it."""

ALONG = 0.15
"""Share of the mask's rim that a thing with its parts covers at most; texture covers more."""

SIDE = 128
"""The longer side in pixels of the picture in which the outline is looked for; all lengths here are its pixels."""

SEED = 0.025
"""Radius round an anchor, as a share of the longer side, in which what differs from the background is the thing."""

FLAT = 0.5
"""Cost of a step between equal colours, so that of two flat paths the shorter one is cheaper."""

BARRED = 1e6
"""Cost of a step that leaves the mask: more than any path inside."""


def isolated(pixels: np.ndarray, thing: np.ndarray, mask: np.ndarray, starts: np.ndarray) -> np.ndarray | None:
    """The pixels (H, W) bool of the thing that the drags hold, or None where its outline is not closed in the mask.

    pixels: (H, W, 3) uint8.  thing: (H, W) bool, what differs from the background.  mask: (H, W) bool.
    starts: (m, 2) pixels, the anchors.
    """
    h, w = mask.shape
    scale = min(SIDE / max(h, w), 1)
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.8))
    across, down = colour_steps(np.asarray(small, dtype=float))
    within = _resized(mask, size)
    inside = dilation(within, OUTLINE)  # a mask may touch the outline
    edge = inside & ~within
    y, x = np.mgrid[: size[1], : size[0]]
    seeds = [
        ((x - scale * a) ** 2 + (y - scale * b) ** 2 <= (SEED * max(size)) ** 2) & within & _resized(thing, size)
        for a, b in starts
    ]
    if not edge.any() or not all(seed.any() for seed in seeds):
        return None
    from_anchor = geodesic(across, down, seeds[0], inside)
    if from_anchor[edge].min() <= CLOSED:
        return None
    from_edge = geodesic(across, down, edge, inside)
    held = within & (from_anchor < from_edge)
    if not all((seed & held).any() for seed in seeds):
        return None  # eyes, held by two drags, have an outline each, and are held as a head
    parts = within & ~held & (from_edge > PART)
    parts &= dilation(erosion(parts, 1), 1)  # an outline is no part
    near = dilation(held | parts, GAP)
    whole = held
    while (grown := near & dilation(whole, 1)).sum() > whole.sum():
        whole = grown
    whole &= held | parts
    rim = within & ~erosion(within, OUTLINE)
    if (whole & rim).sum() > ALONG * rim.sum():
        whole = held
    picture = Image.fromarray(whole.astype(np.uint8) * 255)
    return np.asarray(picture.resize((w, h), Image.Resampling.BILINEAR)) > 127


def colour_steps(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Costs of the steps to the right and down, (h, w - 1) and (h - 1, w): the largest difference of a channel.

    picture: (h, w, 3), 0 to 255.
    """
    across, down = (np.abs(np.diff(picture, axis=axis)).max(-1) + FLAT for axis in (1, 0))
    return across, down


def geodesic(across: np.ndarray, down: np.ndarray, seeds: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Cost of the cheapest path from any seed to each pixel, by steps to the four neighbours inside, (h, w).

    across: (h, w - 1) and down: (h - 1, w), costs of a step.  seeds, inside: (h, w) bool.  Outside the cost is at least
    `BARRED`.
    """
    across = np.where(inside[:, 1:] & inside[:, :-1], across, BARRED)
    down = np.where(inside[1:] & inside[:-1], down, BARRED)
    distance = np.where(seeds, 0.0, BARRED)
    while True:
        before = distance.copy()
        sweep(distance, across)
        sweep(distance.T, down.T)
        if np.array_equal(distance, before):
            return distance


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 0
