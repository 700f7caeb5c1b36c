"""Motion of a picture along drags: the translation or rotation with the smallest seam; numpy, ours.

A field d (H, W, 2) says that what lies at q comes from q - d(q), in pixels as (x, y); it is 0 where nothing may change.
With a mask everything inside moves as a whole, so that what is dragged keeps its shape.  What is behind it is filled in
from round the mask; the thing is what differs from that, and is pasted where it goes; the rest stays as it is.  One
drag does not say whether its thing slides or turns; but at the edge of the mask the picture shall stay as it is.  It
slides where that leaves no seam.  Where it leaves one and the outline of the thing is closed (`isolation`), the thing
alone slides, and what else is in the mask stays.  Otherwise the motion is taken that changes least at the edge, and
where even that one tears the picture there, the thing goes on outside of the mask, as an ear does: then what is dragged
is stretched between the drags' ends, which move fully, and the places where it crosses the edge, which do not move.
Where several drags ask for more room than the mask leaves their thing, as for the eyes and the mouth of a head that is
painted no wider than it is, only what they hold moves, within the thing, whose outline stays: the face turns.
Without a mask, what lies within reach of the drags counts as inside; several drags that hold one thing, as the eyes and
the chin of a head, move what is near them fully, and the motion falls off round it (`falling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from PIL import Image, ImageFilter

from dragnoise.editors.parts.isolation import SIDE, isolated
from dragnoise.geometry import FALL, HELD, extent
from dragnoise.images.inpainting import inpainted
from dragnoise.images.masks import closing, depth, dilation, erosion, joined
from dragnoise.images.warp import sampled, to_segments

EDGE = 3
"""Pixels inside the edge of a mask at which the seam is measured."""

PIVOTS = (0.5, 0.6, 0.75, 1.0, 1.35, 2.0, 3.0, 5.0)
"""Distances of the centre of a rotation from the middle of a drag, in its lengths: angles of 90 to 11 degrees."""

FAVOUR = 0.9
"""A rotation must leave less than this share of the seam of the translation."""

FITTING = 0.05
"""Distance that a rotation leaves between several drags' ends and where it brings their starts up to which it fits
them, as a share of their mean length."""

BEHIND, THING = 8, 24
"""Difference of a channel from the background, of 255, up to which a pixel does not belong to the thing, and from which
it fully does."""

SMOOTH = 0.04
"""Seam of a translation up to which a thing slides, as a share of its difference from what is behind."""

TORN = 0.1
"""Largest seam of a rigid motion, as a share of the thing's difference from what is behind; above it the thing is
stretched."""

CROSSED = 25
"""A thing crosses the edge of a mask where a translation changes a pixel there by more than this, of 255."""

CORE, SPREAD = 0.03, 1.5
"""Radius round a drag's end within which a stretched thing moves fully: `CORE` of the picture's longer side, and
`SPREAD` times the largest distance between two ends, because several drags hold a thing as a whole."""

TIGHT, LEAVING = 0.41, 0.16
"""The `tightness` of a mask above which several drags move only the inside of a thing (a face within its head); and the
weight, in `tightness`, of the share of the thing that leaves the mask."""

FACE = 0.07
"""Distance from a line between drag points up to which a pixel belongs to that inside; of the picture's longer side."""

CLOSED, RIM = 4, 2
"""Radius in pixels by which holes in a thing are closed, and the width in pixels of its outline."""

GROWN = 2
"""Width in pixels of a margin round a thing that is filled with background too, so that no edge of it stays behind."""


def moved(
    pixels: np.ndarray, starts: np.ndarray, ends: np.ndarray, *, mask: np.ndarray | None, reach: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The moved picture, (H, W, 3) uint8, and the field d, (H, W, 2) float32.

    pixels: (H, W, 3) uint8.  starts, ends: (m, 2) pixels.  mask: (H, W) bool, True may change.  reach: in pixels; with
    no mask and a reach of 0 everything moves.
    """
    size = pixels.shape[:2]
    shift = translation(size, starts, ends)
    wide = extent(starts, ends, size[::-1]) if mask is None else 0.0
    if mask is None and reach:
        mask = to_segments(places(size).reshape(-1, 2), starts, ends).reshape(size) <= reach
    if mask is None or mask.all():
        return warped(pixels, shift.astype(np.float32)), shift.astype(np.float32)
    shift = fitting(shift, starts, ends)
    behind = inpainted(pixels, mask)
    thing = object_weights(pixels, behind, mask)
    if wide:
        return moved_in_part(pixels, behind, thing, shift, mask, falling(size, starts, ends, HELD * wide, reach))
    solid, edge = thing > 0.5, mask & ~erosion(mask, EDGE)
    contrast = float(np.abs(pixels - behind).max(-1)[solid].mean()) if solid.any() else 0.0
    slid = rigid_motion(pixels, behind, thing, mask, edge, shift)
    if slid[0] <= SMOOTH * contrast:
        return slid[1:]
    crossed = edge & (np.abs(slid[1].astype(float) - pixels).max(-1) > CROSSED)
    tight = len(starts) > 1 and tightness(mask, edge, crossed, solid, (ends - starts).mean(0)) > TIGHT
    if not tight and (alone := isolated(pixels, solid, mask, starts)) is not None:
        return moved_alone(pixels, alone, mask, shift)
    turned = (rigid_motion(pixels, behind, thing, mask, edge, field) for field in rotations(size, starts, ends))
    rigid = least_torn(slid, turned)
    if rigid[0] <= TORN * contrast or not crossed.any():
        return rigid[1:]
    if tight:
        body = closing(solid, CLOSED) & mask
        face = erosion(body, RIM) & joined(size, starts, ends, FACE * max(size))
        if face.any():
            behind = inpainted(pixels, face | ~erosion(body, 1))
            features, rim = object_weights(pixels, behind, face), face & ~erosion(face, RIM)
            fields = (shift, *rotations(size, starts, ends))
            motions = (rigid_motion(pixels, behind, features, face, rim, field) for field in fields)
            return least_torn(next(motions), motions)[1:]
    return moved_in_part(pixels, behind, thing, shift, mask, stretching(crossed, ends))


def moved_alone(
    pixels: np.ndarray, thing: np.ndarray, mask: np.ndarray, field: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A thing (H, W) bool moved within a mask by a field, and the rest of the mask as it is: as `moved`."""
    margin = 1 + round(max(thing.shape) / SIDE)  # its outline was found at that size
    near = dilation(thing, margin) & mask
    behind = inpainted(pixels, near)
    weights = np.maximum(object_weights(pixels, behind, near), erosion(thing, 1))
    landed = warped_weights(near, field) > 0
    within = (field * ((near | landed) & mask)[..., None]).astype(np.float32)
    return composite(pixels, behind, weights, within, mask=mask), within


def moved_in_part(
    pixels: np.ndarray, behind: np.ndarray, thing: np.ndarray, shift: np.ndarray, mask: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A mask moved by a share (H, W) of the drags' motion: as `moved`."""
    field = (shift * (share * mask)[..., None]).astype(np.float32)
    return composite(pixels, behind, thing, field, mask=mask, share=share), field


def fitting(shift: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The field of the rotation that brings several starts to their ends, where one does; else the one given."""
    if len(starts) == 1:
        return shift
    turned = next(rotations(shift.shape[:2], starts, ends))
    x, y = (at.clip(0, most - 1) for at, most in zip(ends.round().astype(int).T, shift.shape[1::-1], strict=True))
    missed = np.linalg.norm(turned[y, x] - (ends - starts), axis=-1).max()
    return turned if missed <= FITTING * np.linalg.norm(ends - starts, axis=-1).mean() else shift


Motion = tuple[float, np.ndarray, np.ndarray]
"""The seam that a motion leaves, the moved picture and the field."""


def rigid_motion(
    pixels: np.ndarray, behind: np.ndarray, thing: np.ndarray, mask: np.ndarray, edge: np.ndarray, field: np.ndarray
) -> Motion:
    """The motion of a thing within a mask by a field (H, W, 2), of a translation or a rotation."""
    within = (field * mask[..., None]).astype(np.float32)
    picture = composite(pixels, behind, thing, within, mask=mask)
    return seam_of(picture, pixels, edge), picture, within


def least_torn(slid: Motion, turned: Iterable[Motion]) -> Motion:
    """The motion with the smallest seam, a translation being favoured over rotations by `FAVOUR`."""
    favoured = chain([slid], ((seam / FAVOUR, picture, field) for seam, picture, field in turned))
    return min(favoured, key=lambda motion: motion[0])


def object_weights(pixels: np.ndarray, behind: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weights (H, W) of the thing in a mask: 1 where it differs from the background by `THING`, 0 up to `BEHIND`."""
    return np.where(mask, ((np.abs(pixels - behind).max(-1) - BEHIND) / (THING - BEHIND)).clip(0, 1), 0)


def seam_of(picture: np.ndarray, pixels: np.ndarray, edge: np.ndarray) -> float:
    """Mean difference of two pictures (H, W, 3) at the edge of a mask, (H, W) bool."""
    return float(np.abs(picture.astype(float) - pixels)[edge].mean()) if edge.any() else 0.0


def composite(
    pixels: np.ndarray,
    behind: np.ndarray,
    thing: np.ndarray,
    field: np.ndarray,
    *,
    mask: np.ndarray,
    share: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Composite inside a mask: the moved thing, background where it was, and the rest unchanged, (H, W, 3) uint8.

    behind: (H, W, 3), where the thing was; thing: (H, W), 1 where a pixel belongs to it.
    share: (H, W), how much of what does not belong to the thing is left where it is; where it is 0 everything moves
    with the field, what is behind too.
    """
    opacity = 1 - np.asarray(share * (1 - warped_weights(thing, field)))[..., None]
    ground = pixels + dilated(thing)[..., None] * (behind - pixels)
    inside = ground + opacity * (warped(pixels, field) - ground)
    return np.where(mask[..., None], inside.round().clip(0, 255), pixels).astype(np.uint8)


def dilated(thing: np.ndarray) -> np.ndarray:
    """The weights of a thing, (H, W) from 0 to 1, dilated by `GROWN` pixels and with a soft edge."""
    wide = Image.fromarray((thing * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * GROWN + 1))
    return np.maximum(np.asarray(wide.filter(ImageFilter.BoxBlur(1))) / 255, thing)


def warped(pixels: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The picture warped by a field, (H, W, 3) uint8."""
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    return sampled(pixels, x - field[..., 0], y - field[..., 1])


def warped_weights(weights: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Weights (H, W) of 0 to 1, or a mask, warped by a field, in steps of 1/255."""
    grey = (weights * 255).round().astype(np.uint8)
    return warped(np.repeat(grey[..., None], 3, -1), field)[..., 0] / 255


def translation(size: tuple[int, int], starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The drags' directions weighted by 1 / (|q - b_i|^2 + 1/4), b_i their ends: (H, W, 2) for a size (H, W)."""
    weights = 1 / (((places(size)[:, :, None] - ends) ** 2).sum(-1) + 0.25)
    return np.asarray((weights / weights.sum(-1, keepdims=True)) @ (ends - starts))


def rotations(size: tuple[int, int], starts: np.ndarray, ends: np.ndarray) -> Iterator[np.ndarray]:
    """Rotations that bring starts to ends: about centres on the bisector of one drag, or the best one for several."""
    if len(starts) > 1:
        centre, target = starts.mean(0), ends.mean(0)
        a, b = starts - centre, ends - target
        angle = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum())  # Procrustes in the plane
        yield _turned(size, centre, target, angle)
        return
    middle, along = (starts[0] + ends[0]) / 2, ends[0] - starts[0]
    for far in (*PIVOTS, *(-pivot for pivot in PIVOTS)):
        pivot = middle + far * np.array([-along[1], along[0]])
        yield _turned(size, pivot, pivot, 2 * np.arctan(0.5 / far))


def _turned(size: tuple[int, int], centre: np.ndarray, target: np.ndarray, angle: float) -> np.ndarray:
    """The field that turns about `centre` by an angle from x towards y, and brings it to `target`."""
    cos, sin, q = np.cos(angle), np.sin(angle), places(size)
    offset = q - target
    source = centre + np.stack(
        [cos * offset[..., 0] + sin * offset[..., 1], cos * offset[..., 1] - sin * offset[..., 0]], -1
    )
    return np.asarray(q - source)


def tightness(mask: np.ndarray, edge: np.ndarray, crossed: np.ndarray, thing: np.ndarray, along: np.ndarray) -> float:
    """How little room a mask leaves its thing, from 0; all masks (H, W) bool, along: the mean drag (x, y) in pixels.

    A mask that was painted for a head that moves holds the place where it goes; one that was painted for a face that
    turns within its head ends at the head.  The share of the mask's edge that the thing crosses, and `LEAVING` times
    the share of the thing that a translation takes out of the mask, for one by the picture's longer side; half of
    their sum where that is more than the first alone, as it is for small things.
    """
    y, x = np.nonzero(thing)
    h, w = mask.shape
    to_x, to_y = ((at + by).round().astype(int) for at, by in ((x, along[0]), (y, along[1])))
    outside = ~mask[to_y.clip(0, h - 1), to_x.clip(0, w - 1)]
    share = float(outside.mean()) if len(outside) else 0.0
    length = max(float(np.linalg.norm(along)) / max(h, w), 1e-6)
    over, leaving = float(crossed.sum() / edge.sum()), LEAVING * share / length
    return max(over, (over + leaving) / 2)


def falling(size: tuple[int, int], starts: np.ndarray, ends: np.ndarray, core: float, reach: float) -> np.ndarray:
    """Share of the drags' motion: 1 within `core` pixels of their ends, falling smoothly to 0 at `reach`, (H, W).

    The core is smaller where that leaves less than `FALL` times the longest drag to fall off over.
    """
    apart = np.linalg.norm(places(size)[:, :, None] - ends, axis=-1).min(-1)
    core = min(core, reach - FALL * float(np.linalg.norm(ends - starts, axis=-1).max()))
    return smoothstep(((reach - apart) / max(reach - core, 1e-6)).clip(0, 1))


def stretching(crossed: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Share of the drags' motion: 1 near their ends, falling smoothly to 0 where the thing crosses the edge, (H, W).

    crossed: (H, W) bool, where it does.  ends: (m, 2) pixels.
    """
    apart = np.linalg.norm(places(crossed.shape)[:, :, None] - ends, axis=-1).min(-1)
    spread = float(np.linalg.norm(ends[:, None] - ends, axis=-1).max())
    core, away = CORE * max(crossed.shape) + SPREAD * spread, depth(~crossed)
    return smoothstep(away / (away + np.maximum(apart - core, 0) + 1e-6))


def smoothstep(share: np.ndarray) -> np.ndarray:
    """From 0 to 1, flat at both ends."""
    return np.asarray(share * share * (3 - 2 * share))


def places(size: tuple[int, int]) -> np.ndarray:
    """The pixels (x, y) of a picture of (H, W), (H, W, 2)."""
    return np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), -1).astype(float)
