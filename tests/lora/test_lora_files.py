"""LoRAs as files: both ways between here and diffusers, broken files, and the cache."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from pipelines import build_sd15, build_sd21, build_sdxl, build_three_block
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragnoise import DragSession, Lora, LoraCache, Model
from dragnoise.lora import fuse
from dragnoise.lora.adapters import TARGETS
from dragnoise.lora.files import FILE_NAME, pack, unpack
from tests.helpers import assert_one_sentence
from tests.ldm_layout import unet_weights
from tests.lora.test_lora import FIT, assert_same_bits, fit, make_session, predict, random_lora

BUILDERS = [build_sd15, build_sd21, build_three_block, build_sdxl]


@pytest.fixture(params=BUILDERS, ids=["sd15", "sd21", "three_block", "sdxl"])
def fresh(request: pytest.FixtureRequest) -> Any:
    """A pipeline that the test may spoil."""
    return request.param()


def worn(session: DragSession) -> Tensor:
    """What the session's model predicts with its LoRA in the weights."""
    assert session.lora is not None
    return predict(fuse(session.model, session.lora))


def theirs(pipeline: Any) -> Tensor:
    """What diffusers' pipeline predicts with its adapters beside the weights."""
    model = Model(pipeline)
    z = torch.randn(1, 4, 12, 16, generator=torch.Generator().manual_seed(1))
    text = model.embed("a red hat")
    if isinstance(text, Tensor):
        with torch.no_grad():
            return pipeline.unet(z, 321, text).sample
    text = text.sized(12 * model.factor, 16 * model.factor)
    added = {"text_embeds": text.pooled, "time_ids": text.sizes}
    with torch.no_grad():
        return pipeline.unet(z, 321, text.text, added_cond_kwargs=added).sample


# ---- between here and diffusers


def test_a_file_written_here_loads_in_diffusers(fresh: Any, tmp_path: Path) -> None:
    session = make_session(Model(fresh))
    session.lora = random_lora(session.model, scale=0.5)
    bare, ours = predict(session.model), worn(session)
    path = session.save_lora(tmp_path)
    assert path == tmp_path / FILE_NAME and list(tmp_path.iterdir()) == [path]
    fresh.load_lora_weights(tmp_path)
    layers = [layer for layer in fresh.unet.modules() if isinstance(layer, LoraLayer)]
    assert len(layers) == len(session.lora.adapters)
    assert all(set(layer.scaling.values()) == {1.0} for layer in layers)
    torch.testing.assert_close(theirs(fresh), ours, rtol=1e-3, atol=1e-3)
    assert (ours - bare).abs().max() > 0.05


@pytest.mark.parametrize("alpha", [3, 1])
def test_a_file_written_by_diffusers_loads_here(fresh: Any, tmp_path: Path, alpha: int) -> None:
    session = make_session(Model(fresh))
    bare = predict(session.model)
    config = LoraConfig(r=3, lora_alpha=alpha, target_modules=[*TARGETS, "proj_in"], init_lora_weights=False)
    torch.manual_seed(0)
    fresh.unet.add_adapter(config)
    for layer in fresh.unet.modules():
        if isinstance(layer, LoraLayer):
            layer.lora_B["default"].weight.data.normal_(std=0.3)
    expected = theirs(fresh)
    state = get_peft_model_state_dict(fresh.unet)
    metadata = {"unet_lora_adapter_metadata": config.to_dict()} if alpha != 3 else {}
    type(fresh).save_lora_weights(tmp_path, unet_lora_layers=state, **metadata)
    fresh.unet.delete_adapters("default")
    fresh.unet.unload_lora()
    torch.testing.assert_close(predict(session.model), bare)
    session.load_lora(tmp_path)
    assert session.lora is not None
    assert {adapter.scale for adapter in session.lora.adapters.values()} == {alpha / 3}
    assert session.lora.rank == 3 and session.lora.losses == ()
    torch.testing.assert_close(worn(session), expected, rtol=1e-3, atol=1e-3)


def test_diffusers_older_names_load_here(small: Model, tmp_path: Path) -> None:
    lora = random_lora(small, scale=1.0)
    for down, up in (("lora.down", "lora.up"), ("lora_A", "lora_B")):
        tensors = {}
        for name, adapter in lora.adapters.items():
            tensors |= {f"unet.{name}.{down}.weight": adapter.down, f"unet.{name}.{up}.weight": adapter.up}
        save_file(tensors, tmp_path / "old.safetensors")
        session = make_session(small)
        session.load_lora(tmp_path / "old.safetensors")
        assert session.lora is not None
        for name, adapter in lora.adapters.items():
            assert torch.equal(session.lora.adapters[name].up, adapter.up)


def kohya(lora: Lora, path: Path, alphas: dict[str, float]) -> None:
    """A file as kohya's scripts write it; alpha by the kind of attention."""
    tensors = {}
    for name, adapter in lora.adapters.items():
        flat = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{flat}.lora_down.weight": adapter.down, f"{flat}.lora_up.weight": adapter.up}
        tensors[f"{flat}.alpha"] = torch.tensor(alphas[name.split(".")[-2 if "to_out" not in name else -3]])
    save_file(tensors, path)


def kohya_halves(pipeline: Any, layers: list[str], *, sgm: bool = False, alpha: float = 1.0) -> dict[str, Tensor]:
    """Tensors as kohya's scripts write them in float16, rank 4; `sgm`: by the original checkpoint's names."""
    rng, unet, tensors = torch.Generator().manual_seed(4), pipeline.unet, {}
    originals = dict(zip(unet.state_dict(), unet_weights(unet), strict=True))
    for layer in layers:
        weight = unet.get_submodule(layer).weight
        original = originals[f"{layer}.weight"].removeprefix("model.diffusion_model.").removesuffix(".weight")
        flat = f"lora_unet_{(original if sgm else layer).replace('.', '_')}"
        out, into, *sides = weight.shape
        down = torch.randn(4, into, *sides, generator=rng) / weight[0].numel() ** 0.5
        up = torch.randn(out, 4, *(1 for _ in sides), generator=rng)
        tensors |= {f"{flat}.lora_down.weight": down.half(), f"{flat}.lora_up.weight": up.half()}
        tensors[f"{flat}.alpha"] = torch.tensor(alpha, dtype=torch.float16)
    return tensors


def layers_of(pipeline: Any, part: str) -> list[str]:
    """Linear layers and convolutions of "attentions" (projections and feed-forwards too) or of "resnets"."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    named = [name for name, layer in pipeline.unet.named_modules() if isinstance(layer, kinds) and part in name]
    return [name for name in named if "shortcut" not in name and "time_emb" not in name]


def assert_fused_by_definition(session: DragSession, layers: list[str], halves: dict[str, Tensor]) -> None:
    """The LoRA worn adds alpha / rank * up @ down, of the tensors of `kohya_halves` with alpha / rank = 1 / 4."""
    assert session.lora is not None and session.model is not None
    fused = fuse(session.model, session.lora).unet.unet
    for name in layers:
        flat = f"lora_unet_{name.replace('.', '_')}"
        up, down = (halves[f"{flat}.lora_{side}.weight"].float().flatten(1) for side in ("up", "down"))
        weight = session.model.pipeline.unet.get_submodule(name).weight
        expected = weight + (0.25 * up @ down).reshape(weight.shape)
        torch.testing.assert_close(fused.get_submodule(name).weight, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "part", "sgm", "count"),
    [(build_sd15, "attentions", False, 192), (build_sd15, "resnets", False, 44), (build_sdxl, "attentions", False, 302),
     (build_sdxl, "resnets", False, 34), (build_sdxl, "attentions", True, 302)],
)  # fmt: skip
def test_kohyas_half_precision_files_change_every_layer_that_they_name(
    build: Any, part: str, sgm: bool, count: int, tmp_path: Path
) -> None:
    """By the definition: W + alpha / rank * up @ down, of projections, feed-forwards and convolutions (LoCon) too."""
    pipeline, path = build(), tmp_path / "kohya.safetensors"
    layers = layers_of(pipeline, part)
    assert len(layers) == count and (part == "resnets" or any(".ff.net.2" in name for name in layers))
    tensors = kohya_halves(pipeline, layers, sgm=sgm)
    assert not sgm or "lora_unet_input_blocks_4_1_proj_in.alpha" in tensors
    save_file(tensors, path)
    session = make_session(Model(pipeline))
    session.load_lora(path)
    assert session.lora is not None and sorted(session.lora.adapters) == sorted(layers)
    assert_fused_by_definition(session, layers, kohya_halves(pipeline, layers))
    assert session.reconstruct().size == session.image.size


@pytest.mark.parametrize(
    ("build", "beside"),
    [
        (build_sd15, "lora_te_text_model_encoder_layers_0_self_attn_q_proj.{}"),
        (build_sdxl, "lora_te1_text_model_encoder_layers_0_mlp_fc1.{}"),
        (build_sdxl, "lora_te2_text_model_encoder_layers_0_mlp_fc1.{}"),
        (build_sd15, "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.{}"),
        (build_sdxl, "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.{}"),
    ],
)
def test_what_is_for_the_text_encoder_is_left_out_with_a_warning(build: Any, beside: str, tmp_path: Path) -> None:
    pipeline, path = build(), tmp_path / "both.safetensors"
    ends, shapes = ("lora_down.weight", "lora_up.weight", "alpha"), ((4, 24), (24, 4), ())
    session = make_session(Model(pipeline))
    text = {beside.format(end): torch.ones(shape) for end, shape in zip(ends, shapes, strict=True)}
    if beside.startswith("lora_te"):
        unet = kohya_halves(pipeline, layers_of(pipeline, "attentions"))
    else:
        session.lora = random_lora(session.model)
        unet = load_file(session.save_lora(tmp_path))
        text = {key.replace("down", "A").replace("up", "B"): x for key, x in text.items() if "alpha" not in key}
    save_file(unet, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.load_lora(path)
    alone = session.lora
    save_file(unet | text, path)
    with pytest.warns(UserWarning, match="text encoder") as said:
        session.load_lora(path)
    (warning,) = [w for w in said if "text encoder" in str(w.message)]
    assert warning.filename == __file__
    assert_one_sentence(warning.message, repr(str(path)), f"{len(text)} tensors")  # type: ignore[arg-type]
    assert alone is not None and session.lora is not None
    assert_same_bits(session.lora, alone)
    save_file(text, path)
    with pytest.raises(ValueError) as caught:
        session.load_lora(path)
    assert_one_sentence(caught.value, "the text encoder alone")


def test_one_by_one_convolutions_and_linear_layers_are_interchangeable(tmp_path: Path) -> None:
    """kohya's scripts train Stable Diffusion 2.x with convolutions for proj_in and proj_out, 1.x has them itself."""
    for build, conv in ((build_sd21, True), (build_sd15, False)):
        pipeline, path = build(), tmp_path / "kohya.safetensors"
        layers = [name for name in layers_of(pipeline, "attentions") if name.endswith(("proj_in", "proj_out", "to_q"))]
        tensors = kohya_halves(pipeline, layers)
        shaped = {k: x if x.ndim == 0 or "proj_" not in k else x.flatten(1) for k, x in tensors.items()}
        if conv:
            shaped = {k: x[..., None, None] if x.ndim and "proj_" in k else x for k, x in shaped.items()}
        save_file({key: x.contiguous() for key, x in shaped.items()}, path)
        session = make_session(Model(pipeline))
        session.load_lora(path)
        assert session.lora is not None and len(session.lora.adapters) == len(layers)
        assert_fused_by_definition(session, layers, tensors)


def to_q(pipeline: Any, names: str) -> dict[str, Tensor]:
    """A file's tensors of every to_q, rank 3, values 0.25 and 0.5, by a format of names."""
    tensors = {}
    for layer, module in pipeline.unet.named_modules():
        if layer.endswith("to_q"):
            for side, shape in ((0, (3, module.in_features)), (1, (module.out_features, 3))):
                key = names.format(layer=layer, flat=layer.replace(".", "_"), ab="AB"[side], du=("down", "up")[side])
                tensors[key] = torch.full(shape, 0.25 * (side + 1))
    return tensors


NAMES = {
    "kohya": "lora_unet_{flat}.lora_{du}.weight",
    "lycoris": "lycoris_{flat}.lora_{du}.weight",
    "lycoris-unet": "lycoris_unet_{flat}.lora_{du}.weight",
    "peft": "base_model.model.{layer}.lora_{ab}.weight",
    "peft-in-diffusers": "unet.base_model.model.{layer}.lora_{ab}.weight",
    "numbered": "unet.{layer}.lora_{ab}.default_0.weight",
    "named": "unet.{layer}.lora_{ab}.default.weight",
    "bare": "{layer}.lora_{ab}.weight",
}


@pytest.mark.filterwarnings("ignore:there is no adapter_config.json")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_programs_names_and_precisions_load(sd15: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    session = make_session(Model(sd15))
    layers = [name for name, _ in sd15.unet.named_modules() if name.endswith("to_q")]
    for style, names in NAMES.items():
        save_file({key: x.to(dtype) for key, x in to_q(sd15, names).items()}, tmp_path / "f.SafeTensors")
        session.load_lora(tmp_path / "f.SafeTensors")
        assert session.lora is not None and sorted(session.lora.adapters) == sorted(layers), style
        for adapter in session.lora.adapters.values():
            assert adapter.scale == 1 and adapter.down.dtype == torch.float32
            assert set(adapter.down.flatten().tolist()) == {0.25} and set(adapter.up.flatten().tolist()) == {0.5}


def test_pefts_own_configuration_says_the_scale(sd15: Any, tmp_path: Path) -> None:
    session, path = make_session(Model(sd15)), tmp_path / "adapter_model.safetensors"
    save_file(to_q(sd15, NAMES["peft"]), path)
    with pytest.warns(UserWarning, match="lora_alpha") as said:
        session.load_lora(tmp_path)
    assert_one_sentence(said[0].message, repr(str(path)))  # type: ignore[arg-type]
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 3, "lora_alpha": 6, "use_rslora": False}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.load_lora(tmp_path)
    assert session.lora is not None and {a.scale for a in session.lora.adapters.values()} == {2.0}


@pytest.mark.parametrize("beside", ["bundle_emb.word.clip_l", "bundle_emb.w.string_to_param.*", "clip_g", "emb_params"])
def test_a_text_embedding_beside_is_left_out_with_a_warning(sd15: Any, tmp_path: Path, beside: str) -> None:
    session, path = make_session(Model(sd15)), tmp_path / "f.safetensors"
    save_file(to_q(sd15, NAMES["kohya"]) | {beside: torch.ones(2, 24)}, path)
    with pytest.warns(UserWarning, match="text embedding") as said:
        session.load_lora(path)
    assert_one_sentence(said[0].message, repr(str(path)), "1 tensors")  # type: ignore[arg-type]
    assert session.lora is not None
    save_file({beside: torch.ones(2, 24)}, path)
    with pytest.raises(ValueError) as caught:
        session.load_lora(path)
    assert_one_sentence(caught.value, "text embedding (textual inversion) alone")


OTHERS = {
    "a LoHa": ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"],
    "a LoKr": ["lokr_w1", "lokr_w2_a", "lokr_w2_b"],
    "a DoRA": ["lora_down.weight", "lora_up.weight", "dora_scale"],
    "a LoCon with Tucker decomposition": ["lora_down.weight", "lora_up.weight", "lora_mid.weight"],
    "an IA3": ["weight", "on_input"],
    "an OFT": ["oft_blocks"],
    "a difference of full weights": ["diff"],
    "a GLoRA": ["a1.weight", "a2.weight", "b1.weight", "b2.weight"],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_adapters_are_refused_by_name(small: Model, tmp_path: Path, kind: str) -> None:
    session, path = make_session(small), tmp_path / "f.safetensors"
    for prefix in ("lora_unet_", "lycoris_"):
        save_file({f"{prefix}mid_block_x.{end}": torch.ones(2, 2) for end in OTHERS[kind]}, path)
        with pytest.raises(ValueError) as caught:
            session.load_lora(path)
        assert_one_sentence(caught.value, repr(str(path)), f"it is {kind}", "load_model(path)")
        assert "save_lora" not in str(caught.value)
    assert session.lora is None


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "load_model(path)"),
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "Flux"),
        ("unet.mid_block.x.lora_A.one.weight", "several adapters"),
    ],
)
def test_other_files_say_what_they_are(small: Model, tmp_path: Path, key: str, named: str) -> None:
    again = {key.replace(".one.", ".two."): torch.ones(2, 2)}
    save_file({key: torch.ones(2, 2)} | again, tmp_path / "f.safetensors")
    with pytest.raises(ValueError) as caught:
        make_session(small).load_lora(tmp_path / "f.safetensors")
    assert_one_sentence(caught.value, named)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".BIN", ".pth"])
def test_pickles_are_refused_by_name(small: Model, tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"old{suffix}").write_bytes(b"PK")
    with pytest.raises(ValueError) as caught:
        make_session(small).load_lora(tmp_path / f"old{suffix}")
    assert_one_sentence(caught.value, "is a pickle", ".safetensors")


def test_a_folder_with_one_file_is_that_file(small: Model, tmp_path: Path) -> None:
    session = make_session(small)
    session.lora = lora = random_lora(small)
    session.save_lora(tmp_path / "My_style.SAFETENSORS")
    (tmp_path / "README.md").write_text("a style")
    (tmp_path / "._My_style.SAFETENSORS").write_bytes(b"what macOS keeps of a file on other file systems")
    session.load_lora(tmp_path)
    assert session.lora is not None and session.lora.adapters.keys() == lora.adapters.keys()
    session.save_lora(tmp_path / "other.safetensors")
    with pytest.raises(ValueError) as caught:
        session.load_lora(tmp_path)
    assert_one_sentence(caught.value, "2 .safetensors files", "My_style.SAFETENSORS", "other.safetensors")
    session.save_lora(tmp_path)  # the name that diffusers looks for goes first
    session.load_lora(tmp_path)


@pytest.mark.parametrize("build", [build_sd15, build_sdxl])
def test_kohyas_files_load_here_as_they_do_in_diffusers(build: Any, tmp_path: Path) -> None:
    pipeline, path = build(), tmp_path / "kohya.safetensors"
    session = make_session(Model(pipeline))
    kohya(random_lora(session.model), path, {"attn1": 1.5, "attn2": 1.5})
    session.load_lora(path)
    assert session.lora is not None and {a.scale for a in session.lora.adapters.values()} == {0.5}
    ours = worn(session)
    pipeline.load_lora_weights(path)
    torch.testing.assert_close(theirs(pipeline), ours, rtol=1e-3, atol=1e-3)


def test_every_layers_own_alpha_counts(sd15: Any, tmp_path: Path) -> None:
    """By its definition, scale = alpha / rank; diffusers 0.42 itself passes over those of attentions that differ."""
    session, path = make_session(Model(sd15)), tmp_path / "kohya.safetensors"
    kohya(random_lora(session.model), path, {"attn1": 1.5, "attn2": 6.0})
    session.load_lora(path)
    assert session.lora is not None
    for name, adapter in session.lora.adapters.items():
        assert adapter.scale == (0.5 if "attn1" in name else 2.0)


def test_there_and_back_keeps_every_bit_of_a_fit(small: Model, tmp_path: Path) -> None:
    session, other = make_session(small), make_session(small, seed=1)
    lora = fit(session, 3)
    session.lora_weight = 0.5
    other.load_lora(session.save_lora(tmp_path / "mine.safetensors"))
    assert other.lora is not None and other.lora.losses == lora.losses and other.lora.weight == 1
    assert other.lora.training is None
    for name, adapter in lora.adapters.items():
        assert torch.equal(other.lora.adapters[name].down, adapter.down)
        assert torch.equal(other.lora.adapters[name].up, adapter.up)
    assert other.lora.norms == lora.norms


def test_saved_over_an_old_one_and_never_half(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_session(small)
    session.lora = random_lora(small)
    path = session.save_lora(tmp_path / "new" / "folder")
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dragnoise.atomic_write.os.fsync", full)
    with pytest.raises(OSError) as caught:
        session.save_lora(path)
    assert_one_sentence(caught.value, str(path), "No space left")
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(small: Model, tmp_path: Path) -> None:
    session = make_session(small)
    session.lora = random_lora(small)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError) as caught:
        session.save_lora(tmp_path / "file" / "lora.safetensors")
    assert_one_sentence(caught.value, str(tmp_path / "file" / "lora.safetensors"))


# ---- files that are none


def broken_files(small: Model, folder: Path) -> Iterator[tuple[str, Path]]:
    good = folder / "good.safetensors"
    session = make_session(small)
    session.lora = random_lora(small)
    session.save_lora(good)
    tensors = load_file(good)
    first = next(iter(tensors))

    def write(name: str, changed: dict[str, Tensor], **metadata: str) -> tuple[str, Path]:
        save_file(changed, folder / f"{name}.safetensors", metadata=metadata)
        return name, folder / f"{name}.safetensors"

    yield write("nan", tensors | {first: tensors[first] * float("nan")})
    yield write("more", tensors | {"transformer.layers.0.q_proj.lora_A.weight": torch.ones(3, 8)})
    yield write("one-sided", {name: x for name, x in tensors.items() if name != first})
    yield write("integers", {name: x.int() for name, x in tensors.items()})
    yield write("vectors", {name: x[0].clone() for name, x in tensors.items()})
    yield write("ranks", {name: x[:2].clone() if "lora_A" in name else x for name, x in tensors.items()})
    yield write("dora", tensors | {"unet.conv_in.lora_magnitude_vector": torch.ones(3)})
    yield write(
        "kohya-dora", {"lora_unet_x.lora_down.weight": torch.ones(2, 2), "lora_unet_x.dora_scale": torch.ones(2)}
    )
    yield write("kohya-text", {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 2)})
    yield write("else", {"model.weight": torch.ones(3)})
    yield write("empty", {})
    for i, config in enumerate(
        ({"unet.lora_alpha": "x"}, {"unet.lora_alpha": float("nan")}, {"unet.alpha_pattern": 3})
    ):
        yield write(f"config{i}", tensors, lora_adapter_metadata=json.dumps(config))
    for name, data in (
        ("text-file", b"hello"), ("nothing", b""), ("cut", good.read_bytes()[:-50]), ("pickle", b"\x80\x04N.")
    ):  # fmt: skip
        (folder / f"{name}.safetensors").write_bytes(data)
        yield name, folder / f"{name}.safetensors"


def test_broken_files_are_refused_and_nothing_is_lost(small: Model, tmp_path: Path) -> None:
    session = make_session(small)
    session.lora = lora = random_lora(small)
    session.step()
    for name, path in broken_files(small, tmp_path):
        with pytest.raises(ValueError) as caught:
            session.load_lora(path)
        assert_one_sentence(caught.value, str(path))
        assert session.lora is lora and session.state.inverted, name


def test_a_file_that_is_not_there(small: Model, tmp_path: Path) -> None:
    session = make_session(small)
    for path in (tmp_path, tmp_path / "no.safetensors", tmp_path / "weights.bin"):
        with pytest.raises(FileNotFoundError) as caught:
            session.load_lora(path)
        assert_one_sentence(caught.value, str(path))


def test_a_lora_of_another_model_is_named(small: Model, sd15: Any, tmp_path: Path) -> None:
    other = make_session(Model(sd15))
    other.lora = random_lora(other.model)
    path = other.save_lora(tmp_path)
    with pytest.raises(ValueError) as caught:
        make_session(small).load_lora(path)
    assert_one_sentence(caught.value, "another kind of model")


@pytest.mark.parametrize("garbage", ["", "[", "[]", "3", '{"losses": [1, "x"]}', '{"losses": NaN}', "[" * 100_000])
def test_garbage_in_the_notes_is_left_aside(small: Model, tmp_path: Path, garbage: str) -> None:
    session = make_session(small)
    session.lora = random_lora(small)
    path = session.save_lora(tmp_path)
    save_file(load_file(path), path, metadata={"dragnoise": garbage, "lora_adapter_metadata": garbage})
    session.load_lora(path)
    assert session.lora.losses == ()


def test_hostile_settings_of_peft_have_no_effect(small: Model, tmp_path: Path) -> None:
    """Some ways of initialising would write on the base weights, which are shared."""
    before = {name: x.clone() for name, x in small.pipeline.unet.state_dict().items()}
    session = make_session(small)
    session.lora = lora = random_lora(small, scale=1.0)
    path = session.save_lora(tmp_path)
    config = {"unet.init_lora_weights": "pissa", "unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": "(a+)+$"}
    save_file(load_file(path), path, metadata={"lora_adapter_metadata": json.dumps(config)})
    session.load_lora(path)
    assert {adapter.scale for adapter in session.lora.adapters.values()} == {2.0}
    assert session.lora.adapters.keys() == lora.adapters.keys()
    assert all(torch.equal(x, before[name]) for name, x in small.pipeline.unet.state_dict().items())


# ---- the whole state


def test_packed_parts_that_do_not_belong_together_are_refused(small: Model) -> None:
    lora = fit(make_session(small), 1)
    tensors, numbers = pack(lora)
    assert_same_bits(unpack(tensors, numbers), lora)
    name = next(iter(tensors))
    moment = next(key for key in tensors if key.endswith("up.second"))
    wrong: list[tuple[dict[str, Tensor], Any]] = [
        ({key: x for key, x in tensors.items() if key != name}, numbers),
        (tensors | {name: torch.zeros(2)}, numbers),
        (tensors | {moment: tensors[moment] * float("inf")}, numbers),
        (tensors | {moment: tensors[moment].half()}, numbers),
        (tensors, numbers | {"weight": 2.1}),
        (tensors, numbers | {"weight": "1"}),
        (tensors, numbers | {"losses": []}),
        (tensors, numbers | {"losses": ["x"]}),
        (tensors, numbers | {"losses": 3}),
        (tensors, numbers | {"scales": {}}),
        (tensors, numbers | {"scales": {"no": 1}}),
        (tensors, numbers | {"loss_scale": None}),
        (tensors, {}),
        (tensors, None),
    ]
    for some, others in wrong:
        with pytest.raises(ValueError) as caught:
            unpack(some, others)
        assert_one_sentence(caught.value)


# ---- the cache


def cached(session: DragSession, cache: LoraCache | Path, steps: int = 2, **settings: Any) -> list[int]:
    return [s.step for s in session.fit_lora(steps, cache=cache, **(FIT | settings))]


def test_the_same_fit_is_taken_from_the_cache(small: Model, tmp_path: Path) -> None:
    first, second = make_session(small), make_session(small)
    assert cached(first, tmp_path / "cache") == [1, 2]
    assert cached(second, LoraCache(tmp_path / "cache")) == [2]
    assert first.lora is not None and second.lora is not None
    assert second.lora.losses == first.lora.losses and second.lora.steps == 2
    for name, adapter in first.lora.adapters.items():
        assert torch.equal(second.lora.adapters[name].up, adapter.up)
    assert cached(second, tmp_path / "cache") == [2]
    assert cached(first, tmp_path / "cache") == []  # it stands there already


def test_another_picture_prompt_model_or_setting_is_not_taken(small: Model, tmp_path: Path) -> None:
    cached(make_session(small), tmp_path)
    pipeline = build_three_block()
    with torch.no_grad():
        pipeline.unet.conv_in.weight[0, 0, 0, 0] += 1
    others = [
        (make_session(small, seed=1), {}), (make_session(small, prompt="a bear"), {}),
        (make_session(small, side=96), {}), (make_session(small, latent_noise=0.1), {}),
        (make_session(Model(pipeline)), {}), (make_session(small), {"rank": 3}), (make_session(small), {"lr": 0.1}),
        (make_session(small), {"batch_size": 1}), (make_session(small), {"seed": 1}),
    ]  # fmt: skip
    for session, settings in others:
        assert cached(session, tmp_path, **settings) == [1, 2]
    assert cached(make_session(small), tmp_path, steps=3) == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 1 + len(others) + 1


def test_an_interrupted_fit_is_not_kept(small: Model, tmp_path: Path) -> None:
    steps = make_session(small).fit_lora(2, cache=tmp_path, **FIT)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_cache_is_off_by_default(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LoraCache, "__init__", lambda *args: pytest.fail("nobody asked for a cache"))
    fit(make_session(small), 1)
    assert list(tmp_path.iterdir()) == []


def test_cache_lets_the_longest_unused_go(small: Model, tmp_path: Path) -> None:
    lora = Lora(random_lora(small).adapters, losses=(1.0,))
    whole = LoraCache(tmp_path)
    for i, key in enumerate("abc"):
        whole.put(key, lora)
        os.utime(tmp_path / f"{key}.safetensors", (i, i))
    one = whole.size // 3
    assert one > 1000 and whole.get("a", small) is not None  # used just now, so "b" is the oldest
    tight = LoraCache(tmp_path, limit=int(2.5 * one))
    tight.put("d", lora)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "d"]
    assert tight.size <= tight.limit
    assert tight.get("b", small) is None
    LoraCache(tmp_path, limit=10).put("e", lora)
    assert list(tmp_path.iterdir()) == []
    assert "0.0 of 0 MiB" in repr(LoraCache(tmp_path, limit=10))


def test_cache_throws_broken_files_away(small: Model, tmp_path: Path) -> None:
    session = make_session(small)
    cached(session, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert cached(make_session(small), tmp_path) == [1, 2]
    assert cached(make_session(small), tmp_path) == [2]
    LoraCache(tmp_path).clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["../x", "..", "", "a/b", "a\\b", "/x", None, 3, "y" * 300, "\0"])
def test_cache_keeps_to_its_folder(small: Model, tmp_path: Path, key: Any) -> None:
    session = make_session(small)
    session.lora = lora = random_lora(small)
    session.save_lora(tmp_path / "x.safetensors")
    before = (tmp_path / "x.safetensors").read_bytes()
    cache = LoraCache(tmp_path / "cache")
    for call in (lambda: cache.get(key, small), lambda: cache.put(key, lora)):
        with pytest.raises(ValueError) as caught:
            call()
        assert_one_sentence(caught.value, "key=")
    assert (tmp_path / "x.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_cache_takes_loras_and_models_alone(small: Model, tmp_path: Path) -> None:
    cache = LoraCache(tmp_path)
    with pytest.raises(TypeError) as caught:
        cache.put("k", None)  # type: ignore[arg-type]
    assert_one_sentence(caught.value, "None")
    cache.put("k", random_lora(small, losses=(1.0,)))
    with pytest.raises(TypeError) as caught:
        cache.get("k", None)  # type: ignore[arg-type]
    assert_one_sentence(caught.value, "NoneType")
    assert cache.get("k", small) is not None


@pytest.mark.parametrize("limit", [0, -1, "1 GB", None, float("nan"), True])
def test_wrong_limits_are_refused(tmp_path: Path, limit: Any) -> None:
    with pytest.raises(ValueError) as caught:
        LoraCache(tmp_path, limit=limit)
    assert_one_sentence(caught.value, repr(limit))
