"""The DragBench samples beside the project, if they are there: photographs, points, masks and prompts.

Looked for in the folder that DRAGNOISE_DATA names, else in ../shared/data from the project's root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dragnoise import Drag
from dragnoise.bench.unpickling import loads

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("DRAGNOISE_DATA") or ROOT.parent / "shared" / "data")


@dataclass(frozen=True)
class Sample:
    """picture: its file; mask (H, W) bool."""

    name: str
    picture: Path
    prompt: str
    drags: tuple[Drag, ...]
    mask: np.ndarray


def samples() -> list[Sample]:
    """All that are there, by name; none where the folder is missing."""
    found = []
    for file in sorted((DATA / "dragbench").glob("*/*/meta_data.pkl")):
        meta = loads(file.read_bytes())
        points = [(float(x), float(y)) for x, y in meta["points"]]
        drags = tuple(Drag(a, b) for a, b in zip(points[::2], points[1::2], strict=True))
        name = f"{file.parts[-3]}/{file.parts[-2]}"
        found.append(Sample(name, file.parent / "original_image.png", meta["prompt"], drags, meta["mask"] > 0))
    return found
