"""Code points of colour spaces (ITU-T H.273), which PNG has in its cICP chunk and AVIF in its nclx box, as profiles."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from dragnoise.images.profiles import SRGB, Chromaticities, rgb_profile

D65, C = (0.3127, 0.329), (0.31, 0.316)

PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    4: (*C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    8: (*C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # DCI-P3
    12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # Display P3
    22: (*D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}
"""H.273, table 2: ColourPrimaries."""

UNSPECIFIED = 2
HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}
HEAD = 2**16
"""Bytes at the beginning of an AVIF file in which its nclx box is looked for."""


class CodePoints(NamedTuple):
    """primaries and transfer: of H.273.  full_range: are 0 and 255 black and white?"""

    primaries: int
    transfer: int
    full_range: bool = True

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of this colour space, None for sRGB.

        Raises ValueError for high dynamic range and for what has no profile here.
        """
        if self.transfer in HIGH_DYNAMIC_RANGE:
            raise ValueError(
                f"the picture is of high dynamic range ({HIGH_DYNAMIC_RANGE[self.transfer]}), and models see sRGB; "
                "export it as an ordinary picture in sRGB."
            )
        chromaticities = PRIMARIES.get(1 if self.primaries == UNSPECIFIED else self.primaries)
        light = np.linspace(0, 1, 1024)
        curve = _linear(light, self.transfer)
        if chromaticities is None or curve is None or not self.full_range:
            raise ValueError(
                f"the picture's colours are of primaries {self.primaries}, transfer {self.transfer} and "
                f"{'full' if self.full_range else 'narrow'} range (ITU-T H.273), which cannot be converted; export it "
                "in sRGB."
            )
        if chromaticities == SRGB and self.transfer in (UNSPECIFIED, 13):
            return None
        return rgb_profile(chromaticities, tuple(np.round(curve * 65535).astype(int).tolist()))


def _linear(values: np.ndarray, transfer: int) -> np.ndarray | None:
    """Coded values in 0..1 -> light in 0..1 by H.273's table 3, TransferCharacteristics; None for another one."""
    match transfer:
        case 1 | 6 | 11 | 14 | 15:  # BT.709 and BT.2020
            return np.where(values < 0.081, values / 4.5, ((values + 0.099) / 1.099) ** (1 / 0.45))
        case 2 | 13:  # sRGB
            return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        case 4:
            return values**2.2
        case 5:
            return values**2.8
        case 8:
            return values
    return None


def code_points(image: Image.Image) -> CodePoints | None:
    """Of an opened image whose pixels have not been loaded yet, or that has a file name; None if it has none.

    Code points that leave both the primaries and the transfer open count as none.
    """
    found: CodePoints | None = None
    reader = {"PNG": _of_png, "AVIF": _of_avif}.get(image.format or "")
    if reader is not None:
        with contextlib.suppress(OSError, ValueError, struct.error):  # a closed or broken file says nothing
            if (file := getattr(image, "fp", None)) is not None and not file.closed:
                where = file.tell()
                try:
                    found = reader(file)
                finally:
                    file.seek(where)
            elif (path := getattr(image, "filename", "")) and Path(path).is_file():
                with Path(path).open("rb") as again:
                    found = reader(again)
    return None if found is None or found.primaries == found.transfer == UNSPECIFIED else found


def _of_png(file: IO[bytes]) -> CodePoints | None:
    file.seek(8)
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind in (b"IDAT", b"IEND", b"PLTE"):
            return None
        if kind == b"cICP":
            primaries, transfer, _, full = struct.unpack(">4B", file.read(length))
            return CodePoints(primaries, transfer, full == 1)
        file.seek(length + 4, 1)


def _of_avif(file: IO[bytes]) -> CodePoints | None:
    file.seek(0)
    _, found, rest = file.read(HEAD).partition(b"colrnclx")
    return CodePoints(*struct.unpack(">HH", rest[:4])) if found else None  # the decoder converts its range
