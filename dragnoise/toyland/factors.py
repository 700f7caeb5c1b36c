"""Factors of a scene: a few numbers and choices, drawn at random or changed one at a time."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragnoise.validation import as_float, as_integer, is_one_of, shown

TIMES = ("day", "dawn", "dusk", "night")
KINDS = ("cat", "bunny", "bear")
COATS = ("orange", "brown", "pink", "grey", "white")
HATS = ("none", "red", "green", "blue")

RANGES: dict[str, tuple[float, float]] = {
    "sun_x": (10, 118), "sun_y": (9, 42), "sun_radius": (6, 10),
    "peak_x": (16, 112), "peak_y": (20, 58), "peak_width": (22, 40),
    "far_phase": (0, 6.28), "far_height": (4, 11), "near_phase": (0, 6.28), "near_height": (2, 7),
    "horizon": (72, 84),
    "x": (34, 94), "y": (103, 121), "size": (0.9, 1.2),
    "body_width": (16, 20), "body_height": (17, 22),
    "neck": (2, 14), "lean": (-10, 10), "head_size": (16, 19),
    "yaw": (-42, 42), "pitch": (-16, 22), "roll": (-12, 12),
    "left_ear": (-24, 24), "right_ear": (-24, 24), "ear_length": (0.8, 1.2),
    "eye_size": (3.4, 4.4), "gaze_x": (-1, 1), "gaze_y": (-1, 1),
    "mouth_width": (4.0, 7.5), "mouth_open": (0, 5), "smile": (-1.5, 3),
    "hat_height": (12, 22), "hat_tilt": (-14, 14),
    "tail_side": (-1, 1), "tail_angle": (-12, 78), "tail_length": (15, 24), "tail_bend": (-35, 35),
    "foot_spread": (7, 12),
}  # fmt: skip
"""Range of every continuous factor, low and high (uniform in `sample_scene`)."""

FURTHEST = 10_000.0
"""A factor's size at most."""

LENGTHS = (
    "sun_radius", "peak_width", "horizon", "size", "body_width", "body_height", "head_size", "ear_length", "eye_size",
    "mouth_width", "hat_height", "tail_length",
)  # fmt: skip
"""Factors that are above zero."""


@dataclass(frozen=True)
class Scene:
    """Everything there is to know about one picture; see `RANGES` for the range of each float.

    Use `dataclasses.replace(scene, sun_x=40.0)` to move one factor and leave the rest alone; it may leave
    its range, by which things leave the picture.  Raises ValueError for a word that is none of the choices and for
    a factor that is no number, is beyond `FURTHEST`, or is a length (`LENGTHS`) that is not above zero.
    """

    time: str
    kind: str
    coat: str
    hat: str
    sun_x: float
    sun_y: float
    sun_radius: float
    peak_x: float
    peak_y: float
    peak_width: float
    far_phase: float
    far_height: float
    near_phase: float
    near_height: float
    horizon: float
    x: float
    y: float
    size: float
    body_width: float
    body_height: float
    neck: float
    lean: float
    head_size: float
    yaw: float
    pitch: float
    roll: float
    left_ear: float
    right_ear: float
    ear_length: float
    eye_size: float
    gaze_x: float
    gaze_y: float
    mouth_width: float
    mouth_open: float
    smile: float
    hat_height: float
    hat_tilt: float
    tail_side: float
    tail_angle: float
    tail_length: float
    tail_bend: float
    foot_spread: float

    def __post_init__(self) -> None:
        for name, choices in (("time", TIMES), ("kind", KINDS), ("coat", COATS), ("hat", HATS)):
            value = getattr(self, name)
            if not is_one_of(value, choices):
                raise ValueError(f"{name}={shown(value)} must be one of {', '.join(map(repr, choices))}.")
        for name in RANGES:
            value = getattr(self, name)
            number, length = as_float(value), name in LENGTHS
            if number is None or not abs(number) <= FURTHEST or (length and number <= 0):
                least = "above 0" if length else f"of at least {-FURTHEST:g}"
                raise ValueError(f"{name}={shown(value)} must be a number {least} and at most {FURTHEST:g}.")


def require_scene(scene: object) -> None:
    """Raise TypeError if it is not a `Scene`."""
    if not isinstance(scene, Scene):
        raise TypeError(f"give a Scene, such as sample_scene(3), not {shown(scene)}.")


def sample_scene(seed: int) -> Scene:
    """A scene drawn from `RANGES` and the choices, the same for the same seed; ValueError unless it is an int >= 0."""
    seed = as_integer("seed", seed, 0)
    rng = np.random.default_rng(seed)
    time, kind, coat = (str(rng.choice(names)) for names in (TIMES, KINDS, COATS))
    hat = str(rng.choice(HATS, p=(0.4, 0.2, 0.2, 0.2)))
    drawn: dict[str, Any] = {name: float(rng.uniform(low, high)) for name, (low, high) in RANGES.items()}
    return Scene(time=time, kind=kind, coat=coat, hat=hat, **drawn)


def factors(scene: Scene) -> dict[str, float]:
    """The scene's continuous factors by name."""
    return {name: getattr(scene, name) for name in RANGES}


def with_factors(scene: Scene, **moved: float) -> Scene:
    """The scene with some factors set, each clipped into its range.

    Raises TypeError if it is not a scene, ValueError for an unknown factor and if it is not a number.
    """
    require_scene(scene)
    for name, value in moved.items():
        if name not in RANGES:
            raise ValueError(f"a scene has no factor {name!r}; it has {', '.join(RANGES)}.")
        if as_float(value) is None or math.isnan(value):
            raise ValueError(f"{name}={shown(value)} must be a number.")
    clipped: dict[str, Any] = {name: float(np.clip(value, *RANGES[name])) for name, value in moved.items()}
    return dataclasses.replace(scene, **clipped)
