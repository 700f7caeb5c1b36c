"""FastDrag (Zhao et al., NeurIPS 2024): a latent warped once, denoised with the inversion's keys and values."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dragnoise.config import RELEASED
from dragnoise.editors.base import Editor, Task
from dragnoise.editors.parts.area import free_cells
from dragnoise.editors.parts.attention import with_shared_blocks
from dragnoise.editors.parts.denoising import Denoising, beside_inversion
from dragnoise.models.model import Model
from dragnoise.sampling.ddim import DDIMState

PRESET: dict[str, Any] = RELEASED | {"steps": 10, "edit_from": 7}
"""Numbers of the released program, but for its model, which is a latent consistency model."""


class FastDrag(Denoising):
    """The first unit warps what the mask frees; every unit is a denoising step with the inversion's keys and values."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._free = free_cells(task)

    def moved(self, z: Tensor, step: int, count: int) -> Tensor:
        task = self.task
        if count:
            return z
        anchors, objectives = (task.frame.grid_to_cells(p, z.shape[-2:]) for p in (task.anchors, task.objectives))
        field = stretch(self._free, anchors, objectives, nearest_decides=task.config.blend == "nearest")
        return warp(z.cpu(), self._free, field).to(z)

    def down(self, z: Tensor, step: int) -> DDIMState:
        return beside_inversion(self.task, self._sharing, z, step)

    @cached_property
    def _sharing(self) -> Model:
        return with_shared_blocks(self.task.model, up_blocks_alone=True)


def stretch(free: Tensor, anchors: Tensor, objectives: Tensor, *, nearest_decides: bool) -> Tensor:
    """How far every free cell is moved, (n, 2) as (x, y) in cells, in row order; a cell at an anchor all the way.

    free (h, w) bool; anchors, objectives (m, 2) in cells.  A cell C moves by |PC| / |AP| (B - A), P where the ray from
    the anchor A through C leaves the circle round the free cells' bounding box, and 0 beyond it.  Several drags share
    by the weights 1 / (|C - A| + 1e-4), or the nearest one decides.
    """
    rows, columns = free.nonzero(as_tuple=True)
    cells = torch.stack([columns, rows], -1).double()
    low, high = cells.amin(0), cells.amax(0)
    centre, radius = (low + high) / 2, (high - low).norm() / 2
    offset = cells[:, None] - anchors[None]  # (n, m, 2)
    length = offset.norm(dim=-1)
    ray = offset / length.clamp(min=1e-12)[..., None]
    start = anchors - centre
    along = (ray * start).sum(-1)
    root = (along**2 - (start**2).sum(-1) + radius**2).clamp(min=0).sqrt()
    whole = (root - along).clamp(min=1e-12)  # |AP|
    factor = torch.where(length > 0, (1 - length / whole).clamp(0, 1), 1.0)
    if nearest_decides:
        weights = torch.nn.functional.one_hot(length.argmin(1), length.shape[1]).double()
    else:
        weights = 1 / (length + 1e-4)
        weights = weights / weights.sum(1, keepdim=True)
    return ((weights * factor)[..., None] * (objectives - anchors)).sum(1)


def warp(z: Tensor, free: Tensor, field: Tensor) -> Tensor:
    """The values of the free cells at their new places, (1, C, h, w); what is left open is filled from around it.

    The first to come to a place, in row order, keeps it.  A hole takes the nearest filled values left, right, above
    and below, weighted by inverse distance (BNNI), in row order, and is filled from then on.
    """
    h, w = free.shape
    moved, filled, taken = z.clone(), ~free, torch.zeros_like(free)
    for (row, column), (dx, dy) in zip(free.nonzero().tolist(), field.tolist(), strict=True):
        x, y = min(max(round(column + dx), 0), w - 1), min(max(round(row + dy), 0), h - 1)
        if not taken[y, x]:
            moved[..., y, x] = z[..., row, column]
            taken[y, x] = filled[y, x] = True
    for row, column in (~filled).nonzero().tolist():
        found = []
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            x, y, far = column + dx, row + dy, 1
            while 0 <= x < w and 0 <= y < h and not filled[y, x]:
                x, y, far = x + dx, y + dy, far + 1
            if 0 <= x < w and 0 <= y < h:
                found.append((1 / far, moved[..., y, x].clone()))
        if found:
            moved[..., row, column] = sum(share * value for share, value in found) / sum(share for share, _ in found)
            filled[row, column] = True
    return moved


def make(task: Task) -> Editor:
    """The editor of a task."""
    return FastDrag(task)
