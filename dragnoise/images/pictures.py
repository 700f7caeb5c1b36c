"""Pictures: from files, PIL images and arrays to RGB, and to and from the VAE's tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dragnoise.geometry import Frame
from dragnoise.images.arrays import as_array, as_bytes, require_bright
from dragnoise.images.colours import split, to_srgb
from dragnoise.images.files import image_path, read_image, upright
from dragnoise.images.masks import as_mask, mask_tensor
from dragnoise.validation import said

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Picture", "as_mask", "as_picture", "mask_tensor", "padded_picture", "picture_of_file", "picture_tensor",
    "tensor_picture",
]  # fmt: skip

Picture = str | Path | Image.Image | np.ndarray
"""What a picture may be given as: a path, a PIL image, or an (H, W[, 1|3|4]) uint8/uint16/bool/float array."""

EXPECTED = "a picture must be a path, a PIL image or an (H, W[, 3|4]) uint8 array"


def as_picture(picture: Any) -> Image.Image:
    """Any picture -> a new RGB PIL image in sRGB, turned upright by its EXIF tag, transparency laid on white.

    picture: see `Picture`.  Its colour profile, or the code points of a PNG or AVIF file, are applied, and the result
    has neither.  Arrays of floats are in 0..1, 0..255 or 0..65535, see `arrays.as_bytes`.

    Raises ValueError or TypeError that names what was given if it cannot be read, is empty or has the
    shape of no picture, and MemoryError if its pixels do not fit into memory.
    """
    if isinstance(picture, str | Path):
        return _as_rgb(read_image(image_path(picture)))
    if isinstance(picture, Image.Image):
        try:
            image = upright(picture)
        except MemoryError:
            raise MemoryError("there is not enough memory for the picture's pixels; make it smaller.") from None
        except Exception as error:
            raise ValueError(f"the picture's pixels cannot be read ({said(error)}).") from None
        image.format = picture.format
        return _as_rgb(image)
    array = as_array(picture, EXPECTED)
    shape = array.shape
    if array.ndim == 3 and shape[2] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and shape[2] in (3, 4))) or array.size == 0:
        channels_first = array.ndim == 3 and shape[0] in (1, 3, 4) and array.size
        advice = "; give numpy.moveaxis(x, 0, -1), which has the channels last" if channels_first else ""
        raise ValueError(
            f"an array of shape {shape} is not a picture, which is (H, W), (H, W, 3) or (H, W, 4){advice}."
        )
    if array.dtype == np.uint16:
        require_bright(array)
    return _as_rgb(Image.fromarray(np.ascontiguousarray(as_bytes(array))))


def picture_of_file(data: bytes) -> Image.Image:
    """The bytes of an image file -> as `as_picture` of its path."""
    return _as_rgb(read_image(data))


def _as_rgb(image: Image.Image) -> Image.Image:
    """An upright image -> RGB in sRGB, transparency laid on white, without profile and other data."""
    colours, opacity = split(image)
    points = image.info.get("code_points")  # which come before any profile (PNG, third edition, 4.3)
    rgb = to_srgb(colours, image.info.get("icc_profile") if points is None else points.profile)
    if opacity is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), opacity)
    elif rgb is image:
        rgb = rgb.copy()
    rgb.info = {}
    return rgb


# -------------------------------------------------------------------------------- as tensors


def picture_tensor(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """RGB picture -> (1, 3, height, width) float32 in -1..1 at (width, height)."""
    import torch

    array = torch.from_numpy(np.array(as_seen(picture, size), np.float32))
    return (array / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def as_seen(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An RGB picture brought to the (width, height) at which a model sees it."""
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def padded_picture(picture: Image.Image, frame: Frame) -> Image.Image:
    """A picture of `frame.given` with its last row and column repeated, see `Frame.padded`; else the picture itself."""
    return picture if frame.padded == frame.working else Image.fromarray(frame.pad(np.asarray(picture)))


def tensor_picture(
    tensor: Tensor, size: tuple[int, int], *, working: tuple[int, int] | None = None, released: bool = False
) -> Image.Image:
    """(1, 3, h, w) in -1..1 -> RGB picture of (width, height).

    working: the (width, height) at the upper left that holds the picture, default all; the rest is
    padding and is cut off, see `Frame.padded`.

    Values are rounded to bytes; `released` resizes bilinearly first and truncates instead.
    """
    import torch

    x = (tensor.float().cpu() / 2 + 0.5).clamp(0, 1)
    if working is not None:
        x = x[..., : working[1], : working[0]]
    if released:
        if x.shape[-2:] != (size[1], size[0]):
            x = torch.nn.functional.interpolate(x, (size[1], size[0]), mode="bilinear", align_corners=False)
        return Image.fromarray((x[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy())
    picture = Image.fromarray((x[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
