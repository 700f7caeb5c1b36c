"""The rendered world: a scene is a handful of numbers, so the right answer to a drag is known.

`sample_scene` draws the numbers, `render` turns them into a 128x128 picture and `landmarks` says
where the named points of the picture are.  Everything is pure: the same scene always gives the
same bytes.  Lengths are picture pixels, x right and y down; angles are degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dragnoise.toyland.drawing import Canvas, Point
from dragnoise.toyland.factors import (
    COATS,
    HATS,
    KINDS,
    RANGES,
    TIMES,
    Scene,
    factors,
    require_scene,
    sample_scene,
    with_factors,
)  # fmt: skip
from dragnoise.validation import as_integer

__all__ = [
    "COATS", "HATS", "KINDS", "LANDMARKS", "RANGES", "SIZE", "TIMES", "Scene",
    "caption", "factors", "landmarks", "render", "render_land", "sample_scene", "with_factors",
]  # fmt: skip

SIZE = 128
"""Side of a rendered picture in pixels."""

LANDMARKS = (
    "sun", "peak", "head", "left_ear", "right_ear", "left_eye", "right_eye",
    "mouth_left", "mouth_right", "chin", "hat_top", "tail_tip", "left_foot", "right_foot",
)  # fmt: skip
"""Names of the points that `landmarks` gives; left and right are the picture's, not the creature's."""


def caption(scene: Scene) -> str:
    """What the picture shows, in the small vocabulary that the text encoder knows; TypeError if it is not a scene."""
    require_scene(scene)
    sky = {"day": "by day", "dawn": "at dawn", "dusk": "at dusk", "night": "at night"}[scene.time]
    hat = "" if scene.hat == "none" else f" with a {scene.hat} hat"
    article = "an" if scene.coat[0] in "aeiou" else "a"
    return f"{article} {scene.coat} {scene.kind}{hat} {sky}"


# ------------------------------------------------------------------------------------- geometry


@dataclass(frozen=True)
class Body:
    """Where the creature's parts are, in picture pixels, derived from a scene."""

    scene: Scene

    @property
    def hips(self) -> Point:
        s = self.scene
        return s.x, s.y - 0.72 * s.body_height * s.size

    @property
    def head(self) -> Point:
        s = self.scene
        x, y = self.hips
        return x + s.lean * s.size, y - (0.62 * s.body_height + s.neck + 0.55 * s.head_size) * s.size

    @property
    def head_radius(self) -> float:
        return self.scene.head_size * self.scene.size

    def on_head(self, x: float, y: float, z: float, *, turn: float = 1.0) -> tuple[float, float, float]:
        """A point of the head's own frame (head radii) -> picture x, y and depth towards the viewer.

        `turn` scales how much of yaw and pitch the point follows (ears sit on a softer skull).
        """
        s = self.scene
        yaw, pitch, roll = (math.radians(a) for a in (s.yaw * turn, s.pitch * turn, s.roll))
        x, z = x * math.cos(yaw) + z * math.sin(yaw), z * math.cos(yaw) - x * math.sin(yaw)
        y, z = y * math.cos(pitch) - z * math.sin(-pitch), z * math.cos(pitch) + y * math.sin(-pitch)
        x, y = x * math.cos(roll) - y * math.sin(roll), x * math.sin(roll) + y * math.cos(roll)
        cx, cy = self.head
        return cx + x * self.head_radius, cy + y * self.head_radius * 0.94, z

    def eye(self, side: int) -> tuple[float, float, float]:
        return self.on_head(0.40 * side, -0.16, 0.88)

    def mouth(self, side: int) -> tuple[float, float, float]:
        s = self.scene
        half = s.mouth_width / s.head_size
        return self.on_head(half * side, 0.50 - 0.06 * s.smile, 0.86)

    @property
    def chin(self) -> Point:
        x, y, _ = self.on_head(0.0, 0.96, 0.30)
        return x, y

    def ear(self, side: int) -> tuple[Point, Point, float]:
        """Root and tip of an ear and its half width (`side` -1 is the picture's left)."""
        s = self.scene
        length, width, spread = {
            "cat": (0.78, 0.30, 24.0), "bunny": (1.30, 0.25, 12.0), "bear": (0.46, 0.34, 40.0)
        }[s.kind]  # fmt: skip
        x, y, _ = self.on_head(0.52 * side, -0.70, 0.0, turn=0.6)
        lean = s.left_ear if side < 0 else s.right_ear
        angle = math.radians(spread * side + lean + s.roll)
        reach = length * s.ear_length * self.head_radius
        return (x, y), (x + reach * math.sin(angle), y - reach * math.cos(angle)), width * self.head_radius

    @property
    def hat(self) -> tuple[Point, Point, float]:
        """Middle of the brim, tip, and half width of the brim."""
        s = self.scene
        x, y, _ = self.on_head(0.0, -0.80, 0.10, turn=0.5)
        angle = math.radians(s.hat_tilt + s.roll)
        reach = s.hat_height * s.size
        return (x, y), (x + reach * math.sin(angle), y - reach * math.cos(angle)), 0.52 * self.head_radius

    @property
    def tail(self) -> tuple[Point, Point, Point]:
        """Root, knee and tip."""
        s = self.scene
        side = 1.0 if s.tail_side >= 0 else -1.0
        root = self.hips[0] + 0.62 * side * s.body_width * s.size, self.hips[1] + 0.35 * s.body_height * s.size
        half = 0.5 * s.tail_length * s.size + 2
        knee = _polar(root, half, s.tail_angle * 0.6, side)
        return root, knee, _polar(knee, half, s.tail_angle * 0.6 + s.tail_bend + s.tail_angle * 0.4, side)

    def foot(self, side: int) -> Point:
        s = self.scene
        return s.x + s.foot_spread * side * s.size, s.y - 3.0 * s.size


def _polar(start: Point, length: float, angle: float, side: float) -> Point:
    a = math.radians(angle)
    return start[0] + side * length * math.cos(a), start[1] - length * math.sin(a)


def landmarks(scene: Scene) -> dict[str, tuple[float, float]]:
    """Where the named points are, {name: (x, y)} in picture pixels; `hat_top` only under a hat.

    Points are given whether or not something stands in front of them.  Raises TypeError if it is not a scene.
    """
    require_scene(scene)
    body = Body(scene)
    points = {
        "sun": (scene.sun_x, scene.sun_y),
        "peak": (scene.peak_x, scene.peak_y),
        "head": body.head,
        "left_ear": body.ear(-1)[1],
        "right_ear": body.ear(1)[1],
        "left_eye": body.eye(-1)[:2],
        "right_eye": body.eye(1)[:2],
        "mouth_left": body.mouth(-1)[:2],
        "mouth_right": body.mouth(1)[:2],
        "chin": body.chin,
        "hat_top": body.hat[1],
        "tail_tip": body.tail[2],
        "left_foot": body.foot(-1),
        "right_foot": body.foot(1),
    }
    if scene.hat == "none":
        del points["hat_top"]
    return {name: (float(x), float(y)) for name, (x, y) in points.items()}


# -------------------------------------------------------------------------------------- picture

_SKY = {  # colour at the top, half way down and at the horizon; 0-1 RGB
    "day": ((0.24, 0.52, 0.93), (0.47, 0.71, 0.97), (0.80, 0.91, 0.99)),
    "dawn": ((0.51, 0.70, 0.86), (0.76, 0.82, 0.90), (0.98, 0.86, 0.85)),
    "dusk": ((0.40, 0.28, 0.58), (0.75, 0.42, 0.55), (0.99, 0.62, 0.40)),
    "night": ((0.04, 0.05, 0.19), (0.10, 0.13, 0.38), (0.22, 0.28, 0.58)),
}
_SUN = {"day": (1.0, 0.90, 0.42), "dawn": (1.0, 0.83, 0.58), "dusk": (1.0, 0.55, 0.20), "night": (0.96, 0.95, 0.88)}
_GLOW = {"day": (0.34, 0.28, 0.08), "dawn": (0.22, 0.17, 0.08), "dusk": (0.36, 0.20, 0.02), "night": (0.22, 0.24, 0.34)}
_FAR = {"day": (0.56, 0.68, 0.84), "dawn": (0.76, 0.71, 0.81), "dusk": (0.58, 0.37, 0.49), "night": (0.13, 0.15, 0.34)}
_ROCK = {"day": (0.45, 0.52, 0.66), "dawn": (0.58, 0.55, 0.68), "dusk": (0.45, 0.29, 0.45), "night": (0.19, 0.21, 0.39)}
_SNOW = {"day": (1.0, 1.0, 1.0), "dawn": (1.0, 0.96, 0.95), "dusk": (1.0, 0.86, 0.80), "night": (0.66, 0.71, 0.88)}
_HILL = {"day": (0.38, 0.60, 0.52), "dawn": (0.62, 0.69, 0.66), "dusk": (0.50, 0.36, 0.38), "night": (0.09, 0.16, 0.26)}
_GROUND = {  # at the horizon and at the bottom
    "day": ((0.47, 0.74, 0.33), (0.30, 0.56, 0.24)),
    "dawn": ((0.66, 0.78, 0.58), (0.48, 0.63, 0.43)),
    "dusk": ((0.68, 0.55, 0.34), (0.46, 0.36, 0.21)),
    "night": ((0.13, 0.26, 0.29), (0.08, 0.16, 0.19)),
}
_LIGHT = {"day": (1.0, 1.0, 1.0), "dawn": (1.0, 0.97, 0.96), "dusk": (1.0, 0.88, 0.78), "night": (0.60, 0.60, 0.76)}
_COAT = {
    "orange": (0.93, 0.58, 0.18), "brown": (0.57, 0.37, 0.22), "pink": (0.93, 0.60, 0.68),
    "grey": (0.58, 0.58, 0.61), "white": (0.94, 0.92, 0.88),
}  # fmt: skip
_HAT = {"red": (0.82, 0.14, 0.14), "green": (0.13, 0.55, 0.22), "blue": (0.16, 0.30, 0.80)}


def render(scene: Scene, *, supersample: int = 2) -> np.ndarray:
    """The picture of a scene: (128, 128, 3) uint8 RGB, anti-aliased, the same bytes every time.

    supersample: samples a pixel and axis, 1..16.  Raises TypeError if it is not a scene, ValueError for a wrong number.
    """
    require_scene(scene)
    supersample = as_integer("supersample", supersample, 1, 16)
    canvas = Canvas(SIZE, supersample, light=_LIGHT[scene.time])
    _draw_land(canvas, scene)
    _draw_creature(canvas, scene)
    return canvas.picture()


def render_land(scene: Scene, *, sun: bool = True, mountains: bool = True) -> np.ndarray:
    """The same picture without its creature, and without sun or mountains if asked."""
    canvas = Canvas(SIZE, 2, light=_LIGHT[scene.time])
    _draw_land(canvas, scene, sun=sun, mountains=mountains)
    return canvas.picture()


def _draw_land(canvas: Canvas, s: Scene, *, sun: bool = True, mountains: bool = True) -> None:
    columns, t = canvas.columns, s.time
    canvas.sky(_SKY[t], s.horizon)
    if sun:
        canvas.glow((s.sun_x, s.sun_y), s.sun_radius * 2.4, _GLOW[t])
        canvas.disc((s.sun_x, s.sun_y), s.sun_radius, _SUN[t])
    if not mountains:
        return
    far = s.horizon - s.far_height * (
        1.0 + 0.6 * np.sin(columns / 13.0 + s.far_phase) + 0.3 * np.sin(columns / 6.1 + 2.3 * s.far_phase)
    )
    canvas.below(far, _FAR[t])
    canvas.mountain((s.peak_x, s.peak_y), s.peak_width, s.horizon + 4, _ROCK[t], _SNOW[t])
    near = s.horizon - s.near_height * (0.6 + 0.6 * np.sin(columns / 17.0 + s.near_phase))
    canvas.below(near, _HILL[t])
    canvas.below(s.horizon + 1.2 * np.sin(columns / 25.0 + s.near_phase), *_GROUND[t])


def _draw_creature(canvas: Canvas, s: Scene) -> None:
    body, coat, size = Body(s), np.array(_COAT[s.coat]), s.size
    pale = 0.55 * coat + 0.45
    (hx, hy), (cx, cy) = body.hips, body.head
    canvas.shadow((s.x + 2, s.y + 0.5), 1.45 * s.body_width * size, 4.5 * size)
    root, knee, tip = body.tail
    canvas.limb(root, knee, 3.8 * size, coat)
    canvas.limb(knee, tip, 3.4 * size, coat)
    canvas.ball((hx, hy), (s.body_width * size, s.body_height * 0.82 * size), coat)
    canvas.ball((hx, hy + 3 * size), (0.58 * s.body_width * size, 0.52 * s.body_height * size), pale, gloss=0.0)
    canvas.limb((hx, hy - 0.35 * s.body_height * size), (cx, cy + 0.5 * body.head_radius), 8.2 * size, coat)
    for side in (-1, 1):
        canvas.ball(body.foot(side), (6.4 * size, 4.2 * size), coat)
    for side in (-1, 1):
        (ex, ey), (tx, ty), width = body.ear(side)
        canvas.horn((ex, ey), (tx, ty), width, coat, point=0.75 if s.kind == "cat" else 0.12)
        inner = (ex + 0.12 * (tx - ex), ey + 0.12 * (ty - ey)), (ex + 0.8 * (tx - ex), ey + 0.8 * (ty - ey))
        canvas.horn(*inner, 0.52 * width, 0.5 * coat + np.array((0.46, 0.28, 0.30)), point=0.6)
    canvas.ball((cx, cy), (body.head_radius, 0.94 * body.head_radius), coat)
    _draw_face(canvas, s, body, pale)
    if s.hat != "none":
        brim, top, width = body.hat
        canvas.cone(brim, top, width, _HAT[s.hat])
        canvas.ball(top, (2.3 * size, 2.3 * size), (0.96, 0.94, 0.90))


def _draw_face(canvas: Canvas, s: Scene, body: Body, pale: np.ndarray) -> None:
    r = body.head_radius
    mx, my, _ = body.on_head(0.0, 0.42, 0.86)
    squeeze = 1.0 - 0.35 * abs(math.sin(math.radians(s.yaw)))
    canvas.ball((mx, my), (0.50 * r * squeeze, 0.38 * r), pale, angle=s.roll, gloss=0.0, flat=0.6)
    canvas.mouth(body.mouth(-1)[:2], body.mouth(1)[:2], s.mouth_open * s.size, s.smile * s.size)
    nx, ny, _ = body.on_head(0.0, 0.20, 0.98)
    canvas.ball((nx, ny), (0.15 * r * squeeze, 0.11 * r), (0.16, 0.10, 0.11), angle=s.roll, gloss=0.8)
    for side in (-1, 1):
        ex, ey, depth = body.eye(side)
        wide = s.eye_size * s.size * float(np.clip(0.35 + 0.75 * depth, 0.3, 1.0))
        tall = s.eye_size * s.size
        canvas.ball((ex, ey), (wide, tall), (0.99, 0.99, 0.99), angle=s.roll, gloss=0.0, flat=0.85)
        px, py = ex + 0.28 * wide * s.gaze_x, ey + 0.28 * tall * s.gaze_y
        canvas.ball((px, py), (0.62 * wide, 0.62 * tall), (0.07, 0.06, 0.08), gloss=0.0)
        canvas.disc((px - 0.22 * wide, py - 0.25 * tall), 0.2 * tall, (1.0, 1.0, 1.0))
