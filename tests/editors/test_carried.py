"""The carried start: its noise, the latent against an independent computation, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, smooth_picture
from PIL import Image

from dragnoise import DragConfig, DragSession, Model
from dragnoise.editors.parts import carried

CONFIG: dict[str, Any] = {
    "steps": 6, "edit_from": 4, "refine_from": 1, "drag_steps": 2, "step_iterations": 2, "resize": "never", "r1": 1
}  # fmt: skip


def edit(model: Model, drags: Any, *, mask: Any = None, **changes: Any) -> DragSession:
    session = DragSession(model, smooth_picture(64, 64), config=DragConfig.preset("firm", **CONFIG | changes))
    session.drags, session.mask = drags, mask
    list(session.invert())
    return session


def task_of(session: DragSession) -> Any:
    return session.store.engine.editor(session.state).task


def latent_of(task: Any) -> torch.Tensor:
    return task.carried().latent(task.latents, task.schedule.alpha(task.config.edit_from))


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_noise_is_moved_by_whole_cells() -> None:
    rest = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    field = torch.zeros(32, 32, 2)
    field[..., 0], field[..., 1] = 8.0, -5.0
    moved = carried.shifted(rest, field)
    assert torch.equal(moved[..., :7, 2:], rest[..., 1:, :6])
    assert torch.equal(moved[..., 7, :], moved[..., 6, :]), "clamped to the border"


def test_the_latent_is_signal_of_the_warped_picture_and_shifted_rest(small: Model) -> None:
    """A drag of two cells and a mask of everything: in pixels a roll, with the border repeated."""
    step = small.factor * 2
    session = edit(small, [((20, 20), (20 + step, 20))], mask=np.ones((64, 64), bool))
    given = np.asarray(session.image)
    moved = np.concatenate([np.repeat(given[:, :1], step, 1), given[:, :-step]], 1)
    z, a = session.trajectory[-1], float(small.scheduler.alphas_cumprod[task_of(session).schedule.timestep(4)])
    before, after = (small.encode_picture(Image.fromarray(x), (64, 64)).cpu() for x in (given, moved))
    rest = z - a**0.5 * before
    rest = torch.cat([rest[..., :1], rest[..., :1], rest[..., :-2]], -1)
    torch.testing.assert_close(task_of(session).carried().latent(z, a).cpu(), a**0.5 * after + rest)


def test_the_edit_begins_there_and_is_measured_from_the_start(small: Model) -> None:
    session = edit(small, [((20, 20), (36, 20))], mask=box(8, 8, 52, 40))
    editor = session.store.engine.editor(session.state)
    state = session.step() and session.history[0].state
    assert torch.equal(state.tensors["latent"], latent_of(editor.task).cpu())
    assert torch.equal(state.anchors, editor.task.objectives)
    assert [s.state.step for s in (*session.history, *session.optimize())] == [4, 4, 4, 3, 3]
    assert session.status in ("reached", "max_iterations") and session.history[-1].iteration == 4


def test_the_schedule_of_one_timestep_begins_there_too(small: Model) -> None:
    session = edit(small, [((20, 20), (36, 20))], mask=box(8, 8, 52, 40), schedule="single", max_iterations=3)
    assert [s.state.step for s in session.optimize()] == [4, 4, 4]
    assert "latent" in session.history[-1].state.tensors
    assert (np.asarray(session.render()) != np.asarray(session.reconstruct())).any()


@pytest.mark.parametrize("target", ["current", "path"])
def test_targets_that_follow_the_drag_are_refused(target: str) -> None:
    with pytest.raises(ValueError) as caught:
        DragConfig.preset("firm", target=target)
    assert_one_sentence(caught.value, repr(target), '"carried"', '"direct"')


def test_the_picture_is_carried_at_the_size_that_the_model_sees(small: Model) -> None:
    """A picture of four times the size with its drags and mask gives the motion of the small one."""
    mask = box(10, 10, 50, 44)
    one = task_of(edit(small, [((20, 20), (32, 24))], mask=mask)).carried()
    large = DragSession(
        small, smooth_picture(256, 256), config=DragConfig.preset("firm", **CONFIG | {"resize": "longer", "side": 64})
    )
    large.drags, large.mask = [((81.5, 81.5), (129.5, 97.5))], np.kron(mask, np.ones((4, 4), bool))
    list(large.invert())
    other = task_of(large).carried()
    assert other.before.size == other.after.size == (64, 64)
    np.testing.assert_allclose(other.field[mask].mean(0), one.field[mask].mean(0), rtol=0.1)


def test_the_picture_is_carried_once_for_its_drags(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved once and encoded twice, before and after, for the first iteration and all renderings together."""
    times: list[str] = []
    moved, encode = carried.motion.moved, Model.encode_picture
    monkeypatch.setattr(carried.motion, "moved", lambda *a, **k: times.append("moved") or moved(*a, **k))
    monkeypatch.setattr(Model, "encode_picture", lambda *a, **k: times.append("encoded") or encode(*a, **k))
    session = edit(small, [((20, 20), (32, 24))], mask=box(10, 10, 50, 44))
    session.step()
    first, second = session.render(), session.render()
    assert times[:1] == ["encoded"], "the inversion's"
    assert times[1:] == ["moved", "encoded", "encoded"] and first.tobytes() == second.tobytes()
    session.drags = [((20, 20), (24, 30))]
    session.step()
    session.render()
    assert times[1:] == 2 * ["moved", "encoded", "encoded"]
