"""The stepwise session, on the embedded model."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import CLASSIC
from PIL import Image

import dragnoise
from dragnoise import Drag, DragConfig, DragSession, Model
from dragnoise.toyland import caption, drag_cases, render

CASE = drag_cases("sun", 1, seed=20_000_000)[0]


@pytest.fixture(scope="module")
def model() -> Model:
    return dragnoise.load_model()


@pytest.fixture
def session(model: Model) -> DragSession:
    quick = model.default_config.replace(max_iterations=6, steps=10, edit_from=7, refine_from=0, **CLASSIC)
    session = DragSession(model, render(CASE.scene), caption(CASE.scene), quick)
    session.drags, session.mask = CASE.drags, CASE.mask
    return session


def take(session: DragSession, count: int) -> None:
    for _ in range(count):
        session.step()


# ---- the contract


def test_the_three_stages(session: DragSession) -> None:
    states = list(session.invert())
    assert [s.step for s in states] == list(range(1, 8))
    assert session.state.inverted and len(session.history) == 1
    torch.testing.assert_close(session.latents, states[-1].latents)
    assert session.latents.shape == (1, 4, 32, 32) and session.latents.dtype == torch.float32
    snapshots = list(session.optimize())
    assert [s.iteration for s in snapshots] == list(range(1, len(snapshots) + 1))
    assert list(session.history)[1:] == snapshots
    assert snapshots[-1].status in ("reached", "max_iterations")
    assert all(s.status == "running" for s in snapshots[:-1])
    picture = session.render()
    assert isinstance(picture, Image.Image) and picture.size == (128, 128) and picture.mode == "RGB"


def test_history_begins_before_any_update(session: DragSession) -> None:
    first = session.step()
    start = session.history[0]
    assert first.iteration == 1 and start.iteration == 0 and math.isnan(start.loss)
    np.testing.assert_allclose(start.anchors, [CASE.drags[0].anchor], atol=1e-9)
    np.testing.assert_array_equal(first.anchors, start.anchors)  # update 1 is computed at the initial anchors
    assert not torch.equal(first.bottleneck, start.bottleneck)
    assert first.mask_loss == 0.0 and first.grad_norm > 0 and first.seconds > 0
    assert first.loss == pytest.approx(first.alignment_loss)


def test_snapshot_holds_what_its_update_was_computed_from(session: DragSession) -> None:
    take(session, 3)
    here = session.anchors
    after = session.step()
    np.testing.assert_array_equal(after.anchors, here)
    gap = np.linalg.norm(after.anchors - [d.objective for d in CASE.drags], axis=-1)
    np.testing.assert_allclose(after.distances, gap)
    assert after.loss == pytest.approx(after.alignment_loss + session.config.mask_weight * after.mask_loss, rel=1e-6)


def test_update_is_adams(session: DragSession) -> None:
    """The first step of Adam moves every element by lr, against its gradient's sign, when eps is small."""
    session.config = session.config.replace(eps=1e-8)
    take(session, 1)
    moved = session.history[1].bottleneck - session.history[0].bottleneck
    assert moved.abs().max() == pytest.approx(session.config.lr, rel=1e-3)
    assert (moved.abs() > 0.9 * session.config.lr).float().mean() > 0.5


def painted(reach: float) -> np.ndarray:
    """The 128 x 128 picture within `reach` pixels of the drag, as one would paint it: round every point of its line."""
    drag = CASE.drags[0]
    y, x = np.mgrid[:128, :128]
    mask = np.zeros((128, 128), bool)
    for share in np.linspace(0, 1, 500):
        at = np.add(np.multiply(drag.anchor, 1 - share), np.multiply(drag.objective, share))
        mask |= np.hypot(x - at[0], y - at[1]) <= reach
    return mask


def test_reach_holds_what_a_mask_painted_round_the_drag_holds(session: DragSession) -> None:
    session.mask, session.config = painted(32), session.config.replace(reach=0.0)
    take(session, 4)
    by_mask = [snapshot.mask_loss for snapshot in session.history]
    session.mask, session.config = None, session.config.replace(reach=0.25)
    session.rewind(0)
    take(session, 4)
    by_reach = [snapshot.mask_loss for snapshot in session.history]
    assert min(by_mask[2:]) > 0
    np.testing.assert_allclose(by_reach[1:3], by_mask[1:3], rtol=0.02, atol=1e-6)  # the painted one is twice as fine
    session.config = session.config.replace(reach=0.0)
    assert session.step().mask_loss == 0


def test_a_mask_that_is_given_goes_before_reach(session: DragSession) -> None:
    take(session, 1)
    losses = []
    for reach in (0.0, 0.1, 3.0):
        session.config = session.config.replace(reach=reach)
        session.rewind(0)
        take(session, 3)
        losses.append([snapshot.loss for snapshot in session.history[1:]])
    assert losses[0] == losses[1] == losses[2]
    session.mask = None
    assert session.step().mask_loss == 0  # a reach beyond the picture holds nothing


def test_snapshots_are_immutable(session: DragSession) -> None:
    snapshot = session.step()
    with pytest.raises(AttributeError):
        snapshot.loss = 0.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        snapshot.anchors[0, 0] = 0.0


def test_default_config_is_the_models(model: Model) -> None:
    assert DragSession(model, render(CASE.scene)).config is model.default_config


def test_run_does_it_all(session: DragSession) -> None:
    picture = session.run(progress=False)
    assert session.status != "running"
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(session.render()))


# ---- determinism and time travel


def test_same_session_twice_gives_the_same_bits(model: Model, session: DragSession) -> None:
    other = DragSession(model, render(CASE.scene), caption(CASE.scene), session.config)
    other.drags, other.mask = CASE.drags, CASE.mask
    np.testing.assert_array_equal(np.asarray(session.run(progress=False)), np.asarray(other.run(progress=False)))
    for mine, its in zip(session.history, other.history, strict=True):
        assert torch.equal(mine.bottleneck, its.bottleneck)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_rewind_and_run_again_gives_the_same_bits(session: DragSession, k: int) -> None:
    take(session, 5)
    before = list(session.history)
    session.rewind(k)
    assert len(session.history) == k + 1 and torch.equal(session.bottleneck, before[k].bottleneck)
    take(session, 5 - k)
    for old, new in zip(before, session.history, strict=True):
        assert torch.equal(old.bottleneck, new.bottleneck) and np.array_equal(old.anchors, new.anchors)


def test_rewind_renders_that_iteration(session: DragSession) -> None:
    take(session, 2)
    then = np.asarray(session.render())
    take(session, 2)
    assert not np.array_equal(np.asarray(session.render()), then)
    session.rewind(2)
    np.testing.assert_array_equal(np.asarray(session.render()), then)
    session.rewind(0)
    np.testing.assert_array_equal(np.asarray(session.render()), np.asarray(session.reconstruct()))


def test_branch_goes_its_own_way(session: DragSession, monkeypatch: pytest.MonkeyPatch) -> None:
    take(session, 4)
    expected = session.history[4].bottleneck
    other = session.branch(2)
    monkeypatch.setattr(other, "invert", lambda: pytest.fail("a branch shares the inversion"))
    take(other, 2)
    assert torch.equal(other.bottleneck, expected)
    other.config = other.config.replace(lr=0.5)
    take(other, 1)
    assert len(other.history) == 6 and len(session.history) == 5
    assert torch.equal(session.bottleneck, expected)


@pytest.mark.parametrize("k", [-1, 3, 99])
def test_no_such_iteration(session: DragSession, k: int) -> None:
    take(session, 2)
    with pytest.raises(IndexError, match=rf"{k}.*0\.\.2"):
        session.rewind(k)
    assert len(session.history) == 3


def test_optimize_can_be_left_and_taken_up(session: DragSession) -> None:
    whole = session.branch()
    for _ in itertools.islice(session.optimize(), 2):
        pass
    list(session.optimize())
    list(whole.optimize())
    assert len(session.history) == len(whole.history)
    assert torch.equal(session.bottleneck, whole.bottleneck)


# ---- changing one's mind


def test_numbers_of_the_optimisation_keep_everything(session: DragSession) -> None:
    take(session, 2)
    latents = session.latents
    session.config = session.config.replace(lr=0.2, r1=2, r2=2, mask_weight=0.0, max_iterations=9)
    assert len(session.history) == 3 and torch.equal(session.latents, latents)
    step = session.step()
    assert step.loss == pytest.approx(step.alignment_loss)
    assert (step.bottleneck - session.history[2].bottleneck).abs().max() > 0.1


def test_numbers_of_the_inversion_need_a_new_one(session: DragSession) -> None:
    take(session, 2)
    session.config = session.config.replace(edit_from=5)
    assert not session.state.inverted and len(session.history) == 0
    session.step()
    assert session.state.inverted and len(session.trajectory) == 6


def test_other_drags_start_afresh_and_keep_the_inversion(session: DragSession) -> None:
    take(session, 2)
    session.drags = session.drags  # the same: nothing happens
    assert len(session.history) == 3
    session.drags = [((60, 80), (70, 80))]
    assert session.state.inverted and len(session.history) == 0
    assert session.drags == (Drag((60.0, 80.0), (70.0, 80.0)),)


def test_reached_stops_before_the_end(session: DragSession) -> None:
    (x, y) = CASE.drags[0].anchor
    session.drags = [((x, y), (x + 1, y))]  # half a pixel of the grid, within the tolerance from the start
    assert list(session.optimize()) == [] and session.status == "reached"
    assert session.step().iteration == 1  # one more if asked


def test_more_iterations_go_on(session: DragSession) -> None:
    list(session.optimize())
    if session.status == "max_iterations":
        session.config = session.config.replace(max_iterations=8)
        assert len(list(session.optimize())) >= 1


# ---- what goes wrong


def test_not_finite_keeps_the_last_good_snapshot(session: DragSession) -> None:
    take(session, 2)
    good = session.bottleneck
    block = session.model.pipeline.unet.up_blocks[0]
    overflow = block.register_forward_hook(lambda *args: args[-1] * math.inf)
    session.store.engine.release()
    with pytest.raises(FloatingPointError, match=r"not finite.*smaller lr"):
        take(session, 3)
    overflow.remove()
    assert len(session.history) == 3 and torch.equal(session.bottleneck, good)
    assert session.step().iteration == 3


def test_interrupt_inside_an_iteration_loses_nothing(session: DragSession, monkeypatch: pytest.MonkeyPatch) -> None:
    take(session, 2)
    whole = session.branch()
    take(whole, 1)
    unet = session.model.pipeline.unet
    calls = {"left": 0}

    def interrupt(module: torch.nn.Module, inputs: object) -> None:
        if calls["left"] == 0:
            raise KeyboardInterrupt
        calls["left"] -= 1

    for calls["left"] in (0, 1, 2):
        hook = unet.up_blocks[0].register_forward_pre_hook(interrupt)
        try:
            while True:
                session.step()
        except KeyboardInterrupt:
            pass
        finally:
            hook.remove()
        session.rewind(2)
    assert torch.equal(session.step().bottleneck, whole.bottleneck)


def test_interrupted_inversion_starts_over(session: DragSession) -> None:
    for _ in itertools.islice(session.invert(), 3):
        pass
    assert not session.state.inverted
    session.step()
    assert session.state.inverted


def test_without_drags_there_is_a_sentence(model: Model) -> None:
    session = DragSession(model, render(CASE.scene))
    for call in (session.step, session.run, lambda: list(session.optimize())):
        with pytest.raises(ValueError, match=r"session\.drags"):
            call()
    assert session.reconstruct().size == (128, 128)


def test_render_inverts_first(model: Model) -> None:
    config = model.default_config.replace(steps=4, edit_from=2, refine_from=0)
    session = DragSession(model, render(CASE.scene), config=config)
    assert session.render().size == (128, 128) and session.state.inverted


@pytest.mark.parametrize("size", [(50, 33), (128, 128), (301, 97), (9, 700), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16", "1", "P"])
def test_any_picture_comes_back_at_its_own_size(model: Model, size: tuple[int, int], mode: str) -> None:
    config = model.default_config.replace(steps=2, edit_from=1, refine_from=0, max_iterations=1)
    session = DragSession(model, Image.new(mode, size), config=config)
    if min(size) > 1:
        session.drags = [((size[0] - 1, size[1] - 1), (0, 0))]
        session.step()
    assert session.render().size == size


def test_both_kinds_of_propagation_move_the_picture(session: DragSession) -> None:
    take(session, 6)
    plain = np.asarray(session.reconstruct()).astype(int)
    pictures = []
    for propagation in ("replace", "delta"):
        session.config = session.config.replace(propagation=propagation)
        pictures.append(np.asarray(session.render()).astype(int))
        assert len(session.history) == 7
        assert np.abs(pictures[-1] - plain).max() > 8
    assert np.abs(pictures[0] - pictures[1]).max() > 0


def test_refinement_runs_untouched(session: DragSession) -> None:
    take(session, 3)
    session.config = session.config.replace(refine_from=4, propagation="replace")
    used = [state.bottleneck for state in session.denoise()]
    edited = session.history[3].bottleneck
    assert all(torch.equal(b, edited) for b in used[:3])
    assert not any(torch.equal(b, edited) for b in used[3:])


def test_released_and_paper_share_a_session(session: DragSession) -> None:
    session.config = DragConfig.released(steps=10, edit_from=7, max_iterations=2)
    assert len(list(session.optimize())) <= 2
    assert session.render().size == (128, 128)


def test_an_overtaken_inversion_says_so(session: DragSession) -> None:
    old = session.invert()
    next(old)
    session.config = session.config.replace(edit_from=3)
    with pytest.raises(RuntimeError, match="overtaken"):
        next(old)
    session.step()
    assert session.state.inverted and len(session.trajectory) == 4
