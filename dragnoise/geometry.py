"""Where things are: drags, and the frames between picture and feature pixels.

Image coordinates (x, y) name pixel centres: (0, 0) is the middle of the upper left pixel.  The
*grid* is the supervision feature's, the working picture at `supervision_scale`; its coordinates stay
inside the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dragnoise.config import DragConfig
from dragnoise.given import as_float, shown


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


def around(starts: Tensor, ends: Tensor, reach: float, size: tuple[int, int]) -> np.ndarray:
    """What lies near a drag: (m, 2) and (m, 2) points of a grid of (width, height) -> (height, width) bool.

    reach: how far the middle of a grid pixel may be from the line between a drag's ends, in grid pixels.
    """
    rows, columns = np.indices(size[::-1], float)
    near = np.zeros(size[::-1], bool)
    for (x, y), (to_x, to_y) in zip(starts.tolist(), ends.tolist(), strict=True):
        right, down = to_x - x, to_y - y
        length = max(right**2 + down**2, 1e-12)
        share = np.clip(((columns - x) * right + (rows - y) * down) / length, 0, 1)  # of the way, where it is nearest
        near |= np.hypot(columns - x - share * right, rows - y - share * down) <= reach
    return near
