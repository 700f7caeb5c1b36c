"""Elastic warp of a picture along drags, in numpy: a preview of what will be asked of a model, without the model.

    warp = Warp(picture, mask=mask)            # or reach=0.2, once a picture
    pixels = warp.preview(drags)               # (H, W, 3) uint8, for every move of the pointer

The field is that of FastDrag (arXiv 2405.15769): at a point p each drag i moves what is there by

    w_i(p) s_i(p) d_i,    w_i ~ 1 / (r_i + eps), normalised,    s_i(p) = e(p) / (e(p) + r_i),    r_i = |p - c_i|

with c_i where its anchor is, d_i its direction, and e(p) the distance from p to what may not change.  s_i is 1 at the
anchor and 0 where nothing may change; along a ray from the middle of a disc it is FastDrag's |PC| / |AP|.  The weights
are those of Inpaint4Drag (arXiv 2509.04582) too.  Ours: r_i is 0 within `CORE` of the anchor, so that what is there
moves as a whole.  A whole drag at once would fold the picture and leave holes, which those methods fill; here the
anchors walk to their objectives in small steps, and every pixel is traced back through them, so that the map stays one
to one, as an elastic cloth does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dragnoise.geometry import Drag, as_drags
from dragnoise.images.masks import as_mask
from dragnoise.images.pictures import as_picture
from dragnoise.validation import as_number

CELLS = 64
"""Cells along the longer side of the grid that the field is computed on."""

REACH = 0.25
"""Without a mask and with a reach of 0, what lies within this share of the longer side of a drag moves with it."""

EPS = 1e-4
"""eps of the weights, in pixels, as in FastDrag's program."""

CORE = 0.02
"""Around an anchor this share of the longer side moves without being stretched."""

STEP = 1 / 64
"""An anchor walks at most this share of the longer side in one small step."""


class Warp:
    """A picture that is warped along drags as often as they change; 30 to 50 ms at 512x512 on one core.

    picture: any, see `images.pictures.Picture`.  mask: None, or True where the picture may change; outside it no pixel
    changes.  reach: without a mask, how far from a drag pixels move, in shares of the longer side, see `REACH`.
    """

    def __init__(self, picture: Any, *, mask: Any = None, reach: float = 0.0) -> None:
        self.pixels = np.asarray(as_picture(picture))
        self.mask = as_mask(mask, self.size)
        self.reach = as_number("reach", reach, 0, 10) or REACH
        width, height = self.size
        cells = [max(round(CELLS * length / max(self.size)), 2) for length in (width, height)]
        self._x, self._y = (np.linspace(0, length - 1, n + 1) for length, n in zip((width, height), cells, strict=True))
        self._across, self._down = (
            _linear(np.arange(length), nodes).astype(np.float32)
            for length, nodes in ((width, self._x), (height, self._y))
        )
        self._margin = None if self.mask is None else margin(self.mask, self._x, self._y)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def preview(self, drags: Sequence[Any]) -> np.ndarray:
        """The picture warped along drags, (H, W, 3) uint8; raises as `geometry.as_drags` does."""
        moved = self.pixels.copy()
        field = self.field(drags)
        if self.mask is not None:
            field = field * self.mask[..., None]
        changed = (np.abs(field[..., 0]) > 0.01) | (np.abs(field[..., 1]) > 0.01)
        if not changed.any():
            return moved
        rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        y, x = (np.arange(length, dtype=np.float32) for length in changed.shape)
        from_x, from_y = (x + field[..., 0])[box], (y[:, None] + field[..., 1])[box]
        moved[box] = sampled(self.pixels, from_x, from_y)
        return moved

    def field(self, drags: Sequence[Any]) -> np.ndarray:
        """Where each pixel's colour comes from, relative to it, (H, W, 2) float32 as (dx, dy) in pixels."""
        checked = as_drags(drags, self.size)
        x, y = np.meshgrid(self._x, self._y)
        nodes = np.stack([x, y], -1).reshape(-1, 2)
        moved = (self.traced(nodes, checked) - nodes).reshape(*x.shape, 2).astype(np.float32)
        return np.stack([self._down @ moved[..., i] @ self._across.T for i in (0, 1)], -1)

    def traced(self, points: np.ndarray, drags: Sequence[Drag]) -> np.ndarray:
        """Where points (n, 2) of the warped picture come from, (n, 2), clamped into the picture."""
        at = np.array(points, float)
        if not drags:
            return at
        start, end = (np.array([getattr(drag, name) for drag in drags]) for name in ("anchor", "objective"))
        longest = max(self.size)
        steps = max(math.ceil(np.linalg.norm(end - start, axis=1).max() / (STEP * longest)), 1)
        along = (end - start) / steps
        for step in range(steps, 0, -1):
            at = at - displacement(at, start + step * along, along, self._free(at, start, end), core=CORE * longest)
            at = np.clip(at, 0, np.array(self.size) - 1.0)
        return at

    def _free(self, points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """e(p) of points (n, 2), the distance to what may not change, (n,)."""
        if self._margin is not None:
            return bilinear(self._margin, points, self._x, self._y)
        near = to_segments(points, start, end)
        return np.maximum(self.reach * max(self.size) - near, 0)


def displacement(
    points: np.ndarray, anchors: np.ndarray, moves: np.ndarray, free: np.ndarray, *, core: float
) -> np.ndarray:
    """sum_i w_i(p) s_i(p) d_i: points (n, 2), anchors and moves (m, 2), free e(p), (n,) -> (n, 2); core in pixels."""
    far = np.maximum(np.linalg.norm(points[:, None] - anchors, axis=-1) - core, 0)
    weights = 1 / (far + EPS)
    weights /= weights.sum(1, keepdims=True)
    share = free[:, None] / np.maximum(free[:, None] + far, EPS)
    return np.asarray((weights * share) @ moves)


def margin(mask: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance in pixels from the nodes (x_j, y_i) to the nearest pixel that a mask (H, W) holds -> (h, w).

    0 at held nodes.  Of the held pixels those at the edge of the editable area count, on at most 512 rows and columns.
    """
    stride = -(-max(mask.shape) // 512)
    small = mask[::stride, ::stride]
    padded = np.pad(small, 1, mode="edge")
    beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    edge = np.argwhere(~small & beside)[:, ::-1] * float(stride)
    result = np.zeros((len(y), len(x)))
    if mask.all() or not mask.any():
        return result + (math.hypot(*mask.shape) if mask.all() else 0)
    for i, row in enumerate(y):
        free = mask[round(row), np.round(x).astype(int)]
        if free.any():
            result[i, free] = np.sqrt(((x[free, None] - edge[:, 0]) ** 2 + (row - edge[:, 1]) ** 2).min(1))
    return result


def sampled(pixels: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear colours of a picture (H, W, 3) uint8 at places (h, w), clamped to its border -> (h, w, 3) uint8."""
    height, width = pixels.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = (np.minimum(v.astype(np.intp), max(n - 2, 0)) for v, n in ((x, width), (y, height)))
    right, below = ((v - whole.astype(v.dtype))[..., None] for v, whole in ((x, left), (y, top)))
    flat, first = pixels.reshape(-1, 3), top * width + left
    beside, under = min(width - 1, 1), width * min(height - 1, 1)
    upper = flat[first] * (1 - right) + flat[first + beside] * right
    lower = flat[first + under] * (1 - right) + flat[first + under + beside] * right
    return np.asarray((upper * (1 - below) + lower * below + 0.5).astype(np.uint8))


def to_segments(points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distance of points (n, 2) to the nearest of the lines between starts and ends, (m, 2) each -> (n,)."""
    along = ends - starts
    offset = points[:, None] - starts
    share = ((offset * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)).clip(0, 1)
    return np.asarray(np.linalg.norm(offset - share[..., None] * along, axis=-1).min(-1))


def bilinear(values: np.ndarray, points: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values (h, w) at even nodes (x_j, y_i), between them at points (n, 2), clamped into the nodes -> (n,)."""
    column, row = (_places(points[:, i], nodes) for i, nodes in ((0, x), (1, y)))
    j, i = np.minimum(column.astype(int), len(x) - 2), np.minimum(row.astype(int), len(y) - 2)
    right, below = column - j, row - i
    upper = values[i, j] * (1 - right) + values[i, j + 1] * right
    lower = values[i + 1, j] * (1 - right) + values[i + 1, j + 1] * right
    return np.asarray(upper * (1 - below) + lower * below)


def _linear(positions: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Weights (n, k) of linear interpolation between k even nodes at n positions."""
    return np.maximum(1 - np.abs(_places(positions, nodes)[:, None] - np.arange(len(nodes))), 0)


def _places(positions: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Positions in pixels as fractional numbers of even nodes; a picture one pixel wide has all nodes at 0."""
    return np.asarray(np.clip((positions - nodes[0]) / max(nodes[1] - nodes[0], 1e-9), 0, len(nodes) - 1))
