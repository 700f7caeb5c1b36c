"""SDXL: two text encoders, a pooled text and the picture's size, and three levels; against diffusers itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from helpers import assert_one_sentence, smooth_picture
from pipelines import build_sdxl

from dragnoise import DragConfig, DragSession, Model
from dragnoise.models.text import Conditioning, moved
from dragnoise.models.unet import CutUNet

SIZES = [(13, 22), (42, 64), (9, 9), (1, 7)]


@pytest.fixture(scope="module")
def xl(sdxl: StableDiffusionXLPipeline) -> Model:
    return Model(sdxl)


def added(text: Conditioning, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """What diffusers' pipeline passes beside the text for a latent of (h, w)."""
    h, w = 8 * size[0], 8 * size[1]
    return {"text_embeds": text.pooled, "time_ids": torch.tensor([[h, w, 0, 0, h, w]]).float()}


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_the_halves_equal_the_whole(xl: Model, size: tuple[int, int]) -> None:
    unet, text = xl.pipeline.unet, xl.embed("a fox at dawn")
    z = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(sum(size)))
    seen: list[torch.Tensor] = []
    hooks = [b.register_forward_hook(lambda *args: seen.append(args[-1])) for b in (unet.mid_block, *unet.up_blocks)]
    whole = unet(z, 481, encoder_hidden_states=text.text, added_cond_kwargs=added(text, size)).sample
    for hook in hooks:
        hook.remove()
    encoded = xl.encode(z, 481, text)
    assert whole.std() > 0.1 and xl.unet.blocks == 3
    torch.testing.assert_close(encoded.bottleneck, seen[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(xl.predict(encoded.bottleneck, encoded), whole, rtol=0, atol=1e-5)
    for upto, expected in enumerate(seen[1:]):
        decoded = xl.decode(encoded.bottleneck, encoded, upto=upto)
        torch.testing.assert_close(decoded.feature, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_condition_is_heard(xl: Model) -> None:
    z = torch.randn(1, 4, 9, 13, generator=torch.Generator().manual_seed(0))
    fox, cat = xl.embed("a fox"), xl.embed("a cat with a hat")
    same = xl.encode(z, 481, fox).bottleneck
    torch.testing.assert_close(xl.encode(z, 481, fox.sized(72, 104)).bottleneck, same, rtol=0, atol=0)
    for other in (
        Conditioning(cat.text, fox.pooled),
        Conditioning(fox.text, cat.pooled),
        Conditioning(fox.text, fox.pooled).sized(1024, 16),
    ):
        assert (xl.encode(z, 481, other).bottleneck - same).abs().max() > 1e-3


@torch.no_grad()
def test_one_text_serves_a_whole_batch(xl: Model) -> None:
    z = torch.randn(3, 4, 9, 13, generator=torch.Generator().manual_seed(0))
    t, text = torch.tensor([21, 481, 981]), xl.embed("a fox")
    encoded = xl.encode(z, t, text)
    noise = xl.predict(encoded.bottleneck, encoded)
    for i in range(3):
        one = xl.encode(z[i : i + 1], t[i : i + 1], text)
        torch.testing.assert_close(xl.predict(one.bottleneck, one), noise[i : i + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", ["a fox at dawn", "", "a fox " * 50])
def test_prompts(xl: Model, prompt: str) -> None:
    words, silence, pooled, silent_pooled = xl.pipeline.encode_prompt(prompt, device="cpu")
    text, away = xl.embed(prompt), xl.embed_negative()
    assert isinstance(text, Conditioning) and isinstance(away, Conditioning)
    assert text.text.shape == (1, 16, 56) and text.pooled.shape == (1, 32)
    torch.testing.assert_close(text.text, words, rtol=0, atol=0)
    torch.testing.assert_close(text.pooled, pooled, rtol=0, atol=0)
    assert torch.equal(away.text, silence) and not away.text.any()
    assert torch.equal(away.pooled, silent_pooled) and not away.pooled.any()
    assert xl.embed_negative("ugly").text.any()


def test_an_edit_from_picture_to_picture(xl: Model) -> None:
    assert xl.default_config == DragConfig(supervision_block=1)
    assert xl.native == 128 and xl.factor == 8
    config = xl.default_config.replace(steps=4, edit_from=2, refine_from=1, max_iterations=3, lr=0.1)
    session = DragSession(xl, smooth_picture(75, 91), "a fox", config)
    session.drags = [((10, 10), (50, 60))]
    edited = session.run(progress=False)
    assert edited.size == (75, 91) and len(session.history) == 4
    assert session.history[1].grad_norm > 0
    assert np.abs(np.asarray(edited).astype(int) - np.asarray(session.reconstruct())).max() > 0


def test_the_third_block_before_the_noise_is_there_too(xl: Model) -> None:
    session = DragSession(xl, smooth_picture(40, 40), config=DragConfig(steps=2, edit_from=1, refine_from=0))
    session.drags = [((1, 1), (30, 30))]
    assert session.step().iteration == 1  # supervision_block=2 is the last of three


def test_texts_of_another_model_are_refused(xl: Model, sd15: StableDiffusionPipeline) -> None:
    z = torch.zeros(1, 4, 8, 8)
    for unet, text, named in (
        (xl.unet, torch.zeros(1, 16, 56), "takes a Conditioning"),
        (CutUNet(sd15.unet), xl.embed("a fox").sized(64, 64), "takes a tensor"),
    ):
        with pytest.raises(TypeError) as caught:
            unet.encode(z, 1, text)
        assert_one_sentence(caught.value, named, "model.embed(prompt)")


def test_moved_keeps_the_sizes_exact(xl: Model) -> None:
    text = moved(xl.embed("a fox").sized(4097, 2049), torch.device("cpu"), torch.float16)
    assert isinstance(text, Conditioning) and text.sizes is not None
    assert text.text.dtype == text.pooled.dtype == torch.float16
    assert text.sizes.tolist() == [[4097, 2049, 0, 0, 4097, 2049]]


@pytest.mark.parametrize("takes", [9, 8])
def test_inpainting_and_the_like_are_refused(takes: int) -> None:
    with pytest.raises(ValueError) as caught:
        Model(build_sdxl(in_channels=takes))
    named = "an inpainting model's" if takes == 9 else "guided by a picture, a mask or a depth map"
    assert_one_sentence(caught.value, f"takes {takes} channels", named, "text-to-image")
