"""Drags, the sizes and coordinates between picture and feature grid, and when an anchor has arrived.

Image coordinates (x, y) name pixel centres: (0, 0) is the middle of the upper left pixel.  The
*grid* is the supervision feature's, the padded working picture at `supervision_scale`; its coordinates
stay inside the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dragnoise.config import DragConfig
from dragnoise.validation import LONGEST, as_float, as_pair, shown

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Drag:
    """A pair of points, (x, y) in image pixels of the given picture: where an anchor is and where it should end."""

    anchor: tuple[float, float]
    objective: tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The sizes a picture passes through, each (width, height), and the conversions between them.

    given: of the picture as it came.  working: of the picture as the model sees it.  grid: of the
    supervision feature.  padded: `working` with rows repeated at the right and at the bottom up to a
    multiple of the VAE's factor, which is what the model's latents and the grid cover; default `working`.
    They differ with resize="never" alone, where `working` is `given`, and never in the released program,
    which stretches the result instead.
    """

    given: tuple[int, int]
    working: tuple[int, int]
    grid: tuple[int, int]
    released: bool = False
    padded: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.padded == (0, 0):
            object.__setattr__(self, "padded", self.working)

    @classmethod
    def of(cls, given: tuple[int, int], config: DragConfig, *, native: int, multiple: int) -> Frame:
        """The frame of a picture of size `given` for a model of side `native` and VAE factor `multiple`."""
        working = padded = given
        if config.resize != "never":
            side = max(given) if config.resize == "longer" else min(given)
            wanted = config.side or native
            scale = wanted / side
            longest = 4 * wanted // multiple * multiple  # a sliver resized by its shorter side must not fill the memory
            working = padded = tuple(  # type: ignore[assignment]
                min(max(multiple * round(length * scale / multiple), 8 * multiple), longest) for length in given
            )
        elif not config.is_released:
            padded = tuple(-(-length // multiple) * multiple for length in given)  # type: ignore[assignment]
        grid = tuple(max(int(length * config.supervision_scale), 1) for length in padded)
        return cls(given, working, grid, config.is_released, padded)  # type: ignore[arg-type]

    def to_grid(self, points: Tensor) -> Tensor:
        """(m, 2) image pixels -> (m, 2) grid pixels."""
        if self.released:
            import torch

            given, grid = torch.tensor(self.given).double(), torch.tensor(self.grid).double()
            return (points / given * grid).round().minimum(grid - 1.0)
        seen, covered = self._scales()
        return (points + 0.5) * (seen / covered) - 0.5

    def to_image(self, points: Tensor) -> Tensor:
        """(m, 2) grid pixels -> (m, 2) image pixels."""
        if self.released:
            import torch

            return points / torch.tensor(self.grid).double() * torch.tensor(self.given).double()
        seen, covered = self._scales()
        return (points + 0.5) * (covered / seen) - 0.5

    def grid_to_cells(self, points: Tensor, size: Sequence[int]) -> Tensor:
        """(m, 2) grid pixels -> (m, 2) cells of a tensor of `size` (height, width) that covers the same."""
        import torch

        scale = torch.tensor([size[1], size[0]]).double() / torch.tensor(self.grid).double()
        return points * scale if self.released else (points + 0.5) * scale - 0.5

    def pad(self, array: np.ndarray) -> np.ndarray:
        """(H, W, ...) of the given picture -> what the latents cover: its last row and column repeated to `padded`."""
        if self.padded == self.working:
            return array
        right, below = (wide - length for wide, length in zip(self.padded, self.working, strict=True))
        return np.pad(array, ((0, below), (0, right), *[(0, 0)] * (array.ndim - 2)), mode="edge")

    @property
    def grid_step(self) -> float:
        """Length of one grid step in pixels of the given picture; of x and y the longer."""
        seen, covered = self._scales()
        return float((covered / seen).max())

    def gaps(self, anchors: Any, objectives: Any) -> np.ndarray:
        """(m, 2) and (m, 2) image pixels -> (m,) distances in grid pixels, as `arrived` takes them."""
        import torch

        both = (np.asarray(points, np.float64).reshape(-1, 2) for points in (anchors, objectives))
        start, end = (self.to_grid(torch.tensor(points, dtype=torch.float64)) for points in both)
        return (end - start).norm(dim=-1).numpy()

    def _scales(self) -> tuple[Tensor, Tensor]:
        """(2,) and (2,) whole numbers: grid pixels per image pixel are the first divided by the second."""
        import torch

        given, working, padded, grid = (
            torch.tensor(size).double() for size in (self.given, self.working, self.padded, self.grid)
        )
        return grid * working, given * padded


# ---------------------------------------------------------------------------------------- drags


def as_drags(drags: Any, size: tuple[int, int]) -> tuple[Drag, ...]:
    """Check drags against a picture of (width, height); pairs of pairs become `Drag`s.

    Raises TypeError if one is not a pair of points, and ValueError if a point is not finite or outside the
    picture, or an anchor is on its objective; the sentence names the drag and the value.
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
            anchor, objective = as_pair(pair)
        except (TypeError, ValueError):
            raise TypeError(f"drag {i} must be a pair (anchor, objective) of points, not {shown(drag)}.") from None
        a, b = as_point(anchor, f"anchor of drag {i}", size), as_point(objective, f"objective of drag {i}", size)
        if a == b:
            raise ValueError(f"drag {i} goes nowhere: its anchor and its objective are both {a}; move one of them.")
        checked.append(Drag(a, b))
    return tuple(checked)


def as_point(value: Any, name: str, size: tuple[int, int]) -> tuple[float, float]:
    """Check a point against a picture of (width, height) -> (x, y) as floats.

    name: of the point in the ValueError or TypeError, such as "anchor of drag 0".
    """
    try:
        x, y = as_pair(value)
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
    import torch

    anchors = torch.tensor([d.anchor for d in drags], dtype=torch.float64).reshape(-1, 2)
    objectives = torch.tensor([d.objective for d in drags], dtype=torch.float64).reshape(-1, 2)
    return frame.to_grid(anchors), frame.to_grid(objectives)


ROUNDING = 1e-6
"""Of distances in grid pixels, so that converting points to image pixels and back decides nothing."""


def arrived(gaps: Any, config: DragConfig) -> Any:
    """Has each anchor arrived?  (m,) distances to the objectives in grid pixels -> (m,) bool, a tensor or an array.

    An anchor has arrived within `config.tolerance`; in the released program it has to be closer than that.
    """
    return gaps < config.tolerance - ROUNDING if config.is_released else gaps <= config.tolerance + ROUNDING


def short_drags(drags: Sequence[Drag], frame: Frame, config: DragConfig) -> list[str]:
    """One sentence for each drag that counts as arrived before anything is done, with what to change; else none."""
    if not drags:
        return []
    anchors, objectives = [d.anchor for d in drags], [d.objective for d in drags]
    gaps = frame.gaps(anchors, objectives)
    sentences = []
    for i in np.flatnonzero(arrived(gaps, config)):
        length = math.dist(anchors[i], objectives[i])
        reach = f"{config.tolerance:g} grid steps" if config.tolerance != 1 else "a grid step"
        step = f" of {frame.grid_step:.3g} px" + (" each" if config.tolerance != 1 else "")
        seen = f"{frame.given[0]}x{frame.given[1]} seen as {frame.working[0]}x{frame.working[1]}"
        remedies = " or ".join(_remedies(float(gaps[i]), frame, config))
        sentences.append(
            f"drag {i} is {length:.3g} px long, which is not more than {reach}{step} at this size ({seen}), so it "
            f"counts as arrived and nothing moves; {remedies}."
        )
    return sentences


def _remedies(gap: float, frame: Frame, config: DragConfig) -> list[str]:
    """What lengthens a drag of `gap` grid pixels beyond the tolerance."""
    found = []
    factor = 1.05 * config.tolerance / gap if gap > 0 else math.inf
    if (side := longer_side(gap, frame, config)) is not None:
        found.append(f"raise side to {side}")
    if config.supervision_scale * factor <= 1:
        found.append(f"raise supervision_scale to {math.ceil(config.supervision_scale * factor * 100) / 100:g}")
    return [*found, "edit a smaller part of the picture", "make the drag longer"][:3]


def longer_side(gap: float, frame: Frame, config: DragConfig) -> int | None:
    """The `side` at which a drag of `gap` grid pixels is longer than the tolerance; None if there is none."""
    if config.resize == "never" or gap <= 0:
        return None
    needed = (max if config.resize == "longer" else min)(frame.working) * 1.05 * config.tolerance / gap
    return math.ceil(needed / 64) * 64 if needed <= LONGEST - 64 else None


ROOM, ROOMIEST, MOST = 1.2, 0.25, 4.0
"""A drag needs room of `ROOM` times its length for what is stretched, at most `ROOMIEST` of the longer side; and long
drags and large things extend `config.reach` by a factor of `MOST` at most, so that a small reach stays small."""

TOGETHER, ALIKE = 0.5, 0.4
"""Drags hold one thing where any two anchors are at most the first, a share of the longer side, apart, and where their
distance changes by at most the second, a share of the largest one."""

HELD, FALL = 0.8, 1.6
"""Drags that hold one thing move fully what lies within `HELD` times its `extent`; beyond, the motion falls off over
`FALL` times the longest drag, so that nothing tears or folds."""


def extent(starts: Tensor | np.ndarray, ends: Tensor | np.ndarray, size: tuple[int, int]) -> float:
    """The largest distance between two anchors of drags that hold one thing, as head and feet of a creature, or 0.

    starts, ends: (m, 2) points of a grid of (width, height).  Ours.
    """
    before, after = (np.linalg.norm(p[:, None] - p, axis=-1) for p in map(np.asarray, (starts, ends)))
    widest = float(before.max())  # 0 of a single drag
    alike = float(np.abs(after - before).max()) <= ALIKE * widest
    return widest if alike and widest <= TOGETHER * max(size) else 0.0


def reach_of(config: DragConfig, frame: Frame, anchors: Tensor, objectives: Tensor) -> float:
    """How far from a drag something may change when there is no mask, in grid pixels; 0 means everywhere.

    It is `config.reach`.  Where the picture is carried along the drags, it is at least `ROOM` times the longest drag,
    and for several drags that hold one thing what `HELD` and `FALL` ask for, but at most `MOST` times `config.reach`.
    """
    side = max(frame.grid)
    reach = config.reach * side
    if config.start != "carried":
        return reach
    longest, wide = float((objectives - anchors).norm(dim=-1).max()), extent(anchors, objectives, frame.grid)
    needed = HELD * wide + FALL * longest if wide else min(ROOM * longest, ROOMIEST * side)
    return max(reach, min(needed, MOST * reach))


def reach_in_picture(config: DragConfig, frame: Frame, drags: Sequence[Drag]) -> float:
    """`reach_of` drags in image pixels, in shares of the picture's longer side."""
    import torch

    ends = torch.tensor([(drag.anchor, drag.objective) for drag in drags], dtype=torch.float64).reshape(-1, 2, 2)
    return reach_of(config, frame, frame.to_grid(ends[:, 0]), frame.to_grid(ends[:, 1])) / max(frame.grid)


def around(starts: Tensor, ends: Tensor, reach: float, size: tuple[int, int]) -> np.ndarray:
    """Which pixels lie near a drag: (m, 2) and (m, 2) points of a grid of (width, height) -> (height, width) bool.

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
