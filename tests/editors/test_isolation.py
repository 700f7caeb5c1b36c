"""Which things have a closed outline within a mask, and that they move alone."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dragnoise.editors.parts import isolation, motion
from dragnoise.editors.parts.isolation import isolated
from dragnoise.images.difference import psnr
from dragnoise.toyland import balloon_photo

SKY, COAT = (120, 160, 200), (200, 80, 40)


def drawn(*shapes: tuple[str, list[int], tuple[int, int, int]], side: int = 96) -> np.ndarray:
    picture = Image.new("RGB", (side, side), SKY)
    draw = ImageDraw.Draw(picture)
    for kind, box, colour in shapes:
        getattr(draw, kind)(box, fill=colour)
    return np.asarray(picture)


def differs(pixels: np.ndarray) -> np.ndarray:
    return np.abs(pixels.astype(int) - SKY).max(-1) > 20


def mask_of(left: int, top: int, right: int, bottom: int, side: int = 96) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[top:bottom, left:right] = True
    return mask


def dijkstra(picture: np.ndarray, seeds: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Cheapest paths with a queue, from the definition."""
    cost = np.full(seeds.shape, np.inf)
    cost[seeds] = 0
    queue = [(0.0, tuple(at)) for at in np.argwhere(seeds)]
    while queue:
        far, (y, x) = heapq.heappop(queue)
        if far > cost[y, x]:
            continue
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < len(cost) and 0 <= u < cost.shape[1] and inside[v, u]:
                step = far + abs(picture[y, x] - picture[v, u]).max() + isolation.FLAT
                if step < cost[v, u]:
                    cost[v, u] = step
                    heapq.heappush(queue, (step, (v, u)))
    return cost


def test_geodesic_distances_are_those_of_cheapest_paths() -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (17, 23, 3)).astype(float)
    inside = rng.random((17, 23)) > 0.25
    seeds = np.zeros_like(inside)
    seeds[4, 5] = seeds[12, 20] = inside[4, 5] = inside[12, 20] = True
    found = isolation.geodesic(*isolation.colour_steps(picture), seeds, inside)
    expected = dijkstra(picture, seeds, inside)
    reached = np.isfinite(expected)
    assert reached.sum() > 100
    np.testing.assert_allclose(found[reached], expected[reached])
    assert (found[~reached] >= isolation.BARRED).all()


def test_a_ball_has_a_closed_outline_and_a_limb_has_none() -> None:
    ball = drawn(("ellipse", [20, 20, 44, 44], COAT))
    mask = mask_of(12, 10, 90, 60)
    found = isolated(ball, differs(ball), mask, np.array([[32.0, 32.0]]))
    assert found is not None
    assert (found != differs(ball)).sum() < 80, "the ball, but for its outline"
    limb = drawn(("ellipse", [20, 20, 44, 44], COAT), ("rectangle", [28, 30, 36, 95], COAT))
    assert isolated(limb, differs(limb), mask, np.array([[32.0, 32.0]])) is None
    assert isolated(limb, differs(limb), mask_of(12, 10, 90, 95), np.array([[32.0, 32.0]])) is None
    assert isolated(ball, differs(ball), mask, np.array([[70.0, 50.0]])) is None, "there is nothing to hold"


@pytest.mark.parametrize("gap", [2, 20])
def test_a_part_that_all_but_touches_goes_with_the_thing(gap: int) -> None:
    top = 44 + gap
    pixels = drawn(("ellipse", [20, 20, 44, 44], COAT), ("rectangle", [28, top, 36, top + 7], (40, 20, 10)))
    found = isolated(pixels, differs(pixels), mask_of(8, 8, 92, 84), np.array([[32.0, 32.0]]))
    assert found is not None and found[32, 32]
    assert found[top + 4, 32] == (gap == 2)


def test_eyes_that_two_drags_hold_are_no_thing_and_one_eye_is() -> None:
    eyes = [("ellipse", [x - 3, 40, x + 3, 46], (10, 10, 10)) for x in (38, 58)]
    head = drawn(("ellipse", [24, 20, 72, 70], COAT), ("rectangle", [40, 60, 56, 95], COAT), *eyes)
    mask, points = mask_of(10, 8, 90, 76), np.array([[38.0, 43.0], [58.0, 43.0]])
    assert isolated(head, differs(head), mask, points) is None
    found = isolated(head, differs(head), mask, points[:1])
    assert found is not None and found[43, 38] and not found[43, 58]


def test_texture_is_no_part() -> None:
    squares = [[x, y, x + 5, y + 5] for x in range(0, 96, 10) for y in range(0, 96, 10)]
    checks = drawn(*(("rectangle", square, (10, 60, 10)) for square in squares))
    picture = Image.fromarray(checks)
    ImageDraw.Draw(picture).ellipse([30, 30, 54, 54], fill=COAT)
    pixels = np.asarray(picture)
    found = isolated(pixels, np.ones((96, 96), bool), mask_of(10, 10, 86, 86), np.array([[42.0, 42.0]]))
    assert found is not None and found[42, 42] and found.mean() < 0.15


@pytest.mark.parametrize("side", [96, 512])
@pytest.mark.parametrize("loose", [False, True])
def test_a_balloon_arrives_whole_and_the_sky_stays(side: int, loose: bool) -> None:
    given, answer = (np.asarray(balloon_photo(side, at)) for at in ((0.36, 0.34), (0.62, 0.30)))
    y, x = np.mgrid[:side, :side] / side
    if loose:
        mask = ((x - 0.49) / 0.38) ** 2 + ((y - 0.38) / 0.30) ** 2 < 1
    else:
        mask = (x > 0.22) & (x < 0.76) & (y > 0.16) & (y < 0.58)
    starts, ends = side * np.array([[0.36, 0.34]]), side * np.array([[0.62, 0.30]])
    picture, field = motion.moved(given, starts, ends, mask=mask)
    changed = np.abs(given.astype(int) - answer).max(-1) > 12
    assert psnr(picture, answer, changed) > 23 > 12 > psnr(given, answer, changed)
    assert not field[~mask].any() and np.array_equal(picture[~mask], given[~mask])
    far = mask & (y > 0.64)
    assert not field[far].any() and np.array_equal(picture[far], given[far]), "what else is in the mask stays"


def test_drags_that_turn_a_thing_turn_it() -> None:
    bar = drawn(("rectangle", [30, 44, 66, 52], COAT), ("rectangle", [60, 44, 66, 52], (20, 20, 90)))
    starts = np.array([[34.0, 48.0], [56.0, 48.0]])
    turned = np.array([[48.0, 34.0], [48.0, 56.0]])
    picture, _ = motion.moved(bar, starts, turned, mask=mask_of(14, 14, 82, 82))
    assert np.abs(picture[40, 48].astype(int) - COAT).max() < 20, "upright"
    assert np.abs(picture[63, 48].astype(int) - (20, 20, 90)).max() < 40
    assert np.abs(picture[48, 36].astype(int) - SKY).max() < 20, "and no longer where it was"
