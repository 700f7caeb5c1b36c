"""Drags with a known right answer: one thing in a scene is moved, its landmarks say from where to where."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dragnoise.geometry import Drag
from dragnoise.toyland.scenes import RANGES, SIZE, Scene, landmarks, render, render_land, sample_scene, with_factors
from dragnoise.validation import as_integer, is_one_of, shown

TRAIN_SEED, TUNE_SEED, TEST_SEED = 0, 20_000_000, 30_000_000
"""First scene seed of each split; the splits never meet as long as each holds under ten million scenes."""


@dataclass(frozen=True, eq=False)
class DragCase:
    """A scene, the scene that the drags ask for, and the drags between them.

    kind: one of `KINDS`.  names: the landmark that each drag takes.  mask: (128, 128) bool, True
    where the two renders differ and a little round it, as a person would paint it.
    """

    kind: str
    scene: Scene
    answer: Scene
    names: tuple[str, ...]
    drags: tuple[Drag, ...]
    mask: np.ndarray


DRAGGED: dict[str, tuple[str, ...]] = {
    "sun": ("sun",),
    "peak": ("peak",),
    "head": ("left_eye", "right_eye", "chin"),
    "turn": ("left_eye", "right_eye", "mouth_left", "mouth_right"),
    "ear": ("left_ear",),
    "tail": ("tail_tip",),
    "hat": ("hat_top",),
    "creature": ("head", "left_foot", "right_foot"),
}
"""The landmarks that each kind of drag takes (an ear drag takes the left or the right one)."""

KINDS = tuple(DRAGGED)

_REACH = {  # least and most mean distance of the dragged landmarks, picture pixels
    "sun": (10, 26), "peak": (8, 22), "head": (5, 16), "turn": (6, 18),
    "ear": (6, 18), "tail": (8, 24), "hat": (5, 14), "creature": (9, 22),
}  # fmt: skip


def drag_cases(kind: str, n: int, seed: int) -> list[DragCase]:
    """`n` cases of a kind, the same for the same seed; raises ValueError for an unknown kind or a negative number.

    Every dragged landmark is visible and at least 4 pixels inside the picture before and after.
    """
    if not is_one_of(kind, KINDS):
        raise ValueError(f"there are no drags of kind {shown(kind)}; choose one of {', '.join(KINDS)}.")
    n, seed = as_integer("n", n, 0), as_integer("seed", seed, 0)
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    cases: list[DragCase] = []
    scene_seed = seed + 100_000 * KINDS.index(kind)
    while len(cases) < n:
        case = _try_case(kind, sample_scene(scene_seed), rng)
        scene_seed += 1
        if case is not None:
            cases.append(case)
    return cases


def _try_case(kind: str, scene: Scene, rng: np.random.Generator) -> DragCase | None:
    if kind == "hat" and scene.hat == "none":
        return None
    side = rng.choice(("left_ear", "right_ear"))
    names = (str(side),) if kind == "ear" else DRAGGED[kind]
    answer = with_factors(scene, **_moved(kind, scene, str(side), rng))
    before, after = landmarks(scene), landmarks(answer)
    reach = np.mean([math.dist(before[name], after[name]) for name in names])
    low, high = _REACH[kind]
    if not low <= reach <= high:
        return None
    old, new = render(scene), render(answer)
    for name in names:
        if not (_visible(scene, name, old) and _visible(answer, name, new)):
            return None
    mask = _grow(np.abs(old.astype(int) - new).max(-1) > 12, 4)
    drags = tuple(Drag(before[name], after[name]) for name in names)
    return DragCase(kind, scene, answer, names, drags, mask)


def _moved(kind: str, s: Scene, side: str, rng: np.random.Generator) -> dict[str, float]:
    """New values of the factors that a kind of drag moves."""

    def anew(name: str) -> float:
        return float(rng.uniform(*RANGES[name]))

    angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0, 1)
    dx, dy = math.cos(angle), math.sin(angle)
    if kind == "sun":
        return {"sun_x": s.sun_x + (10 + 14 * far) * dx, "sun_y": s.sun_y + (10 + 14 * far) * dy}
    if kind == "peak":
        return {"peak_x": s.peak_x + (8 + 12 * far) * dx, "peak_y": s.peak_y + (8 + 12 * far) * dy}
    if kind == "head":
        return {"neck": anew("neck"), "lean": anew("lean")}
    if kind == "turn":
        return {"yaw": anew("yaw"), "pitch": s.pitch + rng.uniform(-8, 8)}
    if kind == "ear":
        return {side: anew(side), "ear_length": s.ear_length + rng.uniform(-0.1, 0.1)}
    if kind == "tail":
        return {"tail_angle": anew("tail_angle"), "tail_bend": s.tail_bend + rng.uniform(-15, 15)}
    if kind == "hat":
        return {"hat_height": anew("hat_height"), "hat_tilt": anew("hat_tilt")}
    return {"x": s.x + (9 + 11 * far) * dx, "y": s.y + (9 + 11 * far) * dy * 0.7}


def _visible(scene: Scene, name: str, picture: np.ndarray) -> bool:
    """Is a landmark inside the picture and, in the landscape, with nothing in front of it?"""
    x, y = landmarks(scene)[name]
    if not (4 <= x <= SIZE - 5 and 4 <= y <= SIZE - 5):
        return False
    if name not in ("sun", "peak"):
        return True
    column, row = round(x), round(y) + (3 if name == "peak" else 0)
    around = np.s_[row - 3 : row + 4, column - 3 : column + 4]
    alone = render_land(scene, sun=name == "sun", mountains=name == "peak")
    return bool(np.abs(alone[around].astype(int) - picture[around]).max() <= 24)


def _grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A bool mask grown by some pixels in each direction."""
    grown: np.ndarray = mask.copy()
    for axis in (0, 1):
        padded = np.pad(grown, [(pixels, pixels) if a == axis else (0, 0) for a in (0, 1)])
        grown = np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * pixels + 1, axis=axis).any(-1))
    return grown
