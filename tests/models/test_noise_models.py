"""What a checkpoint or a pipeline predicts, and of which noise model it is: read, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UnCLIPScheduler,
    UniPCMultistepScheduler,
)
from helpers import assert_one_sentence
from ldm_layout import checkpoint
from pipelines import build_sdxl, build_three_block
from safetensors.torch import save_file

from dragnoise import Model, load_model
from dragnoise.models import single_file
from dragnoise.models.noise_models import as_ddim, stated

UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder of SDXL configs, and a checkpoint's tensors."""
    folder, pipeline = tmp_path_factory.mktemp("sdxl"), build_sdxl()
    pipeline.save_pretrained(folder / "configs")
    return folder, checkpoint(pipeline, "sdxl")


# ----------------------------------------------------------------------------- metadata and markers


@pytest.mark.parametrize(
    ("metadata", "prediction", "zero_snr"),
    [
        ({}, None, False),
        ({"modelspec.prediction_type": "v"}, "v_prediction", False),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon", False),
        ({"modelspec.predict_key": "v"}, "v_prediction", False),
        ({"modelspec.predict_key": "epsilon"}, "epsilon", False),
        ({"ss_v_parameterization": "True"}, "v_prediction", False),
        ({"ss_v_parameterization": "False"}, "epsilon", False),
        ({"ss_v_parameterization": "None"}, None, False),
        ({"ss_base_model_version": "sd_v2_v"}, "v_prediction", False),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, None, False),
        ({"prediction_type": "V-Prediction"}, "v_prediction", False),
        ({"v_pred": "true"}, "v_prediction", False),
        ({"modelspec.prediction_type": "velocity", "modelspec.noise_process": "ddpm"}, "v_prediction", False),
        ({"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, "v_prediction", True),
        ({"ss_zero_terminal_snr": "False"}, None, False),
        ({"modelspec.title": "a flow of v", "format": "pt"}, None, False),
    ],
)  # fmt: skip
def test_metadata_that_says_what_a_file_predicts(metadata: dict[str, str], prediction: Any, zero_snr: bool) -> None:
    says = stated("it", [f"{UNET}out.2.weight", "betas"], metadata, prefix=UNET)
    assert (says.prediction, says.zero_snr) == (prediction, zero_snr)


@pytest.mark.parametrize("prefix", ["", UNET])
def test_marker_tensors(prefix: str) -> None:
    says = stated("it", [f"{prefix}v_pred", f"{prefix}ztsnr"], {}, prefix=UNET)
    assert says.prediction == "v_prediction" and says.zero_snr


@pytest.mark.parametrize(
    ("names", "metadata", "named"),
    [
        (["edm_vpred.sigma_min", "edm_vpred.sigma_max"], {}, "CosXL"),
        (["edm_mean", "edm_std"], {}, "Playground 2.5"),
        ([f"{UNET}edm_mean"], {}, "Playground 2.5"),
        ([], {"modelspec.noise_process": "flow"}, "flow matching"),
        ([], {"modelspec.prediction_type": "flow_prediction"}, "flow matching"),
        ([], {"modelspec.prediction_type": "rf"}, "flow matching"),
        ([], {"modelspec.architecture": "stable-diffusion-xl-v1-rectified-flow"}, "flow matching"),
        ([], {"ss_flow_matching": "True"}, "flow matching"),
        ([], {"modelspec.noise_process": "vp-sde"}, "another noise model"),
        ([], {"modelspec.prediction_type": "score"}, "'score'"),
        (["rectified"], {}, "the marker 'rectified'"),
        (["v_pred"], {"modelspec.prediction_type": "epsilon"}, "contradicts itself"),
    ],
)
def test_what_is_not_known_is_refused_by_name(names: list[str], metadata: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        stated("it.safetensors", [f"{UNET}out.2.weight", *names], metadata, prefix=UNET)
    assert_one_sentence(caught.value, "'it.safetensors'", named)


def test_a_caller_who_knows_overrides_what_is_unknown_but_not_another_noise_model() -> None:
    stated("it", ["rectified"], {"modelspec.prediction_type": "score"}, given="epsilon")
    stated("it", ["v_pred"], {"modelspec.prediction_type": "epsilon"}, given="v_prediction")
    for names, metadata in ((["edm_mean"], {}), ([], {"modelspec.noise_process": "flow"})):
        with pytest.raises(ValueError):
            stated("it", names, metadata, given="epsilon")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"edm_vpred.sigma_min": torch.tensor(0.002), "edm_vpred.sigma_max": torch.tensor(120.0)}, "CosXL"),
        ({"edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)}, "Playground 2.5"),
        ({f"{UNET}input_blocks.1.0.in_layers.2.scale_weight": torch.ones(1)}, "scaled or quantised"),
        ({"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}, "scaled or quantised"),
        ({f"{UNET}motion_modules.0.weight": torch.zeros(3, 5)}, "no place for"),
    ],
)
def test_a_file_that_would_load_wrong(files: Any, tmp_path: Path, more: dict[str, torch.Tensor], named: str) -> None:
    folder, weights = files
    save_file(weights | more, file := tmp_path / "it.safetensors")
    with pytest.raises(ValueError) as caught:
        load_model(file, config=folder / "configs", device="cpu")
    assert_one_sentence(caught.value, repr(str(file)), named)


def test_eight_bit_weights_without_a_scale_are_what_they_say(files: Any, tmp_path: Path) -> None:
    folder, weights = files
    eight = {name: x.to(torch.float8_e4m3fn) for name, x in weights.items() if name.startswith(UNET)}
    save_file(weights | eight, file := tmp_path / "it.safetensors")
    model = load_model(file, config=folder / "configs", device="cpu")
    conv = model.pipeline.unet.conv_in.weight
    assert conv.dtype == torch.float32 and torch.equal(conv, eight[single_file.FIRST].float())


# ------------------------------------------------------------------------------------- schedulers


USUAL = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize(
    "kind",
    [
        DDIMScheduler, DDPMScheduler, PNDMScheduler, LMSDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler,
        EulerAncestralDiscreteScheduler, HeunDiscreteScheduler, KDPM2DiscreteScheduler, DPMSolverMultistepScheduler,
        UniPCMultistepScheduler, DEISMultistepScheduler,
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", [{}, {"prediction_type": "v_prediction"}, {"beta_schedule": "linear"}])
def test_schedulers_of_ddpms_kind(kind: Any, more: dict[str, Any]) -> None:
    scheduler = kind(**(USUAL | more))
    ours = as_ddim(scheduler)
    assert ours.config.prediction_type == more.get("prediction_type", "epsilon")
    torch.testing.assert_close(ours.alphas_cumprod, scheduler.alphas_cumprod.float(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_zero_terminal_snr_is_of_ddpms_kind(kind: Any) -> None:
    scheduler = kind(**USUAL, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert float(as_ddim(scheduler).alphas_cumprod[-1]) < 1e-6


@pytest.mark.parametrize(
    ("scheduler", "named"),
    [
        (lambda: EDMEulerScheduler(prediction_type="v_prediction"), "EDM"),
        (FlowMatchEulerDiscreteScheduler, "flow matching"),
        (lambda: DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True), "flow matching"),
        (lambda: UniPCMultistepScheduler(**USUAL, use_flow_sigmas=True), "flow matching"),
        (UnCLIPScheduler, "DDIM cannot follow"),
        (lambda: DDPMScheduler(beta_schedule="sigmoid"), "DDIM cannot follow"),
        (lambda: DDPMScheduler(**USUAL, prediction_type="score"), "'score'"),
    ],
)  # fmt: skip
def test_schedulers_of_another_noise_model(three_block: Any, scheduler: Any, named: str) -> None:
    pipeline = build_three_block()
    pipeline.scheduler = scheduler()
    with pytest.raises(ValueError) as caught:
        Model(pipeline, name="it")
    assert_one_sentence(caught.value, "'it'", named)


def test_a_folder_of_another_noise_model_is_refused_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = build_three_block()
    pipeline.scheduler = EDMEulerScheduler(sigma_max=120.0)
    pipeline.save_pretrained(tmp_path)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("it was read"))
    for given in (None, "epsilon"):
        with pytest.raises(ValueError) as caught:
            load_model(tmp_path, device="cpu", prediction=given)
        assert_one_sentence(caught.value, repr(str(tmp_path)), "EDM")


def test_configs_of_another_noise_model(files: Any, tmp_path: Path) -> None:
    _, weights = files
    pipeline = build_sdxl()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
    pipeline.save_pretrained(tmp_path / "configs")
    save_file(weights, file := tmp_path / "it.safetensors")
    with pytest.raises(ValueError) as caught:
        load_model(file, config=tmp_path / "configs", device="cpu")
    assert_one_sentence(caught.value, "flow matching")
