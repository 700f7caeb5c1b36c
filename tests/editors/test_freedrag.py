"""FreeDrag as released, against a plain implementation on diffusers' own U-Net."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from plain import DRAGS, Plain, editable, make_session
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model
from dragnoise.editors.freedrag import ROUND, TEMPLATES

CONFIG = DragConfig.preset("freedrag", steps=10, edit_from=7, r1=2, lr=0.05, max_iterations=14)


class Program(Plain):
    """Rounds: place, at most five gradient steps, judge."""

    def run(self, config: DragConfig) -> Iterator[tuple[float, float, Tensor, Tensor]]:
        """(loss, mask term, points, latent after the step), one a gradient step; `self.points` are those of the end."""
        expected, r, m = config.expected_distance, config.r1, len(self.handles)
        z = self.z0.clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=config.lr)
        with torch.no_grad():
            now, held = self.look(self.z0)
        self.points = self.handles.clone()
        templates = [self.patch(now, point, r) for point in self.points]
        begun, ended, arrived, count = [0.0] * m, [0.0] * m, [False] * m, 0
        self.kinds: list[str] = []
        while not all(arrived) and count <= config.max_iterations:
            for k in range(m):
                if not arrived[k]:
                    self.points[k] = self.place(config, now, templates[k], k, begun[k], ended[k])
            for j in range(5):
                count += 1
                if count > config.max_iterations:
                    break
                feature, below = self.look(z)
                each = [
                    (self.patch(feature, point, r) - t).abs().mean()
                    for point, t in zip(self.points, templates, strict=True)
                ]
                masking = ((below - held) * (1 - self.mask)).abs().mean() if self.mask.any() else torch.zeros(())
                loss = sum(each) + config.mask_weight * masking
                adam.zero_grad()
                loss.backward()
                adam.step()
                yield loss.item(), masking.item(), self.points.clone(), z.detach().clone()
                if j == 0:
                    begun = [float(distance.detach()) for distance in each]
                if all(float(distance.detach()) < 0.5 * expected for distance in each):
                    break
            with torch.no_grad():
                now, _ = self.look(z)
            for k, point in enumerate(self.points):
                patch = self.patch(now, point, r)
                ended[k] = float((patch - templates[k]).abs().mean())
                near = float((self.targets[k] - point).norm()) < 2
                arrived[k] = near and not ended[k] > 0.5 * expected
                rate = math.log(9) / (0.6 * expected)
                share = 1.0 if arrived[k] else 1 / (1 + math.exp(rate * (ended[k] - 0.2 * expected)))
                templates[k] = share * patch + (1 - share) * templates[k]
        self.all_arrived, self.templates, self.z = all(arrived), templates, z.detach()

    def place(
        self, config: DragConfig, feature: Tensor, template: Tensor, k: int, begun: float, ended: float
    ) -> Tensor:
        point, target, d_max = self.points[k].clone(), self.targets[k], config.max_move
        gap, wanted = target - point, config.expected_distance
        if ended < 0.5 * config.expected_distance:
            self.kinds.append("advance")
            far = point + min(d_max / (float(gap.norm()) + 1e-8), 1) * gap
        elif ended < begun:
            self.kinds.append("stay")
            return point
        else:
            self.kinds.append("back")
            point = point - min(d_max / (float(gap.norm()) + 1e-8), 1) * gap
            gap, wanted = target - point, 0.0
            far = point + min(2 * d_max / (float(gap.norm()) + 1e-8), 1) * gap
        candidates = [(1 - s / 10) * point + s / 10 * far for s in range(1, 11)]
        apart = [abs(float((self.patch(feature, c, config.r1) - template).abs().mean()) - wanted) for c in candidates]
        return candidates[apart.index(min(apart))]


def follow(session: DragSession, program: Program) -> None:
    snapshots = iter(session.optimize())
    for k, (loss, masking, points, z) in enumerate(program.run(session.config), 1):
        snapshot = next(snapshots)
        assert snapshot.iteration == k and snapshot.loss == pytest.approx(loss, rel=1e-4)
        assert snapshot.losses["mask"] == pytest.approx(masking, rel=1e-4, abs=1e-6)
        torch.testing.assert_close(snapshot.state.anchors.float(), points, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(snapshot.variable, z, rtol=1e-4, atol=1e-4)
    assert next(snapshots, None) is None
    assert session.status == ("reached" if program.all_arrived else "max_iterations")
    state = session.history[-1].state
    torch.testing.assert_close(session.engine.editor(session.state).locate(state).float(), program.points)


@pytest.mark.parametrize("mask", [None, editable()], ids=["no mask", "mask"])
def test_it_is_the_released_program(sd15: Any, mask: np.ndarray | None) -> None:
    session = make_session(Model(sd15), CONFIG, mask)
    program = Program(session, mask)
    follow(session, program)
    assert {"advance", "stay"} <= set(program.kinds)
    assert (session.history[-1].losses["mask"] > 0) == (mask is not None)
    pair = torch.cat([program.z0, program.z])
    torch.testing.assert_close(list(session.denoise())[-1].latents, program.render(pair, 601), rtol=1e-4, atol=1e-4)


def test_points_go_back_and_the_limit_can_fall_on_a_rounds_end(sd15: Any) -> None:
    """A high learning rate makes distances grow, so that points go back; 15 steps are three rounds of five."""
    config = dataclasses.replace(CONFIG, lr=0.2, expected_distance=0.3, max_iterations=15)
    session = make_session(Model(sd15), config)
    program = Program(session, None)
    follow(session, program)
    assert "back" in program.kinds
    assert not torch.equal(session.history[-1].state.anchors.float(), program.points)  # placed once more


def test_a_drag_that_is_short_is_dragged_until_its_feature_is_there(sd15: Any) -> None:
    config = dataclasses.replace(CONFIG, max_iterations=60, expected_distance=3.0)
    session = make_session(Model(sd15), config, drags=[((20.0, 30.0), (22.0, 30.0)), ((40.0, 40.0), (50.0, 40.0))])
    program = Program(session, None)
    follow(session, program)
    assert session.status == "reached" and 2 <= len(session.history) < 60
    state = session.history[-1].state
    torch.testing.assert_close(state.tensors[TEMPLATES][0].transpose(1, 2), torch.stack(program.templates).flatten(2))
    session.drags = [((20.0, 30.0), (36.0, 30.0)), ((40.0, 40.0), (50.0, 40.0))]  # the objective moves on
    assert session.status == "running" and session.step().distances[0] > 0


def test_a_round_is_kept_in_the_state(small: Model) -> None:
    session = make_session(small, CONFIG, editable(), DRAGS)
    done = [int(snapshot.state.tensors[ROUND][0, 0, 0, 3]) for snapshot in session.optimize()]
    assert set(done) <= {0, 1, 2, 3, 4} and {0, 3, 4} <= set(done)


def test_windows_are_cut_at_the_border(small: Model) -> None:
    """Where the released program fails."""
    session = make_session(small, dataclasses.replace(CONFIG, lr=0.6), drags=[((1.0, 1.0), (60.0, 3.0))])
    assert all(math.isfinite(snapshot.loss) for snapshot in session.optimize()) and len(session.history) == 15
    np.asarray(session.render())


def test_the_papers_convention_works_too(small: Model) -> None:
    config = dataclasses.replace(CONFIG, convention="paper", resize="longer", side=64, tolerance=1.0)
    session = make_session(small, config, editable(), DRAGS)
    assert session.step().losses["mask"] == 0 and session.step().losses["mask"] > 0
