"""The pictures that the miniature learns from: rendered once, kept in one file, read as an array."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dragnoise.toyland.scenes import LANDMARKS, SIZE, landmarks, render, sample_scene

TRAIN_SEED, TUNE_SEED, TEST_SEED = 0, 20_000_000, 30_000_000
"""First scene seed of each split; the splits never meet as long as each holds under ten million scenes."""


def pictures(folder: Path, count: int, *, workers: int = 2, chunk: int = 500) -> np.ndarray:
    """The first `count` training pictures, (count, 128, 128, 3) uint8, memory-mapped.

    Renders what is missing, in chunks, so that an interrupted run goes on where it stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, done_path = folder / "pictures.npy", folder / "pictures.done"
    done = int(done_path.read_text()) if done_path.exists() else 0
    shape = (max(count, done), SIZE, SIZE, 3)
    size = int(np.prod(shape))
    if not path.exists() or path.stat().st_size < size:
        with path.open("ab") as file:
            file.truncate(size)
    array = np.memmap(path, np.uint8, "r+", shape=shape)
    starts = range(done, count, chunk)
    with ProcessPoolExecutor(workers) as pool:
        blocks = pool.map(_render_block, [(s, min(s + chunk, count)) for s in starts])
        for start, block in zip(starts, tqdm(blocks, "rendering", len(starts), disable=not starts), strict=True):
            array[start : start + len(block)] = block
            array.flush()
            done_path.write_text(str(start + len(block)))
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


def _render_block(bounds: tuple[int, int]) -> np.ndarray:
    return np.stack([render(sample_scene(TRAIN_SEED + seed)) for seed in range(*bounds)])
