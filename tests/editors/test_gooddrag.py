"""GoodDrag as released, against a plain implementation on diffusers' own U-Net."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, assert_same_snapshots
from plain import DRAGS, SIZE, STRIDE, Plain, editable, make_session
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model

CONFIG = DragConfig.preset(
    "gooddrag", steps=10, edit_from=7, drag_steps=3, step_iterations=4, track_every=2, lr=0.05, r1=2, r2=4
)


class Program(Plain):
    """Phases of gradient steps, each followed by a plain denoising step of the pair."""

    stop = ""

    def run(self, config: DragConfig) -> Iterator[tuple[str, float, Tensor, Tensor]]:
        """(what, loss, handles as the step found them, latent after it), one a gradient or denoising step."""
        starts, original, z, still = self.handles.clone(), self.z0, self.z0, 0
        for i in range(config.drag_steps):
            t = self.t - i * STRIDE
            with torch.no_grad():
                first, held = self.look(original, t)
            z = z.detach().clone().requires_grad_()
            adam = torch.optim.Adam([z], lr=config.lr)
            for j in range(config.step_iterations):
                feature, below = self.look(z, t)
                if j == 0:
                    self.handles = self.tracked(feature, first, starts, config.r2)
                gaps = (self.targets - self.handles).norm(dim=-1)
                if (gaps < 2).all() or still == config.patience:
                    self.stop = "reached" if (gaps < 2).all() else "stalled"
                    break
                loss = config.mask_weight * ((below - held) * (1 - self.mask)).abs().sum()
                for start, handle, target, gap in zip(starts, self.handles, self.targets, gaps, strict=True):
                    if gap >= 2:
                        ahead = handle + (target - handle) / gap * min(4.0, float(gap))
                        apart = self.patch(first, start, config.r1).detach() - self.patch(feature, ahead, config.r1)
                        loss = loss + (2 * config.r1) ** 2 * apart.abs().mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
                yield "gradient", loss.item(), self.handles.clone(), z.detach().clone()
                if (j + 1) % config.track_every == 0:
                    tracked = self.tracked(feature, first, starts, config.r2)
                    still = still + 1 if torch.equal(tracked, self.handles) else 0
                    self.handles = tracked
            if not self.stop and still == config.patience:
                self.stop = "stalled"
            with torch.no_grad():
                original, z = self.down(torch.cat([original, z]), t).split(1)
            yield "denoising", math.nan, self.handles.clone(), z.clone()
            if self.stop:
                break
        self.end = torch.cat([original, z]), t - STRIDE

    def tracked(self, feature: Tensor, first: Tensor, starts: Tensor, radius: int) -> Tensor:
        return torch.stack([self.track(feature, first, *x, radius) for x in zip(starts, self.handles, strict=True)])


def follow(session: DragSession, program: Program) -> None:
    """Every unit of the session is the program's, and so is the picture's latent."""
    snapshots = iter(session.optimize())
    for k, (what, loss, handles, z) in enumerate(program.run(session.config), 1):
        snapshot = next(snapshots)
        assert snapshot.iteration == snapshot.state.count == k
        torch.testing.assert_close(snapshot.state.anchors.float(), handles)
        torch.testing.assert_close(snapshot.variable, z, rtol=1e-4, atol=1e-4)
        if what == "gradient":
            assert snapshot.loss == pytest.approx(loss, rel=1e-4) and snapshot.grad_norm > 0
        else:
            assert snapshot.losses == {} and math.isnan(snapshot.loss) and math.isnan(snapshot.grad_norm)
    assert next(snapshots, None) is None
    assert session.status == (program.stop or "max_iterations")
    state = session.history[-1].state
    torch.testing.assert_close(session.engine.editor(session.state).locate(state).float(), program.handles)
    pair, t = program.end
    torch.testing.assert_close(list(session.denoise())[-1].latents, program.render(pair, t), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mask", [None, editable()], ids=["no mask", "mask"])
def test_it_is_the_released_program(sd15: Any, mask: np.ndarray | None) -> None:
    session = make_session(Model(sd15), CONFIG, mask)
    follow(session, Program(session, mask))
    assert [snapshot.state.step for snapshot in session.history] == [*[7] * 5, *[6] * 5, *[5] * 5, 4]
    assert len({tuple(snapshot.state.anchors.flatten().tolist()) for snapshot in session.history}) > 2
    later = [s.losses["mask"] for s in session.history if s.losses]
    assert later[0] == 0 and min(later[1:]) > 0  # no mask holds everything


@pytest.mark.parametrize(("patience", "units"), [(2, 5), (1, 3)], ids=["at a phase's end", "within a phase"])
def test_anchors_that_stand_still_end_it(sd15: Any, patience: int, units: int) -> None:
    everything = np.ones(SIZE[::-1], bool)
    session = make_session(Model(sd15), dataclasses.replace(CONFIG, patience=patience, lr=1e-4), everything)
    program = Program(session, everything)
    follow(session, program)
    assert program.stop == "stalled" and len(session.history) == units + 1


def test_reached_breaks_the_phase_off_and_denoises(sd15: Any) -> None:
    near = [((20.0, 30.0), (22.0, 30.0))]
    session = make_session(Model(sd15), CONFIG, drags=near)
    program = Program(session, None)
    follow(session, program)
    assert program.stop == "reached" and len(session.history) == 2
    session.drags = [((20.0, 30.0), (44.0, 30.0))]  # the objective moves on: so does the edit
    assert session.status == "running" and session.step().losses


def test_a_phase_that_was_begun_is_denoised_plainly_first(sd15: Any) -> None:
    session = make_session(Model(sd15), CONFIG)
    session.step()
    pair = torch.cat([session.trajectory[-1], session.history[-1].variable])
    wanted = Plain(session, None).render(pair, 601, plain_first=True)
    session = make_session(Model(sd15), CONFIG)
    session.step()
    torch.testing.assert_close(list(session.denoise())[-1].latents, wanted, rtol=1e-4, atol=1e-4)


def quick(model: Model, iterations: int = 0, **given: Any) -> DragSession:
    session = make_session(model, dataclasses.replace(CONFIG, step_iterations=2, track_every=1), editable(), DRAGS)
    for name, value in given.items():
        setattr(session, name, value)
    for _ in range(iterations):
        session.step()
    return session


def test_denoising_steps_rewind_branch_save_and_come_back(small: Model, tmp_path: Path) -> None:
    session, straight = quick(small, 7), quick(small, 7)
    assert [s.state.step for s in session.history] == [7, 7, 7, 6, 6, 6, 5, 5]
    session.rewind(3)
    other = session.branch()
    opened = DragSession.open(session.save(tmp_path / "a.drag"), small)
    for one in (session, other, opened):
        for _ in range(4):
            one.step()
        assert_same_snapshots(one.history, straight.history)
    whole = DragSession.open(straight.save(tmp_path / "b.drag"), small)
    assert_same_snapshots(whole.history, straight.history)
    assert np.array_equal(np.asarray(whole.render()), np.asarray(straight.render()))
    thin = quick(small, 7, history_limit=1.0)
    assert not thin.history[3].is_whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(thin.snapshot(6).variable, straight.history[6].variable)


def test_steps_go_on_to_the_clean_latent_and_no_further(small: Model) -> None:
    session = quick(small)
    session.config = session.config.replace(steps=2, edit_from=1, drag_steps=1, step_iterations=1)
    assert [bool(s.losses) for s in session.optimize()] == [True, False]
    assert session.history[-1].state.step == 0 and session.status == "max_iterations"
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "denoised", "session.rewind")
    np.asarray(session.render())


def test_windows_are_cut_at_the_border(small: Model) -> None:
    """Where the released program fails."""
    session = quick(small, drags=[((1.0, 1.0), (30.0, 30.0)), ((70.0, 86.0), (71.0, 60.0))])
    snapshots = list(session.optimize())
    assert all(math.isfinite(s.loss) for s in snapshots if s.losses) and len(snapshots) == 9


def test_the_papers_convention_works_too(small: Model) -> None:
    session = quick(small)
    session.mask = None
    session.config = dataclasses.replace(session.config, convention="paper", resize="longer", side=64, tolerance=1.0)
    assert session.step().losses["mask"] == 0 and session.step().losses["mask"] == 0  # without a mask nothing is held
    np.asarray(session.render())
