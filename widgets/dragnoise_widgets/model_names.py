"""Names of models: which of them `load_model` can read."""

from __future__ import annotations

import re
from pathlib import Path

EMBEDDED = "toyland"


def can_be_loaded(name: str) -> bool:
    """Is this the embedded model, a path, or what looks like a hub id?  A model made of a pipeline has another name."""
    if name == EMBEDDED or (name and Path(name).expanduser().exists()):
        return True
    return re.fullmatch(r"[\w.-]+/[\w.-]+|.*\.safetensors", name, re.IGNORECASE) is not None
