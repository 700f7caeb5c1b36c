"""What the traits of a canvas may be set to; each check gives the value as it is kept, or raises in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from dragnoise import Drag, geometry, pictures
from dragnoise_widgets.edits import PENDING, Point, Sketch
from dragnoise_widgets.masks import Mask


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
    if not isinstance(value, Iterable):
        raise TypeError(f"trajectory must be a sequence of (m, 2) anchors, not {value!r:.60}.")
    return tuple(_anchors(k, anchors) for k, anchors in enumerate(value))


def _anchors(k: int, anchors: Any) -> np.ndarray:
    try:
        array = np.array(anchors, np.float64).reshape(len(anchors), -1)
    except (TypeError, ValueError):
        array = np.empty((1, 0))
    if (array.size and array.shape[1] != 2) or not np.isfinite(array).all():
        raise ValueError(f"trajectory[{k}] must be (m, 2) finite anchors in image pixels, not {anchors!r:.60}.")
    array = array.reshape(-1, 2)
    array.setflags(write=False)
    return array


def selected(value: int, sketch: Sketch, picture: Image.Image | None) -> int:
    """The index of a drag, or -1."""
    if not PENDING <= value < len(sketch.edit.drags):
        raise ValueError(
            f"there is no drag {value} to select; give the index of one of {len(sketch.edit.drags)}, or -1."
        )
    return value


def brush_size(value: float, sketch: Sketch, picture: Image.Image | None) -> float:
    """A diameter that the picture has room for."""
    limit = brush_limit(sketch.size)
    if not 1 <= value <= limit:
        raise ValueError(f"brush_size is {value}, and must be in 1..{limit:g} image pixels for this picture.")
    return value


def brush_limit(size: tuple[int, int]) -> float:
    """The thickest brush for a picture of (width, height): half its longer side."""
    return max(max(size) / 2, 1.0)


def paths(trajectory: tuple[np.ndarray, ...]) -> tuple[tuple[Point, ...], ...]:
    """The anchors of each iteration -> the places of each anchor, the latest last."""
    most = max(map(len, trajectory), default=0)
    return tuple(tuple((x, y) for a in trajectory for x, y in a[i : i + 1].tolist()) for i in range(most))
