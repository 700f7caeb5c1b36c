"""Serialization of a canvas's drags, pending anchor and mask as JSON."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from dragnoise import geometry
from dragnoise.validation import shown
from dragnoise_widgets.sketch.masks import Mask, mask_png, read_mask
from dragnoise_widgets.sketch.sketch import Edit


def dumps(edit: Edit, size: tuple[int, int]) -> str:
    """JSON with `size` [width, height], `drags`, `pending` (an anchor without objective, or null), `mask` (PNG)."""
    drags = [{"anchor": list(drag.anchor), "objective": list(drag.objective)} for drag in edit.drags]
    mask = None if edit.mask is None else base64.b64encode(mask_png(edit.mask.array)).decode()
    pending = None if edit.pending is None else list(edit.pending)
    return json.dumps({"size": list(size), "drags": drags, "pending": pending, "mask": mask})


def loads(text: str, size: tuple[int, int]) -> Edit:
    """The text of `dumps` -> what was drawn, checked against a picture of (width, height).

    `pending` and `mask` may be missing.  Raises ValueError or TypeError, in one sentence, for text
    that is no such JSON, for another picture's size and for wrong drags or masks.
    """
    try:
        data = json.loads(text)
        given, pairs = data["size"], [(drag["anchor"], drag["objective"]) for drag in data["drags"]]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"this is not what to_json() of a canvas writes: {shown(text)}.") from None
    if list(size) != given:
        raise ValueError(
            f"this was drawn on a picture of size {given}, and this one is {list(size)}; show that picture."
        )
    drags, pending, mask = geometry.as_drags(pairs, size), data.get("pending"), data.get("mask")
    return Edit(
        drags=drags,
        pending=None if pending is None else geometry.as_point(pending, "pending anchor", size),
        mask=None if mask is None else Mask.of(read_mask(_decoded(mask), size)),
    )


def _decoded(mask: Any) -> bytes:
    try:
        return base64.b64decode(mask, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise ValueError(f"the mask must be a PNG as base64 text, not {shown(mask)}.") from None
