"""DragonDiffusion's energies, guided steps and repeats, against loops and hooks written here."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain import SIZE, STRIDE, Plain, editable, make_session
from torch import Tensor

from dragnoise import DragConfig, Model
from dragnoise.editors.dragondiffusion import content_energy, edit_energy

CONFIG = DragConfig.preset("dragondiffusion", steps=10, edit_from=7, drag_steps=6, r1=2, energy=0.05)


class Program(Plain):
    """Guided steps with the inversion's keys and values, kept by hooks."""

    def __init__(self, session: Any, mask: np.ndarray | None) -> None:
        super().__init__(session, mask)
        self.away, self.trajectory = session.model.embed_negative(), session.trajectory
        layers = [named for block in self.unet.up_blocks for named in block.named_modules()]
        self.parts = [part for name, m in layers if name.endswith("attn1") for part in (m.to_k, m.to_v)]

    @torch.no_grad()
    def noise(self, z: Tensor, step: int, text: Tensor) -> Tensor:
        t, kept = 1 + (step - 1) * STRIDE, {}
        hooks = [part.register_forward_hook(lambda m, a, out: kept.__setitem__(m, out)) for part in self.parts]
        self.unet(self.trajectory[step - 1], t, encoder_hidden_states=text)
        for hook in hooks:
            hook.remove()
        hooks = [part.register_forward_hook(lambda m, a, out: kept[m]) for part in self.parts]
        noise = self.unet(z, t, encoder_hidden_states=text).sample
        for hook in hooks:
            hook.remove()
        return noise

    def similar(self, one: Tensor, other: Tensor) -> float | Tensor:
        return (F.cosine_similarity(one, other, dim=0) + 1) / 2

    def gradient(self, z: Tensor, step: int, config: DragConfig) -> tuple[Tensor, float, float]:
        z, t = z.detach().clone().requires_grad_(), 1 + (step - 1) * STRIDE
        feature, _ = self.look(z, t)
        with torch.no_grad():
            first, _ = self.look(self.trajectory[step], t)
        side = range(-config.r1, config.r1 + 1)
        there, left = [], []
        for handle, target in zip(self.handles.int().tolist(), self.targets.int().tolist(), strict=True):
            for dy in side:
                for dx in side:
                    source = handle[0] + dx, handle[1] + dy
                    original = first[:, source[1], source[0]]
                    there.append(self.similar(feature[:, target[1] + dy, target[0] + dx], original))
                    if all(
                        max(abs(source[0] - b[0]), abs(source[1] - b[1])) > config.r1 for b in self.targets.tolist()
                    ):
                        left.append(self.similar(feature[:, source[1], source[0]], original))
        edit = config.edit_weight / (1 + 4 * torch.stack(there).mean()) + config.leave_weight * torch.stack(left).mean()
        held = F.interpolate(torch.tensor(editable())[None, None].float(), self.z0.shape[2:], mode="area")[0, 0]
        kept: list[Tensor] = []
        hook = self.unet.up_blocks[2].register_forward_hook(lambda *args: kept.append(args[-1][0]))
        self.down(z, t)
        with torch.no_grad():
            self.down(self.trajectory[step], t)
        hook.remove()
        weights = 1 - held
        content = (self.similar(*kept) * weights).sum() / weights.sum()
        content = config.content_weight / (1 + 4 * content)
        scale = 1e3 * config.energy
        by_edit, by_content = (torch.autograd.grad(scale * x, z, retain_graph=True)[0] for x in (edit, content))
        return held * by_edit + (1 - held) * by_content, float(edit.detach()), float(content.detach())

    def run(self, config: DragConfig) -> list[tuple[Tensor, float, float]]:
        z, done = self.z0, []
        for i, step in enumerate(range(7, 0, -1)):
            edit = content = float("nan")
            without = self.noise(z, step, self.away)
            noise = without + config.guidance * (self.noise(z, step, self.text) - without)
            if i in (0, 1, 2, 4):  # of six guided steps the first third, and then every second one
                gradient, edit, content = self.gradient(z, step, config)
                noise = noise + 0.04 * gradient
            now, below = (float(self.alphas[max(1 + (s - 1) * STRIDE, 0)]) for s in (step, step - 1))
            x0 = (z - (1 - now) ** 0.5 * noise) / now**0.5
            z = below**0.5 * x0 + (1 - below) ** 0.5 * noise
            done.append((z, edit, content))
        return done


def test_it_is_guided_by_the_energies(sd15: Any) -> None:
    session = make_session(Model(sd15), CONFIG, editable())
    program = Program(session, editable())
    snapshots = list(session.optimize())
    for k, (snapshot, (z, edit, content)) in enumerate(zip(snapshots, program.run(CONFIG), strict=True)):
        torch.testing.assert_close(snapshot.variable, z, rtol=1e-3, atol=1e-3)
        assert bool(snapshot.losses) == (k in (0, 1, 2, 4)) and snapshot.state.step == 6 - k
        if snapshot.losses:
            assert snapshot.losses["edit"] == pytest.approx(edit, rel=1e-4)
            assert snapshot.losses["content"] == pytest.approx(content, rel=1e-4)
            assert snapshot.loss == pytest.approx(edit + content, rel=1e-4) and snapshot.grad_norm > 0
    assert session.status == "denoised"


def test_energies_fall_where_they_should() -> None:
    rng = torch.Generator().manual_seed(0)
    first = torch.randn(8, 20, 24, generator=rng)
    anchors, objectives = torch.tensor([[6.0, 8.0]]).double(), torch.tensor([[14.0, 8.0]]).double()
    moved = first.clone()
    moved[:, 6:11, 12:17] = first[:, 6:11, 4:9]
    grid, weights = (24, 20), {"weight": 4.0, "leave": 0.2}
    before = edit_energy(first, first, anchors, objectives, 2, grid, **weights)
    after = edit_energy(moved, first, anchors, objectives, 2, grid, **weights)
    assert float(after) == pytest.approx(4 / 5 + 0.2, abs=1e-5) and after < before
    moved[:, 6:11, 4:9] = -first[:, 6:11, 4:9]
    assert float(edit_energy(moved, first, anchors, objectives, 2, grid, **weights)) == pytest.approx(0.8, abs=1e-5)
    area = torch.zeros(1, 1, 20, 24)
    area[..., 4:12, 2:18] = 1
    assert float(content_energy(moved, first, area, weight=6.0)) == pytest.approx(6 / 5, abs=1e-5)
    assert float(content_energy(moved, first, None, weight=6.0)) == 0
    assert content_energy(-first, first, area, weight=6.0) > 5.9


def test_steps_are_repeated_and_random_in_the_mask_alone(small: Model, monkeypatch: Any) -> None:
    """Nine guided steps of twelve: 0 to 3 and then every second one; one in the second third is random."""
    from dragnoise.editors import dragondiffusion

    config = CONFIG.replace(steps=12, edit_from=12, drag_steps=9, guidance=1.0)

    def latents(count: int, **changes: Any) -> list[Tensor]:
        session = make_session(small, config.replace(**changes), editable())
        return [snapshot.variable for snapshot in islice(session.optimize(), count)]

    one, other = latents(9), latents(5, seed=1)
    assert torch.equal(one[3], other[3])
    differs = (one[4] - other[4]).abs().amax((0, 1)) > 0
    h, w = one[0].shape[2:]
    free = F.interpolate(torch.tensor(editable())[None, None].float(), (h, w), mode="nearest")[0, 0] > 0
    assert differs.any() and not differs[~free].any()
    monkeypatch.setattr(dragondiffusion, "REPEATS", 1)
    once = latents(9)
    assert torch.equal(one[7], once[7]) and not torch.equal(one[8], once[8])


def test_without_energy_or_prompt_it_is_the_reconstruction(small: Model) -> None:
    session = make_session(small, CONFIG.replace(energy=0.0, guidance=1.0, steps=6, edit_from=4), editable())
    snapshots = list(session.optimize())
    assert all(not snapshot.losses for snapshot in snapshots)
    plain = list(session.engine.denoise_unedited(session.state))[-1].latents
    assert (snapshots[-1].variable - plain).abs().max() < (plain - session.trajectory[-1]).abs().max()


def test_a_step_is_rewound_and_the_rest_rendered_unguided(small: Model) -> None:
    session = make_session(small, CONFIG.replace(steps=6, edit_from=4, drag_steps=4), editable())
    list(session.optimize())
    whole = np.asarray(session.render())
    session.rewind(2)
    assert session.status == "running" and not np.array_equal(np.asarray(session.render()), whole)
    list(session.optimize())
    assert np.array_equal(np.asarray(session.render()), whole)
    assert session.anchors.shape == (2, 2) and (session.anchors <= np.array(SIZE)).all()
