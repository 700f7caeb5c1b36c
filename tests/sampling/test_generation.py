"""Pictures from a prompt: the same as diffusers' own pipelines make with DDIM, and then a session like any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from helpers import assert_one_sentence
from pipelines import build_sd15

from dragnoise import DragConfig, DragSession, Model
from dragnoise.sampling.text_to_image import generate, generate_picture

QUICK = DragConfig(steps=3, edit_from=2, refine_from=1, max_iterations=2, lr=0.1)


def diffusers_latents(pipeline: Any, prompt: str, seed: int, guidance: float, negative: str | None, size: Any) -> Any:
    """What the pipeline itself denoises with DDIM, from the same noise."""
    own = pipeline.scheduler
    pipeline.scheduler = DDIMScheduler.from_config(own.config, clip_sample=False)
    noise = torch.randn(1, 4, size[1] // 8, size[0] // 8, generator=torch.Generator().manual_seed(seed))
    try:
        return pipeline(
            prompt, width=size[0], height=size[1], num_inference_steps=4, guidance_scale=guidance,
            negative_prompt=negative, latents=noise, output_type="latent",
        ).images  # fmt: skip
    finally:
        pipeline.scheduler = own


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl"])
@pytest.mark.parametrize(("guidance", "negative"), [(7.5, None), (3.0, "ugly"), (1.0, None)])
def test_latents_are_those_of_diffusers(
    request: pytest.FixtureRequest, kind: str, guidance: float, negative: str | None
) -> None:
    pipeline, size = request.getfixturevalue(kind), (80, 64)
    pipeline.set_progress_bar_config(disable=True)
    expected = diffusers_latents(pipeline, "a fox at dawn", 5, guidance, negative, size)
    *_, last = generate(
        Model(pipeline), "a fox at dawn", seed=5, guidance=guidance, steps=4, negative_prompt=negative or "", size=size
    )
    assert last.step == 0 and expected.std() > 0.1
    torch.testing.assert_close(last.latents, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_a_session_of_a_generated_picture(memory: Any) -> None:
    model = Model(build_sd15(), memory=memory)
    session = DragSession.from_prompt(
        model, "a fox", seed=3, steps=4, size=(72, 64), negative_prompt="rain", config=QUICK, progress=False
    )
    assert session.image.size == (72, 64) and session.prompt == "a fox" and session.config == QUICK
    *_, last = generate(model, "a fox", seed=3, guidance=7.5, steps=4, negative_prompt="rain", size=(72, 64))
    pixels = model.decode_latents(last.latents)[0].permute(1, 2, 0).clamp(-1, 1)
    np.testing.assert_allclose(np.asarray(session.image), pixels.numpy() * 127.5 + 127.5, atol=0.51)
    session.drags = [((10, 10), (50, 40))]
    assert session.run(progress=False).size == (72, 64) and len(session.history) == 3


def test_what_changes_the_picture_and_what_does_not(small: Model) -> None:
    def picture(**changes: Any) -> np.ndarray:
        asked = {"prompt": "a fox", "steps": 3, "size": (64, 64), "progress": False} | changes
        return np.asarray(generate_picture(small, **asked))

    first = picture()
    assert first.shape == (64, 64, 3) and first.std() > 1
    np.testing.assert_array_equal(first, picture())
    for change in (
        {"seed": 1}, {"prompt": "a cat"}, {"guidance": 2.0}, {"negative_prompt": "rain"}, {"steps": 4}
    ):  # fmt: skip
        assert (picture(**change) != first).any(), change
    assert (picture(guidance=1.0) == picture(guidance=0.5)).all()  # neither guides
    assert DragSession.from_prompt(small, "a fox", steps=2, progress=False).image.size == (64, 64)  # its native side


@pytest.mark.parametrize(
    ("wrong", "kind", "named"),
    [
        ({"prompt": 5}, TypeError, "not 5"),
        ({"negative_prompt": None}, TypeError, "negative_prompt"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 1.5}, ValueError, "seed=1.5"),
        ({"guidance": float("nan")}, ValueError, "guidance=nan"),
        ({"guidance": "much"}, ValueError, "guidance='much'"),
        ({"steps": 1}, ValueError, "steps=1"),
        ({"steps": 1001}, ValueError, "steps=1001"),
        ({"size": 64}, ValueError, "size=64"),
        ({"size": (64, 66)}, ValueError, "multiples of 4"),
        ({"size": (16, 64)}, ValueError, "at least 32"),
        ({"config": "paper"}, TypeError, "DragConfig"),
        ({"model": "toyland"}, TypeError, "load_model()"),
    ],
)
def test_wrong_arguments_are_refused_before_the_work(
    small: Model, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], kind: type[Exception], named: str
) -> None:
    monkeypatch.setattr(Model, "encode", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(kind) as caught:
        DragSession.from_prompt(**({"model": small, "prompt": "a fox"} | wrong))
    assert_one_sentence(caught.value, named)
