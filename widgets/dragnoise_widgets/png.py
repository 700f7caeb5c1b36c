"""PNG encoding of pictures."""

from __future__ import annotations

import io

from PIL import Image


def png(picture: Image.Image, *, level: int = 3) -> bytes:
    """The bytes of a PNG file without a colour profile.  level: of compression, from 1, fast, to 9, small."""
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=level, icc_profile=None)
    return data.getvalue()


def png_within(picture: Image.Image, size: tuple[int, int]) -> bytes:
    """As `png`, of the picture resized to (width, height) if it is larger."""
    if picture.width > size[0] or picture.height > size[1]:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return png(picture)
