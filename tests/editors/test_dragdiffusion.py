"""DragDiffusion as released, against a plain implementation on diffusers' own U-Net."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from plain import Plain, editable, make_session
from torch import Tensor

from dragnoise import DragConfig, Model
from dragnoise.editors.parts.attention import self_attentions, with_shared_keys_and_values

CONFIG = DragConfig.preset("dragdiffusion", steps=10, edit_from=7, lr=0.05)


class Program(Plain):
    """One Adam on the latent at one timestep."""

    def run(self, iterations: int) -> Iterator[tuple[float, Tensor, Tensor]]:
        z = self.z0.clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=0.05)
        with torch.no_grad():
            first, held = self.look(self.z0)
        starts = self.handles.clone()
        for k in range(iterations):
            feature, below = self.look(z)
            if k:
                self.handles = torch.stack([self.track(feature, first, *x) for x in zip(starts, self.handles)])  # noqa: B905
            gap = (self.targets - self.handles).norm(dim=-1)
            assert (gap >= 2).any()
            loss = torch.zeros(())
            for handle, target, distance in zip(self.handles, self.targets, gap, strict=True):
                if distance >= 2:
                    step = (target - handle) / distance
                    loss = (
                        loss
                        + 9 * (self.patch(feature, handle).detach() - self.patch(feature, handle + step)).abs().mean()
                    )
            if self.mask.any():
                loss = loss + 0.1 * ((below - held) * (1 - self.mask)).abs().sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
            yield loss.item(), self.handles.clone(), z.detach().clone()


@pytest.mark.parametrize("mask", [None, editable()], ids=["no mask", "mask"])
def test_it_is_the_released_program(sd15: Any, mask: np.ndarray | None) -> None:
    session = make_session(Model(sd15), CONFIG, mask)
    plain = Program(session, mask)
    for k, (loss, handles, z) in enumerate(plain.run(4), 1):
        snapshot = session.step()
        assert snapshot.iteration == k and snapshot.loss == pytest.approx(loss, rel=1e-4)
        torch.testing.assert_close(snapshot.state.anchors.float(), handles)
        torch.testing.assert_close(snapshot.variable, z, rtol=1e-4, atol=1e-4)
    assert (snapshot.losses["mask"] > 0) == (mask is not None)
    assert (snapshot.variable - session.history[0].variable).abs().max() > 0.1  # it has moved something


def test_rendering_shares_keys_and_values(sd15: Any) -> None:
    """Against diffusers' whole U-Net with the ten last steps' attention replaced by one written out."""
    session = make_session(Model(sd15), CONFIG)
    session.step()
    pair = torch.cat([session.trajectory[-1], session.history[-1].variable])
    latents = list(session.denoise())[-1].latents
    before = [layer.processor for layer in self_attentions(sd15.unet)]
    assert len(before) == 16
    torch.testing.assert_close(latents, Plain(session.branch(0), None).render(pair, 601), rtol=1e-4, atol=1e-4)
    assert [layer.processor for layer in self_attentions(sd15.unet)] == before  # nothing is left behind on the model


def test_layers_are_counted_in_proportion(sd15: Any, three_block: Any) -> None:
    for pipeline in (sd15, three_block):
        shared = self_attentions(with_shared_keys_and_values(Model(pipeline), 8).unet.unet)
        marked = [type(layer.processor).__name__ == "SharedKeysAndValues" for layer in shared]
        assert marked == [i >= len(shared) / 2 for i in range(len(shared))]


def test_an_unedited_pair_is_the_reconstruction(small: Model) -> None:
    """Sharing changes nothing where both pictures are the same."""
    session = make_session(small, CONFIG.replace(share_from=3))
    session.step()
    state = session.history[0].state
    pair = list(session.store.engine.editor(session.state).render(state))[-1].latents
    plain = list(session.store.engine.denoise_unedited(session.state))[-1].latents
    torch.testing.assert_close(pair, plain, rtol=1e-4, atol=1e-4)
