"""Model names: which of them `load_model` can read, with what arguments, and their description for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dragnoise import ModelInfo

EMBEDDED = "toyland"


def can_be_loaded(name: str) -> bool:
    """Is this the embedded model, a path, or what looks like a hub id?  A model made of a pipeline has another name.

    A name with a folder in it is not looked for, since a file may name a place on somebody else's computer.
    """
    if "/" in name or "\\" in name or name.startswith("~") or name.lower().endswith(".safetensors"):
        return True
    return name == EMBEDDED or (re.fullmatch(r"[\w .-]{1,100}", name) is not None and Path(name).exists())


def asked(*, dtype: str | None, memory: str) -> dict[str, str]:
    """Arguments of `load_model`, without those that are the usual ones."""
    return ({} if dtype is None else {"dtype": dtype}) | ({} if memory == "normal" else {"memory": memory})


def how(info: ModelInfo) -> dict[str, Any]:
    """Arguments of `load_model` that load it as it was; the dtype only on the kind of device that it was on."""
    from dragnoise.models import arguments

    same_place = info.dtype and info.device == arguments.as_device(None).type
    return dict(info.options) | ({"dtype": info.dtype} if same_place else {})
