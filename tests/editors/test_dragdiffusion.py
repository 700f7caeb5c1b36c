"""DragDiffusion as released, against a plain implementation on diffusers' own U-Net."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import smooth_picture
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model
from dragnoise.editors.attention import self_attentions, with_shared_keys_and_values

SIZE = (72, 88)  # width, height: the latent is 9 x 11
DRAGS = [((20.0, 30.0), (44.0, 20.0)), ((60.0, 50.0), (50.0, 70.0))]
CONFIG = DragConfig.preset("dragdiffusion", steps=10, edit_from=7, lr=0.05)
STRIDE = 100  # timesteps between two of the ten steps


def make_session(model: Model, mask: np.ndarray | None = None, **changes: Any) -> DragSession:
    session = DragSession(model, smooth_picture(*SIZE), "a cat", CONFIG.replace(**changes))
    session.drags, session.mask = DRAGS, mask
    return session


def editable() -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    mask[10:60, 10:60] = True
    return mask


class Plain:
    """The published steps, written down once more without anything of dragnoise but the inverted latent."""

    def __init__(self, session: DragSession, mask: np.ndarray | None) -> None:
        pipe = session.model.pipeline
        self.unet, self.text = pipe.unet, session.model.embed("a cat")
        self.alphas = session.model.scheduler.alphas_cumprod
        self.t = 601  # the seventh of 1, 101, ..., 901
        self.z0 = list(session.invert())[-1].latents
        h, w = SIZE[1] // 2, SIZE[0] // 2
        self.grid = (h, w)
        points = torch.tensor(DRAGS, dtype=torch.float64)
        cells = (points / torch.tensor(SIZE) * torch.tensor([w, h])).float().round()
        self.handles, self.targets = cells[:, 0].clone(), cells[:, 1]
        self.mask = None
        if mask is not None:
            small = F.interpolate(torch.tensor(mask)[None, None].float(), (h, w), mode="nearest")
            self.mask = F.interpolate(small, self.z0.shape[-2:], mode="nearest")

    def look(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The feature at half the picture's size, and the latent one step below."""
        kept: list[Tensor] = []
        hook = self.unet.up_blocks[2].register_forward_hook(lambda *args: kept.append(args[-1]))
        noise = self.unet(z, self.t, encoder_hidden_states=self.text).sample
        hook.remove()
        now, below = self.alphas[self.t], self.alphas[self.t - STRIDE]
        x0 = (z - (1 - now).sqrt() * noise) / now.sqrt()
        feature = F.interpolate(kept[0], self.grid, mode="bilinear", align_corners=False)[0]
        return feature, below.sqrt() * x0 + (1 - below).sqrt() * noise

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
            if self.mask is not None and self.mask.any():
                loss = loss + 0.1 * ((below - held) * (1 - self.mask)).abs().sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
            yield loss.item(), self.handles.clone(), z.detach().clone()

    def patch(self, feature: Tensor, centre: Tensor) -> Tensor:
        """3 x 3 bilinear samples around a point well inside."""
        h, w = self.grid
        offsets = torch.tensor([[dx, dy] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
        where = (centre + offsets) / (torch.tensor([w, h]) - 1) * 2 - 1
        return F.grid_sample(feature[None], where[None, None].float(), align_corners=True)[0, :, 0]

    def track(self, feature: Tensor, first: Tensor, start: Tensor, handle: Tensor) -> Tensor:
        x, y = handle.int().tolist()
        sx, sy = start.int().tolist()
        left, top = max(x - 3, 0), max(y - 3, 0)
        window = feature[:, top : y + 4, left : x + 4]
        distance = (window - first[:, sy, sx][:, None, None]).abs().sum(0)
        row, column = divmod(int(distance.argmin()), window.shape[2])
        return torch.tensor([left + column, top + row]).float()


@pytest.mark.parametrize("mask", [None, editable()], ids=["no mask", "mask"])
def test_it_is_the_released_program(sd15: Any, mask: np.ndarray | None) -> None:
    session = make_session(Model(sd15), mask)
    plain = Plain(session, mask)
    for k, (loss, handles, z) in enumerate(plain.run(4), 1):
        snapshot = session.step()
        assert snapshot.iteration == k and snapshot.loss == pytest.approx(loss, rel=1e-4)
        torch.testing.assert_close(snapshot.state.anchors.float(), handles)
        torch.testing.assert_close(snapshot.variable, z, rtol=1e-4, atol=1e-4)
    assert (snapshot.losses["mask"] > 0) == (mask is not None)
    assert (snapshot.variable - session.history[0].variable).abs().max() > 0.1  # it has moved something


def attend_by_hand(layer: Any, x: Tensor) -> Tensor:
    """Self-attention of a batch of two, keys and values of the first for both, softmax written out."""
    q, k, v = layer.to_q(x), layer.to_k(x[:1]).expand(2, -1, -1), layer.to_v(x[:1]).expand(2, -1, -1)
    q, k, v = (y.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for y in (q, k, v))
    mixed = ((q @ k.transpose(-1, -2)) * layer.scale).softmax(-1) @ v
    return layer.to_out[0](mixed.transpose(1, 2).flatten(2))


def test_rendering_shares_keys_and_values(sd15: Any) -> None:
    """Against diffusers' whole U-Net with the ten last steps' attention replaced by one written out."""
    session = make_session(Model(sd15))
    session.step()
    z = torch.cat([session.trajectory[-1], session.history[-1].variable])
    latents = list(session.denoise())[-1].latents
    layers = self_attentions(sd15.unet)
    assert len(layers) == 16
    before = [layer.processor for layer in layers]
    original = {layer: layer.forward for layer in layers[10:]}
    try:
        for layer in layers[10:]:
            layer.forward = lambda x, *args, layer=layer, **kwargs: attend_by_hand(layer, x)
        alphas, text = session.model.scheduler.alphas_cumprod, session.model.embed("a cat").expand(2, -1, -1)
        with torch.no_grad():
            for t in range(601, 0, -STRIDE):
                now, below = alphas[t], alphas[max(t - STRIDE, 0)]
                noise = sd15.unet(z, t, encoder_hidden_states=text).sample
                x0 = (z - (1 - now).sqrt() * noise) / now.sqrt()
                z = below.sqrt() * x0 + (1 - below).sqrt() * noise
    finally:
        for layer, forward in original.items():
            layer.forward = forward
    torch.testing.assert_close(latents, z[1:], rtol=1e-4, atol=1e-4)
    assert [layer.processor for layer in layers] == before  # nothing is left behind on the model


def test_layers_are_counted_in_proportion(sd15: Any, three_block: Any) -> None:
    for pipeline in (sd15, three_block):
        shared = self_attentions(with_shared_keys_and_values(Model(pipeline), 8).unet.unet)
        marked = [type(layer.processor).__name__ == "SharedKeysAndValues" for layer in shared]
        assert marked == [i >= len(shared) / 2 for i in range(len(shared))]


def test_an_unedited_pair_is_the_reconstruction(small: Model) -> None:
    """Sharing changes nothing where both pictures are the same."""
    session = make_session(small, share_from=3)
    session.step()
    state = session.history[0].state
    pair = list(session.store.engine.editor(session.state).render(state))[-1].latents
    plain = list(session.store.engine.denoise_unedited(session.state))[-1].latents
    torch.testing.assert_close(pair, plain, rtol=1e-4, atol=1e-4)
