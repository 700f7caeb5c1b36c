"""The model's limit: scenes and photographs on the miniature, and reconstructions by hand."""

from __future__ import annotations

from typing import Any

import dragbench
import numpy as np
import pytest
from helpers import assert_one_sentence, quick_session
from PIL import Image

from dragnoise import Model, load_model
from dragnoise.images.difference import psnr
from dragnoise.session import limits
from dragnoise.toyland.scenes import render, sample_scene


@pytest.fixture(scope="module")
def toyland() -> Model:
    return load_model()


def patterned(width: int, height: int) -> Image.Image:
    """Detail in every direction, as a lawn or a crowd has it."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height // 2, width // 2, 3), dtype=np.uint8)).resize((width, height))


def test_scenes_are_within_the_miniatures_limit(toyland: Model) -> None:
    for seed in range(500, 503):
        limit = limits.at_upload(toyland, render(sample_scene(seed)))
        assert limit is not None and limit.is_met and limit.psnr > 31 and limit.sentence == ""


def test_a_scene_in_another_size_is_within_it_too(toyland: Model) -> None:
    scene = Image.fromarray(render(sample_scene(500)))
    for size in ((512, 512), (90, 90)):
        limit = limits.at_upload(toyland, scene.resize(size, Image.Resampling.LANCZOS))
        assert limit is not None and limit.is_met and limit.picture.size == size


def test_a_picture_that_is_no_scene_is_told_at_once_with_what_helps(toyland: Model) -> None:
    limit = limits.at_upload(toyland, patterned(200, 120))
    assert limit is not None and not limit.is_met and limit.psnr < 28 and limit.picture.size == (200, 120)
    assert_one_sentence(
        ValueError(limit.sentence), "toyland", "rendered creatures only", "Stable Diffusion", "notebook 02"
    )


@pytest.mark.skipif(not dragbench.DATA.is_dir(), reason="the photographs beside the project are not there")
def test_no_photograph_is_within_the_miniatures_limit(toyland: Model) -> None:
    files = sorted(dragbench.DATA.glob("dragbench/*/*/original_image.png"))[:4]
    assert files
    for file in files:
        limit = limits.at_upload(toyland, file)
        assert limit is not None and not limit.is_met, file.parts[-3]


def test_other_models_are_not_asked_before_the_inversion(small: Model) -> None:
    assert limits.at_upload(small, patterned(64, 64)) is None


def test_the_reconstruction_is_compared_at_the_smaller_size(small: Model) -> None:
    session = quick_session(small)  # 50x40, seen as 64x52
    limit = limits.of_reconstruction(session)
    expected = psnr(np.asarray(session.image), np.asarray(session.reconstruct()))
    assert limit.psnr == pytest.approx(expected) and limit.psnr < 28 and not limit.is_met
    assert_one_sentence(ValueError(limit.sentence), "fit a LoRA", f"{limit.psnr:.0f} dB")


def test_with_a_lora_other_advice_is_given(small: Model) -> None:
    session = quick_session(small)
    list(session.fit_lora(1, rank=1))
    bad = Image.new("RGB", session.image.size)
    assert "fit the LoRA for more steps" in limits.judged(session, bad).sentence
    assert limits.judged(session, session.image).is_met


def test_what_is_no_model_is_refused() -> None:
    nothing: Any = None
    with pytest.raises(TypeError):
        limits.at_upload(nothing, patterned(64, 64))
