"""FastDrag's field, filling and sampling, against loops and hooks written here."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence
from plain import STRIDE, Plain, editable, make_session
from torch import Tensor

from dragnoise import DragConfig, Model
from dragnoise.editors.fastdrag import stretch, warp

CONFIG = DragConfig.preset("fastdrag", steps=10, edit_from=7)
FREE = torch.zeros(9, 11, dtype=torch.bool)
FREE[2:7, 1:9] = True


def by_hand(cell: tuple[float, float], anchor: tuple[float, float]) -> float:
    """|PC| / |AP|, P found by walking along the ray."""
    centre, radius = (4.5, 4.0), math.hypot(7, 4) / 2  # of the columns 1..8 and the rows 2..6
    far = math.dist(cell, anchor)
    if far == 0:
        return 1.0
    low, high = 0.0, 40.0
    for _ in range(60):  # where the ray leaves the circle
        middle = (low + high) / 2
        x, y = (a + middle * (c - a) / far for a, c in zip(anchor, cell, strict=True))
        low, high = (middle, high) if math.dist((x, y), centre) < radius else (low, middle)
    return max(low - far, 0.0) / low


def test_the_field_is_full_at_an_anchor_and_ends_on_the_circle() -> None:
    anchors, objectives = (
        torch.tensor([[3.0, 4.0], [6.0, 3.0]]).double(),
        torch.tensor([[6.0, 5.0], [6.0, 6.0]]).double(),
    )
    field = stretch(FREE, anchors, objectives, nearest_decides=False)
    near = stretch(FREE, anchors, objectives, nearest_decides=True)
    for k, (row, column) in enumerate(FREE.nonzero().tolist()):
        cell, moves, weights = (float(column), float(row)), [], []
        for anchor, objective in zip(anchors.tolist(), objectives.tolist(), strict=True):
            factor = by_hand(cell, tuple(anchor))
            moves.append([factor * (b - a) for a, b in zip(anchor, objective, strict=True)])
            weights.append(1 / (math.dist(cell, anchor) + 1e-4))
        wanted = [sum(w * m[i] for w, m in zip(weights, moves, strict=True)) / sum(weights) for i in (0, 1)]
        assert field[k].tolist() == pytest.approx(wanted, abs=1e-9)
        assert near[k].tolist() == pytest.approx(moves[int(weights[1] > weights[0])], abs=1e-9)
    at_anchor = FREE.nonzero().tolist().index([4, 3])
    assert near[at_anchor].tolist() == [3.0, 1.0] and field[at_anchor].tolist() != near[at_anchor].tolist()


def test_values_move_the_first_one_stays_and_holes_are_filled_in_turn() -> None:
    free = torch.zeros(3, 5, dtype=torch.bool)
    free[1, 1:4] = True
    z = torch.arange(15.0).reshape(1, 1, 3, 5)
    field = torch.tensor([[2.0, 0.0], [1.2, 0.0], [9.0, 0.0]])  # both first ones want column 3, the third the border
    moved = warp(z, free, field)
    assert moved[0, 0, 1, 3] == 6 and moved[0, 0, 1, 4] == 8
    first = (1 / 1 * 5 + 1 / 2 * 6 + 1 * 1 + 1 * 11) / (1 + 0.5 + 1 + 1)  # left, right, above, below of column 1
    second = (1 * first + 1 * 6 + 1 * 2 + 1 * 12) / 4  # where the filled hole serves
    assert moved[0, 0, 1, 1:3].tolist() == pytest.approx([first, second])
    held = ~free
    held[1, 4] = False
    assert torch.equal(moved[..., held], z[..., held])


class Program(Plain):
    """Sampling with the keys and values of the inversion's forward, kept by hooks."""

    def up_layers(self) -> list[Any]:
        modules = [named for block in self.unet.up_blocks for named in block.named_modules()]
        return [module for name, module in modules if name.endswith("attn1")]

    @torch.no_grad()
    def sampled(self, trajectory: tuple[Tensor, ...], z: Tensor) -> Tensor:
        layers = self.up_layers()
        assert len(layers) == 9
        for step in range(7, 0, -1):
            t = 1 + (step - 1) * STRIDE
            kept: dict[Any, Tensor] = {}
            hooks = [
                part.register_forward_hook(lambda m, a, out, kept=kept: kept.__setitem__(m, out))
                for layer in layers
                for part in (layer.to_k, layer.to_v)
            ]
            self.unet(trajectory[step - 1], t, encoder_hidden_states=self.text)  # as the inversion asked
            for hook in hooks:
                hook.remove()
            hooks = [part.register_forward_hook(lambda m, a, out, kept=kept: kept[m]) for part in list(kept)]
            z = self.down(z, t)
            for hook in hooks:
                hook.remove()
        return z


@pytest.mark.parametrize("blend", ["distance", "nearest"])
def test_it_warps_once_and_samples_with_the_inversions_keys_and_values(sd15: Any, blend: str) -> None:
    session = make_session(Model(sd15), CONFIG.replace(blend=blend), editable())
    program = Program(session, editable())
    snapshots = list(session.optimize())
    assert len(snapshots) == 7 and session.status == "denoised" and all(s.losses == {} for s in snapshots)
    assert [s.state.step for s in session.history] == [7, 6, 5, 4, 3, 2, 1, 0]
    anchors, objectives = program.handles.double() / 4, program.targets.double() / 4
    free = program.mask[0, 0] > 0
    field = stretch(free, anchors, objectives, nearest_decides=blend == "nearest")
    warped = warp(program.z0, free, field)
    assert (warped - program.z0).abs().max() > 0.5
    wanted = program.sampled(session.trajectory, warped)
    torch.testing.assert_close(session.history[-1].variable, wanted, rtol=1e-4, atol=1e-4)
    for k in (1, 4, 7):  # what is left to do from any step gives the same
        states = session.engine.editor(session.state).render(session.history[k].state)
        torch.testing.assert_close(list(states)[-1].latents, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(session.anchors, session.history[3].anchors)
    assert session.history[3].distances.max() == 0  # where the method has put them


def test_it_needs_a_mask_and_ends_with_the_clean_latent(small: Model) -> None:
    session = make_session(small, dataclasses.replace(CONFIG, steps=3, edit_from=2))
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "'fastdrag'", "mask")
    session.mask = editable()
    assert len(list(session.optimize())) == 2
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "denoised", "session.rewind")
    session.rewind(1)
    assert session.status == "running" and session.step().state.step == 0
