"""Breakpoints: each tells of what has just happened, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fake_session import snapshot
from helpers import assert_one_sentence, smooth_picture
from properties import given, st

from dragnoise import DragConfig, DragSession, Model
from dragnoise.session.history import History
from dragnoise_widgets.runner import breakpoints
from dragnoise_widgets.runner.breakpoints import Breakpoint


def fired(breakpoint_: Breakpoint, history: History) -> list[int]:
    """The iterations after which a run with this breakpoint would have paused."""
    return [k for k in range(len(history)) if breakpoint_(history.upto(k))]


def of_distances(*rows: Any) -> History:
    return History([snapshot(k, anchors=np.zeros((len(r), 2)), distances=r) for k, r in enumerate(rows)])


def of_anchors(*rows: Any, distances: Any = None) -> History:
    far = [[9.0] * len(r) for r in rows] if distances is None else distances
    return History([snapshot(k, anchors=r, distances=d) for k, (r, d) in enumerate(zip(rows, far, strict=True))])


def of_losses(*losses: float) -> History:
    return History([snapshot(k, loss=loss) for k, loss in enumerate([float("nan"), *losses])])


def test_an_arrival_is_told_at_once_by_the_session(session: DragSession) -> None:
    session.drags = [((30, 40), (44, 36))]
    session.step()
    within = float(breakpoints.to_go(session)[0]) + 0.1
    assert session.history[-1].distances[0] > within, "the update has brought it nearer"
    assert breakpoints.reached(within)(session.history) == ""
    assert breakpoints.reached(within, session=session)(session.history) == "anchor 0 has reached the objective"
    session.step()
    assert breakpoints.reached(within, session=session)(session.history) == "", "it was told"


@pytest.mark.parametrize("released", [False, True])
def test_arrival_is_the_engines_own(small: Model, released: bool) -> None:
    """On a picture that is resized more in x than in y, at a distance of just the tolerance."""
    config = DragConfig.released(resize="longer") if released else DragConfig(tolerance=2)
    session = DragSession(small, smooth_picture(1000, 777), config=config)
    frame = session.state.frame
    anchors = torch.tensor([[4.0, 4], [4, 4], [4, 4]]).double()
    objectives = anchors + torch.tensor([[2.0, 0], [0, 2], [0, 3]]).double()
    session.drags = list(zip(frame.to_image(anchors).tolist(), frame.to_image(objectives).tolist(), strict=True))
    here = frame.to_image(anchors).numpy()
    assert breakpoints.arrived(session, here).tolist() == [not released, not released, False]
    history = of_anchors(here, here, here, here)
    told = breakpoints.stuck(2, session=session)(history)
    assert told == ("anchors 0, 1, 2 have" if released else "anchor 2 has") + " not moved for 2 iterations"
    with pytest.raises(ValueError, match="reached"):
        breakpoints.reached()


def test_reached_tells_when_each_anchor_arrives_and_arrives_again() -> None:
    history = of_distances([9, 9], [3, 9], [2, 9], [1, 2], [3, 1], [2, 1])
    reached = breakpoints.reached(2)
    assert fired(reached, history) == [2, 3, 5]
    assert reached(history.upto(2)) == "anchor 0 has reached the objective"
    assert reached(history.upto(3)) == "anchor 1 has reached the objective"
    assert breakpoints.reached(3)(of_distances([9, 9], [3, 3])) == "anchors 0, 1 have reached the objective"


def test_jumped_is_further_than_the_limit() -> None:
    history = of_anchors([(0, 0), (5, 5)], [(3, 0), (5, 5)], [(3, 3.1), (5, 5)], [(0, 0), (9, 5)])
    jumped = breakpoints.jumped(3)
    assert fired(jumped, history) == [2, 3]
    assert jumped(history.upto(2)) == "anchor 0 jumped 3.1 px"
    assert jumped(history) == "anchor 0 jumped 4.3 px; anchor 1 jumped 4.0 px"


def test_stuck_counts_iterations_without_a_move_and_tells_again_after_as_many() -> None:
    # iteration 1 never moves an anchor, for its anchors are the initial ones
    xs = [0, 0, 1, 1, 1, 1, 1, 2, 2]
    history = of_anchors(*[[(x, 0)] for x in xs])
    assert fired(breakpoints.stuck(2), history) == [4, 6]
    assert fired(breakpoints.stuck(4), history) == [6]
    assert fired(breakpoints.stuck(1), history) == [3, 4, 5, 6, 8]
    assert breakpoints.stuck(2)(history.upto(4)) == "anchor 0 has not moved for 2 iterations"


def test_an_anchor_that_has_arrived_may_stand_still() -> None:
    rows = [[(0, 0), (7, 7)]] * 5
    history = of_anchors(*rows, distances=[[9, 1]] * 5)
    assert breakpoints.stuck(3)(history) == "anchors 0, 1 have not moved for 3 iterations"
    assert breakpoints.stuck(3, within=2)(history) == "anchor 0 has not moved for 3 iterations"


def test_stuck_names_the_number_of_those_it_names() -> None:
    history = of_anchors(*[[(0, 0), (x, 0)] for x in (0, 0, 1, 2, 2, 2)])
    assert breakpoints.stuck(2)(history) == "anchors 0, 1 have not moved for 4, 2 iterations"


def test_rising_wants_losses_that_rise_in_a_row() -> None:
    history = of_losses(5, 4, 5, 6, 6, 7, 8, 9, 10)
    assert fired(breakpoints.rising(2), history) == [4, 7, 9]
    assert fired(breakpoints.rising(3), history) == [8]
    assert fired(breakpoints.rising(9), history) == []
    assert breakpoints.rising(2)(history.upto(4)) == "the loss has risen 2 times in a row"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 4))
def test_rising_counts_as_a_plain_loop_does(losses: list[int], n: int) -> None:
    expected, rises = [], 0
    for k in range(1, len(losses)):
        rises = rises + 1 if losses[k] > losses[k - 1] else 0
        if rises and rises % n == 0:
            expected.append(k + 1)
    assert fired(breakpoints.rising(n), of_losses(*losses)) == expected


@given(st.lists(st.integers(0, 1), min_size=1, max_size=12), st.integers(1, 4))
def test_stuck_counts_as_a_plain_loop_does(steps: list[int], n: int) -> None:
    xs = [0, 0, *np.cumsum(steps)]
    expected, still = [], 0
    for k in range(2, len(xs)):
        still = still + 1 if xs[k] == xs[k - 1] else 0
        if still and still % n == 0:
            expected.append(k)
    assert fired(breakpoints.stuck(n), of_anchors(*[[(x, 0)] for x in xs])) == expected


def test_at_an_iteration() -> None:
    history = of_losses(3, 2, 1)
    assert fired(breakpoints.at(2), history) == [2]
    assert breakpoints.at(2)(history.upto(2)) == "iteration 2 is done"


def test_custom_predicates_see_the_newest_snapshot() -> None:
    def low(snap: Any) -> bool:
        return snap.loss < 2.5

    history = of_losses(3, 2, 1)
    assert fired(breakpoints.custom(low), history) == [2, 3]
    assert breakpoints.custom(low)(history) == "low was true"
    assert breakpoints.custom(lambda snap: f"loss {snap.loss:.0f}")(history) == "loss 1"
    assert breakpoints.custom(lambda snap: np.bool_(False))(history) == ""


ALL = [
    breakpoints.reached(1), breakpoints.jumped(1), breakpoints.stuck(1), breakpoints.rising(1), breakpoints.at(1),
    breakpoints.custom(lambda snap: True),
]  # fmt: skip


@pytest.mark.parametrize("breakpoint_", ALL, ids=lambda b: b.__name__)
def test_nothing_to_say_about_an_empty_history(breakpoint_: Breakpoint) -> None:
    assert breakpoint_(History()) == ""


@pytest.mark.parametrize(
    "make",
    [
        lambda: breakpoints.reached(0), lambda: breakpoints.reached(float("nan")), lambda: breakpoints.jumped(-1),
        lambda: breakpoints.jumped(True), lambda: breakpoints.stuck(0), lambda: breakpoints.stuck(1.5),
        lambda: breakpoints.rising(0), lambda: breakpoints.at(0), lambda: breakpoints.at("3"),
    ],
)  # fmt: skip
def test_a_wrong_number_gets_a_sentence(make: Callable[[], Breakpoint]) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert_one_sentence(error.value)


def test_a_breakpoint_must_be_callable() -> None:
    with pytest.raises(TypeError) as error:
        breakpoints.custom(3)  # type: ignore[arg-type]
    assert_one_sentence(error.value, "3")


@pytest.mark.parametrize(
    ("size", "changes", "expected"),
    [
        ((64, 64), {"resize": "never"}, 2.0),
        ((64, 64), {"resize": "never", "supervision_scale": 0.25}, 4.0),
        ((640, 320), {"resize": "never", "supervision_scale": 1.0}, 1.0),
        ((640, 320), {"resize": "longer"}, 20.0),
    ],
)
def test_a_supervision_pixel_in_image_pixels(small: Model, size: Any, changes: Any, expected: float) -> None:
    assert small.native == 64
    session = DragSession(small, smooth_picture(*size), config=DragConfig(**changes))
    assert breakpoints.supervision_pixel(session) == pytest.approx(expected)
