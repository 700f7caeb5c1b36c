"""Diagnosis: on drags built to fail in one way each, by paths made up and by runs, and what the remedies change."""

from __future__ import annotations

import cmath
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    FAILING,
    QUICK,
    assert_one_sentence,
    failing_session,
    made_snapshot,
    quick_session,
    smooth_picture,
)  # fmt: skip

from dragnoise import Drag, DragConfig, DragSession, Model
from dragnoise.config import EDITORS, FIELDS, OUR_PRESETS
from dragnoise.geometry import Frame
from dragnoise.session.diagnosis import Finding, Remedy, diagnose
from dragnoise.session.drag_relations import half_turned, turn_of
from dragnoise.session.history import History
from dragnoise.session.state import SessionState

PICTURE = smooth_picture(128, 128)
NUMBERS = DragConfig(max_iterations=40)
STEP = 2.0  # image pixels of a grid step


def state_of(
    paths: Any, drags: Sequence[Any], *, status: str = "max_iterations", losses: Sequence[float] | None = None,
    config: DragConfig = NUMBERS, mask: np.ndarray | None = None,
) -> SessionState:  # fmt: skip
    """An edit whose anchors were at paths[k], (n + 1, m, 2) image pixels, after k updates."""
    path, pairs = np.array(paths, float), tuple(Drag(*drag) for drag in drags)
    n = len(path) - 1
    losses = np.linspace(100, 50, n + 1) if losses is None else losses
    config = config.replace(max_iterations=n) if status == "max_iterations" else config
    snapshots = []
    for k in range(n + 1):
        at = path[max(k - 1, 0)]
        gaps = np.linalg.norm(at - [pair.objective for pair in pairs], axis=-1)
        snapshots.append(made_snapshot(k, anchors=at, distances=gaps, variable=torch.zeros(1), total=float(losses[k])))
    snapshots[-1] = dataclasses.replace(snapshots[-1], status=status)
    return SessionState(
        image=PICTURE, prompt="", config=config, frame=Frame.of((128, 128), config, native=128, multiple=4),
        drags=pairs, mask=mask, history=History(snapshots), anchors=path[-1],
    )  # fmt: skip


def walk(start: tuple[float, float], end: tuple[float, float], n: int, share: float = 1.0) -> list[tuple[float, float]]:
    """n + 1 places from start, `share` of the way to end, evenly."""
    (x, y), (to_x, to_y) = start, end
    return [(x + (to_x - x) * share * k / n, y + (to_y - y) * share * k / n) for k in range(n + 1)]


def together(*paths: Sequence[tuple[float, float]]) -> np.ndarray:
    return np.stack([np.array(path) for path in paths], 1)


def only(findings: list[Finding], what: str) -> Finding:
    (found,) = [finding for finding in findings if finding.what == what]
    assert_one_sentence(ValueError(found.sentence))
    return found


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings]


# ------------------------------------------------------------------------------- made-up paths


def test_a_drag_that_was_on_its_way_needs_more_iterations_at_its_rate() -> None:
    drag = ((20, 60), (60, 60))
    findings = diagnose(state_of(together(walk(*drag, 40, share=0.7)), [drag]))  # 12 px short, 0.7 px an iteration
    assert kinds(findings) == ["iterations"]
    assert findings[0] == Finding(
        "iterations", "drag 0 is 12 px short after 40 iterations.", (0,),
        Remedy("20 more", config={"max_iterations": 60}), 40,
    )  # fmt: skip


def test_more_iterations_are_at_most_as_many_again() -> None:
    drag = ((20, 60), (120, 60))
    found = only(diagnose(state_of(together(walk(*drag, 40, share=0.1)), [drag])), "iterations")
    assert found.remedy is not None and found.remedy.config == {"max_iterations": 80}


def test_an_alternating_edit_needs_more_iterations_at_each_step() -> None:
    drag = ((20, 60), (60, 60))
    state = state_of(together(walk(*drag, 40, share=0.5)), [drag])
    config = DragConfig(schedule="alternate", drag_steps=10, step_iterations=4)
    found = only(diagnose(dataclasses.replace(state, config=config)), "iterations")
    assert found.remedy is not None and found.remedy.config == {"max_iterations": 80, "step_iterations": 8}


@pytest.mark.parametrize("status", ["running", "reached"])
def test_nothing_is_said_of_an_edit_on_its_way_or_at_its_end(status: str) -> None:
    drag = ((20, 60), (60, 60))
    share = 1.0 if status == "reached" else 0.5
    assert diagnose(state_of(together(walk(*drag, 12, share=share)), [drag], status=status)) == []


def test_an_anchor_that_jumped_is_lost_there_and_the_iteration_before_is_gone_back_to() -> None:
    drag = ((20, 60), (60, 60))
    path = walk((20, 60), (32, 60), 11) + [(32, 69)] * 20
    findings = diagnose(state_of(together(path), [drag], status="running"))
    assert findings == [
        Finding(
            "lost", "the anchor of drag 0 was lost at iteration 12 (jumped 9 px).", (0,),
            Remedy("go back to 11 with r2 = 6", rewind=11, config={"r2": 6}), 12,
        )
    ]  # fmt: skip


def test_a_jump_forward_and_one_that_was_made_up_for_are_not_lost() -> None:
    drag = ((20, 60), (60, 60))
    forward = [(20, 60)] * 5 + [(30, 60)] * 5
    back = [*walk((20, 60), (30, 60), 5), (30, 68), (30, 60), *walk((32, 60), (50, 60), 9)]
    for path in (forward, back):
        assert diagnose(state_of(together(path), [drag], status="running")) == []


def test_the_anchor_that_was_lost_first_is_told_first() -> None:
    drags = [((20, 60), (60, 60)), ((20, 20), (60, 20))]
    late = walk((20, 60), (40, 60), 12) + [(40, 70)] * 4
    early = walk((20, 20), (24, 20), 4) + [(24, 30)] * 12
    findings = diagnose(state_of(together(late, early), drags, status="running"))
    assert [(f.drags, f.iteration) for f in findings] == [((1,), 5), ((0,), 13)]


def test_an_anchor_that_came_near_and_went_away_step_by_step_has_drifted() -> None:
    drag = ((20, 60), (40, 60))
    path = walk((20, 60), (36, 60), 8) + walk((36, 62), (36, 74), 6)
    found = only(diagnose(state_of(together(path), [drag], status="running")), "drifted")
    assert found.iteration == 8 and found.remedy is not None
    assert (found.remedy.rewind, found.remedy.config) == (8, {"lr": NUMBERS.lr / 2})
    assert "within 4 px at iteration 8" in found.sentence


def test_an_anchor_that_was_carried_near_its_objective_and_went_away_is_told_from_where_it_started() -> None:
    drag = ((20, 60), (40, 60))
    path = walk((40, 59), (40, 50), 6)
    found = only(diagnose(state_of(together(path), [drag], status="running")), "drifted")
    assert found.sentence == "the anchor of drag 0 started 1 px from its objective and has gone 10 px away since."
    assert found.remedy is not None and found.remedy.rewind == 0


def test_drags_that_pull_against_each_other() -> None:
    drags = [((50, 60), (70, 60)), ((60, 62), (40, 62))]
    still = together([(50, 60)] * 31, [(60, 62)] * 31)
    flat = diagnose(state_of(still, drags, status="running", losses=[100.0] * 31))
    found = only(flat, "opposed")
    assert found.remedy == Remedy("take drag 1 away", drags=(Drag(*drags[0]),))
    assert found.drags == (0, 1) and found.sentence.startswith("the loss stopped falling: drags 0 and 1 pull")
    assert only(diagnose(state_of(still, drags)), "iterations").remedy is None  # more of the same does not help
    falling = diagnose(state_of(still, drags, status="running"))
    assert only(falling, "opposed").sentence.startswith("drags 0 and 1 pull")
    apart = [((50, 20), (70, 20)), ((60, 100), (40, 100))]
    still = together([(50, 20)] * 31, [(60, 100)] * 31)
    assert kinds(diagnose(state_of(still, apart, status="running"))) == ["stalled"]


def test_drags_that_ask_for_a_turn_are_named_and_half_of_it_is_offered() -> None:
    anchors = [(40.0, 64.0), (88.0, 64.0), (64.0, 40.0)]
    drags = [(point, turned(point, 80)) for point in anchors]
    state = state_of(together(*([point] * 31 for point in anchors)), drags, status="running", losses=[100.0] * 31)
    (found,) = diagnose(state)
    assert found.what == "turned" and found.drags == (0, 1, 2)
    assert found.sentence.startswith("the loss stopped falling: drags 0, 1 and 2 ask for a turn by 80 degrees")
    assert found.remedy is not None
    for drag, point in zip(found.remedy.drags, anchors, strict=True):
        assert drag.anchor == point
        np.testing.assert_allclose(drag.objective, turned(point, 40), atol=1e-9)


def turned(point: tuple[float, float], degrees: float) -> tuple[float, float]:
    """About (64, 64)."""
    z = (complex(*point) - (64 + 64j)) * cmath.exp(1j * math.radians(degrees)) + (64 + 64j)
    return z.real, z.imag


@pytest.mark.parametrize("degrees", [-100, -40, 40, 140])
def test_a_turn_is_measured_with_its_sense_and_wherever_it_is_moved(degrees: float) -> None:
    drags = [Drag(p, tuple(np.add(turned(p, degrees), (5, -3)))) for p in ((40.0, 60.0), (80.0, 70.0), (60.0, 90.0))]
    assert turn_of(drags) == pytest.approx(degrees)


@pytest.mark.parametrize(
    "drags",
    [
        (Drag((20, 60), (60, 60)),),
        (Drag((20, 60), (60, 60)), Drag((20, 90), (60, 90))),  # a shift
        (Drag((40, 60), (20, 60)), Drag((60, 60), (90, 60))),  # a stretch
        (Drag((40, 60), turned((40, 60), 15)), Drag((88, 64), turned((88, 64), 15))),  # a small turn
        (Drag((50, 60), (70, 60)), Drag((60, 62), (40, 62))),  # each through the other
    ],
    ids=["one", "shift", "stretch", "small", "opposed"],
)
def test_other_drags_ask_for_no_turn(drags: tuple[Drag, ...]) -> None:
    assert turn_of(drags) == 0


def test_half_a_turn_stays_in_the_picture() -> None:
    drags = (Drag((10, 20), (60, 5)), Drag((30, 20), (70, 25)))
    for drag in half_turned(drags, (64, 24)):
        assert 0 <= drag.objective[0] <= 63 and 0 <= drag.objective[1] <= 23


def test_a_drag_that_rests_has_stalled_and_is_not_told_to_go_on() -> None:
    drag = ((20, 60), (60, 60))
    path = walk((20, 60), (40, 60), 10) + [(40, 60)] * 30
    findings = diagnose(state_of(together(path), [drag]))
    assert kinds(findings) == ["stalled", "iterations"] and findings[1].remedy is None
    assert "20 px to go" in findings[0].sentence and findings[0].iteration == 10
    remedy = findings[0].remedy
    assert remedy is not None and remedy.rewind == 10 and remedy.config == {"lr": 2 * DragConfig().lr}
    assert remedy.label == f"go back to 10 with lr = {2 * DragConfig().lr:g}"


def test_anchors_rest_for_half_of_the_iterations_before_they_count_as_stalled() -> None:
    drag = ((20, 60), (60, 60))
    for resting, expected in ((13, []), (16, ["stalled"])):
        path = walk((20, 60), (40, 60), 10) + [(40, 60)] * resting
        assert kinds(diagnose(state_of(together(path), [drag], status="running"))) == expected


MASK = np.zeros((128, 128), bool)
MASK[40:80, 10:50] = True


@pytest.mark.parametrize(
    ("drag", "said"),
    [
        (((20, 60), (60, 60)), "the mask holds drag 0's objective"),
        (((60, 60), (20, 60)), "the mask holds drag 0's anchor"),
        (((60, 60), (90, 60)), "the mask holds both ends of drag 0, so nothing there can move"),
    ],
)
def test_ends_that_the_mask_holds_are_painted(drag: Any, said: str) -> None:
    state = state_of(together([drag[0]]), [drag], status="running", mask=MASK)
    found = only(diagnose(state), "mask")
    assert said in found.sentence and found.remedy is not None and found.remedy.paint == (Drag(*drag),)
    assert diagnose(dataclasses.replace(state, config=NUMBERS.replace(mask_weight=0))) == []


def test_a_drag_shorter_than_a_grid_step_is_told_before_any_iteration() -> None:
    drags = [((20, 60), (60, 60)), ((20, 20), (21, 20))]
    state = dataclasses.replace(state_of(together([(20, 60)], [(20, 20)]), drags, status="running"), history=History())
    found = only(diagnose(state), "short")
    assert found.drags == (1,) and "counts as arrived" in found.sentence
    assert found.remedy is not None and found.remedy.config["side"] == 320  # 128 x 1.05 / (1 px / 2 px), in 64s


def test_without_drags_there_is_nothing_to_say() -> None:
    state = state_of(together([(20, 60)]), [((20, 60), (60, 60))], status="running")
    assert diagnose(dataclasses.replace(state, drags=(), history=History())) == []


# -------------------------------------------------------------------------------------- by runs


def test_a_run_that_ends_too_early_is_told_and_its_remedy_lets_it_go_on(small: Model) -> None:
    session = quick_session(small)
    session.config = session.config.replace(max_iterations=2)
    list(session.optimize())
    assert session.status == "max_iterations"
    found = only(session.diagnose(), "iterations")
    gaps = np.linalg.norm(session.anchors - [drag.objective for drag in session.drags], axis=-1)
    assert f"up to {gaps.max():.0f} px short after 2 iterations" in found.sentence
    Remedy("10 more", config={"max_iterations": 12}).apply(session)
    assert session.status == "running" and len(session.history) == 3


def test_a_mask_that_holds_an_objective_is_told_and_painted(small: Model) -> None:
    session = quick_session(small)
    mask = np.zeros((40, 50), bool)
    mask[5:20, 5:48] = True
    session.mask = mask
    session.step()
    found = only(session.diagnose(), "mask")
    assert found.drags == (0,) and found.remedy is not None
    found.remedy.apply(session)
    assert session.mask is not None and session.mask[30, 30] and session.mask[mask].all() and not session.mask.all()
    assert "mask" not in kinds(session.diagnose()) and len(session.history) == 2


def test_a_lost_anchor_is_gone_back_for(small: Model) -> None:
    session = quick_session(small, 5)
    Remedy("go back", rewind=2, config={"r2": 6}).apply(session)
    assert len(session.history) == 3 and session.config == QUICK.replace(r2=6)
    session.step()


def test_a_session_that_was_opened_without_a_model_is_diagnosed(small: Model, tmp_path: Any) -> None:
    session = quick_session(small)
    session.config = session.config.replace(max_iterations=2)
    list(session.optimize())
    opened = DragSession.open(session.save(tmp_path / "a.drag"))
    assert kinds(opened.diagnose()) == kinds(session.diagnose()) and not math.isnan(opened.history[-1].loss)


@pytest.mark.parametrize("preset", [*EDITORS, *OUR_PRESETS])
def test_a_remedy_changes_what_the_editor_reads_and_can_be_applied(preset: str) -> None:
    config = DragConfig.preset(preset)
    objective = (100.0, 60.0)
    jumped = [*walk((20, 60), objective, 8, 0.2), *[(26.0, 76.0)] * 20]  # 10 px aside at once
    drifted = [*walk((20, 60), objective, 10, 0.5), *walk((60, 60), (20, 60), 20, 0.8)]
    rested = [(20.0, 60.0)] * 60
    for path, what in ((jumped, "lost"), (drifted, "drifted"), (rested, "stalled")):
        state = state_of(together(path), [(path[0], objective)], config=config)
        found = only(diagnose(state), what)
        if found.remedy is None:
            unread = FIELDS["r2" if what == "lost" else "lr"]
            assert not unread.is_read_by(config.editor)
            continue
        changed = state.config.replace(**found.remedy.config)
        assert changed != state.config and all(FIELDS[name].is_read_by(config.editor) for name in found.remedy.config)
        assert found.remedy.label in (f"go back to {found.remedy.rewind} with {n} = {v:g}" for n, v in
                                      found.remedy.config.items())  # fmt: skip


def test_where_the_window_is_the_largest_already_no_larger_one_is_offered() -> None:
    config = NUMBERS.replace(r2=int(FIELDS["r2"].high))
    jumped = [*walk((20, 60), (100, 60), 8, 0.2), *[(26.0, 76.0)] * 20]
    assert only(diagnose(state_of(together(jumped), [((20, 60), (100, 60))], config=config)), "lost").remedy is None


def test_a_remedy_that_is_refused_takes_nothing(small: Model) -> None:
    session = quick_session(small)
    session.step()
    session.step()
    with pytest.raises(ValueError, match="r2"):
        Remedy("go back to 1 with r2 = 9999", rewind=1, config={"r2": 9999}).apply(session)
    assert len(session.history) == 3


@pytest.mark.parametrize("what", list(FAILING))
def test_a_run_that_fails_so_is_told_so_and_goes_on_with_the_remedy(small: Model, what: str) -> None:
    session = failing_session(small, what)
    list(session.optimize())
    assert session.status == "max_iterations"
    found = only(session.diagnose(), what)
    assert found.remedy is not None
    before = len(session.history)
    found.remedy.apply(session)
    kept = {"opposed": 0, "iterations": before}.get(what, (found.remedy.rewind or 0) + 1)
    assert len(session.history) == kept
    next(iter(session.optimize()))
    assert len(session.history) == max(kept, 1) + 1
