"""Checks of a diffusers model folder: no code but that of diffusers and transformers is imported for it.

A folder's model_index.json names the classes of its parts, and before 0.42.1 diffusers imports whatever
module it names, a file beside the weights too.  Everything here reads JSON and file names alone, and runs
before a class is imported or a weight is read.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dragnoise.config import DragConfig
from dragnoise.models.weights import Entry, entries, refuse_scaled
from dragnoise.validation import said, shown

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
"""What a pipeline must have."""

USED = (*PARTS, "text_encoder_2", "tokenizer_2")
"""What is read of it; everything else stays unread."""

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of Stable Diffusion's pipelines that are not read."""

VAES = ("AutoencoderKL", "AutoencoderTiny")
"""Classes of VAEs in diffusers that work here."""

CODE = ("auto_map", "custom_pipelines", "custom_pipeline", "trust_remote_code")
"""Fields of a config that name code which comes with a model."""

WORKS = "Stable Diffusion 1.x, 2.x and SDXL text-to-image models work"


def require_known_parts(source: str, index: Mapping[str, Any]) -> None:
    """Raise ValueError unless a model_index.json has what is needed, all of it of diffusers' and transformers' classes.

    The sentence names the part, the module and the class.
    """
    kind = index.get("_class_name", "?")
    if not isinstance(kind, str):
        raise ValueError(
            f"{source!r} names code of its own for its pipeline ({shown(kind)}), which is never run; {WORKS}."
        )
    lacking = [part for part in PARTS if _pair(index.get(part)) in (None, (None, None))]
    if lacking:
        raise ValueError(f"{source!r} is a {kind} without {_listed(lacking)}, so DragNoise cannot use it; {WORKS}.")
    for part, named in index.items():
        if isinstance(named, list | tuple):
            _require_known(source, part, named)


def require_no_code(source: str, folder: str | Path, parts: tuple[str, ...] = USED) -> None:
    """Raise ValueError for a local folder with code, or configs that ask for some, in what is read of it.

    parts: its subfolders; "." is the folder itself.
    """
    root = Path(folder)
    if (root / "None.py").exists():  # older diffusers run it as a pipeline that nobody asked for
        raise ValueError(
            f"{source!r} holds code where a pipeline's is looked for (None.py), which is never run; {WORKS}."
        )
    for part in parts:
        for path in sorted((root / part).glob("*.py")) if part != "." else ():
            raise ValueError(
                f"{source!r} holds code of its own ({part}/{path.name}), which is never run; delete it if the model "
                "works without, or get a model whose parts are diffusers' and transformers' own."
            )
        for path in sorted((root / part).glob("*.json")):
            if "config" in path.name or "index" in path.name:
                _require_plain_json(source, path)


def tensors(folder: str | Path, part: str, variant: str | None) -> dict[str, Entry]:
    """Tensors of a part's .safetensors files that a loader takes, by name, with first values; {} without any.

    Raises OSError for a damaged file, ValueError for one with scaled weights.
    """
    found: dict[str, Entry] = {}
    for path in sorted((Path(folder) / part).glob("*.safetensors")):
        stem, _, rest = path.name.removesuffix(".safetensors").partition(".")
        if stem.partition("-")[0] in ("diffusion_pytorch_model", "model") and rest.partition("-")[0] == (variant or ""):
            held, metadata = entries(str(path), first=True)
            refuse_scaled(str(path), held, metadata)
            found |= held
    return found


def _require_known(source: str, part: str, named: list[Any] | tuple[Any, ...]) -> None:
    pair = _pair(named)
    if pair == (None, None):
        return
    if pair is None or not all(isinstance(word, str) for word in pair):
        raise ValueError(f"{source!r} names no module and class for its {part} ({shown(named)}); {WORKS}.")
    library, name = pair
    if part not in USED:
        if not (library in ("diffusers", "transformers") or _is_pipeline_module(library)):
            raise _foreign(source, part, library)
        return
    if library not in ("diffusers", "transformers"):
        raise _foreign(source, part, library)
    found = getattr(importlib.import_module(library), name, None)
    if not (isinstance(found, type) and _is_of_part(found, part)):
        raise ValueError(
            f"the {part} of {source!r} is a {library}.{name}, which DragNoise cannot use or this version of {library} "
            f"lacks; {WORKS}."
        )


def _is_of_part(found: type, part: str) -> bool:
    """Is a class of diffusers or transformers one that may be this part?"""
    import diffusers
    import transformers

    if part in ("unet", "vae"):
        return found in [getattr(diffusers, name) for name in {"unet": ("UNet2DConditionModel",), "vae": VAES}[part]]
    base: type = transformers.PreTrainedTokenizerBase if part.startswith("tokenizer") else transformers.PreTrainedModel
    return issubclass(found, diffusers.SchedulerMixin if part == "scheduler" else base)


def _foreign(source: str, part: str, library: str) -> ValueError:
    return ValueError(
        f"{source!r} names the module {shown(library)} for its {part}, and a model's parts come from diffusers and "
        "transformers alone, as other code is never run; get a model that needs none."
    )


def _is_pipeline_module(library: str) -> bool:
    """Is it a module of diffusers' own pipelines, as ["stable_diffusion", "StableDiffusionSafetyChecker"] names one?"""
    return library.isidentifier() and importlib.util.find_spec(f"diffusers.pipelines.{library}") is not None


def _pair(named: Any) -> tuple[Any, Any] | None:
    return (named[0], named[1]) if isinstance(named, list | tuple) and len(named) == 2 else None


def _require_plain_json(source: str, path: Path) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OSError(
            f"{source!r} cannot be read, as its {path.name} is no JSON ({said(error)}); get it again."
        ) from None
    for key, value in _fields(content):
        name = f"{path.parent.name}/{path.name}"
        if key in CODE and value:
            raise ValueError(
                f"{source!r} asks for code of its own ({key} in {name}), which is never run; get a model whose parts "
                "are diffusers' and transformers' own."
            )
        if key == "quantization_config" and value:
            raise ValueError(
                f"{source!r} holds quantised weights ({key} in {name}), which are not read; get the model in float16, "
                "bfloat16 or float32."
            )
        if "attn_implementation" in key and "/" in str(value):
            raise ValueError(
                f"{source!r} asks for code from the hub ({key}={shown(value)} in {name}), which is never run; get a "
                "model that needs none."
            )
        if key == "weight_map" and "safetensors" in path.name:
            files = value.values() if isinstance(value, Mapping) else [value]
            for file in files:
                if not (isinstance(file, str) and file.endswith(".safetensors") and Path(file).name == file):
                    raise ValueError(
                        f"{source!r} names {shown(file)} for weights ({name}), and weights are read from .safetensors "
                        "files beside it alone; get it again."
                    )


def _fields(content: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every field of a JSON value, nested ones too; the names of tensors in a weight map are none."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield key, value
            if key != "weight_map" and depth < 20:
                yield from _fields(value, depth + 1)
    elif isinstance(content, list) and depth < 20:
        for value in content:
            yield from _fields(value, depth + 1)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


CONFIG_FILE = "drag_config.json"
"""A pipeline folder may hold its recommended `DragConfig` fields in this file."""


def recommended_config(folder: Path) -> DragConfig | None:
    """The config that a model's folder recommends, if it does; raises ValueError for one that cannot be read."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        return DragConfig(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} is no DragConfig in JSON ({said(error)}); mend it, or delete it for the usual numbers."
        ) from None
