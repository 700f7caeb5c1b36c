"""The parts of a file as a session, and everything that has to be true of them before they are believed."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import safetensors.torch
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from dragnoise.archive.fields import Broken, Fields, of_kind
from dragnoise.archive.layout import FORMAT, LARGEST, NUMBERS, VERSION, iteration_part
from dragnoise.config import DragConfig
from dragnoise.editors.base import EditState, Status
from dragnoise.geometry import Frame, as_drags
from dragnoise.identity import OPTIONS, ModelInfo
from dragnoise.lora import Lora
from dragnoise.lora.files import unpack
from dragnoise.session.history import History, Snapshot
from dragnoise.session.state import SessionState


def decode(files: Mapping[str, bytes]) -> SessionState:
    """Parts -> a session; raises Broken, or any other Exception, for what cannot be one."""
    if "session.json" not in files:
        raise Broken("it holds no session.json")
    text = files["session.json"]
    if len(text) > LARGEST["session.json"]:
        raise Broken(f"its session.json has {len(text)} bytes, more than a session needs")
    try:
        told = Fields(json.loads(text, parse_constant=_no_constant), "session.json")
    except RecursionError:
        raise Broken("its session.json is nested too deeply") from None
    if told.any("format") != FORMAT:
        raise Broken(f"its format is {told.any('format')!r:.80}, not {FORMAT!r}")
    if (version := told.integer("version")) != VERSION:
        raise Broken(f"it has version {version} of the format, and this dragnoise reads version {VERSION}")
    image = _picture(files, "picture.png", "RGB")
    configs = [_config(x) for x in told.many("configs")]
    config = told.chosen("config", configs)
    frame = _frame(told.fields("frame"), image.size, config)
    masks = _masks(files, told.integer("masks", 0, len(files)), image.size)
    drags = as_drags([(tuple(a), tuple(b)) for a, b in told.many("drags")], image.size)
    trajectory = _trajectory(files, told.integer("latents", 0), config)
    entries = [Fields(x, f"iteration {i}") for i, x in enumerate(told.many("history"))]
    if entries and not (drags and trajectory):
        raise Broken("it holds iterations without drags or latents that they could be of")
    history = [_snapshot(entry, i, files, len(drags), configs, masks) for i, entry in enumerate(entries)]
    _require_kept(history)
    mask = None if told.any("mask") is None else told.chosen("mask", masks)
    _require_used(masks, [mask, *(snapshot.mask for snapshot in history)])
    lora = _lora(files, told)
    _require_parts(files, masks, trajectory, lora, history)
    origin = told.any("origin")
    if origin is not None:
        name, k = told.many("origin")
        origin = (of_kind(str, name, "origin"), of_kind(int, k, "origin"))
    limit = told.any("history_limit")
    return SessionState(
        image=image,
        prompt=told.text("prompt"),
        config=config,
        frame=frame,
        drags=drags,
        mask=mask,
        lora=lora,
        trajectory=trajectory,
        history=History(history),
        anchors=None if told.any("anchors") is None else told.array("anchors", (len(drags), 2)),
        name=told.text("name"),
        origin=origin,
        history_limit=math.inf if limit is None else told.number("history_limit", 1),
        made_with=_model(told.fields("model")),
    )


def _no_constant(name: str) -> None:
    raise Broken(f"its session.json holds {name}")


def _model(told: Fields) -> ModelInfo:
    """Older files say a name alone."""
    names = [each.name for each in dataclasses.fields(ModelInfo) if each.name != "options"]
    texts = {name: told.text(name) for name in names if name in told.given or name == "name"}
    options = told.fields("options") if "options" in told.given else Fields({}, "options")
    if strangers := sorted(set(options.given) - set(OPTIONS)):
        raise Broken(f"its model has the option {strangers[0]!r:.40}, which is none")
    return ModelInfo(**texts, options={name: options.text(name) for name in options.given})


def _config(given: Any) -> DragConfig:
    try:
        return DragConfig(**of_kind(dict, given, "a config"))
    except (TypeError, ValueError) as error:
        raise Broken(f"a config is not one ({error})") from None


def _frame(told: Fields, size: tuple[int, int], config: DragConfig) -> Frame:
    names = ("given", "working", "grid", "padded" if "padded" in told.given else "working")  # older files pad nothing
    given, working, grid, padded = (tuple(of_kind(int, x, told.what) for x in told.many(name)) for name in names)
    wanted = tuple(max(int(length * config.supervision_scale), 1) for length in padded)
    fits = len(working) == len(padded) == 2 and all(0 <= p - w < 64 for w, p in zip(working, padded, strict=True))
    if given != size or not fits or min(working) < 1 or max(working) > 2**16 or grid != wanted:
        raise Broken(f"its frame {given}, {working}, {grid} is none for a picture of {size}")
    if told.flag("released") != config.is_released:
        raise Broken(f"its frame is not of the convention {config.convention!r}")
    return Frame(given, working, grid, config.is_released, padded)


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
    """A session writes no mask that neither it nor an iteration has."""
    for i, mask in enumerate(masks):
        if not any(mask is used for used in uses):
            raise Broken(f"its masks/{i}.png is no iteration's mask")


def _loaded(files: Mapping[str, bytes], name: str) -> dict[str, Tensor]:
    """Tensors of a part: finite, and in memory of their own."""
    if name not in files:
        raise Broken(f"it holds no {name}")
    try:
        tensors = safetensors.torch.load(files[name])
    except Exception as error:
        raise Broken(f"its {name} cannot be read ({' '.join(str(error).split())[:100]})") from None
    for key, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise Broken(f"{key!r:.40} of {name} is {tensor.dtype}, not torch.float32")
        if not bool(tensor.isfinite().all()):
            raise Broken(f"{key!r:.40} of {name} holds numbers that are not finite")
    return {key: tensor.clone() for key, tensor in tensors.items()}


def _trajectory(files: Mapping[str, bytes], count: int, config: DragConfig) -> tuple[Tensor, ...]:
    if count == 0:
        return ()
    latents = _loaded(files, "latents.safetensors").get("latents", torch.empty(0))
    if latents.ndim != 4 or not latents.numel() or not len(latents) == count == config.edit_from + 1:
        raise Broken(f"its latents have shape {tuple(latents.shape)}, not ({config.edit_from + 1}, C, h, w)")
    return latents.split(1)


def _snapshot(
    told: Fields, k: int, files: Mapping[str, bytes], drags: int, configs: list[DragConfig], masks: list[np.ndarray]
) -> Snapshot:
    if told.integer("iteration") != k:
        raise Broken(f"{told.what} says that it is iteration {told.integer('iteration')}")
    if (status := told.text("status")) not in get_args(Status):
        raise Broken(f"status of {told.what} is {status!r:.40}")
    blank = k == 0  # before any update there is no loss
    numbers = {n: told.number(n) if told.any(n) is not None or not blank else math.nan for n in NUMBERS}
    snapshot = Snapshot(
        iteration=k,
        losses={}
        if blank
        else {"total": numbers["loss"], "alignment": numbers["alignment_loss"], "mask": numbers["mask_loss"]},
        grad_norm=numbers["grad_norm"],
        seconds=numbers["seconds"],
        status=status,  # type: ignore[arg-type]
        anchors=told.array("anchors", (drags, 2)),
        distances=told.array("distances", (drags,)),
        config=told.chosen("config", configs),
        mask=None if told.any("mask") is None else told.chosen("mask", masks),
        state=EditState(
            {}, torch.tensor(told.array("grid_anchors", (drags, 2))), told.chosen("config", configs).edit_from, k
        ),
    )
    if not told.flag("whole"):
        return snapshot
    tensors = _loaded(files, iteration_part(k))
    wanted = {"bottleneck"} if blank else {"bottleneck", "first", "second"}
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    if (
        set(tensors) != wanted
        or len(shapes) > 1
        or len(shape := next(iter(shapes))) != 4
        or shape[0] != 1
        or 0 in shape
    ):
        raise Broken(
            f"{iteration_part(k)} holds {sorted(tensors)} of shapes {sorted(shapes)}, not {sorted(wanted)} of one"
        )
    named = {"bottleneck": tensors["bottleneck"]}
    if not blank:
        named |= {"adam.first": tensors["first"], "adam.second": tensors["second"]}
    return dataclasses.replace(snapshot, state=dataclasses.replace(snapshot.state, tensors=named))


def _require_kept(history: list[Snapshot]) -> None:
    """The first and the last snapshot are always whole, and all bottlenecks have one shape."""
    if history and not (history[0].is_whole and history[-1].is_whole):
        raise Broken("the bottleneck of its first or its last iteration is missing")
    shapes = {tuple(s.bottleneck.shape) for s in history if s.is_whole}
    if len(shapes) > 1:
        raise Broken(f"its bottlenecks have the different shapes {sorted(shapes)}")


def _lora(files: Mapping[str, bytes], told: Fields) -> Lora | None:
    if told.any("lora") is None:
        return None
    try:
        return unpack(_loaded(files, "lora.safetensors"), told.fields("lora").given)
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"its LoRA cannot be read ({' '.join(str(error).split())[:150].rstrip('.')})") from None


def _require_parts(
    files: Mapping[str, bytes],
    masks: list[np.ndarray],
    trajectory: tuple[Tensor, ...],
    lora: Lora | None,
    history: list[Snapshot],
) -> None:
    """Nothing but what a session has."""
    known = {"session.json", "picture.png"} | {f"masks/{i}.png" for i in range(len(masks))}
    known |= {"latents.safetensors"} if trajectory else set()
    known |= {"lora.safetensors"} if lora else set()
    known |= {iteration_part(s.iteration) for s in history if s.is_whole}
    if strangers := sorted(set(files) - known):
        raise Broken(f"it holds {strangers[0]!r:.80}, which is no part of a session")
