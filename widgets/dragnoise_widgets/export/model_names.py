"""Model names: which of them `load_model` can read, with what arguments, and their description for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dragnoise import ModelInfo
from dragnoise.models import arguments

EMBEDDED = "toyland"


def can_be_loaded(name: str) -> bool:
    """Is this the embedded model, a path, or what looks like a hub id?  A model made of a pipeline has another name."""
    if name == EMBEDDED or (name and Path(name).expanduser().exists()):
        return True
    return re.fullmatch(r"[\w.-]+/[\w.-]+|.*\.safetensors", name, re.IGNORECASE) is not None


def asked(*, dtype: str | None, memory: str) -> dict[str, str]:
    """Arguments of `load_model`, without those that are the usual ones."""
    return ({} if dtype is None else {"dtype": dtype}) | ({} if memory == "normal" else {"memory": memory})


def how(info: ModelInfo) -> dict[str, Any]:
    """Arguments of `load_model` that load it as it was; the dtype only on the kind of device that it was on."""
    same_place = info.dtype and info.device == arguments.as_device(None).type
    return dict(info.options) | ({"dtype": info.dtype} if same_place else {})


def told(info: ModelInfo) -> str:
    """Name and origin of the model in words."""
    others = [f"{name} {_place(value)}" for name, value in info.options.items() if name in ("vae", "config")]
    return ", with the ".join([_place(info.name), *others])


def _place(name: str) -> str:
    path = Path(name).expanduser()
    return (
        f"{name!r}, {'a folder' if path.is_dir() else 'a file'} on this computer"
        if path.exists()
        else (f"{name!r}, to be fetched from the Hugging Face hub")
    )
