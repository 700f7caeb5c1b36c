"""Area: a region of a picture that is to be moved, where it should be, and the affine map between the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter


@dataclass(frozen=True, eq=False)
class Area:
    """source, target: (H, W) bool.  map: (2, 3), takes (x, y, 1) of a source pixel to (x, y) of its target."""

    source: np.ndarray
    target: np.ndarray
    map: np.ndarray


def moved(picture: Image.Image, matrix: np.ndarray) -> Image.Image:
    """The picture under an affine map (2, 3) of its pixels, in the same size; bilinear, black outside its source."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    back[:2, 2] += back[:2, :2] @ (-0.5, -0.5) + 0.5  # pillow counts from corners, the map from pixels' centres
    return picture.transform(picture.size, Image.Transform.AFFINE, tuple(back[:2].ravel()), Image.Resampling.BILINEAR)


def area_of_pairs(starts: Sequence[Any], ends: Sequence[Any], size: tuple[int, int]) -> Area:
    """The area of dense pairs of points (n, 2), as DragBench-DR and -SR list them; the map is their least-squares fit.

    With fewer than three pairs, or pairs on a line, the map is the mean translation.  size: (width, height).
    """
    a, b = np.asarray(starts, float).reshape(-1, 2), np.asarray(ends, float).reshape(-1, 2)
    ones = np.c_[a, np.ones(len(a))]
    if np.linalg.matrix_rank(ones) == 3:
        matrix = np.linalg.lstsq(ones, b, rcond=None)[0].T
    if np.linalg.matrix_rank(ones) < 3 or abs(np.linalg.det(matrix[:, :2])) < 1e-3:
        matrix = np.c_[np.eye(2), (b - a).mean(0)]
    return Area(_filled(a, size), _filled(b, size), matrix)


def area_of_operation(source: np.ndarray, operation: Mapping[str, Any]) -> Area:
    """The area of a region's mask (H, W) and ReD Bench's operation on it.

    centroids: [start, end].  task "rotation" with anchors: the turn about that point which brings the start's direction
    to the end's; any other: the translation from start to end.
    """
    start, end = (np.asarray(point, float) for point in operation["centroids"])
    matrix = np.c_[np.eye(2), end - start]
    if operation.get("task") == "rotation" and operation.get("anchors") is not None:
        middle = np.asarray(operation["anchors"], float)
        angle = math.atan2(*(end - middle)[::-1]) - math.atan2(*(start - middle)[::-1])
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = np.c_[turn, middle - turn @ middle]
    target = np.asarray(moved(Image.fromarray(source.astype(np.uint8) * np.uint8(255)), matrix)) > 127
    return Area(source, target, matrix)


def _filled(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels of the points within the picture, with holes of up to two pixels closed."""
    mask = np.zeros(size[::-1], np.uint8)
    x, y = (points + 0.5).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < size[0]) & (y < size[1])
    mask[y[inside], x[inside]] = 255
    closed = Image.fromarray(mask).filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.MinFilter(3))
    return np.asarray(closed) > 127
