"""Histories that let go of what weighs, come back to the bit, and branch."""

from __future__ import annotations

import gc
import itertools
import math
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, assert_same_snapshots, quick_session, smooth_picture

from dragnoise import DragSession, Model
from dragnoise.plots.branches import fork, plot_before_after, plot_branches
from dragnoise.session.history import History, ThinnedError


@pytest.fixture(scope="module")
def whole(small: Model) -> DragSession:
    """A session of nine iterations that has kept everything, some of them made with other numbers and another mask."""
    return wander(quick_session(small, history_limit=math.inf))


def wander(session: DragSession) -> DragSession:
    take(session, 3)
    session.config = session.config.replace(lr=0.05, r2=2)
    take(session, 2)
    session.mask = None
    take(session, 2)
    session.config = session.config.replace(supervision_block=1, mask_weight=0.5)
    session.mask = np.eye(40, 50) > 0
    take(session, 2)
    return session


def take(session: DragSession, count: int) -> None:
    for _ in range(count):
        session.step()


def kept(session: DragSession) -> list[int]:
    return [s.iteration for s in session.history if s.is_whole]


# ---- thinning


def test_size_is_what_the_tensors_take(whole: DragSession) -> None:
    one = whole.history[1].bottleneck.numel() * 4
    assert whole.history[0].nbytes == one and whole.history[1].nbytes == 3 * one
    assert whole.history.nbytes == one + 9 * 3 * one


@pytest.mark.parametrize(
    ("iterations", "wanted"),
    [
        (9, range(10)),
        (5, [0, 2, 4, 6, 8, 9]),
        (4.9, [0, 4, 8, 9]),
        (2, [0, 8, 9]),
        (1.5, [0, 9]),
        (0.01, [0, 9]),
    ],
)
def test_every_second_fourth_eighth_stays(whole: DragSession, iterations: float, wanted: Any) -> None:
    each = whole.history[1].nbytes
    limit = iterations * each + whole.history[0].nbytes
    thinned = whole.history.within(limit)
    assert [s.iteration for s in thinned if s.is_whole] == list(wanted)
    assert thinned.nbytes <= limit or list(wanted) == [0, 9]
    assert_same_snapshots(thinned, whole.history)  # all that is light is still there
    assert all(s.is_whole for s in whole.history)  # and a history never changes


def test_a_session_stays_within_its_limit(small: Model, whole: DragSession) -> None:
    each = whole.history[1].nbytes
    session = quick_session(small, history_limit=5 * each)
    for _ in range(9):
        session.step()
        assert session.history.nbytes <= 5 * each
        assert session.history[0].is_whole and session.history[-1].is_whole
    session.history_limit = 2.5 * each
    assert session.history.nbytes <= 2.5 * each


def test_the_default_limit_is_a_gibibyte(small: Model) -> None:
    assert quick_session(small).history_limit == 2**30


def test_what_was_let_go_says_so(small: Model) -> None:
    session = quick_session(small, 4, history_limit=1)
    thin = session.history[2]
    assert not thin.is_whole and thin.nbytes == 0 and "iteration" not in repr(thin) and "loss" in repr(thin)
    for name in ("bottleneck", "variable"):
        with pytest.raises(ThinnedError) as caught:
            getattr(thin, name)
        assert_one_sentence(caught.value, name, "iteration 2", "session.snapshot(2)")
    with pytest.raises(AttributeError, match="nonsense"):
        thin.nonsense  # noqa: B018
    assert thin.loss > 0 and thin.anchors.shape == (2, 2)


@pytest.mark.parametrize("limit", [1, 30_000, math.inf])
def test_every_iteration_comes_back_to_the_bit(small: Model, whole: DragSession, limit: float) -> None:
    session = wander(quick_session(small, history_limit=limit))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = [session.snapshot(k) for k in range(10)]
    assert all(s.is_whole for s in again)
    assert_same_snapshots(again, whole.history)


@pytest.mark.parametrize("k", [1, 4, 6, 8])
def test_rewinding_into_a_gap_and_on(small: Model, k: int) -> None:
    plain = wander(quick_session(small))
    session = wander(quick_session(small, history_limit=1))
    for travelled in (session.branch(k), session):
        travelled.rewind(k)
        assert len(travelled.history) == k + 1 and travelled.history[-1].is_whole
    plain.rewind(k)
    other = session.branch(k)
    for one in (plain, session, other):
        take(one, 2)
    assert_same_snapshots(session.history, plain.history)
    assert_same_snapshots(other.history, plain.history)
    np.testing.assert_array_equal(np.asarray(session.render()), np.asarray(plain.render()))


def test_a_replay_that_differs_is_told(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    session = quick_session(small, 4, history_limit=1)
    weights = small.pipeline.unet.up_blocks[0].resnets[0].conv1.weight
    kept = weights.clone()
    try:
        with torch.no_grad():
            weights.mul_(1.5)
        with pytest.warns(RuntimeWarning, match="differently"):
            session.snapshot(2)
    finally:
        with torch.no_grad():
            weights.copy_(kept)


@pytest.mark.parametrize("limit", [0, -1, math.nan, "1 GiB", None, True])
def test_a_limit_that_is_none_changes_nothing(small: Model, limit: Any) -> None:
    session = quick_session(small, 2)
    with pytest.raises((TypeError, ValueError)) as caught:
        session.history_limit = limit
    assert_one_sentence(caught.value, "history_limit", repr(limit))
    assert session.history_limit == 2**30 and session.history[1].is_whole
    with pytest.raises((TypeError, ValueError)):
        quick_session(small, history_limit=limit)


# ---- trees


def test_branches_know_each_other(small: Model) -> None:
    session = quick_session(small, 3)
    assert (session.name, session.state.origin, session.parent, session.children) == ("main", None, None, ())
    first, second = session.branch(1), session.branch(2, name="bolder")
    third = first.branch()
    assert [s.name for s in (first, second, third)] == ["main.1", "bolder", "main.1.1"]
    assert [s.state.origin for s in (first, second, third)] == [("main", 1), ("main", 2), ("main.1", 1)]
    assert first.parent is session and third.parent is first
    assert session.children == (first, second) and first.children == (third,)
    first.name = "calmer"
    assert first.name == "calmer" and session.branch(0).name == "main.1"


def test_no_branch_keeps_another_in_memory(small: Model) -> None:
    gc.collect()
    gc.disable()  # reference counting alone has to do it
    try:
        session = quick_session(small, 1)
        child = session.branch()
        gone, grandchild = weakref.ref(session), weakref.ref(child.branch())
        assert grandchild() is None and child.children == ()
        del session
        assert gone() is None
        assert child.parent is None and child.origin == ("main", 1)
        assert child.step().iteration == 2
    finally:
        gc.enable()


def test_branches_share_what_they_have_in_common(small: Model) -> None:
    session = quick_session(small, 3)
    other = session.branch(2)
    for mine, its in zip(session.history, other.history, strict=False):
        assert mine is its
    assert all(x is y for x, y in zip(session.state.trajectory, other.state.trajectory, strict=True))


@pytest.mark.parametrize("name", [3, None, "", "  ", b"x"])
def test_a_name_is_text(small: Model, name: Any) -> None:
    session = quick_session(small)
    with pytest.raises((TypeError, ValueError)) as caught:
        session.name = name
    assert_one_sentence(caught.value, "name", repr(name))
    assert session.name == "main"


# ---- comparing


def test_fork_is_the_last_common_iteration(small: Model, tmp_path: Path) -> None:
    session = quick_session(small, 4)
    other = session.branch(2)
    assert fork(session, other) == 2
    other.step()
    assert fork(session, other) == 3  # the same bits again
    other.rewind(2)
    other.config = other.config.replace(lr=0.3)
    take(other, 2)
    assert fork(session, other) == 3  # a loss is of before its update, so the difference shows one later
    other.save(tmp_path / "other.drag")
    assert fork(session, DragSession.open(tmp_path / "other.drag")) == 3
    assert fork(session, quick_session(small)) is None


def test_branches_in_one_plot(small: Model) -> None:
    session = quick_session(small, 4)
    other = session.branch(2)
    other.config = other.config.replace(lr=0.3)
    take(other, 3)
    loss, distance = plot_branches(session, other)
    for axes, value in ((loss, lambda s: s.loss), (distance, lambda s: s.distances.mean())):
        lines = {line.get_label(): line.get_xydata() for line in axes.lines}
        assert list(lines)[:2] == ["main", "main.1"]
        for one in (session, other):
            drawn = lines[one.name]
            first = 1 if axes is loss else 0
            np.testing.assert_allclose(drawn[:, 0], range(first, len(one.history)))
            np.testing.assert_allclose(drawn[:, 1], [value(s) for s in list(one.history)[first:]])
    assert loss.figure._repr_png_().startswith(b"\x89PNG")


def test_before_and_after_in_one_view(small: Model) -> None:
    session = quick_session(small, 1)
    other = session.branch(0)
    panels = plot_before_after(session, other)
    assert [p.get_title() for p in panels] == ["given", "main, iteration 1", "main.1, iteration 0"]
    wanted = [session.image, session.render(), other.render()]
    for panel, picture in zip(panels, wanted, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), np.asarray(picture))


def test_what_cannot_be_compared(small: Model) -> None:
    session = quick_session(small, 1)
    with pytest.raises(ValueError, match="at least"):
        plot_branches()
    with pytest.raises(TypeError, match="'main'"):
        plot_branches(session, "main")
    with pytest.raises(ValueError, match=r"session\.step\(\)"):
        plot_branches(quick_session(small))
    other = DragSession(small, smooth_picture(20, 20))
    with pytest.raises(ValueError, match="picture"):
        plot_before_after(session, other)


def test_histories_refuse_gaps(whole: DragSession) -> None:
    history = whole.history
    with pytest.raises(ValueError, match="cannot follow"):
        History(history[:3]).then(history[5])
    for k, error in ((10, IndexError), (-1, IndexError), ("1", TypeError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error) as caught:
            history.upto(k)  # type: ignore[arg-type]
        assert_one_sentence(caught.value, repr(k))
    assert list(itertools.islice(history, 2)) == [history[0], history[1]]
