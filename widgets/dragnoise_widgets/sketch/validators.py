"""Validators of a canvas's traits: each returns the value as it is kept, or raises TypeError or ValueError."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from dragnoise import geometry
from dragnoise.geometry import Drag
from dragnoise.images import pictures
from dragnoise.validation import as_float, as_integer, as_number, is_one_of, shown
from dragnoise_widgets.sketch.masks import Mask
from dragnoise_widgets.sketch.sketch import PENDING, TOOLS, Sketch
from dragnoise_widgets.sketch.view import Point
from dragnoise_widgets.sketch.window import CLOSEST, Window, panned


def image(value: Any, sketch: Sketch, picture: Image.Image | None) -> Image.Image | None:
    """None, or anything that a picture may be given as -> an RGB picture."""
    return None if value is None else pictures.as_picture(value)


def drags(value: Any, sketch: Sketch, picture: Image.Image | None) -> tuple[Drag, ...]:
    """Drags or pairs of points, all in the picture."""
    checked = geometry.as_drags(value, sketch.size)
    if checked and picture is None:
        raise ValueError("there is no picture to drag points of; set canvas.image first.")
    return checked


def mask(value: Any, sketch: Sketch, picture: Image.Image | None) -> np.ndarray | None:
    """None, or a mask of the picture's size -> (H, W) bool, read-only."""
    if value is not None and picture is None:
        raise ValueError("there is no picture to have a mask on; set canvas.image first.")
    packed = Mask.of(pictures.as_mask(value, sketch.size))
    return None if packed is None else packed.array


def trajectory(value: Any, sketch: Sketch, picture: Image.Image | None) -> tuple[np.ndarray, ...]:
    """A sequence of (m, 2) anchors -> float64 arrays, read-only."""
    try:
        if isinstance(value, str | bytes | dict):
            raise TypeError
        given = list(value)
    except TypeError:  # arrays without dimensions too
        raise TypeError(f"trajectory must be a sequence of (m, 2) anchors, not {shown(value)}.") from None
    return tuple(_anchors(k, anchors) for k, anchors in enumerate(given))


def _anchors(k: int, anchors: Any) -> np.ndarray:
    try:
        array = np.asarray(anchors, np.float64).copy()
    except (TypeError, ValueError):
        array = np.empty(())
    if array.shape == (0,):
        array = array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise ValueError(f"trajectory[{k}] must be (m, 2) finite anchors in image pixels, not {shown(anchors)}.")
    array.setflags(write=False)
    return array


def tool(value: Any, sketch: Sketch, picture: Image.Image | None) -> str:
    """The name of a tool."""
    if not is_one_of(value, TOOLS):
        raise ValueError(f"tool={shown(value)} must be one of {', '.join(map(repr, TOOLS))}.")
    return value


def selected(value: Any, sketch: Sketch, picture: Image.Image | None) -> int:
    """The index of a drag, or -1."""
    index = as_integer("selected", value, PENDING)
    if index >= len(sketch.edit.drags):
        raise ValueError(
            f"there is no drag {shown(index)} to select; give the index of one of {len(sketch.edit.drags)}, or -1."
        )
    return index


def brush_size(value: Any, sketch: Sketch, picture: Image.Image | None) -> float:
    """A diameter that the picture has room for."""
    limit, number = brush_limit(sketch.size), as_float(value)
    if number is None or not 1 <= number <= limit:
        raise ValueError(f"brush_size is {shown(value)}, and must be in 1..{limit:g} image pixels for this picture.")
    return number


def opacity(value: Any, sketch: Sketch, picture: Image.Image | None) -> float:
    """Opacity of the mask, from 0, invisible, to 1, opaque."""
    return as_number("opacity", value, 0, 1)


def view_only(value: Any, sketch: Sketch, picture: Image.Image | None) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise TypeError(f"view_only must be True or False, not {shown(value)}.")
    return value


def window(value: Any, sketch: Sketch, picture: Image.Image | None) -> Window:
    """A part of the picture, moved into it."""
    if not isinstance(value, Window):
        raise TypeError(f"window must be a Window, not {shown(value)}.")
    left, top = (as_number(f"window.{name}", getattr(value, name), -math.inf) for name in ("left", "top"))
    zoom = as_number("window.zoom", value.zoom, 1, CLOSEST)
    return panned(Window(left, top, zoom), sketch.size, 0.0, 0.0)


def brush_limit(size: tuple[int, int]) -> float:
    """The thickest brush for a picture of (width, height): half its longer side."""
    return max(max(size) / 2, 1.0)


def paths(trajectory: tuple[np.ndarray, ...]) -> tuple[tuple[Point, ...], ...]:
    """The anchors of each iteration -> the places of each anchor, the latest last."""
    most = max(map(len, trajectory), default=0)
    return tuple(tuple((x, y) for a in trajectory for x, y in a[i : i + 1].tolist()) for i in range(most))
