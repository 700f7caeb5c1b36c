"""DragNoise with another block's output as the variable (Fig. 10), against hooks on diffusers' own U-Net."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_one_sentence, assert_same_snapshots
from plain import DRAGS, STRIDE, Plain, make_session
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model

SITES = ["down.0", "down.1", "down.2", "down.3", "mid", "up.0", "up.1", "up.2"]
CONFIG = DragConfig.released(steps=10, edit_from=7, refine_from=2, lr=0.05, max_iterations=2)


class Program(Plain):
    """The released program with the output of any block in the place of the mid block's."""

    def module(self, site: str) -> Any:
        kind, _, number = site.partition(".")
        return self.unet.mid_block if kind == "mid" else getattr(self.unet, f"{kind}_blocks")[int(number)]

    @contextmanager
    def output(self, site: str, value: Tensor | None) -> Iterator[list[Tensor]]:
        """The block gives `value`, as the next block's input and as a skip; the list gets what it gave by itself."""
        own: list[Tensor] = []

        def hook(module: Any, args: Any, out: Any) -> Any:
            is_down = site.startswith("down")
            own.append(out[0] if is_down else out)
            if value is not None:
                return (value, (*out[1][:-1], value)) if is_down else value
            return None

        handle = self.module(site).register_forward_hook(hook)
        try:
            yield own
        finally:
            handle.remove()

    def run(self, site: str, config: DragConfig) -> Iterator[tuple[float, Tensor, Tensor]]:
        with torch.no_grad(), self.output(site, None) as own:
            first, held = self.look(self.z0)
        value = own[0].clone().requires_grad_()
        adam = torch.optim.Adam([value], lr=config.lr)
        starts = self.handles.clone()
        for k in range(config.max_iterations):
            with self.output(site, value):
                feature, below = self.look(self.z0)
            if k:
                self.handles = torch.stack(
                    [self.track(feature, first, *x) for x in zip(starts, self.handles, strict=True)]
                )
            loss = config.mask_weight * (below - held).abs().sum()
            for handle, target in zip(self.handles, self.targets, strict=True):
                ahead = handle + (target - handle) / (target - handle).norm()
                loss = loss + 9 * (self.patch(feature, handle).detach() - self.patch(feature, ahead)).abs().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            yield loss.item(), self.handles.clone(), value.detach().clone()

    @torch.no_grad()
    def propagated(self, site: str, value: Tensor, config: DragConfig) -> Tensor:
        z = self.z0
        for k, t in enumerate(range(self.t, 0, -STRIDE)):
            with self.output(site, value if k < config.edit_from - config.refine_from else None):
                z = self.down(z, t)
        return z


def assert_nearly_all_close(found: Tensor, wanted: Tensor) -> None:
    """To 1e-4, but for one element in a thousand, to a hundredth of a step.

    Adam divides a gradient by its own size: where it is hardly more than rounding, that shows.
    """
    apart = (found - wanted).abs() > 1e-4 + 1e-4 * wanted.abs()
    assert apart.float().mean() <= 1e-3 and (found - wanted).abs().max() <= 0.02 * CONFIG.lr


@pytest.mark.parametrize("site", SITES)
def test_any_blocks_output_is_optimised_and_propagates(sd15: Any, site: str) -> None:
    session = make_session(Model(sd15), CONFIG.replace(variable=site))
    program = Program(session, None)
    for loss, handles, value in program.run(site, session.config):
        snapshot = session.step()
        assert snapshot.loss == pytest.approx(loss, rel=1e-4)
        torch.testing.assert_close(snapshot.state.anchors.float(), handles)
        assert_nearly_all_close(snapshot.variable, value)
    assert next(iter(snapshot.state.tensors)) == ("bottleneck" if site == "mid" else site)
    assert (snapshot.variable - session.history[0].variable).abs().max() > 0.05
    wanted = program.propagated(site, value, session.config)
    torch.testing.assert_close(list(session.denoise())[-1].latents, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("site", ["down.1", "up.1"])
@pytest.mark.parametrize("schedule", ["single", "alternate"])
def test_it_rewinds_saves_and_alternates(small: Model, site: str, schedule: str, tmp_path: Path) -> None:
    config = DragConfig(
        steps=6, edit_from=4, refine_from=1, lr=0.05, side=64, variable=site, schedule=schedule, propagation="delta",
        drag_steps=3, step_iterations=1,
    )  # fmt: skip
    straight = make_session(small, config)
    for _ in range(3):
        straight.step()
    session = make_session(small, config)
    session.step()
    session = DragSession.open(session.save(tmp_path / "a.drag"), small)
    for _ in range(2):
        session.step()
    assert_same_snapshots(session.history, straight.history)
    assert session.bottleneck.shape[1] == small.unet.unet.config.block_out_channels[-1]  # the model's own, unedited
    assert session.render().tobytes() == straight.render().tobytes() != session.reconstruct().tobytes()


def test_a_block_that_is_not_there_or_comes_too_late_is_refused(small: Model) -> None:
    session = make_session(small, DragConfig(steps=4, edit_from=2, refine_from=0, variable="down.3"), drags=DRAGS)
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "'down.3'", "down.2, mid, up.0")
    with pytest.raises(ValueError) as caught:
        DragConfig(variable="up.2", supervision_block=1)
    assert_one_sentence(caught.value, "'up.2'", "supervision_block=1", "'up.1'")
    with pytest.raises(ValueError) as caught:
        DragConfig.preset("dragdiffusion", variable="up.1")
    assert_one_sentence(caught.value, "variable='up.1'", "dragnoise")
