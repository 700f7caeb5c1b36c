"""The cut U-Net equals the whole one, and an iteration runs no more of it than its losses read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers import assert_one_sentence, smooth_picture
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model
from dragnoise.models.unet import CutUNet

SIZES = [(13, 22), (42, 64), (9, 9), (1, 7)]
PAPER = DragConfig(steps=4, edit_from=2, refine_from=1, max_iterations=3, lr=0.1)
RELEASED = DragConfig.released(steps=4, edit_from=2, max_iterations=3, lr=0.1)


def inputs(unet: Any, size: tuple[int, int], *, batch: int = 1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(sum(size))
    z = torch.randn(batch, unet.config.in_channels, *size, generator=rng)
    return z, torch.randn(batch, 16, unet.config.cross_attention_dim, generator=rng)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_the_halves_equal_the_whole(pipeline: StableDiffusionPipeline, size: tuple[int, int]) -> None:
    unet = pipeline.unet
    z, text = inputs(unet, size)
    seen: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *args: seen.append(args[-1])) for block in unet.up_blocks]
    hooks.append(unet.mid_block.register_forward_hook(lambda *args: seen.append(args[-1])))
    whole = unet(z, 481, encoder_hidden_states=text).sample
    for hook in hooks:
        hook.remove()
    mid, *features = seen

    cut = CutUNet(unet)
    encoded = cut.encode(z, 481, text)
    decoded = cut.decode(encoded.bottleneck, encoded)
    assert whole.std() > 0.1
    torch.testing.assert_close(decoded.noise, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(encoded.bottleneck, mid, rtol=0, atol=1e-5)
    assert cut.blocks == len(features)
    for upto in range(cut.blocks):
        part = cut.decode(encoded.bottleneck, encoded, upto=upto)
        assert part.noise is None and len(part.features) == upto + 1
        torch.testing.assert_close(part.feature, features[upto], rtol=0, atol=1e-5)
    assert len(decoded.features) == cut.blocks


@torch.no_grad()
def test_another_bottleneck_does_what_a_hook_would(pipeline: StableDiffusionPipeline) -> None:
    z, text = inputs(pipeline.unet, (13, 22))
    cut = CutUNet(pipeline.unet)
    encoded = cut.encode(z, 481, text)
    edited = encoded.bottleneck.flip(1)
    hook = pipeline.unet.mid_block.register_forward_hook(lambda *_: edited)
    whole = pipeline.unet(z, 481, encoder_hidden_states=text).sample
    hook.remove()
    decoded = cut.decode(edited, encoded).noise
    torch.testing.assert_close(decoded, whole, rtol=0, atol=1e-5)
    assert (decoded - cut.decode(encoded.bottleneck, encoded).noise).abs().max() > 0.01


@torch.no_grad()
def test_timestep_and_text_matter_each_for_its_own_sample(pipeline: StableDiffusionPipeline) -> None:
    z, text = inputs(pipeline.unet, (9, 9), batch=2)
    t = torch.tensor([21, 981])
    cut = CutUNet(pipeline.unet)
    encoded = cut.encode(z, t, text)
    noise = cut.decode(encoded.bottleneck, encoded).noise
    torch.testing.assert_close(noise, pipeline.unet(z, t, encoder_hidden_states=text).sample, rtol=0, atol=1e-5)
    for other in (cut.encode(z, t.flip(0), text), cut.encode(z, t, text.flip(0))):
        assert (cut.decode(other.bottleneck, other).noise - noise).abs().max() > 0.01


@pytest.mark.parametrize("size", [(13, 22), (9, 9)])
def test_the_gradient_is_that_of_the_whole(sd15: StableDiffusionPipeline, size: tuple[int, int]) -> None:
    unet = Model(sd15).unet.unet
    z, text = inputs(unet, size)
    cut = CutUNet(unet)
    with torch.no_grad():
        encoded = cut.encode(z, 481, text)
    leaf = encoded.bottleneck.clone().requires_grad_()
    (ours,) = torch.autograd.grad(cut.decode(leaf, encoded).noise.square().sum(), leaf)
    hook = unet.mid_block.register_forward_hook(lambda *_: leaf)
    (whole,) = torch.autograd.grad(unet(z, 481, encoder_hidden_states=text).sample.square().sum(), leaf)
    hook.remove()
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_nothing_of_diffusers_is_patched(sd15: StableDiffusionPipeline) -> None:
    def methods() -> dict[str, Any]:
        return {
            name: (vars(module).get("forward"), type(module).forward, dict(module._forward_hooks))
            for name, module in sd15.unet.named_modules()
        }

    before = methods()
    session = DragSession(Model(sd15), smooth_picture(40, 40), config=PAPER)
    session.drags = [((10, 10), (30, 30))]
    session.run(progress=False)
    assert methods() == before


# ----------------------------------------------------------------------------- what an iteration costs


class Meter:
    """Counts forwards and backwards of the U-Net's parts."""

    def __init__(self, unet: Any) -> None:
        self.forward: Counter[str] = Counter()
        self.backward: Counter[str] = Counter()
        parts = {"mid": unet.mid_block, "noise": unet.conv_out}
        parts |= {f"down{i}": block for i, block in enumerate(unet.down_blocks)}
        parts |= {f"up{i}": block for i, block in enumerate(unet.up_blocks)}
        self.hooks = []
        for name, part in parts.items():
            self.hooks.append(part.register_forward_hook(lambda *_, name=name: self.forward.update([name])))
            inner = part if name == "noise" else part.resnets[0].conv2
            self.hooks.append(inner.register_full_backward_hook(lambda *_, name=name: self.backward.update([name])))

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


def half_mask(width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return mask


def ready(pipeline: StableDiffusionPipeline, config: DragConfig, mask: np.ndarray | None) -> DragSession:
    """A session just before its first iteration, with one drag to a far place."""
    session = DragSession(Model(pipeline), smooth_picture(75, 91), config=config)
    session.drags = [((20, 20), (70, 80))]
    session.mask = mask
    for _ in session.invert():
        pass
    return session


def decoder(runs: int, upto: int) -> dict[str, int]:
    """So many runs of the up blocks 0..upto."""
    return {f"up{i}": runs for i in range(upto + 1)}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("block", [0, 1, 2])
def test_an_iteration_is_one_forward_and_one_backward_up_to_the_supervision_feature(
    sd15: StableDiffusionPipeline, block: int, masked: bool
) -> None:
    """Nothing else runs: no down block, no mid block, no noise; tracking reads the next iteration's forward."""
    session = ready(sd15, PAPER.replace(supervision_block=block), half_mask(75, 91) if masked else None)
    with Meter(sd15.unet) as meter:
        snapshots = list(session.optimize())
    assert len(snapshots) == 3
    assert meter.forward == meter.backward == decoder(3, block)
    assert [snapshot.mask_loss > 0 for snapshot in snapshots] == [False, masked, masked]


def test_steps_cost_what_the_loop_does(sd15: StableDiffusionPipeline) -> None:
    session = ready(sd15, PAPER.replace(max_iterations=80), None)
    with Meter(sd15.unet) as meter:
        for k in range(1, 4):
            session.step()
            assert meter.forward == decoder(k + 1, 2)  # one more: it says whether to go on, and is the next step's
            assert meter.backward == decoder(k, 2)


@pytest.mark.parametrize("mask", [None, half_mask(75, 91)], ids=["no mask", "half"])
def test_released_runs_to_the_noise_while_its_masking_is_active(
    sd15: StableDiffusionPipeline, mask: np.ndarray | None
) -> None:
    for iterations in (1, 2, 4):
        session = ready(sd15, RELEASED.replace(max_iterations=iterations), mask)
        with Meter(sd15.unet) as meter:
            snapshots = list(session.optimize())
        later = iterations - 1  # in the first iteration the term is exactly zero
        once = 1 if later else 0  # the latent that the term holds to, from the original
        assert meter.backward == decoder(iterations, 2) | ({"up3": later, "noise": later} if later else {})
        assert meter.forward == decoder(iterations + once, 2) | (
            {"up3": later + once, "noise": later + once} if later else {}
        )
        assert [snapshot.mask_loss > 0 for snapshot in snapshots] == [False] + [True] * later


@pytest.mark.parametrize("weight", [0.1, 0])
def test_released_stops_at_the_feature_with_a_full_mask_or_no_weight(
    sd15: StableDiffusionPipeline, weight: float
) -> None:
    session = ready(sd15, RELEASED.replace(mask_weight=weight), np.ones((91, 75), np.uint8) if weight else None)
    with Meter(sd15.unet) as meter:
        assert [snapshot.mask_loss for snapshot in session.optimize()] == [0, 0, 0]
    assert meter.forward == meter.backward == decoder(3, 2)


def test_weights_never_get_gradients(pipeline: StableDiffusionPipeline) -> None:
    session = DragSession(Model(pipeline), smooth_picture(50, 40), config=RELEASED.replace(max_iterations=2))
    session.drags = [((10, 10), (40, 30))]
    session.run(progress=False)
    assert len(session.history) == 3 and session.history[2].grad_norm > 0
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert not module.training
        assert not any(p.requires_grad or p.grad is not None for p in module.parameters())


def test_the_gradient_reaches_the_bottleneck_alone(model: Model) -> None:
    z, text = inputs(model.unet.unet, (9, 13))
    encoded = model.encode(z, 481, text)
    tensors = [encoded.bottleneck, encoded.time, encoded.text, *encoded.skips]
    assert not any(tensor.requires_grad for tensor in tensors)
    leaf = encoded.bottleneck.clone().requires_grad_()
    assert model.decode(leaf, encoded, upto=0).feature.requires_grad


# ----------------------------------------------------------------------------------- what is refused


def test_a_block_that_is_not_there(small: Model) -> None:
    session = DragSession(small, smooth_picture(40, 40), config=PAPER.replace(supervision_block=3))
    session.drags = [((1, 1), (9, 9))]
    with pytest.raises(ValueError) as caught:
        session.step()
    assert_one_sentence(caught.value, "supervision_block=3", "0..2")
    session.config = PAPER
    assert session.step().iteration == 1
