"""Reading of a pipeline from a hub id, a diffusers folder or a single file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dragnoise.models import single_file, weights
from dragnoise.models.arguments import as_source
from dragnoise.models.model_folder import UNUSED, VAES, require_known_parts, require_no_code, tensors
from dragnoise.models.noise_models import PREDICTIONS, as_ddim
from dragnoise.models.unet import require_text_to_image
from dragnoise.validation import is_one_of, shown

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def read_pipeline(
    source: str,
    dtype: torch.dtype,
    *,
    vae: Any = None,
    config: str | Path | None = None,
    variant: str | None = None,
    prediction: str | None = None,
) -> DiffusionPipeline:
    """Read a pipeline on the CPU; arguments, and what is raised, as of `load_model`."""
    from dragnoise.models import loader_context  # noqa: F401  # before anything else: its first import is one thread's alone

    single_file.refuse_pickle(source)
    if prediction is not None and not is_one_of(prediction, PREDICTIONS):
        raise ValueError(f"prediction={shown(prediction)} must be 'epsilon', 'v_prediction' or 'sample'.")
    if config is not None:
        config = as_source(config, name="config", what="the configs of a diffusers pipeline, or its hub id")
    if variant is not None and not isinstance(variant, str):
        raise TypeError(f"variant={shown(variant)} must be text, such as 'fp16'.")
    if single_file.is_single_file(source):
        pipeline = _read_file(source, dtype, vae, config, prediction)
    elif config is None:
        pipeline = _read_folder(source, dtype, vae, variant, prediction)
    else:
        raise ValueError(f"config={config!r} is for a single .safetensors file alone; {source!r} has its own configs.")
    weights.require_loaded(source, pipeline.components)
    return pipeline


def _read_file(source: str, dtype: torch.dtype, vae: Any, config: str | None, prediction: str | None) -> Any:
    from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel

    checkpoint = single_file.open_checkpoint(source, prediction)
    family = checkpoint.family
    if family.doubtful and config is None and prediction is None:
        warnings.warn(
            f"{source!r} is taken for a Stable Diffusion 2.x of 768 pixels that predicts v, as it does not say: if "
            f'it is one of 512 pixels pass config="{single_file.SMALLER_SD2}", and if it predicts the noise '
            'prediction="epsilon".',
            stacklevel=4,
        )
    configs = config if config is not None else family.configs
    if vae is None and not checkpoint.has_vae:
        raise OSError(
            f"{source!r} holds no VAE; pass vae=, such as the folder, file or hub id of one for its family, and "
            "load_model(...) reads the rest from it."
        )
    own = {} if vae is None else {"vae": read_vae(vae, dtype, configs=configs)}
    with _explained(source, configs=configs):
        index = DiffusionPipeline.load_config(configs)
    require_known_parts(configs, index)
    if Path(configs).is_dir():
        require_no_code(configs, configs)
    with _explained(source, configs=configs):
        unet = UNet2DConditionModel.load_config(configs, subfolder="unet")
        its_vae = None if vae is not None else AutoencoderKL.load_config(configs, subfolder="vae")
    checkpoint.require_whole(unet, its_vae)
    with _explained(source, configs=configs):
        pipeline = single_file.read(checkpoint, configs, dtype, **own)
    changes = checkpoint.family.scheduler_changes(prediction)
    pipeline.scheduler = as_ddim(pipeline.scheduler, what=repr(configs), **changes)
    return pipeline


def _read_folder(source: str, dtype: torch.dtype, vae: Any, variant: str | None, prediction: str | None) -> Any:
    import diffusers

    with _explained(source):
        index = diffusers.DiffusionPipeline.load_config(source)
    require_known_parts(source, index)
    changes = {} if prediction is None else {"prediction_type": prediction}
    with _explained(source):
        unet = diffusers.UNet2DConditionModel.load_config(source, subfolder="unet")
        kind = getattr(diffusers, index["scheduler"][1])
        scheduler = kind.from_config(kind.load_config(source, subfolder="scheduler"))
    require_text_to_image(unet)
    scheduler = as_ddim(scheduler, what=repr(source), **changes) if changes else _checked(scheduler, source)
    given: dict[str, Any] = {name: None for name in UNUSED if name in index}
    given |= {"scheduler": scheduler} | ({} if vae is None else {"vae": read_vae(vae, dtype, configs=source)})
    large = _has(index, "text_encoder_2")
    with _explained(source):  # the pipelines' modules give advice while they are imported
        wanted: Any = diffusers.StableDiffusionXLPipeline if large else diffusers.StableDiffusionPipeline
    if not large:
        given |= {"safety_checker": None, "requires_safety_checker": False}

    def read(found: str | None) -> Any:
        with _explained(source, variant=variant, fetching=True):
            folder = _fetched(source, found)
        require_no_code(source, folder)
        held = {part: tensors(folder, part, found) for part in MODULES if part not in given}
        with _explained(source, variant=variant):
            pipeline = wanted.from_pretrained(
                folder, variant=found, torch_dtype=dtype, use_safetensors=True, local_files_only=True, **given
            )
        for part, there in held.items():
            if there:
                weights.require_read(source, part, getattr(pipeline, part), there)
        return pipeline

    return _in_some_variant(variant, read)


MODULES = ("unet", "vae", "text_encoder", "text_encoder_2")
"""Parts that have weights."""


def _checked(scheduler: Any, source: str) -> Any:
    as_ddim(scheduler, what=repr(source))
    return scheduler


def _has(index: Mapping[str, Any], part: str) -> bool:
    return isinstance(index.get(part), list | tuple) and index[part][1] is not None


def _fetched(source: str, variant: str | None) -> str:
    """The folder itself, or where the hub's package has put a copy of a repository, fetched if need be."""
    if Path(source).is_dir():
        return source
    from diffusers import DiffusionPipeline

    return str(DiffusionPipeline.download(source, variant=variant, use_safetensors=True))


def read_vae(vae: Any, dtype: torch.dtype, *, configs: str) -> torch.nn.Module:
    """A VAE given as such, or by a hub id, a folder or a single file; `configs` names the pipeline of a file's VAE."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    if isinstance(vae, AutoencoderKL | AutoencoderTiny):
        return vae.to(dtype)
    if not isinstance(vae, str | Path):
        raise TypeError(
            f"vae={shown(vae)} must be a hub id, a folder, a .safetensors file, or an AutoencoderKL or AutoencoderTiny."
        )
    source = as_source(vae, name="vae", what="a VAE, or its hub id")
    single_file.refuse_pickle(source)
    if single_file.is_single_file(source):
        with _explained(source, configs=configs):
            return AutoencoderKL.from_single_file(source, config=configs, subfolder="vae", torch_dtype=dtype)
    subfolder = "vae" if (Path(source) / "vae").is_dir() else None
    if Path(source).is_dir():
        require_no_code(source, source, (subfolder or ".",))
    with _explained(source):
        kind = AutoencoderKL.load_config(source, subfolder=subfolder).get("_class_name", "AutoencoderKL")
        if kind in VAES:
            given = {"subfolder": subfolder, "torch_dtype": dtype, "use_safetensors": True}
            reader = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}[kind]
            return _in_some_variant(None, lambda found: reader.from_pretrained(source, variant=found, **given))
    raise ValueError(f"{source!r} holds {kind}, which is no VAE of Stable Diffusion; give {' or '.join(VAES)}.")


def _in_some_variant(variant: str | None, read: Callable[[str | None], Any]) -> Any:
    """Read a variant; without one what there is, be it the half-precision files alone."""
    try:
        return read(variant)
    except (OSError, ValueError):
        if variant is None:
            with suppress(OSError, ValueError):
                return read("fp16")
        raise


def require_same_latents(vae: Mapping[str, Any], unet: Mapping[str, Any]) -> None:
    """Raise ValueError when a VAE makes other latents than a U-Net takes; their configs are given."""
    makes, takes = vae.get("latent_channels", 4), unet["in_channels"]
    sides = [vae.get(side, 3) for side in ("in_channels", "out_channels")]
    if sides != [3, 3]:
        raise ValueError(
            f"this VAE takes {sides[0]} channels and gives {sides[1]}, and pictures have 3; use a Stable Diffusion "
            "1.x, 2.x or SDXL model's."
        )
    if makes != takes:
        raise ValueError(
            f"this VAE makes latents of {makes} channels and the U-Net takes {takes}; use a VAE of the model's family."
        )
    if vae.get("latents_mean") is not None:
        raise ValueError(
            "this VAE centres its latents, as Playground 2.5's does, which is another noise schedule than Stable "
            "Diffusion's; use a Stable Diffusion 1.x, 2.x or SDXL model."
        )


def _explained(source: str, **more: Any) -> AbstractContextManager[None]:
    from dragnoise.models.loader_context import (
        explained_errors,  # imports diffusers, which a session alone does not need
    )

    return explained_errors(source, **more)
