"""The pictures that the model learns from: rendered once, kept in one file, read as an array."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dragnoise.atomic_write import write_text
from dragnoise.toyland.cases import TRAIN_SEED
from dragnoise.toyland.scenes import LANDMARKS, RANGES, SIZE, Scene, landmarks, render, sample_scene, with_factors

THINGS: tuple[tuple[str, ...], ...] = (
    ("sun_x", "sun_y", "sun_radius"),
    ("peak_x", "peak_y", "peak_width"),
    ("far_phase", "far_height", "near_phase", "near_height", "horizon"),
    ("x", "y"),
    ("size", "body_width", "body_height", "foot_spread"),
    ("neck", "lean", "head_size"),
    ("yaw", "pitch"),
    ("roll",),
    ("left_ear", "right_ear", "ear_length"),
    ("eye_size", "gaze_x", "gaze_y"),
    ("mouth_width", "mouth_open", "smile"),
    ("hat_height", "hat_tilt"),
    ("tail_angle", "tail_length", "tail_bend"),
)
"""Factors that change together when one thing of a scene changes."""


def training_scene(seed: int) -> Scene:
    """Scene `seed` of the training split."""
    return sample_scene(TRAIN_SEED + seed)


def changed_scene(seed: int) -> Scene:
    """Training scene `seed` after one or two of its things were drawn anew; its caption stays the same."""
    rng, things = _changes(seed)
    scene = training_scene(seed)
    return with_factors(scene, **{name: rng.uniform(*RANGES[name]) for i in things for name in THINGS[i]})


def change_odds(count: int, favour: float = 1.0) -> np.ndarray:
    """(count,) chances of a training scene to be drawn: what is hard to move more often, faces and hills less.

    Scenes at night, with a hat or with a small creature are drawn `favour` times as often, for each.
    """
    weights = np.full(count, 0.5)
    for seed in range(count):
        scene, first = training_scene(seed), {THINGS[i][0] for i in _changes(seed)[1]}
        hat = "hat_height" in first and scene.hat != "none"
        if hat or first & {"peak_x", "left_ear", "tail_angle"}:
            weights[seed] = 2.0
        elif first & {"sun_x", "x", "neck", "yaw"}:
            weights[seed] = 1.0
        weights[seed] *= favour ** ((scene.time == "night") + (scene.hat != "none") + (scene.size < 1.0))
    odds: np.ndarray = weights / weights.sum()
    return odds


def _changes(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    """Which of `THINGS` change in training scene `seed`, and the generator that draws their factors next."""
    rng = np.random.default_rng([TRAIN_SEED + seed, 1])
    return rng, rng.choice(len(THINGS), rng.integers(1, 3), replace=False)


def pictures(folder: Path, count: int, *, changed: bool = False, workers: int = 1, chunk: int = 500) -> np.ndarray:
    """The first `count` training pictures, (count, 128, 128, 3) uint8, memory-mapped.

    With `changed` those of `changed_scene`.  Renders what is missing, in chunks, so that an
    interrupted run goes on where it stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, scene_of = ("changed", changed_scene) if changed else ("pictures", training_scene)
    path, done_path = folder / f"{name}.npy", folder / f"{name}.done"
    done = int(done_path.read_text()) if done_path.exists() else 0
    shape = (max(count, done), SIZE, SIZE, 3)
    size = int(np.prod(shape))
    if not path.exists() or path.stat().st_size < size:
        with path.open("ab") as file:
            file.truncate(size)
    array = np.memmap(path, np.uint8, "r+", shape=shape)
    starts = range(done, count, chunk)
    with ProcessPoolExecutor(workers) as pool:
        blocks = pool.map(_render_block, [(scene_of, range(s, min(s + chunk, count))) for s in starts])
        for start, block in zip(starts, tqdm(blocks, "rendering", len(starts), disable=not starts), strict=True):
            array[start : start + len(block)] = block
            array.flush()
            write_text(done_path, str(start + len(block)))
    return array[:count]


def landmark_table(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """(n, 14, 2) float32 points in picture pixels, and (n, 14) bool: is the point in the scene at all."""
    points = np.zeros((len(seeds), len(LANDMARKS), 2), np.float32)
    there = np.zeros((len(seeds), len(LANDMARKS)), bool)
    for row, seed in enumerate(seeds):
        found = landmarks(sample_scene(seed))
        for column, name in enumerate(LANDMARKS):
            if name in found:
                points[row, column], there[row, column] = found[name], True
    return points, there


SMALL = ("left_ear", "right_ear", "left_eye", "right_eye", "mouth_left", "mouth_right", "hat_top", "tail_tip")
"""Landmarks of the small things, whose error may count more."""


def small_things(seeds: range) -> np.ndarray:
    """(n, 2, 8, 2) float32: where `SMALL` are in pictures and changed ones, far outside for what a scene has not."""
    points = np.full((len(seeds), 2, len(SMALL), 2), -1000, np.float32)
    for row, seed in enumerate(seeds):
        for which, scene in enumerate((training_scene(seed), changed_scene(seed))):
            found = landmarks(scene)
            for column, name in enumerate(SMALL):
                points[row, which, column] = found.get(name, (-1000, -1000))
    return points


def _render_block(task: tuple[Callable[[int], Scene], range]) -> np.ndarray:
    scene_of, seeds = task
    return np.stack([render(scene_of(seed)) for seed in seeds])
