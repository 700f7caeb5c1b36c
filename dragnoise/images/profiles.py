"""ICC profiles of pictures whose colour space is told by other means: Adobe RGB by EXIF, PNG's gAMA and cHRM."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue, as PNG's cHRM has them: eight numbers."""

SRGB: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256

USUAL_GAMMA = (0.43, 0.48)
"""PNG's gAMA of a picture in sRGB, whose curve is near 1 / 2.2; the rounding of some programs allowed for."""

SAME = 0.005
"""By how much chromaticities may differ from sRGB's and still be taken for them."""

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def implied_profile(image: Image.Image) -> bytes | None:
    """The ICC profile that an opened image's other data stand for; None where they say sRGB or nothing."""
    try:
        if _is_adobe_rgb(image):
            return rgb_profile(ADOBE_RGB, ADOBE_GAMMA)
        return _of_png(image.info)
    except Exception:  # broken EXIF data can raise any exception
        return None


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Does the EXIF say so: "R03" among its interoperability tags (DCF 2.0), or a ColorSpace of 2?"""
    exif = image.getexif()
    return exif.get_ifd(0xA005).get(1) == "R03" or exif.get_ifd(0x8769).get(0xA001) == 2


def _of_png(info: dict[Any, Any]) -> bytes | None:
    gamma, chromaticities = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or (gamma is None and chromaticities is None):
        return None
    usual = gamma is None or USUAL_GAMMA[0] <= gamma <= USUAL_GAMMA[1]
    if usual and (chromaticities is None or np.allclose(chromaticities, SRGB, rtol=0, atol=SAME)):
        return None
    return rgb_profile(tuple(chromaticities or SRGB), 2.2 if gamma is None else 1 / gamma)


@lru_cache(maxsize=8)
def rgb_profile(chromaticities: Chromaticities, curve: float | tuple[int, ...]) -> bytes:
    """An ICC 2.4 profile of an RGB space by its white, its primaries and its curves.

    curve: an exponent, or 16-bit numbers in proportion to the light of values in 0..1 at equal distances.

    Raises ValueError for chromaticities of no RGB space and for an exponent that is not in 0.1..10.
    """
    if not isinstance(curve, tuple):
        if not (0.1 <= curve <= 10):
            raise ValueError(f"gamma={curve!r} must be in 0.1..10.")
        curve = (round(curve * 256),)
    curves = b"curv\0\0\0\0" + struct.pack(f">I{len(curve)}H", len(curve), *curve)
    text = b"desc\0\0\0\0" + struct.pack(">I", 4) + b"RGB\0" + b"\0" * 79
    tags = [(b"desc", text), (b"cprt", b"text\0\0\0\0none"), (b"wtpt", _xyz(D50))]
    columns = _primaries(chromaticities).T
    tags += [(name + b"XYZ", _xyz(column)) for name, column in zip((b"r", b"g", b"b"), columns, strict=True)]
    tags += [(name + b"TRC", curves) for name in (b"r", b"g", b"b")]
    start, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">III", 128 + len(table) + len(data), 0, 0x02400000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _xyz(D50)[8:]
    return head.ljust(128, b"\0") + table + data


def _primaries(chromaticities: Chromaticities) -> np.ndarray:
    """(3, 3): XYZ under D50 of red, green and blue, a column each (Bradford's adaptation of the white)."""
    white, *colours = ([x / y, 1.0, (1 - x - y) / y] for x, y in np.reshape(chromaticities, (4, 2)).tolist())
    matrix = np.array(colours).T
    matrix = matrix * np.linalg.solve(matrix, white)
    scales = (BRADFORD @ D50) / (BRADFORD @ white)
    adapted = np.linalg.inv(BRADFORD) @ np.diag(scales) @ BRADFORD @ matrix
    if not all(map(math.isfinite, adapted.flat)) or np.abs(adapted).max() > 4:
        raise ValueError(f"these are chromaticities of no RGB space: {chromaticities}.")
    return adapted


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(float(x) * 65536)) for x in values)
