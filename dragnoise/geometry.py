"""Where things are: drags, the frames between picture and feature pixels, masks, pictures.

Image coordinates (x, y) name pixel centres: (0, 0) is the middle of the upper left pixel.  The
*grid* is the supervision feature's, the working picture at `supervision_scale`; its coordinates stay
inside the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dragnoise.config import DragConfig
from dragnoise.given import as_float, shown

Picture = str | Path | Image.Image | np.ndarray
"""What a picture may be given as: a path, a PIL image, or an (H, W[, 1|3|4]) uint8/uint16/bool/float array."""


@dataclass(frozen=True)
class Drag:
    """One pair of points, (x, y) in image pixels of the given picture: what to take and where to put it."""

    anchor: tuple[float, float]
    objective: tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The sizes a picture passes through, each (width, height), and the ways between them.

    given: the picture as it came; working: as the model sees it; grid: of the supervision feature.
    """

    given: tuple[int, int]
    working: tuple[int, int]
    grid: tuple[int, int]
    released: bool = False

    @classmethod
    def of(cls, given: tuple[int, int], config: DragConfig, *, native: int, multiple: int) -> Frame:
        """The frame of a picture of size `given` for a model of side `native` and VAE factor `multiple`."""
        working = given
        if config.resize != "never":
            side = max(given) if config.resize == "longer" else min(given)
            wanted = config.side or native
            scale = wanted / side
            longest = 4 * wanted  # a sliver resized by its shorter side must not fill the memory
            working = tuple(  # type: ignore[assignment]
                min(max(multiple * round(length * scale / multiple), 8 * multiple), longest) for length in given
            )
        grid = tuple(max(int(length * config.supervision_scale), 1) for length in working)
        return cls(given, working, grid, config.is_released)  # type: ignore[arg-type]

    def to_grid(self, points: Tensor) -> Tensor:
        """(m, 2) image pixels -> (m, 2) grid pixels."""
        given, grid = torch.tensor(self.given).double(), torch.tensor(self.grid).double()
        if self.released:
            return (points / given * grid).round().minimum(grid - 1.0)
        return (points + 0.5) * (grid / given) - 0.5

    def to_image(self, points: Tensor) -> Tensor:
        """(m, 2) grid pixels -> (m, 2) image pixels."""
        given, grid = torch.tensor(self.given).double(), torch.tensor(self.grid).double()
        if self.released:
            return points / grid * given
        return (points + 0.5) * (given / grid) - 0.5


# ------------------------------------------------------------------------------------- sampling


def sampling_weights(points: Tensor, grid: tuple[int, int], feature: tuple[int, int]) -> Tensor:
    """Weights that read a feature map at grid points, as if it had been resized to the grid first.

    points (n, 2) as (x, y) in grid pixels, clamped into the grid; grid and feature (width, height)
    -> (n, height * width) with `feature_map.flatten(1) @ weights.T` of shape (C, n).  Equal to
    bilinear resizing (align_corners=False) followed by bilinear sampling; the resized map itself is
    never built, and a matrix product has a deterministic gradient on every device.
    """
    x = _axis_weights(points[:, 0], grid[0], feature[0])
    y = _axis_weights(points[:, 1], grid[1], feature[1])
    return (y[:, :, None] * x[:, None, :]).flatten(1)


def _axis_weights(positions: Tensor, grid: int, feature: int) -> Tensor:
    """(n,) grid positions -> (n, feature) weights of one axis."""
    positions = positions.clamp(0, grid - 1)
    low = positions.floor().clamp(max=max(grid - 2, 0))
    share = (positions - low)[:, None]
    high = (low + 1).clamp(max=grid - 1)
    return (1 - share) * _resize_rows(low, grid, feature) + share * _resize_rows(high, grid, feature)


def _resize_rows(rows: Tensor, grid: int, feature: int) -> Tensor:
    """Rows of the (grid, feature) matrix of bilinear resizing, align_corners=False."""
    source = ((rows + 0.5) * (feature / grid) - 0.5).clamp(min=0)
    low = source.floor().clamp(max=feature - 1)
    share = source - low
    columns = torch.arange(feature, device=rows.device, dtype=rows.dtype)
    high = (low + 1).clamp(max=feature - 1)
    weights = (1 - share)[:, None] * (columns == low[:, None]) + share[:, None] * (columns == high[:, None])
    return weights.to(rows.dtype)


# ---------------------------------------------------------------------------------------- drags


def as_drags(drags: Any, size: tuple[int, int]) -> tuple[Drag, ...]:
    """Check drags against a picture of (width, height); pairs of pairs become `Drag`s.

    Raises ValueError or TypeError, in one sentence that names the drag and the value, for what is
    not a pair of points, not finite numbers, outside the picture, or an anchor on its objective.
    """
    if isinstance(drags, Drag) or not isinstance(drags, Iterable) or isinstance(drags, str | bytes | dict):
        raise TypeError(f"drags must be a list of Drag(anchor=(x, y), objective=(x, y)), not {shown(drags)}.")
    try:
        given = list(drags)
    except TypeError:  # arrays without dimensions
        raise TypeError(f"drags must be a list of pairs of points (x, y), not {shown(drags)}.") from None
    checked = []
    for i, drag in enumerate(given):
        if isinstance(drag, Drag):
            pair: Any = (drag.anchor, drag.objective)
        else:
            pair = drag
        try:
            anchor, objective = pair
        except (TypeError, ValueError):
            raise TypeError(f"drag {i} must be a pair (anchor, objective) of points, not {shown(drag)}.") from None
        a, b = as_point(anchor, f"anchor of drag {i}", size), as_point(objective, f"objective of drag {i}", size)
        if a == b:
            raise ValueError(f"drag {i} goes nowhere: its anchor and its objective are both {a}; move one of them.")
        checked.append(Drag(a, b))
    return tuple(checked)


def as_point(value: Any, name: str, size: tuple[int, int]) -> tuple[float, float]:
    """Check one point against a picture of (width, height); `name` is what a ValueError or TypeError calls it."""
    try:
        x, y = value
    except (TypeError, ValueError):
        raise TypeError(f"the {name} must be two numbers (x, y) in image pixels, not {shown(value)}.") from None
    first, second = as_float(x), as_float(y)
    if first is None or second is None:
        raise TypeError(f"the {name} must be two numbers (x, y) in image pixels, not {shown(value)}.")
    point = first, second
    if not all(map(math.isfinite, point)):
        raise ValueError(f"the {name} is {point}, which is not finite; give (x, y) in image pixels.")
    if not (0 <= point[0] < size[0] and 0 <= point[1] < size[1]):
        raise ValueError(
            f"the {name} is {point}, outside the picture: x must be in [0, {size[0]}) and y in [0, {size[1]})."
        )
    return point


def drag_tensors(drags: Sequence[Drag], frame: Frame) -> tuple[Tensor, Tensor]:
    """Anchors and objectives in grid pixels, (m, 2) float64 each."""
    anchors = torch.tensor([d.anchor for d in drags], dtype=torch.float64).reshape(-1, 2)
    objectives = torch.tensor([d.objective for d in drags], dtype=torch.float64).reshape(-1, 2)
    return frame.to_grid(anchors), frame.to_grid(objectives)


# --------------------------------------------------------------------------- pictures and masks


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
            raise ValueError(f"{str(path)!r} cannot be read as a picture ({_reason(error)}).") from None
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
        raise ValueError(f"the picture's pixels cannot be read ({_reason(error)}).") from None
    if picture.mode not in MODES:
        raise ValueError(f"a picture of mode {picture.mode!r} cannot be read; give one of mode 'RGB'.")
    return picture


MODES = (
    "1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "La", "RGBa",
    "I", "F", "I;16", "I;16L", "I;16B", "I;16N",
)  # fmt: skip
"""PIL's modes that can be made RGB."""


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


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
    elif (
        array.dtype != np.uint8
        and np.issubdtype(array.dtype, np.number)
        and not np.issubdtype(array.dtype, np.complexfloating)
    ):
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


def around(starts: Tensor, ends: Tensor, reach: float, size: tuple[int, int]) -> np.ndarray:
    """(m, 2) and (m, 2) points of a grid of `size` (width, height) -> (height, width) bool: what is near a drag.

    reach: how far the middle of a grid pixel may be from the line between a drag's ends, in grid pixels.
    """
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size[::-1]), indexing="ij")
    places = torch.stack([columns, rows], -1)[:, :, None]  # (h, w, 1, 2)
    line = (ends - starts).double()
    share = ((places - starts) * line).sum(-1) / line.square().sum(-1)  # of the way, where it passes nearest
    nearest = starts + share.clamp(0, 1)[..., None] * line
    return ((places - nearest).norm(dim=-1) <= reach).any(-1).numpy()


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
