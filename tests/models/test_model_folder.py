"""No code that comes with a model is ever run: classes, modules, configs and weights of a folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from diffusers import DiffusionPipeline
from helpers import assert_one_sentence
from ldm_layout import checkpoint
from pipelines import build_sd15, build_three_block
from safetensors.torch import load_file, save_file

from dragnoise import ModelInfo, load_model

TRAP = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass UNet2DConditionModel: pass\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    build_three_block().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved pipeline below the current folder, in which modules of code lie."""
    shutil.copytree(saved, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text(TRAP)
    return tmp_path / "model"


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def assert_refused(folder: Path, *named: str, kind: type[Exception] = ValueError, **given: Any) -> None:
    with pytest.raises(kind) as caught:
        load_model(**({"name": folder} | given), device="cpu")
    assert_one_sentence(caught.value, *named)
    assert not list(folder.parent.rglob("ran")) and "evil" not in sys.modules


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler", "feature_extractor", "more"])
@pytest.mark.parametrize("module", ["evil", "os", "diffusers.pipelines", "../evil"])
def test_parts_come_from_diffusers_and_transformers_alone(folder: Path, part: str, module: str) -> None:
    change(folder / "model_index.json", **{part: [module, "UNet2DConditionModel"]})
    assert_refused(folder, repr(str(folder)), part, repr(module), "diffusers and transformers")


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("unet", ["diffusers", "AutoModel"]), ("unet", ["diffusers", "UNet2DModel"]), ("unet", ["diffusers", "no"]),
        ("vae", ["diffusers", "AutoencoderKLWan"]), ("text_encoder", ["transformers", "AutoModel"]),
        ("text_encoder", ["transformers", "pipeline"]), ("tokenizer", ["transformers", "AutoTokenizer"]),
        ("tokenizer", ["diffusers", "CLIPTokenizer"]), ("scheduler", ["diffusers", "UNet2DConditionModel"]),
        ("unet", ["diffusers", "pipelines.stable_diffusion"]),
    ],
)  # fmt: skip
def test_parts_are_of_classes_that_work(folder: Path, part: str, named: list[str]) -> None:
    change(folder / "model_index.json", **{part: named})
    assert_refused(folder, f"the {part} of", ".".join(named))


@pytest.mark.parametrize("named", ["unet", ["unet"], [1, 2], ["diffusers", None], [["evil"], "X"]])
def test_parts_that_are_no_pair_of_names(folder: Path, named: Any) -> None:
    change(folder / "model_index.json", unet=named)
    assert_refused(folder, repr(str(folder)), "unet")


def test_a_pipeline_class_of_its_own(folder: Path) -> None:
    (folder / "evil.py").write_text(TRAP)
    change(folder / "model_index.json", _class_name=["evil", "UNet2DConditionModel"])
    assert_refused(folder, "code of its own for its pipeline", "evil")


@pytest.mark.parametrize("file", ["None.py", "unet/diffusers.py", "text_encoder/transformers.py", "vae/evil.py"])
def test_code_beside_the_weights(folder: Path, file: str) -> None:
    (folder / file).write_text(TRAP)
    assert_refused(folder, repr(str(folder)), Path(file).name, "never run")


@pytest.mark.parametrize(
    ("file", "fields", "named"),
    [
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}, "auto_map"),
        ("text_encoder/config.json", {"text_config": {"auto_map": {"AutoModel": "evil.Model"}}}, "auto_map"),
        ("unet/config.json", {"trust_remote_code": True}, "trust_remote_code"),
        ("text_encoder/config.json", {"attn_implementation": "somebody/kernel"}, "somebody/kernel"),
        ("unet/config.json", {"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
    ],
)
def test_configs_that_ask_for_code(folder: Path, file: str, fields: dict[str, Any], named: str) -> None:
    change(folder / file, **fields)
    assert_refused(folder, repr(str(folder)), named)


@pytest.mark.parametrize("shard", ["evil.bin", "../evil.safetensors", 3])
def test_shards_are_safetensors_beside_their_index(folder: Path, shard: Any) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(weights), shard)}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused(folder, repr(str(folder)), repr(shard))


def test_a_config_that_is_no_json(folder: Path) -> None:
    (folder / "text_encoder" / "config.json").write_text("{")
    assert_refused(folder, repr(str(folder)), "config.json", kind=OSError)


def test_the_configs_of_a_single_file_and_another_vae_are_looked_at_too(folder: Path) -> None:
    pipeline = build_sd15()
    pipeline.save_pretrained(folder.parent / "sd15")
    save_file(checkpoint(pipeline, "sd1"), file := folder.parent / "it.safetensors")
    change(folder.parent / "sd15" / "model_index.json", tokenizer=["evil", "UNet2DConditionModel"])
    assert_refused(folder, "tokenizer", "'evil'", name=file, config=folder.parent / "sd15")
    (folder / "vae" / "diffusers.py").write_text(TRAP)
    assert_refused(folder, "diffusers.py", name="toyland", vae=folder)


def test_it_is_refused_before_a_weight_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("it was read"))
    (folder / "unet" / "diffusers.py").write_text(TRAP)
    assert_refused(folder, "diffusers.py")


def test_what_old_folders_name_and_nobody_reads(folder: Path) -> None:
    change(
        folder / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPFeatureExtractor"],
        image_encoder=["transformers", "CLIPVisionModelWithProjection"],
    )
    model = load_model(folder, device="cpu")
    assert model.pipeline.safety_checker is None and model.pipeline.image_encoder is None


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_folder_that_lacks_some_weights(folder: Path, part: str) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    lost = next(name for name in weights if name.endswith("bias"))
    save_file({name: x for name, x in weights.items() if name != lost}, file, metadata={"format": "pt"})
    assert_refused(folder, repr(str(folder)), f"lacks 1 tensor of its {part}", kind=OSError)


def test_weights_under_names_that_nobody_knows(folder: Path) -> None:
    """As transformers before 5.6 reads what later ones saved: all is there, and all would be random."""
    (file,) = (folder / "text_encoder").glob("*.safetensors")
    save_file({f"other.{name}": x for name, x in load_file(file).items()}, file, metadata={"format": "pt"})
    assert_refused(folder, repr(str(folder)), "text_encoder under names", "upgrade", kind=OSError)


def test_scaled_weights_in_a_folder(folder: Path) -> None:
    (file,) = (folder / "unet").glob("*.safetensors")
    weights = load_file(file)
    save_file(weights | {"conv_in.weight_scale": weights["conv_in.bias"][:1].clone()}, file, metadata={"format": "pt"})
    assert_refused(folder, "scaled or quantised", "conv_in.weight_scale")


def test_what_a_file_asks_for_is_asked_about() -> None:
    assert ModelInfo().sources == ModelInfo(name="toyland").sources == () and not ModelInfo(name="toyland").question()
    info = ModelInfo(name="some/model", options={"vae": "/a/vae", "config": "configs", "memory": "low"})
    assert info.sources == ("some/model", "/a/vae", "configs")
    assert_one_sentence(Exception(info.question("a.drag")), "a.drag", "'some/model'", "'/a/vae'", "'configs'", "trust")
    assert ModelInfo(name="toyland", options={"vae": "some/vae"}).sources == ("some/vae",)
