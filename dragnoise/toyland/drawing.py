"""Soft-shaded, anti-aliased drawing of the few shapes that the world is made of (numpy only).

Points and lengths are picture pixels, colours RGB in 0-1, angles degrees clockwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]
Colour = Sequence[float] | np.ndarray

_SUNLIGHT = np.array((-0.42, -0.62, 0.66), dtype=np.float32)  # towards the light: upper left, to the front


class Canvas:
    """A square float picture that shapes are blended onto, drawn at `supersample` times its size."""

    def __init__(self, size: int, supersample: int, *, light: Colour) -> None:
        self.size, self.scale = size, supersample
        side = size * supersample
        self.pixels = np.zeros((side, side, 3), np.float32)
        self.columns = (np.arange(side, dtype=np.float32) + 0.5) / supersample - 0.5
        self.light = np.asarray(light, np.float32)

    def picture(self) -> np.ndarray:
        """(size, size, 3) uint8."""
        k = self.scale
        mean = self.pixels.reshape(self.size, k, self.size, k, 3).mean((1, 3))
        return (np.clip(mean, 0, 1) * 255 + 0.5).astype(np.uint8)

    # ---- flat things -------------------------------------------------------------------------

    def sky(self, colours: Sequence[Colour], horizon: float) -> None:
        """Vertical gradient through three colours, from the top to the horizon (and on below it)."""
        at = np.clip(self.columns / horizon, 0, 1)
        rows = np.stack([np.interp(at, (0, 0.5, 1), [c[i] for c in colours]) for i in range(3)], -1)
        self.pixels[:] = rows[:, None].astype(np.float32)

    def glow(self, centre: Point, radius: float, colour: Colour) -> None:
        """Light added round a point, a Gaussian of the given radius."""
        box = self._box(centre[0], centre[1], radius * 2.6)
        if box is not None:
            rows, cols, x, y = box
            fall = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (radius * radius))
            self.pixels[rows, cols] += fall[..., None] * np.asarray(colour, np.float32)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """A flat disc."""
        box = self._box(centre[0], centre[1], radius + 1)
        if box is not None:
            rows, cols, x, y = box
            inside = radius - np.hypot(x - centre[0], y - centre[1])
            self._blend(rows, cols, self._cover(inside), np.asarray(colour, np.float32))

    def shadow(self, centre: Point, rx: float, ry: float) -> None:
        """A soft contact shadow on the ground."""
        box = self._box(centre[0], centre[1], 1.9 * rx)
        if box is not None:
            rows, cols, x, y = box
            far = ((x - centre[0]) / rx) ** 2 + ((y - centre[1]) / ry) ** 2
            self.pixels[rows, cols] *= (1 - 0.42 * np.exp(-1.6 * far))[..., None]

    def below(self, ridge: np.ndarray | float, colour: Colour, bottom: Colour | None = None) -> None:
        """Everything under a ridge line (y for each column), fading to `bottom` at the lower edge."""
        y = self.columns[:, None]
        cover = self._cover(y - ridge)
        near = np.asarray(colour, np.float32)
        if bottom is None:
            fill = np.broadcast_to(near, self.pixels.shape)
        else:
            fade = np.clip((y - np.min(ridge)) / (self.size - np.min(ridge)), 0, 1)[..., None]
            fill = near * (1 - fade) + np.asarray(bottom, np.float32) * fade
        self.pixels += cover[..., None] * (fill - self.pixels)

    def mountain(self, peak: Point, width: float, base: float, rock: Colour, snow: Colour) -> None:
        """A peak whose sides fall `base - peak` within `width`, lit from the left, snow on its top."""
        x, y = self.columns[None, :], self.columns[:, None]
        side = (x - peak[0]) / width
        height = base - peak[1]
        ridge = peak[1] + height * np.minimum(np.abs(side), 4) ** 0.9
        jag = 0.5 * np.abs(((x - peak[0]) / 5.0) % 2 - 1) + 0.25 * np.abs(((x - peak[0]) / 2.3) % 2 - 1)
        line = peak[1] + height * (0.24 + 0.13 * jag)
        lee = np.tanh((x - peak[0] - 0.12 * (y - peak[1])) * 0.6)
        face = 0.87 - 0.13 * lee
        white = self._cover(line - y)[..., None]
        haze = np.clip((y - peak[1]) / height, 0, 1)[..., None] * 0.12
        fill = (np.asarray(rock, np.float32) * (1 - white) + np.asarray(snow, np.float32) * white) * face[..., None]
        self.pixels += self._cover((y - ridge) * 0.6)[..., None] * (fill + haze - self.pixels)

    def mouth(self, left: Point, right: Point, opened: float, smile: float) -> None:
        """A mouth between two corners: `opened` pixels high in the middle, sagging by `smile` pixels."""
        cx, cy = (left[0] + right[0]) / 2, (left[1] + right[1]) / 2
        half = max(math.dist(left, right) / 2, 0.8)
        angle = math.atan2(right[1] - left[1], right[0] - left[0])
        box = self._box(cx, cy, half + opened + abs(smile) + 2)
        if box is None:
            return
        rows, cols, x, y = box
        u, v = _rotate(x - cx, y - cy, angle)
        arch = 1 - np.clip(np.abs(u) / half, 0, 1) ** 2
        upper = smile * arch - 0.55
        lower = upper + 1.1 + opened * arch
        inside = np.minimum(np.minimum(v - upper, lower - v), half + 0.5 - np.abs(u))
        tongue = self._cover(v - (upper + 0.55 * (lower - upper) + 0.4))[..., None]
        dark, red = np.array((0.26, 0.07, 0.08), np.float32), np.array((0.90, 0.36, 0.40), np.float32)
        self._blend(rows, cols, self._cover(inside), (dark * (1 - tongue) + red * tongue) * self.light)

    # ---- round things ------------------------------------------------------------------------

    def ball(
        self, centre: Point, radii: Point, colour: Colour, *, angle: float = 0.0, gloss: float = 0.22, flat: float = 0.0
    ) -> None:
        """An ellipsoid; `flat` in 0-1 weakens its shading, `gloss` adds a highlight."""
        box = self._box(centre[0], centre[1], max(radii) + 1)
        if box is None:
            return
        rows, cols, x, y = box
        a = math.radians(angle)
        u, v = _rotate(x - centre[0], y - centre[1], a)
        u, v = u / radii[0], v / radii[1]
        r = np.sqrt(u * u + v * v)
        nx, ny = _rotate(u, v, -a)
        self._shade(rows, cols, self._cover((1 - r) * min(radii)), nx, ny, colour, gloss, flat)

    def limb(self, start: Point, end: Point, radius: float, colour: Colour) -> None:
        """A round-ended cylinder."""
        box = self._box((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, math.dist(start, end) / 2 + radius + 1)
        if box is None:
            return
        rows, cols, x, y = box
        dx, dy = end[0] - start[0], end[1] - start[1]
        along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
        nx, ny = (x - start[0] - along * dx) / radius, (y - start[1] - along * dy) / radius
        self._shade(rows, cols, self._cover((1 - np.hypot(nx, ny)) * radius), nx, ny, colour, 0.15, 0.0)

    def horn(self, root: Point, tip: Point, width: float, colour: Colour, *, point: float) -> None:
        """An ear: a leaf from root to tip; `point` in 0-1 says how sharply it narrows."""
        length = max(math.dist(root, tip), 1e-6)
        box = self._box((root[0] + tip[0]) / 2, (root[1] + tip[1]) / 2, length / 2 + width + 1)
        if box is None:
            return
        rows, cols, x, y = box
        ux, uy = (tip[0] - root[0]) / length, (tip[1] - root[1]) / length
        along = (x - root[0]) * ux + (y - root[1]) * uy
        across = (y - root[1]) * ux - (x - root[0]) * uy
        t = np.clip(along / length, 0, 1)
        round_ = np.sqrt(np.clip(1 - np.clip((t - 0.45) / 0.55, 0, 1) ** 2, 0, 1))
        half = width * ((1 - point) * round_ + point * (1 - t)) + 0.3
        w = across / half
        inside = np.minimum(half - np.abs(across), np.minimum(along + width, length - along))
        self._shade(rows, cols, self._cover(inside), -w * uy, w * ux, colour, 0.1, 0.2)

    def cone(self, brim: Point, top: Point, width: float, colour: Colour) -> None:
        """A pointed hat standing on an elliptic brim."""
        length = max(math.dist(brim, top), 1e-6)
        box = self._box((brim[0] + top[0]) / 2, (brim[1] + top[1]) / 2, length / 2 + width + 2)
        if box is None:
            return
        rows, cols, x, y = box
        ux, uy = (top[0] - brim[0]) / length, (top[1] - brim[1]) / length
        along = (x - brim[0]) * ux + (y - brim[1]) * uy
        across = (y - brim[1]) * ux - (x - brim[0]) * uy
        t = np.clip(along / length, 0, 1)
        half = width * (1 - t) + 0.4
        w = np.clip(across / half, -1, 1)
        rim = np.sqrt(np.clip(1 - (across / width) ** 2, 0, 1)) * 0.28 * width  # the brim's front curve
        inside = np.minimum(half - np.abs(across), np.minimum(along + rim, length - along))
        band = self._cover(1.6 - np.abs(along + rim - 1.6) - 0.2)[..., None]
        paint = np.asarray(colour, np.float32) * (1 - 0.35 * band)
        self._shade(rows, cols, self._cover(inside), -w * uy, w * ux, paint, 0.15, 0.0)

    # ---- pixels ------------------------------------------------------------------------------

    def _box(self, cx: float, cy: float, reach: float) -> tuple[slice, slice, np.ndarray, np.ndarray] | None:
        """Slices of the square of the given half side, and its x and y; None when it is off the picture."""
        side, k = self.size * self.scale, self.scale
        left, right = max(int((cx - reach) * k), 0), min(int((cx + reach + 1) * k) + 1, side)
        top, bottom = max(int((cy - reach) * k), 0), min(int((cy + reach + 1) * k) + 1, side)
        if left >= right or top >= bottom:
            return None
        rows, cols = slice(top, bottom), slice(left, right)
        return rows, cols, self.columns[None, cols], self.columns[rows, None]

    def _cover(self, inside: np.ndarray) -> np.ndarray:
        """How much of a pixel a shape covers, from its signed distance to the edge in picture pixels."""
        return np.clip(inside * self.scale + 0.5, 0, 1).astype(np.float32)

    def _shade(
        self, rows: slice, cols: slice, cover: np.ndarray, nx: np.ndarray, ny: np.ndarray, colour: Colour,
        gloss: float, flat: float,
    ) -> None:  # fmt: skip
        nz = np.sqrt(np.clip(1 - nx * nx - ny * ny, 0, 1))
        facing = np.clip(nx * _SUNLIGHT[0] + ny * _SUNLIGHT[1] + nz * _SUNLIGHT[2], 0, 1)
        tone = (1 - flat) * (0.52 + 0.58 * facing) + flat
        shine = gloss * facing**14
        self._blend(
            rows, cols, cover, (tone[..., None] * np.asarray(colour, np.float32) + shine[..., None]) * self.light
        )

    def _blend(self, rows: slice, cols: slice, cover: np.ndarray, fill: np.ndarray) -> None:
        area = self.pixels[rows, cols]
        area += cover[..., None] * (fill - area)


def _rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in a frame turned by `angle` radians clockwise."""
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
