"""Colour and opacity of PIL images: 16-bit to 8-bit, transparency, and colour profiles to sRGB."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from dragnoise.images.arrays import as_bytes, require_bright
from dragnoise.validation import said

DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""PIL's modes of grey with more than 8 bits."""

SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""PIL's modes by the colour space that a profile is for."""

ROUNDING = 2
"""Levels of 255 by which a profile may differ from sRGB and still be taken for it, so that no pixel is changed."""


def split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An image of any of `image_files.MODES` -> its colours without transparency, and its opacity or None.

    The colours are 8-bit, of mode L, RGB, CMYK or LAB; the opacity is of mode L, 255 where opaque.
    """
    opacity = _opacity_of_key(image)
    if image.mode in DEEP:
        array = np.asarray(image)
        scaled = image.format in ("PNG", "PPM")  # by their definition; other files may hold 12 bits
        if image.mode == "I" and scaled:  # 16 bits in PIL's 32
            array = array.astype(np.uint16)
        if array.dtype == np.uint16 and not scaled:
            require_bright(array)
        return Image.fromarray(as_bytes(array)), opacity
    if image.mode in ("La", "RGBa"):  # colours multiplied by the opacity
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode == "PA" or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        opacity = image.getchannel("A")
        bands = image.split()[:-1]
        return (bands[0] if len(bands) == 1 else Image.merge("RGB", bands)), opacity
    if image.mode == "1":
        return image.convert("L"), opacity
    return (image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")), opacity


def _opacity_of_key(image: Image.Image) -> Image.Image | None:
    """Opacity of an image without alpha of which one colour is transparent (PNG's tRNS), None if there is none."""
    key = image.info.get("transparency")
    if key is None or image.mode in ("P", "PA", "LA", "RGBA"):
        return None
    try:
        array = np.asarray(image)
        if array.dtype == np.uint8 and np.max(key) > 255:  # PIL reads 16-bit RGB as 8 bits and keeps the key
            key = np.asarray(key) >> 8
        transparent = array == np.asarray(key).astype(array.dtype)
        if transparent.ndim == 3:
            transparent = transparent.all(-1)
        if transparent.shape != array.shape[:2]:
            return None
    except (TypeError, ValueError, OverflowError):
        return None
    return Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8))


# ------------------------------------------------------------------------------------- profiles


def to_srgb(image: Image.Image, profile: Any = None) -> Image.Image:
    """Colours of mode L, RGB, CMYK or LAB -> RGB in sRGB.

    profile: the bytes of the ICC profile that the image came with, or None.  Pixels of an sRGB profile
    stay as they are; one that cannot be used is ignored with a UserWarning.
    """
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _transform_of_lab())  # type: ignore[return-value]
    if profile:
        try:
            return _converted(image, profile)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError) as error:
            warnings.warn(
                f"the picture's colour profile cannot be used ({said(error)}), and its colours are taken for sRGB.",
                UserWarning,
                stacklevel=4,
            )
    return image.convert("RGB")


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if space not in SPACES:
        raise ValueError(f"it is for the colour space {space!r}")
    mode = SPACES[space]
    if image.mode != mode:
        if (image.mode, mode) != ("L", "RGB"):
            raise ValueError(f"it is for {mode} and the picture is {image.mode}")
        image = image.convert("RGB")
    transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB")
    if mode == "RGB" and _difference(transform) <= ROUNDING:
        return image
    return ImageCms.applyTransform(image, transform)  # type: ignore[return-value]


def _difference(transform: ImageCms.ImageCmsTransform) -> int:
    """By how many levels a transform of RGB changes a colour at most, on a cube of colours."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    changed = np.asarray(ImageCms.applyTransform(Image.fromarray(cube), transform))
    return int(np.abs(changed.astype(int) - cube).max())


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=1)
def _transform_of_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), _srgb(), "LAB", "RGB")
