"""The area of the picture that may change, as weights on a tensor's grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dragnoise.editors.base import Task
from dragnoise.geometry import around, reach_of
from dragnoise.images.masks import mask_tensor


def editable_area(task: Task, size: tuple[int, int]) -> Tensor | None:
    """1 where the picture may change, 0 where it is held, (1, 1, height, width) float32; None if nothing is held.

    It is the mask, and without one what lies within `geometry.reach_of` a drag.  size: (width, height) of the tensor.
    """
    mask = None if task.mask is None else task.frame.pad(task.mask)
    if mask is None and task.config.reach > 0:
        reach = reach_of(task.config, task.frame, task.anchors, task.objectives)
        mask = around(task.anchors, task.objectives, reach, task.frame.grid)
    return None if mask is None else mask_tensor(mask, size).to(task.latents)


def latent_area(task: Task, *, blank_mask_holds: bool) -> Tensor | None:
    """1 where the latent may change, 0 where it is held, (1, 1, h, w); None if nothing is held.

    As `editable_area` in the paper's convention.  The released programs take the nearest neighbour, by way of the
    feature grid; a mask that frees nothing on the latent holds everything there, or nothing, as `blank_mask_holds`.
    """
    h, w = task.latents.shape[-2:]
    if not task.config.is_released:
        return editable_area(task, (w, h))
    area = torch.zeros(1, 1, h, w, dtype=torch.float32)
    if task.mask is not None:
        area = mask_tensor(task.mask, (w, h), through=task.frame.grid)
    nothing_held = bool((area >= 1).all()) or not (blank_mask_holds or bool(area.any()))
    return None if nothing_held else area.to(task.latents)


def free_cells(task: Task) -> Tensor:
    """Which cells of the latent may change, (h, w) bool on the CPU.  Raises ValueError if nothing is held, or all."""
    area = latent_area(task, blank_mask_holds=False)
    if area is None:
        raise ValueError(
            f"the editor {task.config.editor!r} moves what the mask frees, and nothing is held; paint a mask over what "
            "shall move and where it shall go."
        )
    cells = area[0, 0].cpu() > 0.5
    if not bool(cells.any()):
        raise ValueError("the mask frees less than half of every cell of the latent, so nothing can move; paint more.")
    return cells


def soft_edge(area: Tensor) -> Tensor:
    """Weights (1, 1, h, w) that fall from 1 to 0 over one cell inside the edge of an area; what is held stays 0.

    A cell is fully free only if its neighbours are free, so that nothing changes where the area is 0.
    """
    blurred = F.avg_pool2d(F.pad(area, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return blurred.minimum(area)
