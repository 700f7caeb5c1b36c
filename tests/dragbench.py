"""The DragBench samples beside the project, if they are there: photographs, points, masks and prompts.

Looked for in the folder that DRAGNOISE_DATA names, else in ../shared/data from the project's root.
"""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dragnoise import Drag

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


class _Arrays(pickle.Unpickler):
    """Reads plain values and numpy arrays of numbers; a pickle that wants anything else is not followed."""

    ALLOWED = ("_reconstruct", "ndarray", "dtype", "_frombuffer")

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self.ALLOWED:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"the file wants {module}.{name}, which is no array.")


def read_meta(data: bytes) -> dict[str, Any]:
    """The dict of a sample's meta_data.pkl; raises UnpicklingError rather than run what else it may hold."""
    return _Arrays(io.BytesIO(data)).load()


def samples() -> list[Sample]:
    """All that are there, by name; none where the folder is missing."""
    found = []
    for file in sorted((DATA / "dragbench").glob("*/*/meta_data.pkl")):
        meta = read_meta(file.read_bytes())
        points = [(float(x), float(y)) for x, y in meta["points"]]
        drags = tuple(Drag(a, b) for a, b in zip(points[::2], points[1::2], strict=True))
        name = f"{file.parts[-3]}/{file.parts[-2]}"
        found.append(Sample(name, file.parent / "original_image.png", meta["prompt"], drags, meta["mask"] > 0))
    return found
