"""Model and load_model: what is read off a pipeline, and what is said when there is none to read."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers import DDPMPipeline, DDPMScheduler, StableDiffusionPipeline, UNet2DModel
from helpers import assert_one_sentence, smooth_picture
from PIL import Image
from pipelines import build_sd15, build_three_block

import dragnoise
from dragnoise import DragConfig, Model, load_model

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def folder(three_block: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline."""
    path = tmp_path_factory.mktemp("pipeline")
    three_block.save_pretrained(path)
    return path


def test_public_names() -> None:
    assert {"load_model", "Model", "DragConfig", "Drag", "DragSession", "Snapshot"} <= set(dragnoise.__all__)
    assert all(hasattr(dragnoise, name) for name in dragnoise.__all__)


# ------------------------------------------------------------------------------- read off a pipeline


@pytest.mark.parametrize(
    ("kind", "factor", "prediction"),
    [("sd15", 8, "epsilon"), ("sd21", 8, "v_prediction"), ("three_block", 4, "epsilon")],
)
def test_what_a_model_knows(request: pytest.FixtureRequest, kind: str, factor: int, prediction: str) -> None:
    model = Model(request.getfixturevalue(kind))
    assert (model.factor, model.native, model.prediction) == (factor, factor * 16, prediction)
    assert model.device == torch.device("cpu") and model.dtype == torch.float32
    assert model.default_config == DragConfig()
    assert Model(model.pipeline, default_config=DragConfig(lr=2)).default_config == DragConfig(lr=2)
    assert repr(Model(model.pipeline, name="mine")).startswith("Model('mine'")


def test_a_latent_is_the_posteriors_mean_scaled(sd15: StableDiffusionPipeline) -> None:
    model, picture = Model(sd15), smooth_picture(75, 91)
    x = torch.tensor(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = sd15.vae.encode(x).latent_dist.mean * sd15.vae.config.scaling_factor
    z = model.encode_picture(picture, (75, 91))
    assert z.shape == (1, 4, 11, 9) and z.std() > 0.01
    torch.testing.assert_close(z, expected)
    assert sd15.vae.config.scaling_factor == pytest.approx(0.18215)
    with torch.no_grad():
        decoded = sd15.vae.decode(z / 0.18215).sample
    torch.testing.assert_close(model.decode_latents(z), decoded)


def test_a_tiny_autoencoders_latent_is_scaled_too(three_block: StableDiffusionPipeline) -> None:
    model = Model(three_block)
    z = model.encode_picture(smooth_picture(75, 91), (64, 80))
    small = smooth_picture(75, 91).resize((64, 80), Image.Resampling.LANCZOS)
    x = torch.tensor(np.array(small)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(z, three_block.vae.encode(x).latents * 0.5)  # its scaling factor
        torch.testing.assert_close(model.decode_latents(z), three_block.vae.decode(z / 0.5).sample)
    assert z.shape == (1, 4, 20, 16) and z.std() > 0.01


def test_prompts(model: Model) -> None:
    pipe = model.pipeline
    expected, _ = pipe.encode_prompt("a fox at dawn", "cpu", 1, False)
    embedded = model.embed("a fox at dawn")
    assert embedded.shape == (1, 16, 24)
    assert torch.equal(embedded, expected)
    assert not torch.equal(embedded, model.embed(""))
    assert torch.equal(model.embed("a fox " * 50), model.embed("a fox " * 60))  # cut at sixteen tokens


def test_a_textual_inversion_of_several_vectors_is_several_tokens() -> None:
    pipe = build_three_block()
    pipe.load_textual_inversion({"<toy>": torch.randn(3, 24, generator=torch.Generator().manual_seed(1))})
    model = Model(pipe)
    expected, _ = pipe.encode_prompt("a <toy> at dawn", "cpu", 1, False)
    assert torch.equal(model.embed("a <toy> at dawn"), expected)


def test_a_model_is_frozen(sd15: StableDiffusionPipeline) -> None:
    model = Model(sd15)
    latent = model.encode_picture(smooth_picture(40, 40), (40, 40))
    assert not any(x.requires_grad for x in (latent, model.decode_latents(latent), model.embed("a cat")))
    for part in (sd15.unet, sd15.vae, sd15.text_encoder):
        assert not part.training and not any(p.requires_grad for p in part.parameters())


# -------------------------------------------------------------------------------------------- loading


def test_device_and_dtype_are_those_that_work_is_done_in() -> None:
    """The first weight says both, but for hooks of diffusers that keep weights in another dtype than they work in."""
    pipeline = build_sd15()
    model = Model(pipeline)
    assert (model.device, model.dtype) == (pipeline.unet.device, pipeline.unet.dtype)
    pipeline.unet.to(torch.float64)
    assert model.dtype == torch.float64
    pipeline.unet.to(torch.float32)
    pipeline.unet.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    assert Model(pipeline).dtype == torch.float32
    assert any(weight.dtype == torch.bfloat16 for weight in pipeline.unet.parameters())


@pytest.mark.parametrize("dtype", [None, torch.float64])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_saved_folder(
    folder: Path, three_block: StableDiffusionPipeline, as_text: bool, dtype: torch.dtype | None
) -> None:
    model = load_model(str(folder) if as_text else folder, device="cpu", dtype=dtype)
    assert model.dtype == (dtype or torch.float32) and model.default_config == DragConfig()
    assert model.name == str(folder)
    for ours, theirs in zip(model.pipeline.unet.parameters(), three_block.unet.parameters(), strict=True):
        assert torch.equal(ours, theirs.to(ours))
        assert not ours.requires_grad
    z = torch.randn(1, 4, 9, 13)
    encoded = model.encode(z, 481, model.embed("a fox"))
    original = Model(three_block)
    expected = original.encode(z, 481, original.embed("a fox")).bottleneck
    torch.testing.assert_close(encoded.bottleneck.float(), expected, rtol=1e-3, atol=1e-3)


def test_a_folder_may_recommend_a_config(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own" / "drag_config.json").write_text(json.dumps({"lr": 0.05, "propagation": "delta"}))
    model = load_model(tmp_path / "own", device="cpu")
    assert model.default_config == DragConfig(lr=0.05, propagation="delta")
    session = dragnoise.DragSession(model, smooth_picture(9, 9))
    assert session.config == model.default_config


def test_the_loaders_are_as_talkative_afterwards_as_before(folder: Path) -> None:
    logs = [diffusers.utils.logging, transformers.utils.logging]

    def state() -> list[tuple[int, bool]]:
        return [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]

    for log in logs:
        log.enable_progress_bar()  # as they are by default
    before = state()
    load_model(folder, device="cpu")
    with pytest.raises(OSError):
        load_model("nobody/has-this-model")
    assert state() == before and all(bars for _, bars in before)


# --------------------------------------------------------------------------------------- what is refused


def test_a_hub_that_cannot_be_reached() -> None:
    with pytest.raises(OSError) as caught:
        load_model("nobody/has-this-model")
    assert_one_sentence(caught.value, "'nobody/has-this-model'", "hub", "folder", "load_model()", "no network")


def test_a_folder_that_holds_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError) as caught:
        load_model(tmp_path / "empty")
    assert_one_sentence(caught.value, str(tmp_path / "empty"), "model_index.json", "load_model()")


def test_a_pipeline_with_pickled_weights_only_is_not_opened(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own/unet/diffusion_pytorch_model.safetensors").unlink()
    (tmp_path / "own/unet/diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(OSError) as caught:
        load_model(tmp_path / "own", device="cpu")
    assert_one_sentence(caught.value, str(tmp_path / "own"), "safetensors")


def test_a_pipeline_without_a_mid_block(tmp_path: Path) -> None:
    pipeline = build_sd15(mid_block_type=None)
    pipeline.save_pretrained(tmp_path)
    for make in (lambda: Model(pipeline), lambda: load_model(tmp_path, device="cpu")):
        with pytest.raises(ValueError) as caught:
            make()
        assert_one_sentence(
            caught.value, "UNet2DConditionModel has no mid block", "Stable Diffusion 1.x and 2.x", "work"
        )


def test_a_pipeline_of_another_kind() -> None:
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip
    with pytest.raises(ValueError) as caught:
        Model(DDPMPipeline(unet, DDPMScheduler()))
    assert_one_sentence(caught.value, "DDPMPipeline has no vae", "Stable Diffusion 1.x, 2.x")


@pytest.mark.parametrize(
    ("unet", "named"),
    [
        ({"in_channels": 9}, "takes 9 channels and gives 4"),
        ({"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        ({"num_class_embeds": 3}, "num_class_embeds=3"),
    ],
)
def test_a_unet_that_wants_other_inputs(unet: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        Model(build_sd15(**unet))
    assert_one_sentence(caught.value, named, "text")


def test_a_prompt_that_is_too_long_is_cut_and_says_so_once(three_block: Any, sdxl: Any) -> None:
    words = ["a", "pink", "bunny", "by", "day"] * 4  # a token each
    for i, pipeline in enumerate((three_block, sdxl)):
        model, length = Model(pipeline), pipeline.tokenizer.model_max_length
        kept, rest = words[: length - 2], [*words[length - 2 :], *["night"] * i]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            whole = model.embed(" ".join(kept))
        with pytest.warns(UserWarning, match="left out") as said:
            cut = model.embed(" ".join([*kept, *rest]))
        assert_one_sentence(said[0].message, f"{length} tokens", repr(" ".join(rest)))  # type: ignore[arg-type]
        assert len(said) == 1  # SDXL reads it twice
        mine, its = (text if isinstance(text, torch.Tensor) else text.text for text in (cut, whole))
        assert torch.equal(mine, its)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.embed(" ".join([*kept, *rest]))
