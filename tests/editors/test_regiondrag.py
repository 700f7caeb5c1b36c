"""RegionDrag's regions and sampling, against loops and hooks written here."""

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
from dragnoise.editors.regiondrag import along_drags, polygons

CONFIG = DragConfig.preset("regiondrag", steps=10, edit_from=7)
FREE = torch.zeros(9, 11, dtype=torch.bool)
FREE[2:7, 1:9] = True
CORNERS = [((20.0, 20.0), (28.0, 24.0)), ((44.0, 20.0), (52.0, 28.0)), ((44.0, 44.0), (48.0, 52.0)),
           ((20.0, 44.0), (24.0, 44.0))]  # fmt: skip


def pairs(regions: tuple[Any, Any]) -> dict[tuple[int, int], tuple[int, int]]:
    """Target (row, column) -> source (row, column)."""
    targets, sources = (list(zip(*(axis.tolist() for axis in cells), strict=True)) for cells in regions)
    return dict(zip(targets, sources, strict=True))


def test_one_drag_moves_the_free_cells_as_they_are() -> None:
    found = pairs(along_drags(FREE, torch.tensor([[3.0, 4.0]]).double(), torch.tensor([[6.0, 5.0]]).double()))
    wanted = {
        (row, column): (row - 1, column - 3)
        for row in range(3, 7) for column in range(4, 9)
    }  # fmt: skip
    assert found == wanted


def test_several_drags_share_by_inverse_distance_and_targets_look_back() -> None:
    anchors = torch.tensor([[2.0, 4.0], [7.0, 4.0]]).double()
    objectives = torch.tensor([[2.0, 2.0], [7.0, 6.0]]).double()
    found = pairs(along_drags(FREE, anchors, objectives))
    assert found[2, 2] == (4, 2) and found[6, 7] == (4, 7)  # both ends, exactly
    moved = []
    for row, column in FREE.nonzero().tolist():
        weights = [1 / (math.dist((column, row), anchor) + 1e-6) for anchor in anchors.tolist()]
        down = (weights[0] * -2 + weights[1] * 2) / sum(weights)
        moved.append((column, row + down, down))
    assert set(found) == {
        (round(y), x) for x, y, _ in moved if 0 <= round(y) < 9 and FREE[round(y), x]
    }  # fmt: skip
    for (row, column), source in found.items():
        near = sorted(moved, key=lambda place: math.dist((column, row), place[:2]))[:4]
        weights = [1 / (math.dist((column, row), place[:2]) + 1e-6) for place in near]
        back = sum(w * place[2] for w, place in zip(weights, near, strict=True)) / sum(weights)
        assert source == (min(max(round(row - back), 0), 8), column)


def test_a_polygon_is_mapped_corner_to_corner() -> None:
    free = torch.ones(9, 11, dtype=torch.bool)
    start = torch.tensor([[1.0, 1.0], [5.0, 1.0], [1.0, 5.0]]).double()
    found = pairs(polygons(free, start, 2 * start - 1))  # twice as large, from (1, 1)
    assert found[1, 1] == (1, 1) and found[1, 9] == (1, 5) and found[5, 5] == (3, 3) and (8, 9) not in found
    square = torch.tensor([[1.0, 1.0], [7.0, 1.0], [7.0, 7.0], [1.0, 7.0]]).double()
    tapered = torch.tensor([[3.0, 1.0], [5.0, 1.0], [7.0, 7.0], [1.0, 7.0]]).double()
    found = pairs(polygons(free, square, tapered))
    for corner, source in zip(tapered.long().tolist(), square.long().tolist(), strict=True):
        assert found[corner[1], corner[0]] == (source[1], source[0])
    rows = [found[row, 4][0] for row in range(1, 8)]  # in perspective: the far rows take more of the source each
    assert rows == sorted(rows) and rows[1] - rows[0] >= rows[-1] - rows[-2] and found[4, 4] != (4, 4)


class Program(Plain):
    """Noising with fresh noise, DDPM steps with the noises kept, keys and values by hooks."""

    def noising(self, z: Tensor, seed: int) -> list[Tensor]:
        rng, latents = torch.Generator().manual_seed(seed), [z]
        for step in range(1, 8):
            share = self.alpha(step) / self.alpha(step - 1)
            latents.append(share**0.5 * latents[-1] + (1 - share) ** 0.5 * torch.randn(z.shape, generator=rng))
        return latents

    def alpha(self, step: int) -> float:
        return float(self.alphas[max(1 + (step - 1) * STRIDE, 0)])

    def mean(self, noise: Tensor, z: Tensor, step: int) -> tuple[Tensor, float]:
        now, below = self.alpha(step), self.alpha(step - 1)
        sigma = ((1 - below) / (1 - now) * (1 - now / below)) ** 0.5
        x0 = (z - (1 - now) ** 0.5 * noise) / now**0.5
        return below**0.5 * x0 + (1 - below - sigma**2) ** 0.5 * noise, sigma

    @torch.no_grad()
    def sampled(self, latents: list[Tensor], regions: tuple[Any, Any], config: DragConfig) -> Tensor:
        layers = [module for name, module in self.unet.named_modules() if name.endswith("attn1")]
        assert len(layers) == 16
        (to_rows, to_columns), (rows, columns) = regions
        free, z = self.mask > 0, latents[-1].clone()
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(config.seed + 1))
        blurred = (1 - config.vacate**2) ** 0.5 * z + config.vacate * noise
        z[..., rows, columns] = blurred[..., rows, columns]
        for step in range(7, 0, -1):
            t = 1 + (step - 1) * STRIDE
            if step > config.refine_from:
                z[..., to_rows, to_columns] = latents[step][..., rows, columns]
            z = torch.where(free, z, latents[step])
            kept: dict[Any, Tensor] = {}
            parts = [part for layer in layers for part in (layer.to_k, layer.to_v)]
            hooks = [
                part.register_forward_hook(lambda m, a, out, kept=kept: kept.__setitem__(m, out)) for part in parts
            ]
            own, sigma = self.mean(
                self.unet(latents[step], t, encoder_hidden_states=self.text).sample, latents[step], step
            )
            for hook in hooks:
                hook.remove()
            w = (latents[step - 1] - own) / sigma
            hooks = [part.register_forward_hook(lambda m, a, out, kept=kept: kept[m]) for part in parts]
            mean, _ = self.mean(self.unet(z, t, encoder_hidden_states=self.text).sample, z, step)
            for hook in hooks:
                hook.remove()
            z = torch.where(free, mean + sigma * w, latents[step - 1])
        return z


@pytest.mark.parametrize("regions", ["mask", "polygon"])
def test_it_copies_and_samples_with_kept_noises(sd15: Any, regions: str) -> None:
    config = CONFIG.replace(regions=regions, refine_from=2)
    drags = {"drags": CORNERS} if regions == "polygon" else {}
    session = make_session(Model(sd15), config, editable(), **drags)
    program = Program(session, editable())
    snapshots = list(session.optimize())
    assert [s.state.step for s in snapshots] == [6, 5, 4, 3, 2, 1, 0] and session.status == "denoised"
    find = polygons if regions == "polygon" else along_drags
    cells = find(program.mask[0, 0] > 0, program.handles.double() / 4, program.targets.double() / 4)
    latents = program.noising(session.trajectory[0], config.seed)
    torch.testing.assert_close(session.history[0].variable, latents[-1])
    wanted = program.sampled(latents, cells, config)
    torch.testing.assert_close(session.history[-1].variable, wanted, rtol=1e-4, atol=1e-4)
    held = program.mask[0, 0] == 0
    torch.testing.assert_close(session.history[-1].variable[..., held], session.trajectory[0][..., held])
    assert (session.history[-1].variable - session.trajectory[0]).abs().max() > 0.5


def test_with_the_noises_kept_nothing_changes_but_what_is_copied(small: Model) -> None:
    session = make_session(small, dataclasses.replace(CONFIG, vacate=0.0, refine_from=7), editable())
    list(session.optimize())
    torch.testing.assert_close(session.history[-1].variable, session.trajectory[0], rtol=1e-3, atol=1e-3)


def test_it_stops_copying_where_it_is_rendered(small: Model) -> None:
    """The picture of an earlier unit has been copied to less often."""
    session = make_session(small, CONFIG.replace(steps=5, edit_from=4), editable())
    list(session.optimize())
    pictures = []
    for k in (4, 3, 1):
        session.rewind(k)
        pictures.append(np.asarray(session.render()))
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[1], pictures[2])


def test_what_does_not_fit_is_refused(small: Model) -> None:
    session = make_session(small, CONFIG)
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "'regiondrag'", "mask")
    session.mask = editable()
    session.config = session.config.replace(regions="polygon")
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "polygon", "3 or 4", "2")
    session.drags = [((20.0, 20.0), (20.0, 20.5)), ((30.0, 30.0), (31.0, 30.0)), ((40.0, 40.0), (40.0, 41.0))]
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "one line")
    session.config = session.config.replace(regions="mask")
    session.drags = [((20.0, 20.0), (71.0, 87.0))]
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "objectives")
