"""A session's state as the parts of its file."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from dragnoise.archive.checks import require_consistent, require_tensors, unique
from dragnoise.archive.documents import FORMAT, LARGEST, VERSION, SessionDocument, iteration_part
from dragnoise.archive.records import document_of, points
from dragnoise.archive.typed_json import Broken, loads, read
from dragnoise.geometry import Drag
from dragnoise.lora.files import pack, unpack
from dragnoise.session.state import SessionState


@dataclass(frozen=True, eq=False)
class Part:
    """One entry of the file.

    sources: the immutable objects that its bytes depend on, and on nothing else; () if it is always made anew.
    encode: makes the bytes; raises Broken for what a reader would refuse, and ValueError for what is too large.
    """

    name: str
    sources: tuple[object, ...]
    encode: Callable[[], bytes]


def encode(state: SessionState) -> list[Part]:
    """The parts of a file, session.json first.

    Raises Broken for a state that `decode` would refuse, and ValueError for one that is too large.
    """
    require_consistent(state)
    width, height = state.image.size
    masks = unique([state.mask, *(s.mask for s in state.history)])
    if len(masks) * width * height > LARGEST["masks"]:
        raise ValueError(
            f"{len(masks)} masks of {width}x{height} pixels are too many for a session's file; rewind or branch it "
            "first."
        )
    if width * height > LARGEST["picture"]:
        raise ValueError(f"a picture of {width}x{height} pixels is too large for a session's file; give a smaller one.")
    lora_tensors, lora_numbers = pack(state.lora) if state.lora else ({}, None)
    text = _text(_document(state, masks, lora_numbers))
    parts = [
        Part("session.json", (), lambda: text),
        Part("picture.png", (state.image,), lambda: _png(state.image)),
        *(Part(f"masks/{i}.png", (mask,), _mask_png(mask)) for i, mask in enumerate(masks)),
    ]
    if state.trajectory:
        parts.append(Part("latents.safetensors", state.trajectory, lambda: _latents(state.trajectory)))
    if state.lora:
        parts.append(Part("lora.safetensors", (state.lora,), lambda: _lora(lora_tensors, lora_numbers or {})))
    for snapshot in state.history:
        if tensors := snapshot.state.tensors:
            name = iteration_part(snapshot.iteration)
            parts.append(Part(name, tuple(tensors.values()), _encoder(name, tensors)))
    return parts


def _document(state: SessionState, masks: Sequence[np.ndarray], lora: Mapping[str, Any] | None) -> SessionDocument:
    former = list({id(s.drags): s.drags for s in state.history if s.drags is not None}.values())
    configs = list({id(c): c for c in (state.config, *(s.config for s in state.history)) if c is not None}.values())
    return SessionDocument(
        format=FORMAT,
        version=VERSION,
        name=state.name,
        origin=state.origin,
        prompt=state.prompt,
        model=state.made_with,
        frame=state.frame,
        drags=_pairs(state.drags),
        former_drags=tuple(_pairs(drags) for drags in former),
        configs=tuple(dataclasses.asdict(config) for config in configs),
        config=_index(configs, state.config) or 0,
        masks=len(masks),
        mask=_index(masks, state.mask),
        history_limit=None if math.isinf(state.history_limit) else state.history_limit,
        latents=len(state.trajectory),
        anchors=None if state.anchors is None else points(state.anchors),
        lora=lora,
        history=tuple(
            document_of(
                s, config=_index(configs, s.config) or 0, mask=_index(masks, s.mask), drags=_index(former, s.drags)
            )
            for s in state.history
        ),
    )


def _text(document: SessionDocument) -> bytes:
    """JSON that was read back."""
    try:
        text = json.dumps(dataclasses.asdict(document), indent=1, allow_nan=False).encode()
    except TypeError as error:
        raise Broken(f"it holds a value that JSON cannot represent ({error})") from None
    if len(text) > LARGEST["session.json"]:
        raise ValueError(
            f"a session of {len(text)} bytes of numbers is too large for a file; rewind or branch it first."
        )
    read(SessionDocument, loads(text, "session.json"), "session.json")
    return text


def _pairs(drags: Sequence[Drag]) -> tuple[Any, ...]:
    return tuple((drag.anchor, drag.objective) for drag in drags)


def _index(things: Sequence[Any], thing: Any) -> int | None:
    return next((i for i, other in enumerate(things) if other is thing), None)


def _encoder(name: str, tensors: Mapping[str, Tensor]) -> Callable[[], bytes]:
    return lambda: _tensors(name, tensors)


def _mask_png(mask: np.ndarray) -> Callable[[], bytes]:
    return lambda: _png(Image.fromarray(mask.astype(np.uint8) * 255))


def _latents(trajectory: Sequence[Tensor]) -> bytes:
    return _tensors("latents.safetensors", {"latents": torch.cat([z.cpu() for z in trajectory])})


def _lora(tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> bytes:
    unpack(tensors, numbers)  # raises ValueError for what could not be read again
    return _tensors("lora.safetensors", tensors)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    clean = Image.frombytes(picture.mode, picture.size, picture.tobytes())  # pixels alone, no comments or profiles
    clean.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _tensors(name: str, tensors: Mapping[str, Tensor]) -> bytes:
    require_tensors(tensors, name)
    return safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
