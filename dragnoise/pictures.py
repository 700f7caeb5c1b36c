"""Pictures and masks: whatever is given as one, and the tensors they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dragnoise.given import said

Picture = str | Path | Image.Image | np.ndarray
"""What a picture may be given as: a path, a PIL image, or an (H, W[, 1|3|4]) uint8/uint16/bool/float array."""


# ------------------------------------------------------------------------------------- as given


def as_picture(picture: Any) -> Image.Image:
    """Any picture -> RGB PIL image, turned upright by its EXIF tag, transparency laid on white.

    Raises ValueError or TypeError naming what was given when it is unreadable, empty or of a shape
    that is no picture.
    """
    if isinstance(picture, str | Path):
        path = Path(picture)
        try:
            with Image.open(path) as opened:
                picture = _upright(opened)
        except FileNotFoundError:
            raise ValueError(f"there is no picture at {str(path)!r}; give the path of an image file.") from None
        except Exception as error:  # broken files raise whatever their reader came to
            raise ValueError(f"{str(path)!r} cannot be read as a picture ({said(error)}).") from None
    elif isinstance(picture, Image.Image):
        picture = _upright(picture)
    elif isinstance(picture, np.ndarray):
        picture = _from_array(picture)
    else:
        raise TypeError(
            f"a picture must be a path, a PIL image or an (H, W[, 3|4]) uint8 array, not {type(picture).__name__}."
        )
    if picture.mode in ("I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
        picture = _from_array(np.asarray(picture))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    """A PIL image, turned by its EXIF tag; raises ValueError unless its pixels are there and can be made RGB."""
    if min(picture.size) < 1:
        raise ValueError(f"the picture is empty: its size is {picture.size[0]}x{picture.size[1]}.")
    try:
        picture.load()
        picture = ImageOps.exif_transpose(picture)
    except Exception as error:
        raise ValueError(f"the picture's pixels cannot be read ({said(error)}).") from None
    if picture.mode not in MODES:
        raise ValueError(f"a picture of mode {picture.mode!r} cannot be read; give one of mode 'RGB'.")
    return picture


MODES = (
    "1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "La", "RGBa",
    "I", "F", "I;16", "I;16L", "I;16B", "I;16N",
)  # fmt: skip
"""PIL's modes that can be made RGB."""


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape
    if array.ndim == 3 and shape[2] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or array.size == 0:
        raise ValueError(f"an array of shape {shape} is no picture; expected (H, W), (H, W, 3) or (H, W, 4).")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = (array / 257.0 + 0.5).astype(np.uint8)
    elif array.dtype.kind in "iuf" and array.dtype != np.uint8:
        array = np.asarray(array, np.float64)
        if not np.isfinite(array).all():
            raise ValueError("the picture has NaN or infinite pixels; give finite numbers.")
        top = float(array.max())
        scale = 255.0 if array.min() >= 0 and top <= 1 else 1.0 if top <= 255 else 255.0 / 65535
        array = (np.clip(array * scale, 0, 255) + 0.5).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise TypeError(f"a picture of dtype {array.dtype} cannot be read; give uint8.")
    return Image.fromarray(np.ascontiguousarray(array))


def as_mask(mask: Any, size: tuple[int, int]) -> np.ndarray | None:
    """None, or any mask -> (H, W) bool, True where the picture may change; (width, height) must match.

    Raises ValueError for an empty mask or another size, TypeError for what is no mask.
    """
    if mask is None:
        return None
    if isinstance(mask, str | Path):
        mask = as_picture(mask).convert("L")
    if isinstance(mask, Image.Image):
        mask = _upright(mask)
        mask = np.asarray(mask.convert("L") if mask.mode not in ("1", "L", "I;16", "I", "F") else mask)
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "buif":
        raise TypeError(
            f"a mask must be None, an (H, W) bool or uint8 array, or a PIL image, not {type(mask).__name__}."
        )
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[..., 0]
    if mask.shape != (size[1], size[0]):
        raise ValueError(f"the mask has shape {mask.shape} and the picture {(size[1], size[0])}; give one of its size.")
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise ValueError("the mask has NaN or infinite pixels; give 0 and 1.")
    if not mask.any():
        raise ValueError("the mask is empty, so nothing may change; paint where it may, or give None.")
    return mask != 0


# -------------------------------------------------------------------------------- as tensors


def picture_tensor(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """RGB picture -> (1, 3, height, width) float32 in -1..1 at (width, height)."""
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    array = torch.from_numpy(np.array(picture, np.float32))
    return (array / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def tensor_picture(tensor: Tensor, size: tuple[int, int], *, released: bool = False) -> Image.Image:
    """(1, 3, h, w) in -1..1 -> RGB picture of (width, height).

    Values are rounded to bytes; `released` resizes bilinearly first and truncates instead.
    """
    x = (tensor.float().cpu() / 2 + 0.5).clamp(0, 1)
    if released:
        if x.shape[-2:] != (size[1], size[0]):
            x = torch.nn.functional.interpolate(x, (size[1], size[0]), mode="bilinear", align_corners=False)
        return Image.fromarray((x[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy())
    picture = Image.fromarray((x[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def mask_tensor(mask: np.ndarray, size: tuple[int, int], *, through: tuple[int, int] | None = None) -> Tensor:
    """(H, W) bool -> (1, 1, height, width) float32 at (width, height): the share of each cell that may change.

    With `through` (width, height), nearest-neighbour resizing by way of that size instead, as the
    released program does.
    """
    m = torch.from_numpy(np.array(mask, np.float32))[None, None]
    if through is not None:
        m = torch.nn.functional.interpolate(m, (through[1], through[0]), mode="nearest")
        return torch.nn.functional.interpolate(m, (size[1], size[0]), mode="nearest")
    return torch.nn.functional.interpolate(m, (size[1], size[0]), mode="area")
