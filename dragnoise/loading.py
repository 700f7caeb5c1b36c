"""Where a pipeline comes from: a hub id, a diffusers folder or a single file; and what is refused before it is read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from dragnoise import single_file
from dragnoise.given import as_path, is_one_of, said, shown
from dragnoise.memory import Memory
from dragnoise.rescue import OutOfMemory, is_out_of_memory
from dragnoise.unet import require_text_to_image

DTYPES = {
    "float32": torch.float32, "fp32": torch.float32, "float16": torch.float16, "fp16": torch.float16,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16, "float64": torch.float64,
}  # fmt: skip

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
"""What a pipeline must have."""

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a U-Net may predict."""

VAES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}


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
    single_file.refuse_pickle(source)
    if prediction is not None and not is_one_of(prediction, PREDICTIONS):
        raise ValueError(f"prediction={shown(prediction)} must be 'epsilon', 'v_prediction' or 'sample'.")
    pipeline = _read(source, dtype, vae, config, variant, sure=prediction is not None)
    if prediction is not None:
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, prediction_type=prediction)
    return pipeline


def _read(
    source: str, dtype: torch.dtype, vae: Any, config: str | Path | None, variant: str | None, *, sure: bool
) -> DiffusionPipeline:
    """`sure`: the caller knows what it predicts."""
    if config is not None:
        config = as_source(config, name="config", what="the configs of a diffusers pipeline, or its hub id")
    if variant is not None and not isinstance(variant, str):
        raise TypeError(f"variant={shown(variant)} must be text, such as 'fp16'.")
    if single_file.is_single_file(source):
        family = single_file.family_of(source)
        if family.doubtful and config is None and not sure:
            warnings.warn(
                f"{source!r} is taken for a Stable Diffusion 2.x of 768 pixels that predicts v, as it does not say: if "
                f'it is one of 512 pixels pass config="{single_file.SMALLER_SD2}", and if it predicts the noise '
                'prediction="epsilon".',
                stacklevel=4,
            )
        configs = str(config) if config is not None else family.configs
        own = {} if vae is None else {"vae": read_vae(vae, dtype, configs=configs)}
        with _explained(source, configs=configs):
            return single_file.read(source, family, configs, dtype, **own)
    if config is not None:
        raise ValueError(
            f"config={str(config)!r} is for a single .safetensors file alone; {source!r} has configs of its own."
        )
    with _explained(source):
        index = DiffusionPipeline.load_config(source)
    _refuse_others(source, index)
    own = {} if vae is None else {"vae": read_vae(vae, dtype, configs=source)}
    given = {"torch_dtype": dtype, "use_safetensors": True, "safety_checker": None, "requires_safety_checker": False}
    with _explained(source, variant=variant):
        return _in_some_variant(
            variant, lambda found: DiffusionPipeline.from_pretrained(source, variant=found, **given, **own)
        )


def read_vae(vae: Any, dtype: torch.dtype, *, configs: str) -> torch.nn.Module:
    """A VAE given as such, or by a hub id, a folder or a single file; `configs` names the pipeline of a file's VAE."""
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
    with _explained(source):
        kind = AutoencoderKL.load_config(source, subfolder=subfolder).get("_class_name", "AutoencoderKL")
        if kind in VAES:
            given = {"subfolder": subfolder, "torch_dtype": dtype, "use_safetensors": True}
            return _in_some_variant(None, lambda found: VAES[kind].from_pretrained(source, variant=found, **given))
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


def as_source(source: Any, *, name: str, what: str) -> str:
    """A path, "~" expanded, or a hub id; raises TypeError, ValueError or OSError for what cannot be either."""
    path = as_path(source, name=name, what=what)
    return str(path) if path.exists() else str(source)


# ------------------------------------------------------------------------------------ arguments


def as_device(device: torch.device | str | None) -> torch.device:
    """A device that is there; default "cuda", else "mps", else "cpu".  Raises ValueError for any other."""
    if device is None:
        return torch.device(_best_device())
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen).cpu()  # "meta" has nothing to give
    except (RuntimeError, AssertionError, TypeError, ValueError, ImportError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(
                f"the memory of {shown(device)} is used up before anything was loaded: end what else uses it, or pass "
                'device="cpu".'
            ) from None
        raise ValueError(
            f"device={shown(device)} cannot be used here; leave it out for {_best_device()!r}, the best there is."
        ) from None
    return chosen


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def as_dtype(dtype: torch.dtype | str | None, *, default: torch.dtype) -> torch.dtype:
    """torch.float32, bfloat16, float16 (or float64) from itself or its name; raises ValueError for any other."""
    if dtype is None:
        return default
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or found not in DTYPES.values():
        raise ValueError(f"dtype={shown(dtype)} must be torch.float32, torch.bfloat16 or torch.float16.")
    return found


def require_memory(memory: Any) -> None:
    """Raise ValueError for what is not "normal" or "low"."""
    if not is_one_of(memory, get_args(Memory)):
        raise ValueError(f"memory={shown(memory)} must be 'normal' or 'low'.")


# ---------------------------------------------------------------------------- what is refused


def _refuse_others(source: str, index: Mapping[str, Any]) -> None:
    """Look at the small files alone, so that gigabytes are not fetched to be refused."""
    kind = index.get("_class_name", "?")
    lacking = [part for part in PARTS if not isinstance(index.get(part), list | tuple) or index[part][1] is None]
    if lacking:
        raise ValueError(
            f"{source!r} is a {kind} without {_listed(lacking)}, so DragNoise cannot use it; Stable Diffusion 1.x, 2.x "
            "and SDXL text-to-image models work."
        )
    if index["unet"][1] == "UNet2DConditionModel":
        with _explained(source):
            unet = UNet2DConditionModel.load_config(source, subfolder="unet")
        require_text_to_image(unet)


def require_same_latents(vae: Mapping[str, Any], unet: Mapping[str, Any]) -> None:
    """Raise ValueError when a VAE makes other latents than a U-Net takes; their configs are given."""
    makes, takes = vae.get("latent_channels", 4), unet["in_channels"]
    if makes != takes:
        raise ValueError(
            f"this VAE makes latents of {makes} channels and the U-Net takes {takes}; use a VAE of the model's family."
        )
    if vae.get("latents_mean") is not None:
        raise ValueError(
            "this VAE centres its latents, as Playground 2.5's does, which is another noise schedule than Stable "
            "Diffusion's; use a Stable Diffusion 1.x, 2.x or SDXL model."
        )


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# --------------------------------------------------------------------------------- saying why


@contextmanager
def _explained(source: str, *, configs: str | None = None, variant: str | None = None) -> Iterator[None]:
    """Read quietly; whatever goes wrong becomes one OSError that says what to do."""
    try:
        with _quiet():
            yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise OSError(_why(source, configs, variant, said(error))) from error


def _why(source: str, configs: str | None, variant: str | None, reason: str) -> str:
    if configs is not None:
        if Path(configs).is_dir():
            return (
                f"{source!r} cannot be read with the configs of {configs!r} ({reason}); pass config= the folder of a "
                "diffusers pipeline of the checkpoint's own family."
            )
        return (
            f"{source!r} holds weights alone, and the configs of {configs!r} that go with it are not in the cache and "
            f"could not be fetched, or do not fit it ({reason}); connect once, or pass config= the folder of a "
            "diffusers pipeline of its family."
        )
    if variant is not None:
        return (
            f"{source!r} cannot be read in the variant {variant!r} ({reason}); leave variant= out for the files that "
            "there are."
        )
    if Path(source).exists():
        return (
            f"{source!r} cannot be read as a diffusers folder with safetensors weights ({reason}); pass a folder that "
            "holds model_index.json, or load_model() for the embedded model."
        )
    return (
        f"{source!r} is no local folder or file and could not be fetched from the hub ({reason}); pass the path of a "
        "diffusers folder that you have, or load_model(), which needs no network."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no advice from the loaders for a moment, but those of downloads; what went wrong is raised anyway."""
    logs = (diffusers.utils.logging, transformers.utils.logging)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    downloads = not are_progress_bars_disabled()  # transformers' switch is also theirs
    try:
        for log in logs:
            log.set_verbosity(log.CRITICAL)
            log.disable_progress_bar()
        if downloads:
            enable_progress_bars()
        with warnings.catch_warnings():
            for kind in (FutureWarning, UserWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
        if not downloads:
            disable_progress_bars()
