"""Regions that are moved, from dense pairs of points and from ReD Bench's operations."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import smooth_picture
from PIL import Image

from dragnoise.bench.areas import area_of_operation, area_of_pairs, moved

SQUARE = np.zeros((30, 40), bool)
SQUARE[8:14, 10:18] = True


def test_a_picture_is_moved_by_whole_pixels_exactly() -> None:
    picture = smooth_picture(20, 14)
    there = np.asarray(moved(picture, np.array([[1, 0, 3], [0, 1, -2]])))
    np.testing.assert_array_equal(there[:-2, 3:], np.asarray(picture)[2:, :-3])
    assert not there[:, :2].any() and not there[-1].any()


def test_dense_pairs_give_regions_and_their_affine_map() -> None:
    y, x = np.nonzero(SQUARE)
    starts = np.c_[x, y]
    matrix = np.array([[1.5, 0, -3], [0.1, 1, 9]])
    area = area_of_pairs(starts, starts @ matrix[:, :2].T + matrix[:, 2], (40, 30))
    np.testing.assert_allclose(area.map, matrix, atol=1e-9)
    np.testing.assert_array_equal(area.source, SQUARE)
    assert area.target[20, 16] and not area.target[8:14].any()
    assert area.target[20:23, 13:22].all(), "a stretched region has no holes"


@pytest.mark.parametrize("starts", [[(5, 5)], [(5, 5), (6, 6), (7, 7)], [(5, 5)] * 4])
def test_pairs_on_a_line_are_only_moved(starts: list[tuple[int, int]]) -> None:
    area = area_of_pairs(starts, [(x + 4, y - 1) for x, y in starts], (40, 30))
    np.testing.assert_allclose(area.map, [[1, 0, 4], [0, 1, -1]])


def test_operations() -> None:
    shift = area_of_operation(SQUARE, {"task": "relocation", "centroids": [[13, 10], [20, 15]], "anchors": None})
    np.testing.assert_array_equal(np.argwhere(shift.target) - (5, 7), np.argwhere(SQUARE))
    turn = area_of_operation(SQUARE, {"task": "rotation", "centroids": [[18, 10], [14, 14]], "anchors": [14, 10]})
    np.testing.assert_allclose(turn.map @ (18, 10, 1), (14, 14), atol=1e-9)
    np.testing.assert_allclose(turn.map @ (14, 10, 1), (14, 10), atol=1e-9)
    assert turn.target.sum() == pytest.approx(SQUARE.sum(), rel=0.2)
    assert isinstance(Image.fromarray(turn.target), Image.Image)
