"""Points, frames and sampling; and that what is wrong is refused and changes nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, at, resized, smooth_picture
from PIL import Image
from properties import given, st

from dragnoise import Drag, DragConfig, DragSession, Model, geometry, semantics
from dragnoise.geometry import Frame

SIDE = st.integers(1, 9)
CONFIG = DragConfig(steps=4, edit_from=2, refine_from=1, max_iterations=2, lr=0.1)


def tensor(*xy: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(xy, dtype=torch.float64)


# ------------------------------------------------------------------------------------------- frames


@given(SIDE, SIDE, SIDE, SIDE, st.floats(-1, 10), st.floats(-1, 10))
def test_weights_are_resizing_then_bilinear_sampling(gw: int, gh: int, fw: int, fh: int, x: float, y: float) -> None:
    """On every grid, bigger or smaller than the feature, between pixels, on the border and clamped beyond it."""
    feature = torch.randn(2, fh, fw, generator=torch.Generator().manual_seed(gw * fh), dtype=torch.float64)
    feature.requires_grad_()
    ours = semantics.sample(feature, tensor((x, y)), (gw, gh)).T
    dense = at(resized(feature, (gw, gh)), x, y)
    torch.testing.assert_close(ours[:, 0], dense)
    torch.testing.assert_close(*(torch.autograd.grad(value.square().sum(), feature)[0] for value in (ours, dense)))


SIZE = st.tuples(st.integers(1, 900), st.integers(1, 900))


@given(SIZE, st.sampled_from(["longer", "shorter", "never"]), st.floats(0.1, 1), st.floats(0, 1), st.floats(0, 1))
def test_points_come_back_from_the_grid(size: tuple[int, int], resize: Any, scale: float, u: float, v: float) -> None:
    config = DragConfig(resize=resize, supervision_scale=scale)
    frame = Frame.of(size, config, native=512, multiple=8)
    points = tensor((u * size[0], v * size[1]), (-0.5, -0.5), (size[0] - 0.5, size[1] - 0.5))
    torch.testing.assert_close(frame.to_image(frame.to_grid(points)), points, rtol=1e-9, atol=1e-9)
    # the padded picture's edges are the grid's edges
    assert all(0 <= padded - working < 8 for padded, working in zip(frame.padded, frame.working, strict=True))
    assert frame.padded == frame.working or (resize == "never" and frame.working == frame.given)
    covered = [g * p / w for g, p, w in zip(frame.given, frame.padded, frame.working, strict=True)]
    corners = tensor((-0.5, -0.5), (covered[0] - 0.5, covered[1] - 0.5))
    edges = tensor((-0.5, -0.5), (frame.grid[0] - 0.5, frame.grid[1] - 0.5))
    torch.testing.assert_close(frame.to_grid(corners), edges)


@given(SIZE, st.floats(0, 0.999), st.floats(0, 0.999))
def test_released_points_snap_to_the_half_size_grid(size: tuple[int, int], u: float, v: float) -> None:
    frame = Frame.of(size, DragConfig.released(), native=512, multiple=8)
    half = (max(int(size[0] / 2), 1), max(int(size[1] / 2), 1))
    assert frame.working == size and frame.grid == half
    x, y = u * size[0], v * size[1]
    expected = [min(round(x / size[0] * half[0]), half[0] - 1), min(round(y / size[1] * half[1]), half[1] - 1)]
    assert frame.to_grid(tensor((x, y))).tolist() == [expected]
    back = tensor((expected[0] / half[0] * size[0], expected[1] / half[1] * size[1]))
    torch.testing.assert_close(frame.to_image(tensor(tuple(expected))), back)


@pytest.mark.parametrize(
    ("given_size", "resize", "working"),
    [
        ((512, 512), "longer", (512, 512)), ((1024, 700), "longer", (512, 352)), ((1024, 700), "shorter", (752, 512)),
        ((100, 300), "longer", (168, 512)), ((80, 96), "never", (80, 96)), ((1, 1), "longer", (512, 512)),
        ((4000, 1), "longer", (512, 64)), ((9000, 10), "shorter", (2048, 512)),
    ],
)  # fmt: skip
def test_working_sizes(given_size: tuple[int, int], resize: Any, working: tuple[int, int]) -> None:
    """A side at the model's native size, the other in proportion, both multiples of 8; slivers within bounds."""
    frame = Frame.of(given_size, DragConfig(resize=resize), native=512, multiple=8)
    assert frame.working == frame.padded == working
    assert frame.grid == (working[0] // 2, working[1] // 2)


def test_padding_makes_a_size_a_multiple_of_the_factor_and_moves_no_point() -> None:
    frame = Frame.of((75, 91), DragConfig(resize="never"), native=512, multiple=8)
    assert (frame.working, frame.padded, frame.grid) == ((75, 91), (80, 96), (40, 48))
    points = tensor((0, 0), (74, 90), (20.25, 33))
    torch.testing.assert_close(frame.to_grid(points), (points + 0.5) / 2 - 0.5)
    array = np.arange(91 * 75 * 2).reshape(91, 75, 2)
    padded = frame.pad(array)
    assert padded.shape == (96, 80, 2) and np.array_equal(padded[:91, :75], array)
    assert np.array_equal(padded[:91, 75:], np.repeat(array[:, -1:], 5, 1)) and (padded[91:] == padded[90]).all()
    assert frame.pad(array[..., 0]).shape == (96, 80)
    released = Frame.of((75, 91), DragConfig.released(), native=512, multiple=8)
    assert released.padded == (75, 91) and released.grid == (37, 45) and released.pad(array) is array


@pytest.mark.parametrize("size", [(60, 4000), (4000, 60), (1, 999), (3000, 2000)])
@pytest.mark.parametrize("side", [64, 101, 500, 777, None])
@pytest.mark.parametrize("multiple", [4, 8])
def test_every_resized_side_is_a_multiple_of_the_factor(size: Any, side: int | None, multiple: int) -> None:
    for resize in ("longer", "shorter"):
        frame = Frame.of(size, DragConfig(resize=resize, side=side), native=512, multiple=multiple)  # type: ignore[arg-type]
        assert all(length % multiple == 0 and length >= 8 * multiple for length in frame.working), frame
        assert max(frame.working) <= 4 * (side or 512)


# ----------------------------------------------------------------------------------- grid steps


@pytest.mark.parametrize(
    ("size", "changes", "expected"),
    [
        ((64, 64), {}, 0.25), ((640, 320), {"resize": "never", "supervision_scale": 1.0}, 1.0),
        ((4000, 3000), {}, 15.625), ((75, 91), {"resize": "never"}, 2.0), ((1024, 700), {}, 4.0),
    ],
)  # fmt: skip
def test_a_grid_step_in_the_picture(size: tuple[int, int], changes: Any, expected: float) -> None:
    frame = Frame.of(size, DragConfig(**changes), native=512, multiple=8)
    assert frame.grid_step == pytest.approx(expected)
    x, y = (frame.to_image(tensor((0, 0), (1, 1)))).diff(dim=0)[0].tolist()
    assert frame.grid_step == pytest.approx(max(x, y))


@given(SIZE, st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_arrival_does_not_depend_on_where_it_is_measured(
    size: tuple[int, int], dx: int, dy: int, released: bool
) -> None:
    """In grid pixels, as the engine does, or from image pixels, as plots and widgets do."""
    config = DragConfig.released() if released else DragConfig(tolerance=2)
    frame = Frame.of(size, config, native=512, multiple=8)
    here = tensor((min(4, frame.grid[0] - 1), min(3, frame.grid[1] - 1)))
    there = torch.minimum(here + tensor((dx, dy)), tensor(frame.grid) - 1)
    gaps = (there - here).norm(dim=-1)
    measured = frame.gaps(frame.to_image(here), frame.to_image(there))
    np.testing.assert_allclose(measured, gaps, atol=1e-9)
    expected = bool(gaps < 2) if released else bool(gaps <= 2)
    assert bool(geometry.arrived(gaps, config)) == bool(geometry.arrived(measured, config)) == expected


def test_a_drag_shorter_than_a_grid_step_is_told_with_what_helps() -> None:
    drags = [Drag((100, 100), (900, 100)), Drag((2000, 1500), (2010, 1500))]
    config = DragConfig()
    frame = Frame.of((4000, 3000), config, native=512, multiple=8)
    (told,) = geometry.short_drags(drags, frame, config)
    for part in ("drag 1 is 10 px", "a grid step of 15.6 px", "4000x3000 seen as 512x384", "raise side to 896",
                 "supervision_scale to 0.83"):  # fmt: skip
        assert part in told, told
    for better in (config.replace(side=896), config.replace(supervision_scale=0.83), config.replace(tolerance=0.5)):
        assert geometry.short_drags(drags, Frame.of((4000, 3000), better, native=512, multiple=8), better) == []
    assert geometry.short_drags([], frame, config) == []


@given(SIZE, st.floats(0.05, 30), st.sampled_from(["longer", "shorter", "never"]), st.booleans())
def test_what_is_told_of_short_drags_is_one_sentence(
    size: tuple[int, int], length: float, resize: Any, released: bool
) -> None:
    config = DragConfig.released(resize=resize) if released else DragConfig(resize=resize)
    frame = Frame.of(size, config, native=512, multiple=8)
    drags = [Drag((0.0, 0.0), (length, 0.0))]
    for told in geometry.short_drags(drags, frame, config):
        assert_one_sentence(ValueError(told), "drag 0", "grid step")
    assert bool(geometry.short_drags(drags, frame, config)) == bool(
        geometry.arrived(frame.gaps([(0, 0)], [(length, 0)]), config)
    )


def test_drag_tensors_are_in_grid_pixels() -> None:
    frame = Frame((100, 50), (200, 100), (100, 50))
    anchors, objectives = geometry.drag_tensors([Drag((3, 4), (5.5, 6)), Drag((0, 0), (99, 49))], frame)
    torch.testing.assert_close(anchors, tensor((3, 4), (0, 0)))
    torch.testing.assert_close(objectives, tensor((5.5, 6), (99, 49)))
    assert geometry.drag_tensors([], frame)[0].shape == (0, 2)


def test_what_is_near_a_drag() -> None:
    """By the distance of each pixel to the line's points, taken densely."""
    starts, ends = tensor((2, 3), (20.5, 1.25), (15, 14)), tensor((9.5, 11), (20.5, 16), (15, 14))
    size, reach = (27, 18), 3.3
    near = geometry.around(starts, ends, reach, size)
    assert near.shape == (18, 27) and near.dtype == bool
    shares = np.linspace(0, 1, 20_001)[:, None]
    lines = [start + shares * (end - start) for start, end in zip(starts.numpy(), ends.numpy(), strict=True)]
    for y, x in np.ndindex(near.shape):
        nearest = min(np.hypot(*(line - (x, y)).T).min() for line in lines)
        assert near[y, x] == (nearest <= reach), (x, y, nearest)
    assert near.any() and not near.all()
    assert not geometry.around(starts[:0], ends[:0], reach, size).any()


# ------------------------------------------------------------------------------ drags, good and bad


def test_drags_may_be_written_in_many_ways() -> None:
    expected = (Drag((1.0, 2.0), (3.5, 4.0)),)
    for drags in (
        [Drag((1, 2), (3.5, 4))], (((1, 2), (3.5, 4)),), [[[1, 2], [3.5, 4]]], np.array([[[1, 2], [3.5, 4]]]),
        iter([((np.float32(1), np.int64(2)), (3.5, 4))]),
    ):  # fmt: skip
        checked = geometry.as_drags(drags, (10, 8))
        assert checked == expected
        assert all(type(number) is float for number in (*checked[0].anchor, *checked[0].objective))
    assert geometry.as_drags([], (10, 8)) == ()
    assert geometry.as_drags([((0, 0), (9.99, 7.99))], (10, 8))


GOOD = ((10.0, 10.0), (40.0, 30.0))
BAD_DRAGS: list[tuple[Any, str, str]] = [
    ([GOOD, ((50, 5), (1, 1))], "anchor of drag 1", "(50.0, 5.0)"),  # the picture is 50 wide
    ([((-0.1, 5), (1, 1))], "anchor of drag 0", "(-0.1, 5.0)"),
    ([((1, 1), (5, 40))], "objective of drag 0", "(5.0, 40.0)"),
    ([((1, 1), (5, -1))], "objective of drag 0", "(5.0, -1.0)"),
    ([GOOD, ((7, 8), (7, 8))], "drag 1", "(7.0, 8.0)"),
    ([((math.nan, 1), (5, 4))], "anchor of drag 0", "(nan, 1.0)"),
    ([((1, 1), (5, math.inf))], "objective of drag 0", "(5.0, inf)"),
    ([((1, 1), (5, -math.inf))], "objective of drag 0", "(5.0, -inf)"),
    ([(("1", "2"), (5, 4))], "anchor of drag 0", "('1', '2')"),
    ([((1, 2), "ab")], "objective of drag 0", "'ab'"),
    ([((1, 2), (True, 3))], "objective of drag 0", "(True, 3)"),
    ([((1, 2), (1j, 3))], "objective of drag 0", "(1j, 3)"),
    ([((1, 2, 3), (5, 4))], "anchor of drag 0", "(1, 2, 3)"),
    ([((1, 2), None)], "objective of drag 0", "None"),
    ([GOOD, (1, 2)], "anchor of drag 1", "1"),
    ([GOOD, ((1, 2),)], "drag 1", "((1, 2),)"),
    ([7], "drag 0", "7"),
    ("points", "drags", "'points'"),
    (5, "drags", "5"),
    (None, "drags", "None"),
    (Drag((1, 2), (3, 4)), "drags", "Drag(anchor=(1, 2)"),
]
EMPTY, FULL = np.zeros((40, 50), bool), np.ones((40, 50), bool)
BAD_MASKS: list[tuple[Any, str, str]] = [
    (EMPTY, "empty", "None"),
    (EMPTY.astype(np.uint8), "empty", "None"),
    (FULL.T, "(50, 40)", "(40, 50)"),
    (FULL[:39], "(39, 50)", "(40, 50)"),
    (Image.new("L", (40, 50), 255), "(50, 40)", "(40, 50)"),
    (np.zeros((0, 0), bool), "(0, 0)", "(40, 50)"),
    (np.ones((40, 50, 5), np.uint8), "(40, 50, 5)", "(40, 50)"),
    (np.ones((3, 40, 50), np.uint8), "(3, 40, 50)", "(40, 50)"),
    (torch.ones(1, 40, 50), "mask", "x[0].cpu().numpy()"),
    (np.full((40, 50), np.nan), "mask", "NaN"),
    (np.full((40, 50), "x"), "mask", "<U1"),
    ([[1, 0]], "mask", "list"),
    (1, "mask", "int"),
    ("nowhere.png", "mask", "'nowhere.png'"),
]
WRONG = [("drags", *case) for case in BAD_DRAGS] + [("mask", *case) for case in BAD_MASKS]
WRONG += [("config", {"lr": 1}, "config", "{'lr': 1}"), ("config", None, "config", "None")]


@pytest.fixture(scope="module")
def session(small: Model) -> DragSession:
    """A session with a history, of a picture 50 wide and 40 high."""
    session = DragSession(small, smooth_picture(50, 40), "a fox", CONFIG)
    session.drags, session.mask = [GOOD], FULL
    session.step()
    return session


@pytest.mark.parametrize(("name", "value", "what", "offending"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_and_changes_nothing(
    session: DragSession, name: str, value: Any, what: str, offending: str
) -> None:
    def state() -> tuple[Any, ...]:
        return (
            session.drags, session.mask.tolist(), session.config, session.state.inverted, list(session.history),
            session.bottleneck.tolist(), session.anchors.tolist(), session.status,
        )  # fmt: skip

    before = state()
    with pytest.raises((ValueError, TypeError)) as caught:
        setattr(session, name, value)
    assert_one_sentence(caught.value, what, offending)
    assert state() == before


def test_other_things_a_session_refuses(small: Model) -> None:
    with pytest.raises(TypeError) as caught:
        DragSession(small, smooth_picture(9, 9), prompt=7)  # type: ignore[arg-type]
    assert_one_sentence(caught.value, "prompt", "7")
    with pytest.raises(TypeError) as caught:
        DragSession("toyland", smooth_picture(9, 9))  # type: ignore[arg-type]
    assert_one_sentence(caught.value, "load_model()", "str")
    session = DragSession(small, smooth_picture(9, 9), config=CONFIG)
    for go in (session.step, session.run, lambda: next(session.optimize())):
        with pytest.raises(ValueError) as caught:
            go()
        assert_one_sentence(caught.value, "session.drags")
    assert not session.state.inverted
