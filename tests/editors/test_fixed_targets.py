"""Fixed targets and held latents, against computations written out another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, at, quick_session, resized

from dragnoise import DragConfig, DragSession, Model, semantics
from dragnoise.editors.parts.area import soft_edge


@pytest.mark.parametrize("r1", [0, 2])
def test_the_loss_is_the_distance_to_the_initial_patch(r1: int) -> None:
    rng, grid = torch.Generator().manual_seed(r1), (17, 13)
    before, after = (torch.randn(5, 7, 9, generator=rng, dtype=torch.float64) for _ in range(2))
    anchors = torch.tensor([[3.0, 4.0], [1.0, 11.0]], dtype=torch.float64)
    wanted = torch.tensor([[5.5, 4.25], [0.5, 9.0]], dtype=torch.float64)
    patches = semantics.sample(before, anchors[:, None] + semantics.window(r1, like=anchors), grid)
    loss = semantics.target_loss(after, patches, anchors, wanted, r1, grid)
    old, new, expected = resized(before, grid), resized(after, grid), 0.0
    for (ax, ay), (qx, qy) in zip(anchors.tolist(), wanted.tolist(), strict=True):
        for dx in range(-r1, r1 + 1):
            for dy in range(-r1, r1 + 1):
                here, there = (ax + dx, ay + dy), (qx + dx, qy + dy)
                inside = all(-0.5 <= x <= grid[0] - 0.5 and -0.5 <= y <= grid[1] - 0.5 for x, y in (here, there))
                expected += float((at(old, *here) - at(new, *there)).abs().sum()) * inside
    assert float(loss) == pytest.approx(expected, rel=1e-9)


def start(model: Model, target: str, **changes: Any) -> DragSession:
    session = quick_session(model)
    session.config = session.config.replace(target=target, max_iterations=8, **changes)
    session.step()
    return session


WANTED = {
    "direct": lambda a, b, anchors, k: b,
    "path": lambda a, b, anchors, k: a + (b - a) * (k + 1) / 8,
    "initial": lambda a, b, anchors, k: anchors + ahead(b - anchors, 2.5),
}


def ahead(gap: torch.Tensor, stride: float) -> torch.Tensor:
    """So far along the way, and no further than its end."""
    length = gap.norm(dim=-1, keepdim=True)
    return gap / length * length.clamp(max=stride)


@pytest.mark.parametrize("target", WANTED)
def test_what_an_iteration_pulls_to(small: Model, target: str) -> None:
    session = start(small, target, stride=2.5)
    for k in range(3):
        editor = session.store.engine.editor(session.state)
        before, task = session.history[-1].state, editor.task
        first = editor.feature(session.history[0].state)
        feature, anchors = editor.feature(before), editor.locate(before)
        patch = task.anchors[:, None] + semantics.window(task.config.r1, like=task.anchors)
        wanted = WANTED[target](task.anchors, task.objectives, anchors, before.count)
        initial = semantics.sample(first, patch, task.frame.grid)
        expected = semantics.target_loss(feature, initial, task.anchors, wanted, task.config.r1, task.frame.grid)
        snapshot = session.step()
        assert snapshot.iteration == k + 2 and snapshot.alignment_loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("target", WANTED)
def test_rewinding_and_branching_give_the_same_bits(small: Model, target: str) -> None:
    session = start(small, target)
    session.step()
    session.step()
    last = session.history[-1].variable
    other = session.branch(1)
    session.rewind(0)
    for one, steps in ((session, 3), (other, 2)):
        for _ in range(steps):
            one.step()
        assert torch.equal(one.history[-1].variable, last)


def test_a_target_does_not_combine_with_the_released_loss() -> None:
    with pytest.raises(ValueError) as caught:
        DragConfig.released(target="initial")
    assert_one_sentence(caught.value, "target='initial'", 'convention="released"', 'convention="paper"')


# ---- held latents


@pytest.mark.parametrize("editor", ["dragnoise", "dragdiffusion"])
def test_what_lies_outside_the_mask_is_the_inversions_own(small: Model, editor: str) -> None:
    session = quick_session(small)
    changes = {"convention": "paper"} if editor == "dragdiffusion" else {}
    session.config = session.config.replace(editor=editor, hold="latents", **changes)
    session.step()
    session.step()
    h, w = session.trajectory[0].shape[-2:]
    held = torch.nn.functional.interpolate(torch.from_numpy(session.mask)[None, None].float(), (h, w), mode="area") == 0
    assert held.any() and not held.all()
    for state in session.denoise():
        ours, inverted = state.latents.cpu(), session.trajectory[state.step]
        assert torch.equal(ours[held.expand_as(ours)], inverted[held.expand_as(inverted)])
        assert not torch.equal(ours, inverted)


def test_with_everything_held_the_picture_comes_back_as_the_autoencoder_gives_it(small: Model) -> None:
    session = quick_session(small)
    session.mask = None
    session.config = session.config.replace(hold="latents", reach=1e-6, latent_noise=0.0)
    session.step()
    given = np.asarray(session.picture_of(session.trajectory[0])).astype(int)
    assert np.abs(np.asarray(session.render()).astype(int) - given).max() <= 1


def test_without_a_mask_and_reach_nothing_is_held(small: Model) -> None:
    free, held = (quick_session(small) for _ in range(2))
    for session in (free, held):
        session.mask = None
        session.step()
    held.config = held.config.replace(hold="latents")
    np.testing.assert_array_equal(np.asarray(free.render()), np.asarray(held.render()))


def test_the_edge_is_soft_and_inside() -> None:
    area = torch.zeros(1, 1, 7, 9)
    area[..., 2:6, 3:8] = 1
    soft = soft_edge(area)[0, 0]
    assert (soft[area[0, 0] == 0] == 0).all() and (soft[3:5, 4:7] == 1).all()
    assert soft[2, 3] == pytest.approx(4 / 9) and soft[2, 5] == pytest.approx(6 / 9)
    assert (soft_edge(torch.ones(1, 1, 3, 3)) == 1).all()
