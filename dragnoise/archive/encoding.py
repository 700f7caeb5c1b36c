"""A session as the parts of its file."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from dragnoise.archive.layout import FORMAT, LARGEST, NUMBERS, VERSION, iteration_part
from dragnoise.lora.files import pack
from dragnoise.session.history import Snapshot
from dragnoise.session.state import SessionState


def encode(state: SessionState) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every part of a file, one after the other."""
    history = state.history
    masks = _unique([state.mask, *(s.mask for s in history)])
    width, height = state.image.size
    if len(masks) * width * height > LARGEST["masks"]:
        raise ValueError(
            f"{len(masks)} masks of {width}x{height} pixels are too many for a session's file; rewind or branch it "
            "first."
        )
    configs = _unique([state.config, *(s.config for s in history)])
    lora_tensors, lora_numbers = pack(state.lora) if state.lora else ({}, None)
    told = {
        "format": FORMAT,
        "version": VERSION,
        "name": state.name,
        "origin": state.origin,
        "prompt": state.prompt,
        "model": dataclasses.asdict(state.made_with),
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
            yield (
                iteration_part(snapshot.iteration),
                _tensors({name.removeprefix("adam."): tensor for name, tensor in snapshot.state.tensors.items()}),
            )


def _told(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot's numbers; NaN, which iteration 0 has, as null."""
    numbers = {name: getattr(snapshot, name) for name in NUMBERS}
    return {
        "iteration": snapshot.iteration,
        **{name: None if math.isnan(x) else x for name, x in numbers.items()},
        "status": snapshot.status,
        "anchors": snapshot.anchors.tolist(),
        "distances": snapshot.distances.tolist(),
        "grid_anchors": snapshot.state.anchors.tolist(),
        "whole": snapshot.is_whole,
        "updates": snapshot.state.count or None,
    }


def _unique(things: list[Any]) -> list[Any]:
    return list({id(thing): thing for thing in things if thing is not None}.values())


def _index(things: list[Any], thing: Any) -> int | None:
    return next((i for i, other in enumerate(things) if other is thing), None)


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
