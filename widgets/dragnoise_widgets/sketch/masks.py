"""Masks of a canvas: compression for undo, a round brush, and reading and writing PNG."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from dragnoise.images.files import read_image
from dragnoise.images.masks import as_mask
from dragnoise.validation import shown
from dragnoise_widgets.png import png
from dragnoise_widgets.sketch.view import Point

LEAST_RADIUS = math.sqrt(0.5)
"""A brush of this radius covers at least one pixel's centre wherever it is put down."""


@dataclass(frozen=True)
class Mask:
    """A mask, compressed, so that every stroke can be kept for undo.

    size: (width, height).  packed: its bits, compressed.  Two are equal if and only if their pixels are.
    """

    size: tuple[int, int]
    packed: bytes

    @classmethod
    def of(cls, array: np.ndarray | None) -> Mask | None:
        """(H, W) bool -> its `Mask`; None for None and for an array without True."""
        if array is None or not array.any():
            return None
        return cls((array.shape[1], array.shape[0]), zlib.compress(np.packbits(array).tobytes(), 1))

    @property
    def array(self) -> np.ndarray:
        """(H, W) bool, read-only."""
        return _unpacked(self)


def alike(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Are they equal masks, or both None?"""
    return one is other if one is None or other is None else np.array_equal(one, other)


@lru_cache(maxsize=4)
def _unpacked(mask: Mask) -> np.ndarray:
    width, height = mask.size
    bits = np.frombuffer(zlib.decompress(mask.packed), np.uint8)
    array = np.unpackbits(bits, count=width * height).reshape(height, width).view(np.bool_)
    array.setflags(write=False)
    return array


def brushed(array: np.ndarray, points: Sequence[Point], size: float, value: bool) -> np.ndarray:
    """(H, W) bool with all pixels within size / 2 of the line through `points` set to `value`; a copy.

    points: (x, y) in image pixels, at least one.  size: the brush's diameter in image pixels; the
    pixel under the brush is always painted, however thin it is.
    """
    result = array.copy()
    radius = max(size / 2, LEAST_RADIUS)
    for start, end in zip(points, points[1:] or points, strict=False):
        _brush_segment(result, start, end, radius, value)
    return result


def _brush_segment(array: np.ndarray, start: Point, end: Point, radius: float, value: bool) -> None:
    left, right = sorted((start[0], end[0]))
    top, bottom = sorted((start[1], end[1]))
    x0, y0 = max(math.floor(left - radius), 0), max(math.floor(top - radius), 0)
    x1, y1 = math.ceil(right + radius) + 1, math.ceil(bottom + radius) + 1
    window = array[y0:y1, x0:x1]
    rows, columns = np.ogrid[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]]
    x, y = columns - start[0], rows - start[1]
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)  # of the segment, 0..1
    window[(x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius**2 + 1e-9] = value


def mask_png(array: np.ndarray) -> bytes:
    """(H, W) bool -> an 8-bit grey PNG, white where the picture may change."""
    return png(Image.fromarray(array.astype(np.uint8) * 255))


def read_mask(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """The bytes of an image file -> (H, W) bool as the engine's `as_mask` reads it; ValueError if it is not one."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"a mask is read from the bytes of a PNG, not from {shown(data)}.")
    image = read_image(bytes(data), what="mask")
    if image.size != size:
        raise ValueError(
            f"the mask is {image.width}x{image.height} and the picture {size[0]}x{size[1]}; give one of its size."
        )
    mask = as_mask(image, size)
    assert mask is not None
    return mask


def overlay_png(array: np.ndarray, colour: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    """(H, W) bool -> an RGBA PNG of at most `size` (width, height), `colour` inside with a full edge, clear outside."""
    shown = Image.fromarray(array)
    if shown.width > size[0]:
        shown = shown.resize(size, Image.Resampling.NEAREST)
    inside = np.asarray(shown)
    padded = np.pad(inside, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rgba = np.zeros((*inside.shape, 4), np.uint8)
    rgba[inside] = (*colour, 255)
    rgba[inside & core, 3] = 190
    return png(Image.fromarray(rgba))
