"""What a session's parts hold, and everything that has to be true of them before they are believed."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np
import safetensors.torch
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from dragnoise.config import DragConfig
from dragnoise.geometry import Frame, as_drags
from dragnoise.given import as_float
from dragnoise.history import History, Moments, Snapshot, Status
from dragnoise.lora import Lora
from dragnoise.lora.files import pack, unpack
from dragnoise.state import State

FORMAT, VERSION = "dragnoise session", 1
LARGEST = {"picture": 2**27, "session.json": 2**25}
"""Pixels of a picture and bytes of JSON at most, so that a small hostile file cannot fill the memory."""


class Broken(ValueError):
    """What is wrong with a file, as a part of a sentence."""


# -------------------------------------------------------------------------------------- writing


def parts(state: State) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every part of a file, one after the other."""
    history = state.history
    masks = _unique([state.mask, *(s.mask for s in history)])
    configs = _unique([state.config, *(s.config for s in history)])
    lora_tensors, lora_numbers = pack(state.lora) if state.lora else ({}, None)
    told = {
        "format": FORMAT,
        "version": VERSION,
        "name": state.name,
        "origin": state.origin,
        "prompt": state.prompt,
        "model": {"name": state.model_name, "fingerprint": state.fingerprint},
        "frame": dataclasses.asdict(state.frame),
        "drags": [[d.anchor, d.objective] for d in state.drags],
        "configs": [dataclasses.asdict(config) for config in configs],
        "config": _index(configs, state.config),
        "masks": len(masks),
        "mask": _index(masks, state.mask),
        "history_limit": None if math.isinf(state.history_limit) else state.history_limit,
        "latents": len(state.trajectory),
        "anchors": None if state.anchors is None else state.anchors.tolist(),
        "lora": lora_numbers,
        "history": [_told(s) | {"config": _index(configs, s.config), "mask": _index(masks, s.mask)} for s in history],
    }
    text = json.dumps(told, indent=1, allow_nan=False).encode()
    if len(text) > LARGEST["session.json"]:
        raise ValueError(
            f"a session of {len(text)} bytes of numbers is too large for a file; rewind or branch it first."
        )
    yield "session.json", text
    yield "picture.png", _png(state.image)
    for i, mask in enumerate(masks):
        yield f"masks/{i}.png", _png(Image.fromarray(mask.astype(np.uint8) * 255))
    if state.trajectory:
        yield "latents.safetensors", _tensors({"latents": torch.cat([z.cpu() for z in state.trajectory])})
    if state.lora:
        yield "lora.safetensors", _tensors(lora_tensors)
    for snapshot in history:
        if snapshot.is_whole:
            tensors = {"bottleneck": snapshot.bottleneck}
            if snapshot.moments:
                tensors |= {"first": snapshot.moments.first, "second": snapshot.moments.second}
            yield _iteration(snapshot.iteration), _tensors(tensors)


def _told(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot's numbers; NaN, which iteration 0 has, as null."""
    numbers = {name: getattr(snapshot, name) for name in _NUMBERS}
    return {
        "iteration": snapshot.iteration,
        **{name: None if math.isnan(x) else x for name, x in numbers.items()},
        "status": snapshot.status,
        "anchors": snapshot.anchors.tolist(),
        "distances": snapshot.distances.tolist(),
        "grid_anchors": snapshot.grid_anchors.tolist(),
        "whole": snapshot.is_whole,
        "updates": snapshot.moments.updates if snapshot.is_whole and snapshot.moments else None,
    }


_NUMBERS = ("loss", "alignment_loss", "mask_loss", "grad_norm", "seconds")


def _unique(things: list[Any]) -> list[Any]:
    return list({id(thing): thing for thing in things if thing is not None}.values())


def _index(things: list[Any], thing: Any) -> int | None:
    return next((i for i, other in enumerate(things) if other is thing), None)


def _iteration(k: int) -> str:
    return f"iterations/{k}.safetensors"


def _png(picture: Image.Image) -> bytes:
    width, height = picture.size
    if width * height > LARGEST["picture"]:
        raise ValueError(f"a picture of {width}x{height} pixels is too large for a session's file; give a smaller one.")
    buffer = io.BytesIO()
    clean = Image.frombytes(picture.mode, picture.size, picture.tobytes())  # pixels alone, no comments or profiles
    clean.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _tensors(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


# -------------------------------------------------------------------------------------- reading


def decode(files: Mapping[str, bytes]) -> State:
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
    masks = [_mask(files, i, image.size) for i in range(told.integer("masks", 0, len(files)))]
    drags = as_drags([(tuple(a), tuple(b)) for a, b in told.many("drags")], image.size)
    trajectory = _trajectory(files, told.integer("latents", 0), config)
    entries = [Fields(x, f"iteration {i}") for i, x in enumerate(told.many("history"))]
    if entries and not (drags and trajectory):
        raise Broken("it holds iterations without drags or latents that they could be of")
    history = [_snapshot(entry, i, files, len(drags), configs, masks) for i, entry in enumerate(entries)]
    _require_kept(history)
    lora = _lora(files, told)
    _require_parts(files, masks, trajectory, lora, history)
    origin = told.any("origin")
    if origin is not None:
        name, k = told.many("origin")
        origin = (_of(str, name, "origin"), _of(int, k, "origin"))
    limit = told.any("history_limit")
    return State(
        image=image,
        prompt=told.text("prompt"),
        config=config,
        frame=frame,
        drags=drags,
        mask=None if told.any("mask") is None else told.chosen("mask", masks),
        lora=lora,
        trajectory=trajectory,
        history=History(history),
        anchors=None if told.any("anchors") is None else told.array("anchors", (len(drags), 2)),
        name=told.text("name"),
        origin=origin,
        history_limit=math.inf if limit is None else told.number("history_limit", 1),
        model_name=told.fields("model").text("name"),
        fingerprint=told.fields("model").text("fingerprint"),
    )


class Fields:
    """A JSON object whose fields are asked for by type; raises Broken, naming object and field, for any other."""

    def __init__(self, given: Any, what: str) -> None:
        self.given, self.what = _of(dict, given, what), what

    def any(self, name: str) -> Any:
        if name not in self.given:
            raise Broken(f"{self.what} has no {name}")
        return self.given[name]

    def text(self, name: str) -> str:
        return _of(str, self.any(name), f"{name} of {self.what}")

    def flag(self, name: str) -> bool:
        return _of(bool, self.any(name), f"{name} of {self.what}")

    def many(self, name: str) -> Any:
        return _of(list, self.any(name), f"{name} of {self.what}")

    def fields(self, name: str) -> Fields:
        return Fields(self.any(name), f"{name} of {self.what}")

    def number(self, name: str, low: float = -math.inf) -> float:
        return float(self._within(name, _of((int, float), self.any(name), f"{name} of {self.what}"), low, math.inf))

    def integer(self, name: str, low: float = -math.inf, high: float = math.inf) -> int:
        return self._within(name, _of(int, self.any(name), f"{name} of {self.what}"), low, high)

    def chosen(self, name: str, things: list[Any]) -> Any:
        return things[self.integer(name, 0, len(things) - 1)]

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Finite float64 of this shape, read-only."""
        try:
            array = np.array(self.many(name), np.float64).reshape(-1, *shape[1:])
        except (ValueError, TypeError, OverflowError):
            raise Broken(f"{name} of {self.what} is no array of shape {shape}") from None
        if array.shape != shape or not np.isfinite(array).all():
            raise Broken(f"{name} of {self.what} is no finite array of shape {shape}")
        array.flags.writeable = False
        return array

    def _within(self, name: str, value: Any, low: float, high: float) -> Any:
        if not (low <= value <= high and math.isfinite(as_float(value) or 0)):
            raise Broken(f"{name} of {self.what} is {value!r:.40}, which cannot be")
        return value


def _of(kind: Any, value: Any, what: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Broken(f"{what} is {value!r:.40}, which is no {getattr(kind, '__name__', 'number')}")
    return value


def _no_constant(name: str) -> None:
    raise Broken(f"its session.json holds {name}")


def _config(given: Any) -> DragConfig:
    try:
        return DragConfig(**_of(dict, given, "a config"))
    except (TypeError, ValueError) as error:
        raise Broken(f"a config is not one ({error})") from None


def _frame(told: Fields, size: tuple[int, int], config: DragConfig) -> Frame:
    given, working, grid = (
        tuple(_of(int, x, told.what) for x in told.many(name)) for name in ("given", "working", "grid")
    )
    wanted = tuple(max(int(length * config.supervision_scale), 1) for length in working)
    if given != size or len(working) != 2 or min(working) < 1 or max(working) > 2**16 or grid != wanted:
        raise Broken(f"its frame {given}, {working}, {grid} is none for a picture of {size}")
    if told.flag("released") != config.is_released:
        raise Broken(f"its frame is not of the convention {config.convention!r}")
    return Frame(given, working, grid, config.is_released)


def _picture(files: Mapping[str, bytes], name: str, mode: str) -> Image.Image:
    if name not in files:
        raise Broken(f"it holds no {name}")
    try:
        picture = PngImagePlugin.PngImageFile(io.BytesIO(files[name]))
        width, height = picture.size
        if width * height > LARGEST["picture"] or picture.mode != mode:
            raise Broken(f"its {name} claims to be {width}x{height} pixels of mode {picture.mode!r}, which cannot be")
        picture.load()
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"its {name} cannot be read ({' '.join(str(error).split())[:100]})") from None
    return Image.frombytes(mode, picture.size, picture.tobytes())


def _mask(files: Mapping[str, bytes], i: int, size: tuple[int, int]) -> np.ndarray:
    mask = np.array(_picture(files, f"masks/{i}.png", "L")) > 0
    if mask.shape != size[::-1] or not mask.any():
        raise Broken(f"masks/{i}.png is {mask.shape[1]}x{mask.shape[0]} pixels or empty, so no mask for {size}")
    mask.flags.writeable = False
    return mask


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
    numbers = {n: told.number(n) if told.any(n) is not None or not blank else math.nan for n in _NUMBERS}
    snapshot = Snapshot(
        iteration=k,
        **numbers,
        status=status,  # type: ignore[arg-type]
        anchors=told.array("anchors", (drags, 2)),
        distances=told.array("distances", (drags,)),
        grid_anchors=torch.tensor(told.array("grid_anchors", (drags, 2))),
        config=told.chosen("config", configs),
        mask=None if told.any("mask") is None else told.chosen("mask", masks),
        bottleneck=torch.empty(0),
        moments=None,
    )
    if not told.flag("whole"):
        return snapshot.thin()
    tensors = _loaded(files, _iteration(k))
    wanted = {"bottleneck"} if blank else {"bottleneck", "first", "second"}
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    if (
        set(tensors) != wanted
        or len(shapes) > 1
        or len(shape := next(iter(shapes))) != 4
        or shape[0] != 1
        or 0 in shape
    ):
        raise Broken(f"{_iteration(k)} holds {sorted(tensors)} of shapes {sorted(shapes)}, not {sorted(wanted)} of one")
    moments = None if blank else Moments(tensors["first"], tensors["second"], told.integer("updates", 1))
    return snapshot.whole(tensors["bottleneck"], moments)


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
    known |= {_iteration(s.iteration) for s in history if s.is_whole}
    if strangers := sorted(set(files) - known):
        raise Broken(f"it holds {strangers[0]!r:.80}, which is no part of a session")
