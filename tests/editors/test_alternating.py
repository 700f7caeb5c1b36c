"""Iterations that alternate with denoising, against the same written out with the model alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_snapshots, quick_session

from dragnoise import DragSession, Model, semantics
from dragnoise.sampling.ddim import Schedule

NUMBERS: dict[str, Any] = {
    "steps": 8, "edit_from": 6, "refine_from": 1, "schedule": "alternate", "drag_steps": 3, "step_iterations": 2,
    "propagation": "delta", "lr": 0.05, "eps": 1e-3, "max_iterations": 20,
}  # fmt: skip


def edit(model: Model, iterations: int = 0, **changes: Any) -> DragSession:
    session = quick_session(model)
    session.mask = None
    session.config = session.config.replace(**NUMBERS, **changes)
    for _ in range(iterations):
        session.step()
    return session


def test_it_is_what_it_says(small: Model) -> None:
    """Two updates by the initial feature of the inverted latent at each of three steps, a DDIM step between."""
    session = edit(small, target="direct")
    trajectory = [state.latents for state in session.invert()]
    snapshots = list(session.optimize())
    task = session.store.engine.editor(session.state).task
    model, schedule, text, grid = small, Schedule(small, 8), small.embed("a fox"), task.frame.grid
    block, z, change, updates, moments = session.config.supervision_block, trajectory[5], None, 0, None
    patch = task.anchors[:, None] + semantics.window(session.config.r1, like=task.anchors)
    for step in (6, 5, 4):
        with torch.no_grad():
            encoded = model.encode(z, schedule.timestep(step), text)
            unedited = model.encode(trajectory[step - 1], schedule.timestep(step), text)
            first = model.decode(unedited.bottleneck, unedited, upto=block).features[block][0]
            wanted = semantics.sample(first, patch, grid)
        own = encoded.bottleneck
        value = (own if change is None else own + change).clone().requires_grad_()
        adam = torch.optim.Adam([value], lr=0.05, eps=1e-3)
        if moments is not None:
            adam.state[value] = {"step": torch.tensor(float(updates)), "exp_avg": moments[0], "exp_avg_sq": moments[1]}
        for _ in range(2):
            feature = model.decode(value, encoded, upto=block).features[block][0]
            loss = semantics.target_loss(feature, wanted, task.anchors, task.objectives, session.config.r1, grid)
            adam.zero_grad()
            loss.backward()
            adam.step()
            snapshot = snapshots[updates]
            updates += 1
            assert snapshot.state.step == step and snapshot.loss == pytest.approx(loss.item(), rel=1e-5)
            torch.testing.assert_close(snapshot.bottleneck, value.detach(), rtol=1e-4, atol=1e-5)
        moments = adam.state[value]["exp_avg"], adam.state[value]["exp_avg_sq"]
        change = value.detach() - own
        if step != 4:
            with torch.no_grad():
                z = schedule.down(model.predict(value.detach(), encoded), z, step)
    assert len(snapshots) == updates == 6 and session.status == "max_iterations"
    with torch.no_grad():
        for step in range(4, 0, -1):
            encoded = model.encode(z, schedule.timestep(step), text)
            value = encoded.bottleneck + change if step > 1 else encoded.bottleneck
            z = schedule.down(model.predict(value, encoded), z, step)
    states = list(session.denoise())
    assert [state.step for state in states] == [3, 2, 1, 0]
    torch.testing.assert_close(states[-1].latents, z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hold", ["nothing", "latents"])
def test_it_rewinds_branches_and_opens_to_the_bit(small: Model, hold: str, tmp_path: Path) -> None:
    session, straight = edit(small, 6, hold=hold, reach=0.2), edit(small, 6, hold=hold, reach=0.2)
    assert_same_snapshots(session.history, straight.history)
    assert [s.state.step for s in straight.history] == [6, 6, 6, 5, 5, 4, 4]
    session.rewind(3)
    other, opened = session.branch(2), DragSession.open(session.save(tmp_path / "a.drag"), small)
    for one in (session, other, opened):
        while len(one.history) < 7:
            one.step()
        assert_same_snapshots(one.history, straight.history)
        np.testing.assert_array_equal(np.asarray(one.render()), np.asarray(straight.render()))


def test_a_change_of_numbers_in_between_goes_on(small: Model) -> None:
    session = edit(small, 3)
    session.config = session.config.replace(lr=0.2)
    assert [session.step().state.step for _ in range(2)] == [5, 4]


def test_thinned_iterations_come_back(small: Model) -> None:
    whole, thin = edit(small, 6), edit(small, 6)
    thin.history_limit = 1
    assert not thin.history[3].is_whole
    for k in (2, 3, 5):
        assert torch.equal(thin.snapshot(k).variable, whole.history[k].variable)


def test_more_steps_than_there_are_end_at_the_last(small: Model) -> None:
    session = edit(small)
    session.config = session.config.replace(drag_steps=50)
    assert [snapshot.state.step for snapshot in session.optimize()] == [6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert session.status == "max_iterations" and [state.step for state in session.denoise()] == [0]
