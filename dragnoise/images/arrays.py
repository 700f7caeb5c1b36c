"""Arrays given as pictures or masks: which objects are accepted, and which range their values are in."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from dragnoise.validation import shown

SLACK = 0.3
"""How far resampling may leave a range, in shares of it: Lanczos at a checkerboard's corners does by 0.26."""

FEW = 0.1
"""Share of a picture's values at most that may lie outside of a range on either side; beyond it they are no overshoot.

Sharp edges make less; only pictures of nothing but edges, such as a page of text, make more, and are refused, since a
bright picture in -1..1 looks the same."""


def as_array(value: Any, expected: str) -> np.ndarray:
    """`value` if it is a numpy array of numbers or bools without masked elements; else raises TypeError or ValueError.

    expected: the sentence's beginning, such as "a picture must be a path, a PIL image or an array".
    """
    tensor = getattr(sys.modules.get("torch"), "Tensor", ())  # another thread may be in the middle of importing torch
    if isinstance(value, tensor):
        raise TypeError(
            f"{expected}, not a torch tensor of shape {tuple(value.shape)}: convert it, for (3, H, W) in -1..1 with "
            "(x.permute(1, 2, 0) / 2 + 0.5).clip(0, 1).cpu().numpy(), for a (1, H, W) mask with x[0].cpu().numpy()."
        )
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.getmaskarray(value).any():
            raise TypeError(f"{expected}, not a masked array that hides elements; give x.filled(0).")
        value = value.data
    if not isinstance(value, np.ndarray):
        name = type(value).__name__
        if isinstance(value, bytes | bytearray | memoryview):
            advice = "; open an image file's bytes with PIL.Image.open(io.BytesIO(x))"
        elif hasattr(value, "read"):
            advice = "; open a file with PIL.Image.open(x)"
        elif hasattr(value, "__array__") or isinstance(value, list | tuple):
            advice = "; convert it with numpy.asarray(x)"
        else:
            advice = ""
        raise TypeError(f"{expected}, not {name}{advice}.")
    if value.dtype.kind not in "buif":
        raise TypeError(f"{expected}, not an array of dtype {shown(str(value.dtype))}; give uint8.")
    return np.asarray(value)


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Numbers or bools of any shape -> uint8 in 0..255.

    bool: 0 and 255.  uint8: as it is.  uint16: 0..65535.  Other integers: 0..255 or 0..65535.  Floats:
    0..1, 0..255 or 0..65535.  The range follows from where most of the values lie, never from one
    extreme; values that leave it slightly, as resampling makes them, are clipped.  Raises ValueError
    for values that are not finite, and where the range is not clear, such as for values in -1..1 or of 12 bits.
    """
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array / np.float32(257) + np.float32(0.5)).astype(np.uint8)
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the picture has NaN or infinite pixels; give finite numbers.")
    full = _full_scale(values, (1, 255, 65535) if array.dtype.kind == "f" else (255, 65535))
    return (np.clip(values * (255 / full), 0, 255) + 0.5).astype(np.uint8)


DARKEST = 1 / 16
"""Share of a range that a picture's highest value must reach; below it another range, of 12 bits say, is as likely."""


def require_bright(array: np.ndarray) -> None:
    """Raise ValueError if uint16 values are so low that they are probably not in 0..65535."""
    if 0 < (high := int(array.max(initial=0))) < 65535 * DARKEST:
        advice = "x.astype('uint8')" if high <= 255 else "(x / x.max() * 255).astype('uint8')"
        raise ValueError(
            f"the picture's values, up to {high}, are nearly black in uint16, whose white is 65535; give {advice}."
        )


def is_within(values: np.ndarray, full: float, *, few: float = FEW) -> bool:
    """Are all values in 0..full, but for `few`, a share of them on either side, that leave it slightly?"""
    low, high = values.min(), values.max()
    if low >= 0 and high <= full:
        return True
    if low < -SLACK * full or high > (1 + SLACK) * full:
        return False
    rounding = full / 255
    return bool((values < -rounding).mean() <= few and (values > full + rounding).mean() <= few)


def _full_scale(values: np.ndarray, scales: tuple[int, ...]) -> int:
    """The one of `scales` that the values are in 0 to."""
    positive, below = values[values > 0], 0
    for full in scales:
        if is_within(values, full) and (below == 0 or _most_exceed(positive, below)):
            if full == 255 and below == 0 and values.max() == 1:
                break  # integers of 0 and 1: black and white, or nearly black
            if full > 1 and values.max() < full * DARKEST and not (full == 255 and (values == np.floor(values)).all()):
                break
            return full
        below = full
    raise ValueError(
        f"the picture's values, from {values.min():g} to {values.max():g}, are not clearly in 0..1, 0..255 or "
        "0..65535; give uint8 or floats in 0..1, such as (x + 1) / 2 for values in -1..1, numpy.clip(x, 0, 1) for "
        "overshoot and highlights, or x > 0 for black and white."
    )


def _most_exceed(positive: np.ndarray, scale: int) -> bool:
    """Do the values need a range above 0..scale?  Whole numbers above 1 do; else most must lie above it."""
    if positive.size == 0:
        return False
    if scale == 1 and (positive == np.floor(positive)).all():
        return True
    return bool((positive > (1 + SLACK) * scale).mean() > 0.5)
