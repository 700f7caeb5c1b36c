"""Reading by diffusers and transformers: one thread at a time, without output, with errors that say what to do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dragnoise.interrupts import is_out_of_memory
from dragnoise.locks import PATCHING
from dragnoise.validation import said


@contextmanager
def explained_errors(
    source: str, *, configs: str | None = None, variant: str | None = None, fetching: bool = False
) -> Iterator[None]:
    """Read quietly, one thread at a time; whatever goes wrong becomes one OSError that says what to do.

    fetching: for a download, which may take long and builds nothing: without the lock, and with output.
    """
    try:
        with ExitStack() as alone:
            if not fetching:
                alone.enter_context(PATCHING)
                alone.enter_context(quiet())
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
def quiet() -> Iterator[None]:
    """Context manager: no progress bars and messages from loaders, except for downloads; errors are still raised.

    These settings are global to the process, so the caller must hold `PATCHING`.
    """
    import diffusers
    import transformers
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logs = (diffusers.utils.logging, transformers.utils.logging)
    downloads = not are_progress_bars_disabled()  # transformers' switch is also theirs
    with ExitStack() as undo:  # undone in reverse order, also after an error
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
    """Context manager: ignore these kinds of warnings.

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


# ------------------------------------------------------------------------------------ first import
# diffusers and transformers put other module objects in their own places while they are imported: a second thread that
# imports one of them meanwhile is left with the first object, which has no names.  Whatever uses a model imports this
# module, for which Python lets other threads wait; later imports of other names find everything there.

with PATCHING, quiet():
    from diffusers import (
        AutoencoderKL,
        AutoencoderTiny,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from diffusers.loaders import StableDiffusionLoraLoaderMixin
    from peft import LoraConfig
    from transformers import CLIPTextModel, CLIPTokenizer

IMPORTED = (
    AutoencoderKL, AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline,
    UNet2DConditionModel, StableDiffusionLoraLoaderMixin, LoraConfig, CLIPTextModel, CLIPTokenizer,
)  # fmt: skip
"""What every model needs; with it everything under it is imported."""
