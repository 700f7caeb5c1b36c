"""Decoding: the parts of a session's file to its state, every part checked first."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from dragnoise.archive.checks import require_consistent, require_frame, require_tensors
from dragnoise.archive.documents import (
    FORMAT,
    LARGEST,
    RENAMED1,
    VERSION,
    IterationDocument,
    SessionDocument,
    SessionDocument1,
    iteration_part,
    upgraded,
)
from dragnoise.archive.records import array, snapshot_of
from dragnoise.archive.typed_json import Broken, expect, loads, read
from dragnoise.config import DragConfig
from dragnoise.geometry import Drag, as_drags
from dragnoise.lora import Lora
from dragnoise.lora.files import unpack
from dragnoise.models.fingerprint import OPTIONS, ModelInfo
from dragnoise.session.history import History, Snapshot
from dragnoise.session.state import SessionState


def decode(files: Mapping[str, bytes]) -> SessionState:
    """Parts by name -> the state; raises Broken, or any other Exception, if it is not a session."""
    told, configs = _document(files)
    image = _picture(files, "picture.png", "RGB")
    config = _chosen(configs, told.config, "config of session.json")
    require_frame(told.frame, image.size, config)
    masks = _masks(files, told.masks, image.size)
    mask = None if told.mask is None else _chosen(masks, told.mask, "mask of session.json")
    former = [as_drags(each, image.size) for each in told.former_drags]
    history = [_snapshot(each, k, files, configs, masks, former) for k, each in enumerate(told.history)]
    state = SessionState(
        image=image,
        prompt=told.prompt,
        config=config,
        frame=told.frame,
        drags=as_drags(told.drags, image.size),
        mask=mask,
        lora=_lora(files, told.lora),
        trajectory=_trajectory(files, told.latents, config),
        history=History(history),
        anchors=None if told.anchors is None else array(told.anchors).reshape(-1, 2),
        name=told.name,
        origin=told.origin,
        history_limit=math.inf if told.history_limit is None else told.history_limit,
        made_with=_model(told.model),
    )
    _require_used(masks, [mask, *(snapshot.mask for snapshot in history)])
    require_consistent(state)
    _require_parts(files, state, len(masks))
    return state


def _document(files: Mapping[str, bytes]) -> tuple[SessionDocument, tuple[DragConfig, ...]]:
    """session.json, brought to this version, and its configs."""
    if "session.json" not in files:
        raise Broken("it holds no session.json")
    text = files["session.json"]
    if len(text) > LARGEST["session.json"]:
        raise Broken(f"its session.json has {len(text)} bytes, more than a session needs")
    told = expect(dict, loads(text, "session.json"), "session.json")
    if told.get("format") != FORMAT:
        raise Broken(f"its format is {told.get('format')!r:.80}, not {FORMAT!r}")
    version = expect(int, told.get("version"), "version of session.json")
    if not 1 <= version <= VERSION:
        raise Broken(f"it has version {version!r:.40} of the format, and this dragnoise reads versions 1 to {VERSION}")
    if "name" not in expect(dict, told.get("model"), "model of session.json"):
        raise Broken("model of session.json has no name")  # files of before version 1 was finished say nothing else
    if version == 1:
        old = read(SessionDocument1, told, "session.json")
        configs = tuple(_config(each) for each in old.configs)
        return upgraded(old, configs), configs
    document = read(SessionDocument, told, "session.json")
    return document, tuple(_config(each) for each in document.configs)


def _config(given: Mapping[str, Any]) -> DragConfig:
    try:
        return DragConfig(**given)
    except (TypeError, ValueError) as error:
        raise Broken(f"a config is not one ({error})") from None


def _model(told: ModelInfo) -> ModelInfo:
    if strangers := sorted(set(told.options) - set(OPTIONS)):
        raise Broken(f"its model has the unknown option {strangers[0]!r:.40}")
    return told


def _chosen(things: Any, index: int, what: str) -> Any:
    if index >= len(things):
        raise Broken(f"{what} is {index!r:.40}, which cannot be")
    return things[index]


def _picture(files: Mapping[str, bytes], name: str, mode: str, wanted: tuple[int, int] | None = None) -> Image.Image:
    if name not in files:
        raise Broken(f"it holds no {name}")
    try:
        picture = PngImagePlugin.PngImageFile(io.BytesIO(files[name]))
        width, height = picture.size
        if width * height > LARGEST["picture"] or picture.mode != mode:
            raise Broken(f"its {name} claims to be {width}x{height} pixels of mode {picture.mode!r}, which cannot be")
        if wanted is not None and picture.size != wanted:
            raise Broken(f"its {name} has {width}x{height} pixels, not {wanted[0]}x{wanted[1]} as its picture")
        picture.load()
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"its {name} cannot be read ({' '.join(str(error).split())[:100]})") from None
    return Image.frombytes(mode, picture.size, picture.tobytes())


def _masks(files: Mapping[str, bytes], count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """All masks, each of the picture's size, so that their pixels are known before any is decoded."""
    if count > len(files):
        raise Broken(f"masks of session.json is {count!r:.40}, more than it holds")
    if count * size[0] * size[1] > LARGEST["masks"]:
        raise Broken(f"it holds {count} masks of {size[0]}x{size[1]} pixels, more than are read")
    return [_mask(files, f"masks/{i}.png", size) for i in range(count)]


def _mask(files: Mapping[str, bytes], name: str, size: tuple[int, int]) -> np.ndarray:
    mask = np.array(_picture(files, name, "L", size)) > 0
    if not mask.any():
        raise Broken(f"its {name} is empty, so no mask")
    mask.flags.writeable = False
    return mask


def _require_used(masks: list[np.ndarray], uses: list[np.ndarray | None]) -> None:
    """Raise Broken for a mask that neither the session nor any iteration uses."""
    for i, mask in enumerate(masks):
        if not any(mask is used for used in uses):
            raise Broken(f"its masks/{i}.png is used by no iteration")


def _loaded(files: Mapping[str, bytes], name: str) -> dict[str, Tensor]:
    """Tensors of a part: float32, finite, and in memory of their own."""
    if name not in files:
        raise Broken(f"it holds no {name}")
    try:
        tensors = safetensors.torch.load(files[name])
    except Exception as error:
        raise Broken(f"its {name} cannot be read ({' '.join(str(error).split())[:100]})") from None
    require_tensors(tensors, name)
    return {key: tensor.clone() for key, tensor in tensors.items()}


def _trajectory(files: Mapping[str, bytes], count: int, config: DragConfig) -> tuple[Tensor, ...]:
    if count == 0:
        return ()
    latents = _loaded(files, "latents.safetensors").get("latents", torch.empty(0))
    if latents.ndim != 4 or not latents.numel() or len(latents) != count:
        raise Broken(f"its latents have shape {tuple(latents.shape)}, not ({config.edit_from + 1}, C, h, w)")
    return latents.split(1)


def _snapshot(
    told: IterationDocument,
    k: int,
    files: Mapping[str, bytes],
    configs: tuple[DragConfig, ...],
    masks: list[np.ndarray],
    former: list[tuple[Drag, ...]],
) -> Snapshot:
    if told.iteration != k:
        raise Broken(f"iteration {k} says that it is iteration {told.iteration!r:.40}")
    tensors: dict[str, Tensor] = {}
    if told.state.tensors is not None:
        tensors = {RENAMED1.get(name, name): x for name, x in _loaded(files, iteration_part(k)).items()}
        if sorted(tensors) != sorted(told.state.tensors):
            raise Broken(f"{iteration_part(k)} holds {sorted(tensors)}, not {sorted(told.state.tensors)}")
    return snapshot_of(
        told,
        tensors,
        config=_chosen(configs, told.config, f"config of iteration {k}"),
        mask=None if told.mask is None else _chosen(masks, told.mask, f"mask of iteration {k}"),
        drags=None if told.drags is None else _chosen(former, told.drags, f"drags of iteration {k}"),
    )


def _lora(files: Mapping[str, bytes], told: Mapping[str, Any] | None) -> Lora | None:
    if told is None:
        return None
    try:
        return unpack(_loaded(files, "lora.safetensors"), told)
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"its LoRA cannot be read ({' '.join(str(error).split())[:150].rstrip('.')})") from None


def _require_parts(files: Mapping[str, bytes], state: SessionState, masks: int) -> None:
    """Raise Broken for an entry of the file that is not a part of this session."""
    known = {"session.json", "picture.png"} | {f"masks/{i}.png" for i in range(masks)}
    known |= {"latents.safetensors"} if state.trajectory else set()
    known |= {"lora.safetensors"} if state.lora else set()
    known |= {iteration_part(s.iteration) for s in state.history if s.is_whole}
    if strangers := sorted(set(files) - known):
        raise Broken(f"it holds {strangers[0]!r:.80}, which is no part of a session")
