"""Equations 1-4 against a dense computation: the whole map resized, sliced with loops, compared; in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from helpers import at, resized
from properties import given, st
from torch import Tensor

from dragnoise import semantics

SHAPES = [((13, 9), (7, 5)), ((9, 14), (9, 14)), ((6, 8), (11, 4)), ((5, 4), (1, 3))]  # grid, feature: (width, height)
Point = tuple[float, float]


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def points(*xy: Point) -> Tensor:
    return torch.tensor(xy, dtype=torch.float64).reshape(-1, 2)


def around(anchor: Point, radius: int, grid: tuple[int, int]) -> Iterator[Point]:
    """The window's points that lie on the grid, row by row."""
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            x, y = anchor[0] + dx, anchor[1] + dy
            if -0.5 <= x <= grid[0] - 0.5 and -0.5 <= y <= grid[1] - 0.5:
                yield x, y


def toward(anchor: Point, goal: Point) -> Point:
    length = math.dist(anchor, goal)
    return ((goal[0] - anchor[0]) / length, (goal[1] - anchor[1]) / length) if length else (0.0, 0.0)


def places(grid: tuple[int, int]) -> list[tuple[Point, Point]]:
    """Anchors in the middle, in every corner, on edges, between pixels; objectives in all directions."""
    w, h = grid[0] - 1, grid[1] - 1
    return [
        ((w // 2, h // 2), (0, 0)),
        ((0, 0), (w, h)),
        ((w, 0), (w, h)),
        ((0, h), (w, h)),
        ((w, h), (0, h - 1)),
        ((w, h // 2), (w - 1.5, 0)),
        ((1.25, 0.6), (3.5, 2.125)),
        ((w + 0.5, h + 0.25), (0, 0)),
        ((-0.4, -0.3), (-0.4, h)),
        ((w - 0.75, h - 0.3), (w, h)),  # so the moved patch leaves the grid
    ]


def dense_alignment(feature: Tensor, pairs: list[tuple[Point, Point]], r1: int, grid: tuple[int, int]) -> Tensor:
    dense = resized(feature, grid)
    total = feature.new_zeros(())
    for anchor, goal in pairs:
        vx, vy = toward(anchor, goal)
        for x, y in around(anchor, r1, grid):
            total = total + (at(dense, x, y).detach() - at(dense, x + vx, y + vy)).abs().sum()
    return total


# ------------------------------------------------------------------------------------ windows, samples


def test_a_window_is_a_square_row_by_row() -> None:
    assert semantics.window(1, like=points()).tolist() == [
        [-1, -1], [0, -1], [1, -1], [-1, 0], [0, 0], [1, 0], [-1, 1], [0, 1], [1, 1],
    ]  # fmt: skip
    assert semantics.window(0, like=points()).tolist() == [[0, 0]]
    assert semantics.window(3, like=points()).shape == (49, 2)


@pytest.mark.parametrize(("grid", "size"), SHAPES)
def test_samples_are_those_of_the_resized_map(grid: tuple[int, int], size: tuple[int, int]) -> None:
    feature = double(3, size[1], size[0])
    where = points(*(anchor for anchor, _ in places(grid))).reshape(2, 5, 2)
    dense = resized(feature, grid)
    expected = torch.stack([at(dense, x, y) for x, y in where.reshape(-1, 2).tolist()]).reshape(2, 5, 3)
    torch.testing.assert_close(semantics.sample(feature, where, grid), expected)


@pytest.mark.parametrize("at_point", [(-0.5, -0.5), (12.5, 8.5), (0, 8.5), (12.5, 0)])
def test_half_a_pixel_of_border_is_inside(at_point: Point) -> None:
    assert semantics.inside(points(at_point), (13, 9)).item()


@pytest.mark.parametrize("at_point", [(-0.51, 0), (0, -0.51), (12.51, 0), (0, 8.51), (9, 12), (math.nan, 0)])
def test_beyond_the_border_is_not(at_point: Point) -> None:
    assert not semantics.inside(points(at_point), (13, 9)).item()


@given(*(st.floats(-50, 50) for _ in range(4)))
def test_directions_have_length_one_and_point_there(ax: float, ay: float, bx: float, by: float) -> None:
    v = semantics.directions(points((ax, ay)), points((bx, by)))[0]
    length = math.dist((ax, ay), (bx, by))
    if length > 1e-6:
        assert math.isclose(float(v.norm()), 1, rel_tol=1e-9)
        torch.testing.assert_close(v * length, points((bx - ax, by - ay))[0])


def test_no_direction_on_the_objective() -> None:
    assert semantics.directions(points((3, 4), (1, 1)), points((3, 4), (1, 3))).tolist() == [[0, 0], [0, 1]]


# ------------------------------------------------------------------------------------------ Eq. 1


@pytest.mark.parametrize("r1", [0, 1, 2])
@pytest.mark.parametrize(("grid", "size"), SHAPES)
def test_alignment_and_its_gradient(grid: tuple[int, int], size: tuple[int, int], r1: int) -> None:
    feature = double(3, size[1], size[0]).requires_grad_()
    for pairs in [*([pair] for pair in places(grid)), places(grid)]:
        ours = semantics.alignment_loss(
            feature, points(*(a for a, _ in pairs)), points(*(b for _, b in pairs)), r1, grid
        )
        dense = dense_alignment(feature, pairs, r1, grid)
        torch.testing.assert_close(ours, dense)
        if size[0] > 1:  # one column: what moves sideways differs by rounding alone, and has no gradient to speak of
            assert dense.item() > 0
            torch.testing.assert_close(*(torch.autograd.grad(loss, feature)[0] for loss in (ours, dense)))


def test_alignment_has_no_gradient_through_the_patch_itself() -> None:
    """Anchor at (2, 2), dragged right by one pixel: only F at (3, 2) is pulled, towards F at (2, 2)."""
    feature = double(2, 5, 7).requires_grad_()
    semantics.alignment_loss(feature, points((2, 2)), points((6, 2)), 0, (7, 5)).backward()
    expected = torch.zeros(2, 5, 7, dtype=torch.float64)
    expected[:, 2, 3] = (feature[:, 2, 3] - feature[:, 2, 2]).detach().sign()
    torch.testing.assert_close(feature.grad, expected)


# ------------------------------------------------------------------------------------ Eqs. 2 and 3


def test_masking_holds_what_is_outside_the_mask() -> None:
    s, edited = double(1, 3, 4, 5, seed=1), double(1, 3, 4, 5, seed=2).requires_grad_()
    mask = torch.rand(1, 1, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = sum(
        abs(float(s[0, c, y, x] - edited.detach()[0, c, y, x])) * (1 - float(mask[0, 0, y, x]))
        for c in range(3) for y in range(4) for x in range(5)
    )  # fmt: skip
    loss = semantics.masking_loss(s, edited, mask)
    assert math.isclose(loss.item(), expected)
    loss.backward()
    torch.testing.assert_close(edited.grad, (edited - s).detach().sign() * (1 - mask).expand_as(s))
    assert semantics.masking_loss(s, edited, torch.ones_like(mask)).item() == 0
    assert semantics.masking_loss(s, s, mask).item() == 0


def test_the_objective_weighs_the_mask() -> None:
    assert semantics.objective(torch.tensor(3.0), torch.tensor(5.0), 0.1).item() == pytest.approx(3.5)


# ------------------------------------------------------------------------------------------ Eq. 4


@pytest.mark.parametrize("r2", [1, 3])
@pytest.mark.parametrize(("grid", "size"), SHAPES[:3])
def test_tracking_finds_the_nearest_feature_of_the_window(
    grid: tuple[int, int], size: tuple[int, int], r2: int
) -> None:
    before, after = double(4, size[1], size[0], seed=1), double(4, size[1], size[0], seed=2)
    anchors = [anchor for anchor, _ in places(grid)]
    initial = torch.stack([at(resized(before, grid), x, y) for x, y in anchors])
    dense = resized(after, grid)
    expected = [
        min(around(anchor, r2, grid), key=lambda p, f=f: float((at(dense, *p) - f).abs().sum()))
        for anchor, f in zip(anchors, initial, strict=True)
    ]
    assert expected != anchors
    torch.testing.assert_close(semantics.track(after, initial, points(*anchors), r2, grid), points(*expected))


@pytest.mark.parametrize("shift", [(3, 0), (-3, 3), (0, -2), (1, 1)])
def test_tracking_follows_a_map_that_moves(shift: tuple[int, int]) -> None:
    feature = double(3, 16, 20)
    moved = torch.roll(feature, (shift[1], shift[0]), (1, 2))
    found = semantics.track(moved, feature[:, 8, 9][None], points((9, 8)), 3, (20, 16))
    assert found.tolist() == [[9 + shift[0], 8 + shift[1]]]


def test_tracking_does_not_look_beyond_its_window_or_the_grid() -> None:
    feature = torch.ones(1, 9, 9, dtype=torch.float64)
    feature[0, 4, 8] = 0  # four to the right of (4, 4)
    wanted = torch.zeros(1, 1, dtype=torch.float64)
    assert semantics.track(feature, wanted, points((4, 4)), 3, (9, 9)).tolist() == [[1, 1]]  # a tie: the first
    assert semantics.track(feature, wanted, points((5, 4)), 3, (9, 9)).tolist() == [[8, 4]]
    flat = torch.zeros(1, 9, 9, dtype=torch.float64)  # everything off the grid would be as near
    assert semantics.track(flat, wanted, points((0, 8)), 3, (9, 9)).tolist() == [[0, 5]]


# --------------------------------------------------------------------------- the released program


def dense_released(feature: Tensor, pairs: list[tuple[Point, Point]], r1: int, grid: tuple[int, int]) -> Tensor:
    dense = resized(feature, grid)
    total = feature.new_zeros(())
    for anchor, goal in pairs:
        if math.dist(anchor, goal) < 2:
            continue
        vx, vy = toward(anchor, goal)
        patch = [(int(x), int(y)) for x, y in around(anchor, r1, grid)]
        here = torch.stack([dense[:, y, x].detach() for x, y in patch])
        there = torch.stack([at(dense, x + vx, y + vy) for x, y in patch])
        total = total + (2 * r1 + 1) ** 2 * (here - there).abs().mean()
    return total


@pytest.mark.parametrize("r1", [0, 1, 2])
@pytest.mark.parametrize(("grid", "size"), SHAPES[:2])
def test_released_alignment_and_its_gradient(grid: tuple[int, int], size: tuple[int, int], r1: int) -> None:
    w, h = grid[0] - 1, grid[1] - 1
    pairs = [((4, 4), (8, 7)), ((0, 0), (3, 5)), ((w, h), (0, 0)), ((2, h), (4, h)), ((3, 3), (4, 4)), ((5, 1), (5, 1))]
    feature = double(3, size[1], size[0]).requires_grad_()
    ours = semantics.released_alignment_loss(
        feature, points(*(a for a, _ in pairs)), points(*(b for _, b in pairs)), r1, grid, near=2.0
    )
    dense = dense_released(feature, pairs, r1, grid)
    torch.testing.assert_close(ours, dense)
    torch.testing.assert_close(*(torch.autograd.grad(loss, feature)[0] for loss in (ours, dense)))


def test_released_alignment_counts_a_point_exactly_two_pixels_away_and_none_nearer() -> None:
    feature = double(3, 6, 8).requires_grad_()

    def loss(goal: Point) -> Tensor:
        return semantics.released_alignment_loss(feature, points((3, 3)), points(goal), 1, (8, 6), near=2.0)

    assert loss((5, 3)).item() > 0
    near = loss((4, 4))
    assert near.item() == 0
    near.backward()
    assert feature.grad is not None and not feature.grad.any()


def test_released_masking_sums_what_moved_outside_the_mask() -> None:
    x0, x, mask = double(1, 2, 3, 4, seed=1), double(1, 2, 3, 4, seed=2), torch.zeros(1, 1, 3, 4).double()
    mask[..., 1:] = 1
    expected = sum(abs(float(x[0, c, y, 0] - x0[0, c, y, 0])) for c in range(2) for y in range(3))
    assert math.isclose(semantics.released_masking_loss(x0, x, mask).item(), expected)
