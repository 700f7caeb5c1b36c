"""Checks of the arguments of `load_model`: source, device, dtype and memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import torch

from dragnoise.interrupts import OutOfMemory, is_out_of_memory
from dragnoise.models.offload import Memory
from dragnoise.validation import as_path, is_one_of, shown

DTYPES = {
    "float32": torch.float32, "fp32": torch.float32, "float16": torch.float16, "fp16": torch.float16,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16, "float64": torch.float64,
}  # fmt: skip


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
            f"{name}={shown(str(source))} is an address; give a hub id, such as {_hub_id(url[1])!r}, or a path."
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
    """Raise ValueError if it is not "normal" or "low"."""
    if not is_one_of(memory, get_args(Memory)):
        raise ValueError(f"memory={shown(memory)} must be 'normal' or 'low'.")


# ---------------------------------------------------------------------------- what is refused
