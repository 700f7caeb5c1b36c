"""Read a pipeline from a hub id, a diffusers folder or a single file; check the arguments of `load_model`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from dragnoise.interrupts import OutOfMemory, is_out_of_memory
from dragnoise.locks import PATCHING
from dragnoise.models import single_file, weights
from dragnoise.models.model_folder import UNUSED, VAES, require_known_parts, require_no_code, tensors
from dragnoise.models.noise_models import PREDICTIONS, as_ddim
from dragnoise.models.offload import Memory
from dragnoise.models.unet import require_text_to_image
from dragnoise.validation import as_path, is_one_of, said, shown

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

DTYPES = {
    "float32": torch.float32, "fp32": torch.float32, "float16": torch.float16, "fp16": torch.float16,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16, "float64": torch.float64,
}  # fmt: skip


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
    wanted: Any = diffusers.StableDiffusionXLPipeline
    if not _has(index, "text_encoder_2"):
        wanted = diffusers.StableDiffusionPipeline
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


URL = re.compile(r"(?i)(?:https?|ftp|hf|s3|gs|file):/+(.*)")
"""An address, also one that lost a slash on its way through a Path."""


def _hub_id(rest: str) -> str:
    """The hub id in an address without its scheme; an example where there is none."""
    host, *parts = [part for part in rest.split("?")[0].split("/") if part]
    if "." not in host:  # hf://org/name
        parts = [host, *parts]
    return "/".join(parts[:2]) if len(parts) >= 2 else "stable-diffusion-v1-5/stable-diffusion-v1-5"


def as_source(source: Any, *, name: str, what: str) -> str:
    """A path, "~" expanded, or a hub id; raises TypeError, ValueError or OSError for what cannot be either."""
    if isinstance(source, str | Path) and (url := URL.match(str(source))):
        raise ValueError(
            f"{name}={shown(str(source))} is an address; give a hub id, such as {_hub_id(url[1])!r}, or the path of "
            f"{what}."
        )
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


# --------------------------------------------------------------------------------- saying why


@contextmanager
def _explained(
    source: str, *, configs: str | None = None, variant: str | None = None, fetching: bool = False
) -> Iterator[None]:
    """Read quietly, one thread at a time; whatever goes wrong becomes one OSError that says what to do.

    fetching: a download, which may take long and builds nothing, is neither quiet nor alone.
    """
    try:
        with ExitStack() as alone:
            if not fetching:
                alone.enter_context(PATCHING)
                alone.enter_context(_quiet())
            yield
    except Exception as error:
        if any(is_out_of_memory(each) for each in _causes(error)):
            raise MemoryError(said(error)) from error
        raise OSError(_why(source, configs, variant, said(error))) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised for: loaders turn a MemoryError into a file that cannot be read."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


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
    """No bars and no advice from the loaders for a moment, but those of downloads; what went wrong is raised anyway.

    These switches are the process's own, so that the caller holds `PATCHING`.
    """
    import diffusers
    import transformers
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logs = (diffusers.utils.logging, transformers.utils.logging)
    downloads = not are_progress_bars_disabled()  # transformers' switch is also theirs
    with ExitStack() as undo:  # the last first, and all of them whatever happens
        undo.callback(enable_progress_bars if downloads else disable_progress_bars)
        for log in logs:
            undo.callback(log.set_verbosity, log.get_verbosity())
            if log.is_progress_bar_enabled():
                undo.callback(log.enable_progress_bar)
        undo.enter_context(_ignored(FutureWarning, UserWarning))
        for log in logs:
            log.set_verbosity(log.CRITICAL)
            log.disable_progress_bar()
        if downloads:
            enable_progress_bars()
        yield


@contextmanager
def _ignored(*kinds: type[Warning]) -> Iterator[None]:
    """Warnings ignored for a moment.

    `warnings.catch_warnings` puts a whole list back, another thread's too: entered and left at the wrong
    moment it leaves the filters changed for good.  This takes out its own entries, wherever they are.
    """
    filters: Any = warnings.filters
    mine: list[Any] = [("ignore", None, kind, None, 0) for kind in kinds]
    filters[:0] = mine
    try:
        yield
    finally:
        present: Any = warnings.filters
        for entries in (filters, present):  # another thread may have put a copy in its place
            entries[:] = [entry for entry in entries if not any(entry is own for own in mine)]
