"""Pictures as PNG, every pixel of them."""

from __future__ import annotations

import io

from PIL import Image


def png(picture: Image.Image, *, level: int = 3) -> bytes:
    """The bytes of a PNG file.  level: of compression, from 1, quick, to 9, small."""
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=level)
    return data.getvalue()


def png_within(picture: Image.Image, size: tuple[int, int]) -> bytes:
    """The same of a picture made smaller to (width, height) where it is larger."""
    if picture.width > size[0] or picture.height > size[1]:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return png(picture)
