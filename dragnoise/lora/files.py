"""LoRAs as files: diffusers' format in and out, and the whole state for an archive."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from dragnoise.interrupts import is_out_of_memory
from dragnoise.lora.adapters import HALF_SCALE, Adapter, Lora, Training
from dragnoise.lora.formats import EMBEDDING, PEFT_PREFIX, OtherKind, unet_tensors
from dragnoise.lora.writing import FILE_NAME, OWN, file_for
from dragnoise.models.model import Model
from dragnoise.models.single_file import PICKLES
from dragnoise.validation import as_float, as_path, said, shown

_CONFIG = "lora_adapter_metadata"  # peft's configuration, where diffusers keeps it


# ------------------------------------------------------------------------------- diffusers' format


def save(lora: Lora, path: str | Path) -> Path:
    """`lora.save(path)`; raises TypeError if it is not a `Lora`."""
    if not isinstance(lora, Lora):
        raise TypeError(f"what is saved must be a Lora, not {shown(lora)}; session.fit_lora() makes one.")
    return lora.save(path)


def load(path: str | Path, model: Model) -> Lora:
    """Read a LoRA of the U-Net: one saved here, by diffusers, by peft, or in the names of kohya's scripts or LyCORIS.

    path: a .safetensors file, or a folder that holds `pytorch_lora_weights.safetensors` or one .safetensors file.
    Adapters of the text encoder and text embeddings are left out, with a warning.  Raises FileNotFoundError, and
    ValueError for a file that is no such LoRA, saying what it is if that is known, or was made for another model.
    """
    path = _existing(path)
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (a handle is no dict)
        config = _json(metadata.get(_CONFIG))
        if any(key.startswith(PEFT_PREFIX) for key in tensors):
            config = _peft_config(path) | config
        tensors, left_out = unet_tensors(tensors)
        adapters = _adapters(tensors, config, model)
    except OtherKind as error:
        raise ValueError(f"{str(path)!r} is no LoRA of a U-Net: {said(error)}; {error.instead}.") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"{str(path)!r} cannot be read as a LoRA of a U-Net ({said(error)}); pass a .safetensors file that "
            "session.lora.save() or diffusers' save_lora_weights() wrote."
        ) from error
    lora = Lora(adapters, losses=_losses(_json(metadata.get(OWN)).get("losses")))
    lora.require_fit(model)
    if left_out:
        embeddings = all(EMBEDDING.fullmatch(key) for key in left_out)
        what = "holds a text embedding" if embeddings else "changes the text encoder"
        warnings.warn(
            f"{str(path)!r} also {what}, by {len(left_out)} tensors that are left out, as a LoRA is worn on the U-Net "
            "alone here: it will do a little less than where it came from.",
            stacklevel=3,  # points at the caller of load()
        )
    return lora


def _adapters(tensors: dict[str, Tensor], config: Mapping[str, Any], model: Model) -> dict[str, Adapter]:
    from diffusers.loaders import StableDiffusionLoraLoaderMixin
    from diffusers.utils import convert_unet_state_dict_to_peft

    layers = len([key for key in tensors if re.search(r"lora_down\.|lora_A\.|lora\.down\.", key)])
    mixin = model.pipeline if hasattr(model.pipeline, "lora_state_dict") else StableDiffusionLoraLoaderMixin
    named, alphas = mixin.lora_state_dict(tensors, unet_config=model.pipeline.unet.config)[:2]
    named = convert_unet_state_dict_to_peft(named)
    own = convert_unet_state_dict_to_peft(alphas or {})  # some of them by the name of a layer, some of its down
    own = {key.removesuffix(".alpha").partition(".lora_A.")[0]: float(alpha) for key, alpha in own.items()}
    others = [key for key in named if not re.fullmatch(r"unet\..+\.lora_[AB]\.weight", key)]
    if others or not named:
        raise ValueError(f"it also holds {others[0]}" if others else "it holds nothing")
    adapters = {}
    for key in sorted(named):
        name = key.removeprefix("unet.").rpartition(".lora_")[0]
        if name not in adapters:
            down, up = named[f"unet.{name}.lora_A.weight"], named[f"unet.{name}.lora_B.weight"]
            alpha = own.get(f"unet.{name}", _alpha(name, config, down.shape[0]))
            root = config.get("unet.use_rslora") is True
            scale = alpha / (down.shape[0] ** (0.5 if root else 1))
            adapters[name] = checked_adapter(name, down.to(model.device), up.to(model.device), scale)
    if len(adapters) != layers:  # diffusers drops names of one style where a file mixes two
        raise ValueError(f"of its {layers} layers {layers - len(adapters)} have names that are not known")
    return adapters


def _peft_config(path: Path) -> dict[str, Any]:
    """What peft's adapter_config.json beside a file says, by the names that diffusers gives it."""
    try:
        told = _json((path.parent / "adapter_config.json").read_text())
    except (OSError, UnicodeError):
        told = {}
    if "lora_alpha" not in told:
        warnings.warn(
            f"there is no adapter_config.json beside {str(path)!r} to say its lora_alpha, which is taken for its rank: "
            "put the file there that peft wrote with it, or set session.lora = session.lora.at(weight).",
            stacklevel=4,
        )
    return {f"unet.{name}": value for name, value in told.items()}


def _alpha(name: str, config: Mapping[str, Any], rank: int) -> float:
    """A layer's alpha by peft's configuration; without one, the rank."""
    for pattern, alpha in dict(config.get("unet.alpha_pattern") or {}).items():
        if f".{name}".endswith(f".{pattern.removeprefix('^')}"):
            return float(alpha)
    return float(config.get("unet.lora_alpha", rank))


def checked_adapter(name: str, down: Tensor, up: Tensor, scale: float) -> Adapter:
    """An adapter in float32; raises ValueError when its parts do not fit together or are not finite."""
    flat = down.ndim in (2, 4) and up.ndim == down.ndim and all(side == 1 for side in up.shape[2:])
    if not flat or up.shape[1] != down.shape[0] or not down.is_floating_point() or not up.is_floating_point():
        raise ValueError(f"{name} has parts of shapes {tuple(down.shape)} and {tuple(up.shape)}")
    if not (math.isfinite(scale) and torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise ValueError(f"{name} holds numbers that are not finite")
    return Adapter(down.float(), up.float(), float(scale))


def _existing(path: str | Path) -> Path:
    """The file to read; raises FileNotFoundError, and ValueError for a pickle or a folder with several files."""
    path = as_path(path, what="a .safetensors file or a folder with one")
    folder = path.is_dir()
    if folder and not (path / FILE_NAME).is_file():
        files = (file for file in path.iterdir() if not file.name.startswith("."))  # macOS leaves "._name" there
        found = sorted(file.name for file in files if file_for(file) == file and file.is_file())
        if len(found) > 1:
            raise ValueError(f"{str(path)!r} holds {len(found)} .safetensors files ({shown(found)}); give one of them.")
        path = path / (found[0] if found else FILE_NAME)
    elif folder:
        path = path / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"there is no LoRA at {str(path)!r}; pass a .safetensors file or a folder with one.")
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{str(path)!r} is a pickle, which can run any code when it is opened; get the LoRA as .safetensors, as "
            "which nearly every one is shared too."
        )
    return path


def _json(text: str | None) -> dict[str, Any]:
    """The object in a JSON text; an empty one for anything else."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _losses(given: Any) -> tuple[float, ...]:
    numbers = isinstance(given, list) and all(isinstance(x, int | float) and math.isfinite(x) for x in given)
    return tuple(float(x) for x in given) if numbers else ()


# ----------------------------------------------------------------------------------- whole state


def pack(lora: Lora) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All of a LoRA, its training too, as tensors on the CPU and numbers that JSON can hold."""
    tensors: dict[str, Tensor] = {}
    for name, adapter in lora.adapters.items():
        tensors |= {f"{name}:down": adapter.down, f"{name}:up": adapter.up}
    scales = {name: adapter.scale for name, adapter in lora.adapters.items()}
    numbers: dict[str, Any] = {"scales": scales, "weight": lora.weight, "losses": list(lora.losses)}
    if lora.training is not None:
        numbers |= {"key": lora.training.key, "loss_scale": lora.training.loss_scale}
        for name, moments in lora.training.moments.items():
            tensors |= {f"{name}:{moment}": x for moment, x in zip(_MOMENTS, moments, strict=True)}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, numbers


def unpack(tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> Lora:
    """What was packed, to the bit; raises ValueError when the parts do not belong together."""
    try:
        adapters = {
            name: checked_adapter(name, tensors[f"{name}:down"], tensors[f"{name}:up"], float(scale))
            for name, scale in numbers["scales"].items()
        }
        training = None
        if "key" in numbers:
            moments = {name: _moments(name, adapter, tensors) for name, adapter in adapters.items()}
            training = Training(_key(numbers["key"]), moments, _loss_scale(numbers["loss_scale"]))
        losses = _losses(numbers["losses"])
        if len(losses) != len(numbers["losses"]) or (training and not losses):
            raise ValueError(f"losses {numbers['losses']!r:.40}")
        return Lora(adapters, numbers["weight"], losses, training)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"this is no whole LoRA ({said(error)}); fit one with session.fit_lora().") from error


def _key(given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError(f"key {shown(given)}")
    return given


def _loss_scale(given: Any) -> float:
    """A valid loss scale; a fit halves it until the gradients are finite, which would never end for an infinite one."""
    scale = as_float(given)
    if scale is None or not 1 <= scale <= HALF_SCALE:
        raise ValueError(f"loss_scale {shown(given)}, not 1 to {HALF_SCALE:g}")
    return scale


_MOMENTS = ("down.first", "down.second", "up.first", "up.second")


def _moments(name: str, adapter: Adapter, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    down1, down2, up1, up2 = (tensors[f"{name}:{moment}"] for moment in _MOMENTS)
    for x, of in ((down1, adapter.down), (down2, adapter.down), (up1, adapter.up), (up2, adapter.up)):
        if x.shape != of.shape or x.dtype != torch.float32 or not bool(x.isfinite().all()):
            raise ValueError(f"{name} has moments that are not its own")
    return down1, down2, up1, up2
