"""Masks: from images and arrays, as tensors, and remarks on masks that do not fit their drags."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dragnoise.geometry import Drag
from dragnoise.images.arrays import as_array, as_bytes, is_within
from dragnoise.images.colours import DEEP, split
from dragnoise.images.files import image_path, read_image, upright
from dragnoise.validation import said

if TYPE_CHECKING:
    from torch import Tensor

EXPECTED = "a mask must be None, a path, a PIL image or an (H, W) bool or uint8 array"

FEW = 0.25
"""Share of a mask's values at most that resampling leaves outside of its range, on either side."""

DARK = 32
"""Of 255.  Colours below it are black, and whole numbers below it are labels or noise unless there is one label."""


def as_mask(mask: Any, size: tuple[int, int]) -> np.ndarray | None:
    """None, or any mask -> (H, W) bool, True where the picture may change; (width, height) must match.

    mask: a path, a PIL image, or an (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) array.  Images are turned
    upright by their EXIF tag.  An image with transparency means its opacity times its luminance, or its
    opacity where all that is visible is black; any other image means its luminance.

    A pixel may change where its value is above the middle of the range: 0.5 for floats in 0..1, 0 for
    values on both sides of 0 (-1 and 1, logits), half of the highest value for other numbers.  Masks of
    two values {0, x} are True at x, whatever x is.

    Raises ValueError for an empty mask, another size and values that could mean several things, TypeError
    if `mask` is of none of these types.
    """
    if mask is None:
        return None
    if isinstance(mask, str | Path):
        values = _image_values(read_image(image_path(mask, "mask"), what="mask"))
    elif isinstance(mask, Image.Image):
        try:
            values = _image_values(upright(mask))
        except Exception as error:
            raise ValueError(f"the mask's pixels cannot be read ({said(error)}).") from None
    else:
        values = _array_values(as_array(mask, EXPECTED))
    if values.shape != (size[1], size[0]):
        raise ValueError(
            f"the mask has shape {values.shape} and the picture {(size[1], size[0])}; give one of its size."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("the mask has NaN or infinite pixels; give 0 and 1.")
    free = _above_the_middle(values)
    if not free.any():
        raise ValueError("the mask is empty, so nothing may change; paint where it may, or give None.")
    return free


def _image_values(image: Image.Image) -> np.ndarray:
    """(H, W) of an upright image: opacity times luminance, or opacity where all that is visible is black."""
    if image.mode in DEEP and "transparency" not in image.info:
        return np.asarray(image)
    colours, opacity = split(image)
    luminance = np.asarray(colours.convert("L") if colours.mode != "LAB" else colours.getchannel("L"))
    alpha = None if opacity is None else np.asarray(opacity)
    if alpha is None or (alpha.min() == alpha.max() > 0):  # one opacity everywhere tells nothing
        return luminance
    painted = luminance * (alpha / np.float32(255))
    return painted if painted.max() >= DARK else alpha


def _array_values(array: np.ndarray) -> np.ndarray:
    """(H, W) of an array; channels are taken as an image's."""
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or array.size == 0:
        return array
    if array.shape[2] == 1:
        return array[..., 0]
    if array.dtype.kind in "ui" and array.max() == 1:
        array = array > 0
    return _image_values(Image.fromarray(np.ascontiguousarray(as_bytes(array))))


def _above_the_middle(values: np.ndarray) -> np.ndarray:
    """(H, W) numbers or bools -> (H, W) bool, see `as_mask`."""
    if values.dtype == np.bool_ or values.size == 0:
        return values.astype(bool)
    low, high = float(values.min()), float(values.max())
    if high <= 0:
        return np.zeros(values.shape, bool)
    if ((values == 0) | (values == high)).all():
        return values > 0
    if low < 0 and not is_within(values, high, few=FEW):
        return values > 0
    if values.dtype.kind == "f" and is_within(values, 1, few=FEW):
        free = values > 0.5
        if free.any():
            return free
        raise ValueError(
            f"the mask's values, from {low:g} to {high:g}, are all below 0.5; give bools, such as x > {high / 2:.2g}."
        )
    if high < DARK and low != high:
        raise ValueError(
            f"the mask's values, from {low:g} to {high:g}, could be several labels or noise; give bools, such as "
            f"x > 0 or x == {high:g}."
        )
    return values > high / 2


# ------------------------------------------------------------------------------------ as tensors


def mask_tensor(mask: np.ndarray, size: tuple[int, int], *, through: tuple[int, int] | None = None) -> Tensor:
    """(H, W) bool -> (1, 1, height, width) float32 at (width, height): the share of each cell that may change.

    through: (width, height) to resize to first; both steps then take the nearest neighbour, as the
    released program does.
    """
    import torch

    m = torch.from_numpy(np.array(mask, np.float32))[None, None]
    if through is not None:
        m = torch.nn.functional.interpolate(m, (through[1], through[0]), mode="nearest")
        return torch.nn.functional.interpolate(m, (size[1], size[0]), mode="nearest")
    return torch.nn.functional.interpolate(m, (size[1], size[0]), mode="area")


# --------------------------------------------------------------------------------------- remarks


def mask_remarks(mask: np.ndarray | None, drags: Sequence[Drag]) -> list[str]:
    """One sentence for each thing about a mask, (H, W) bool, that is probably not meant; none if all is well.

    These are: a mask that frees the whole picture, and one that holds both ends of a drag.
    """
    if mask is None:
        return []
    if mask.all():
        return ["the mask frees the whole picture and holds nothing; paint less of it, or remove the mask."]
    return [
        f"the mask holds both ends of drag {i}, so it cannot move; paint over its anchor and its objective."
        for i, drag in enumerate(drags)
        if not (frees(mask, drag.anchor) or frees(mask, drag.objective))
    ]


def frees(mask: np.ndarray, point: tuple[float, float]) -> bool:
    """Does a mask, (H, W) bool, let the pixel at (x, y) change?"""
    column, row = (min(int(x + 0.5), length - 1) for x, length in zip(point, mask.shape[::-1], strict=True))
    return bool(mask[row, column])


# ---------------------------------------------------------------------------------------- morphology


def dilation(mask: np.ndarray, by: int) -> np.ndarray:
    """Dilation of a mask (H, W) bool by a square of 2 `by` + 1 pixels."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * by + 1))) > 0


def erosion(mask: np.ndarray, by: int) -> np.ndarray:
    """Erosion of a mask (H, W) bool by a square of 2 `by` + 1 pixels; the picture's border erodes nothing."""
    return ~dilation(~np.pad(mask, by, mode="edge"), by)[by : mask.shape[0] + by, by : mask.shape[1] + by]


def closing(mask: np.ndarray, by: int) -> np.ndarray:
    """Morphological closing of a mask (H, W) bool: holes and gaps up to twice `by` pixels wide are filled."""
    wide = ~dilation(~dilation(np.pad(mask, by), by), by)
    return wide[by : mask.shape[0] + by, by : mask.shape[1] + by]


def depth(mask: np.ndarray) -> np.ndarray:
    """City-block distance in pixels of each pixel of a mask (H, W) to the nearest one outside it, 0 there: (H, W)."""
    distance = np.where(mask, float(sum(mask.shape)), 0.0)
    for each in (distance.T, distance):  # down and up each column, then along each row: the distance is separable
        sweep(each, np.ones((each.shape[0], each.shape[1] - 1)))
    return distance


def sweep(distance: np.ndarray, cost: np.ndarray) -> None:
    """Cheapest paths along each row, to the right and to the left, in place.  distance: (h, w), cost: (h, w - 1)."""
    along = np.concatenate([np.zeros((len(cost), 1)), cost.cumsum(1)], 1)
    for turn, sign in ((np.s_[:, ::1], 1), (np.s_[:, ::-1], -1)):
        distance[turn] = np.minimum.accumulate((distance - sign * along)[turn], axis=1) + (sign * along)[turn]


def joined(size: tuple[int, int], starts: np.ndarray, ends: np.ndarray, radius: float) -> np.ndarray:
    """Pixels within a radius of the drags and of all lines between two starts or two ends: (H, W) bool."""
    picture = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(picture)
    lines = [*zip(starts, ends, strict=True), *combinations(starts, 2), *combinations(ends, 2)]
    for one, other in lines:  # drawn, for many drags on a large picture have more distances than memory
        draw.line([*map(float, one), *map(float, other)], fill=255, width=max(round(2 * radius), 1))
    for x, y in map(tuple, (*starts, *ends)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(picture) > 0
