"""Reading image files: paths, upright orientation, and one sentence for each kind of file that cannot be read."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from dragnoise.images.code_points import code_points
from dragnoise.images.profiles import implied_profile
from dragnoise.validation import as_path, said

MODES = (
    "1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "LA", "PA", "La", "RGBa",
    "I", "F", "I;16", "I;16L", "I;16B", "I;16N",
)  # fmt: skip
"""PIL's modes that can be made RGB."""

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)",
     "a HEIC picture, which Pillow does not read by itself; save it as JPEG or PNG, or install pillow-heif and call "
     "pillow_heif.register_heif_opener() first"),
    (rb"....ftypavi[fs]", "an AVIF picture, which this Pillow does not read; save it as JPEG or PNG"),
    (rb"....ftypcrx ", "a camera's raw file; develop it and save it as JPEG, PNG or TIFF"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video; save one frame of it as PNG"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "a JPEG XL picture, which Pillow does not read; save it as JPEG or PNG"),
    (rb"%PDF", "a PDF document; export the page as PNG"),
    (rb"(?i)\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?<svg", "an SVG drawing; export it as PNG"),
    (rb"(?i)\s*<(!doctype html|html|head|body)", "a web page; download the picture itself"),
    (rb"version https://git-lfs", "a pointer of Git LFS; run git lfs pull to get the picture"),
    (rb"\x93NUMPY", "a numpy array; give numpy.load(path)"),
    (rb"PK\x03\x04", "a zip archive; unpack it, or open a saved session with DragSession.open(path)"),
)  # fmt: skip
"""First bytes of kinds of files that cannot be read as pictures, and for each what it is and what to do."""

WEB_ADDRESS = re.compile(r"(?i)(https?|ftp|file|s3|gs):/|data:image/")
"""Matches a web address, also with a single slash, to which `pathlib.Path` shortens it."""


def image_path(path: str | Path, what: str = "picture") -> Path:
    """The path of an image file, "~" expanded; raises ValueError in one sentence if there can be none.

    what: "picture" or "mask", for the sentence.
    """
    if WEB_ADDRESS.match(str(path)):
        raise ValueError(
            f"{str(path)!r:.80} is an address, and a {what} is read from a file; download it first and give the path "
            "of the file."
        )
    try:
        return as_path(path, name=what, what="an image file")
    except OSError as error:
        raise ValueError(str(error)) from None


def read_image(source: Path | bytes, *, what: str = "picture") -> Image.Image:
    """An image file, or its bytes, as a PIL image: pixels loaded, turned upright by its EXIF tag, mode as stored.

    `format` is the file's.  Of several frames the first is read, with a UserWarning.
    what: "picture" or "mask", for messages.  Raises ValueError in one sentence that names the file, and
    MemoryError if the pixels do not fit into memory.
    """
    name = repr(str(source)) if isinstance(source, Path) else "the file"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image, kind, frames = upright(opened), opened.format, _frames(opened)
            if _is_raw(opened):
                raise ValueError("it is a camera's raw file, of which only a small preview can be read")
    except FileNotFoundError:
        raise ValueError(f"there is no {what} at {name}; give the path of an image file.") from None
    except IsADirectoryError:
        raise ValueError(f"{name} cannot be read as a {what} (it is a folder); give the path of a file.") from None
    except MemoryError:
        raise MemoryError(f"there is not enough memory for the pixels of {name}; make the {what} smaller.") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ValueError(
            f"{name} cannot be read as a {what} (it claims to have more than {most} million pixels); make it smaller."
        ) from None
    except Exception as error:  # a broken file can raise any exception
        raise ValueError(f"{name} cannot be read as a {what} ({_reason(source, error)}).") from None
    if frames > 1:
        warnings.warn(f"{name} has {frames} frames, and the first is taken.", UserWarning, stacklevel=3)
    image.format = kind
    return image


def upright(image: Image.Image) -> Image.Image:
    """A copy of a PIL image, pixels loaded and turned by its EXIF tag; a broken tag is ignored with a UserWarning.

    It has a colour profile also where the image tells its colour space otherwise, see `profiles.implied_profile`, and
    its `CodePoints` as `info["code_points"]` if it has any.
    Raises ValueError for an empty image and for a mode that cannot be made RGB, and what PIL raises
    if the pixels cannot be read.
    """
    if min(image.size) < 1:
        raise ValueError(f"it is empty: its size is {image.size[0]}x{image.size[1]}")
    points = code_points(image)  # before the file is closed
    image.load()
    if image.mode not in MODES:
        raise ValueError(f"its mode {image.mode!r} cannot be converted; give one of mode 'RGB'")
    profile = image.info.get("icc_profile") or implied_profile(image)
    try:
        turned = ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception as error:
        warnings.warn(f"the EXIF data cannot be read ({said(error)}) and is ignored.", UserWarning, stacklevel=4)
        turned = image.copy()
    if profile:
        turned.info["icc_profile"] = profile
    if points is not None:
        turned.info["code_points"] = points
    return turned


def _reason(source: Path | bytes, error: Exception) -> str:
    """Why a file cannot be read, without a full stop: what it is if its beginning tells, else the reader's message."""
    if not isinstance(error, UnidentifiedImageError):
        return said(error)
    if isinstance(source, bytes):
        head = source[:1024]
    else:
        with source.open("rb") as file:
            head = file.read(1024)
    if not head:
        return "it is empty"
    for signature, words in SIGNATURES:
        if re.match(signature, head, re.DOTALL):
            return f"it is {words}"
    return "it is in no format that Pillow knows"


def _frames(image: Image.Image) -> int:
    """Number of frames in a file; layers and a camera's additional views do not count."""
    if image.format in ("MPO", "PSD"):
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # a broken later frame does not concern the first
        return 1


def _is_raw(image: Image.Image) -> bool:
    """Is it the small preview at the beginning of a raw file of the TIFF family (DNG, NEF)?"""
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and (50706 in tags or tags.get(254) == 1)  # DNGVersion, NewSubfileType
