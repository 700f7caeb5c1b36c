"""The elastic warp: its field against the equations written out, its ends, its borders, and what it leaves alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence, smooth_picture

from dragnoise import Drag
from dragnoise.images import warp
from dragnoise.images.warp import Warp

MASK = np.zeros((60, 80), bool)
MASK[10:50, 8:70] = True


def traced_by_hand(p: tuple[float, float], drags: list[Any], free: Any, size: tuple[int, int]) -> tuple[float, float]:
    """A point of the warped picture traced back, in scalars: `free` gives e at a point."""
    x, y = p
    longest = max(math.dist(a, b) for a, b in drags)
    steps = max(math.ceil(longest / (max(size) / 64)), 1)
    for step in range(steps, 0, -1):
        weights, moves = [], []
        for (ax, ay), (bx, by) in drags:
            cx, cy = ax + (bx - ax) * step / steps, ay + (by - ay) * step / steps
            r, e = max(math.hypot(x - cx, y - cy) - 0.02 * max(size), 0), free(x, y)
            share = e / (e + r) if e > 0 else 0.0
            weights.append(1 / (r + 1e-4))
            moves.append((share * (bx - ax) / steps, share * (by - ay) / steps))
        total = sum(weights)
        x -= sum(w * m[0] for w, m in zip(weights, moves, strict=True)) / total
        y -= sum(w * m[1] for w, m in zip(weights, moves, strict=True)) / total
        x, y = min(max(x, 0), size[0] - 1), min(max(y, 0), size[1] - 1)
    return x, y


def test_points_are_traced_back_as_the_equations_say() -> None:
    size, drags = (80, 60), [((20, 20), (45, 30)), ((60, 40), (50, 15))]

    def free(x: float, y: float) -> float:
        far = []
        for (ax, ay), (bx, by) in drags:
            t = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
            t = min(max(t, 0), 1)
            far.append(math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay)))
        return max(0.3 * 80 - min(far), 0)

    points = np.random.default_rng(0).uniform((0, 0), (79, 59), (40, 2))
    made = Warp(smooth_picture(*size), reach=0.3).traced(points, [Drag(*d) for d in drags])
    by_hand = [traced_by_hand((x, y), drags, free, size) for x, y in points.tolist()]
    np.testing.assert_allclose(made, by_hand, atol=1e-9)


def test_the_margin_of_a_mask_is_the_distance_to_the_nearest_held_pixel() -> None:
    rng = np.random.default_rng(1)
    mask = smooth_mask(rng)
    x, y = np.linspace(0, 79, 12), np.linspace(0, 59, 9)
    made = warp.margin(mask, x, y)
    held = np.argwhere(~mask)[:, ::-1]
    for i, b in enumerate(y):
        for j, a in enumerate(x):
            free = mask[round(b), round(a)]
            expected = np.sqrt(((held - (a, b)) ** 2).sum(1).min()) if free else 0
            assert made[i, j] == pytest.approx(expected)


def smooth_mask(rng: np.random.Generator) -> np.ndarray:
    grey = np.asarray(smooth_picture(80, 60, int(rng.integers(100))).convert("L"))
    mask: np.ndarray = grey > np.median(grey)
    return mask


@pytest.mark.parametrize("given", [{"mask": MASK}, {"reach": 0.3}, {}])
def test_what_was_at_the_anchors_is_at_the_objectives(given: dict[str, Any]) -> None:
    picture = np.full((60, 80, 3), 40, np.uint8)
    picture[19:22, 19:22], picture[39:42, 59:62] = (250, 20, 20), (20, 250, 20)
    made = Warp(picture, **given).preview([((20, 20), (40, 30)), ((60, 40), (55, 25))])
    assert np.abs(made[30, 40].astype(int) - (250, 20, 20)).max() < 40
    assert np.abs(made[25, 55].astype(int) - (20, 250, 20)).max() < 40
    drags = [Drag((20, 20), (40, 30)), Drag((60, 40), (55, 25))]
    ends = Warp(picture, **given).traced(np.array([d.objective for d in drags]), drags)
    np.testing.assert_allclose(ends, [d.anchor for d in drags], atol=0.05)


def test_outside_the_mask_and_beyond_the_reach_no_pixel_changes() -> None:
    picture = np.asarray(smooth_picture(80, 60))
    drags = [((20, 20), (40, 30))]
    made = Warp(picture, mask=MASK).preview(drags)
    assert np.array_equal(made[~MASK], picture[~MASK]) and not np.array_equal(made, picture)
    y, x = np.indices((60, 80))
    far = np.hypot(x - 30, y - 25) > 0.2 * 80 + 12 + 2  # half the drag is 11.2 px long, and a cell of the grid
    made = Warp(picture, reach=0.2).preview(drags)
    assert np.array_equal(made[far], picture[far]) and not np.array_equal(made, picture)


def test_a_long_drag_stretches_and_does_not_fold() -> None:
    field = Warp(smooth_picture(96, 96), reach=0.25).field([((20, 48), (76, 40))])
    y, x = np.indices((96, 96), float)
    from_x, from_y = x + field[..., 0], y + field[..., 1]
    (xy, xx), (yy, yx) = np.gradient(from_x), np.gradient(from_y)
    determinant = (xx * yy - xy * yx)[2:-2, 2:-2]
    assert determinant.min() > -0.05 and field[40, 76, 0] < -50


@pytest.mark.parametrize("size", [(64, 64), (50, 7), (1, 30), (3, 2)])
def test_drags_at_the_border_and_out_of_a_tiny_picture_are_safe(size: tuple[int, int]) -> None:
    picture = smooth_picture(*size)
    width, height = size
    corner = (width - 1, height - 1)
    for drags in ([((0, 0), corner)], [(corner, (0, 0))], [((0, 0), corner), ((0, height - 1), (0, 0))]):
        made = Warp(picture).preview(drags)
        assert made.shape == (height, width, 3) and made.dtype == np.uint8


def test_a_mask_that_frees_everything_and_no_drags() -> None:
    picture = np.asarray(smooth_picture(80, 60))
    drags = [((20, 20), (40, 30))]
    assert not np.array_equal(Warp(picture, mask=np.ones((60, 80), bool)).preview(drags), picture)
    assert np.array_equal(Warp(picture).preview([]), picture)


def test_the_picture_is_sampled_between_pixels() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 1], picture[1, 0], picture[1, 1] = 100, 200, 40
    x, y = np.array([[0.5, 0.25, -3.0]]), np.array([[0.0, 0.5, 9.0]])
    assert warp.sampled(picture, x, y)[0, :, 0].tolist() == [50, 93, 200]


def test_drags_outside_the_picture_are_refused() -> None:
    with pytest.raises(ValueError) as caught:
        Warp(smooth_picture(40, 30)).preview([((10, 10), (50, 10))])
    assert_one_sentence(caught.value, "drag 0", "50")
