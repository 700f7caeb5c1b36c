"""The noise model of a checkpoint: what its scheduler, its metadata and its marker tensors say, read or refused.

The methods here need DDPM's noise model: alphas_cumprod at a thousand timesteps, and a U-Net that
predicts the noise ("epsilon"), v ("v_prediction") or the clean latent ("sample").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from dragnoise.validation import said, shown

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a U-Net may predict."""

WORDS = {
    "epsilon": "epsilon", "eps": "epsilon", "noise": "epsilon",
    "v": "v_prediction", "v_prediction": "v_prediction", "v_pred": "v_prediction", "vpred": "v_prediction",
    "v_parameterization": "v_prediction", "sample": "sample", "x0": "sample", "x_0": "sample",
}  # fmt: skip
"""How programs call a prediction."""

PREDICTION_KEYS = ("prediction_type", "predict_key", "predict_type", "prediction", "parameterization")
"""Metadata keys, after "modelspec.", "ss_" and the like, whose value is a prediction: Stability's ModelSpec and
sd-scripts write the first, ComfyUI the second."""

V_KEYS = ("v_parameterization", "v_prediction", "v_pred", "vpred")
"""Metadata keys that are true for a file that predicts v; sd-scripts writes the first."""

ZERO_SNR_KEYS = ("zero_terminal_snr", "rescale_betas_zero_snr", "ztsnr", "zsnr")
"""Metadata keys, and names of empty tensors, of files trained with zero terminal SNR."""

FLOW_KEYS = ("flow_matching", "flow_model", "rectified_flow")
"""Metadata keys that are true for a file trained with flow matching."""

BUFFERS = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "logvar", "lvlb_weights",
    "scale_factor",
)  # fmt: skip
"""Top-level tensors that are no markers: the schedule's own, which old checkpoints hold."""

WORKS = "use a Stable Diffusion 1.x, 2.x or SDXL model that predicts the noise or v"


@dataclass(frozen=True)
class Stated:
    """What a single file says of itself.

    prediction: one of `PREDICTIONS`, or None where it says nothing.  zero_snr: zero terminal SNR.
    """

    prediction: str | None = None
    zero_snr: bool = False


def stated(
    source: str, names: Iterable[str], metadata: Mapping[str, str], *, prefix: str = "", given: str | None = None
) -> Stated:
    """Read a single file's marker tensors and metadata.

    names: of its tensors.  prefix: of the U-Net's, under which markers may lie too.  given: a prediction that the
    caller is sure of, which overrides a statement that is unknown or contradicts another one.

    Raises ValueError, naming the noise model or the statement, for EDM, flow matching, a marker or a
    prediction that is not known, and statements that contradict each other.
    """
    bare = {name.removeprefix(prefix) for name in names}
    told = {key.lower(): str(value) for key, value in metadata.items()}
    _refuse_edm(source, bare)
    _refuse_flow(source, told)
    unknown = sorted(name for name in bare if "." not in name and name not in (*BUFFERS, *V_KEYS, *ZERO_SNR_KEYS))
    if unknown and given is None:
        raise ValueError(
            f"{source!r} holds the marker {shown(unknown[0])}, which dragnoise does not know and which may mean "
            f"another noise model; {WORKS}, or pass prediction= if you know what it predicts."
        )
    statements = {f"the tensor {name!r}": "v_prediction" for name in bare if name in V_KEYS}
    for key, value in told.items():
        kind = _prediction(source, key, value, told, sure=given is not None)
        if kind is not None:
            statements[f"{key}={value!r}"] = kind
    if given is None and len(set(statements.values())) > 1:
        raise ValueError(
            f"{source!r} contradicts itself in what it predicts ({', '.join(sorted(statements))}); pass "
            'prediction="epsilon" or "v_prediction".'
        )
    zero = any(name in bare for name in ZERO_SNR_KEYS) or any(
        _last(key) in ZERO_SNR_KEYS and _truth(value) for key, value in told.items()
    )
    kinds = set(statements.values())
    return Stated(kinds.pop() if len(kinds) == 1 else None, zero)


def as_ddim(scheduler: Any, *, what: str = "this model", **changes: Any) -> DDIMScheduler:
    """DDIM with the noise schedule and the prediction of a pipeline's scheduler.

    what: the model's name for the sentence.  changes: fields of the config that are known better, such as
    `prediction_type`.  Raises ValueError, naming it, for a scheduler of another noise model than
    DDPM's, one whose noise schedule DDIM does not give again, and an unknown prediction.
    """
    from diffusers import DDIMScheduler

    config, name = scheduler.config, type(scheduler).__name__
    kind = changes.get("prediction_type", config.get("prediction_type", "epsilon"))
    predicted = str(config.get("prediction_type", ""))
    if "FlowMatch" in name or config.get("use_flow_sigmas") or predicted.startswith("flow"):
        raise ValueError(f"{what} was trained with flow matching ({name}), another noise model than DDPM's; {WORKS}.")
    if "EDM" in name or config.get("sigma_data") is not None:
        raise ValueError(
            f"{what} has EDM's noise model ({name}), as CosXL and Playground 2.5 have, and not DDPM's; {WORKS}."
        )
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(alphas, torch.Tensor):
        raise ValueError(f"{what} has the scheduler {name}, whose noise model is not DDPM's; {WORKS}.")
    if kind not in PREDICTIONS:
        raise ValueError(f"{what} predicts {shown(kind)}, which dragnoise does not know; {WORKS}.")
    try:
        same = DDIMScheduler.from_config(config)
        ours = DDIMScheduler.from_config(config, **changes) if changes else same
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"{what} has a noise schedule that DDIM cannot follow ({name}: {said(error)}); {WORKS}."
        ) from None
    close = alphas.shape == same.alphas_cumprod.shape and torch.allclose(
        alphas.double().cpu(), same.alphas_cumprod.double(), rtol=1e-3, atol=1e-6
    )
    if not close:
        raise ValueError(f"{what} has a noise schedule that DDIM cannot follow ({name}); {WORKS}.")
    return ours


def _refuse_edm(source: str, names: set[str]) -> None:
    marks = sorted(name for name in names if name.startswith("edm"))
    if marks:
        model = "CosXL" if any(mark.startswith("edm_vpred") for mark in marks) else "Playground 2.5"
        raise ValueError(
            f"{source!r} has EDM's noise model, as {model} has (it holds {marks[0]!r}), and not DDPM's; {WORKS}."
        )


def _refuse_flow(source: str, told: Mapping[str, str]) -> None:
    for key, value in told.items():
        word, low = _last(key), value.lower()
        flow = (
            (word in FLOW_KEYS and _truth(value))
            or (word in ("noise_process", "architecture", *PREDICTION_KEYS) and ("flow" in low or low == "rf"))
        )  # fmt: skip
        if flow:
            raise ValueError(
                f"{source!r} was trained with flow matching ({key}={shown(value)}), another noise model than DDPM's; "
                f"{WORKS}."
            )
        if (word == "noise_process" and low not in ("", "none", "ddpm")) or (word == "architecture" and "edm" in low):
            raise ValueError(f"{source!r} has another noise model than DDPM's ({key}={shown(value)}); {WORKS}.")


def _prediction(source: str, key: str, value: str, told: Mapping[str, str], *, sure: bool) -> str | None:
    """What one entry of the metadata says that the file predicts, if it does."""
    word, said_value = _last(key), value.strip().lower().replace("-", "_").replace(" ", "_")
    if said_value in ("", "none", "null"):
        return None
    if word in V_KEYS:
        return "v_prediction" if _truth(value) else "epsilon"
    if word == "base_model_version":  # sd-scripts' "sd_v2_v"
        return "v_prediction" if said_value.endswith("_v") else None
    if word not in PREDICTION_KEYS:
        return None
    if said_value == "velocity" and told.get("modelspec.noise_process", "").lower() == "ddpm":
        return "v_prediction"
    if said_value not in WORDS and not sure:
        raise ValueError(
            f"{source!r} says {key}={shown(value)}, a prediction that dragnoise does not know; {WORKS}, or pass "
            "prediction= if you know what it predicts."
        )
    return WORDS.get(said_value)


def _last(key: str) -> str:
    """A metadata key without the prefix of the program that wrote it."""
    return key.rpartition(".")[2].removeprefix("ss_")


def _truth(value: str) -> bool:
    return value.strip().lower() not in ("", "false", "0", "none", "null", "no")
