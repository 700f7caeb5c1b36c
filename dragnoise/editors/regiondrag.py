"""RegionDrag (Lu et al., ECCV 2024), without its image-prompt adapter: copy and paste of noised latents."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dragnoise.config import RELEASED
from dragnoise.editors.base import Editor, EditState, Task
from dragnoise.editors.parts.area import free_cells
from dragnoise.editors.parts.attention import with_shared_blocks
from dragnoise.editors.parts.denoising import Denoising
from dragnoise.editors.parts.latent_editor import LATENT
from dragnoise.models.model import Model
from dragnoise.sampling.ddim import DDIMState, Schedule, clean_and_noise

PRESET: dict[str, Any] = RELEASED | {"steps": 20, "edit_from": 10, "refine_from": 0, "vacate": 0.6, "seed": 42}
"""Numbers of the released user interface, which copies at every step; its paper stops copying at 0.2 of the steps."""

NEIGHBOURS = 4
"""Number of nearest drags, or nearest moved cells, whose motions are averaged for a cell."""


class RegionDrag(Denoising):
    """A unit copies the source cells of the noised picture to their targets, and denoises with the noises kept.

    The picture is noised step by step with fresh noise, and each step's own noise of DDPM sampling is worked out, with
    which sampling returns the picture exactly.  The regions: of the mask's free cells those that drags move within it,
    or with `regions="polygon"` the polygon of the anchors and that of the objectives.  Outside the mask the noised
    picture is put back, after the last step too; the program pastes the picture's own pixels there.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._free = free_cells(task)
        shape = tuple(self._free.shape)
        ends = tuple(task.frame.grid_to_cells(p, shape) for p in (task.anchors, task.objectives))
        if task.config.regions == "polygon":
            self._targets, self._sources = polygons(self._free, *ends)
        else:
            self._targets, self._sources = along_drags(self._free, *ends)

    @cached_property
    def noised(self) -> tuple[Tensor, ...]:
        """The picture's latent at steps 0..`edit_from`, each from the one below with fresh noise."""
        task, rng = self.task, torch.Generator().manual_seed(self.task.config.seed)
        latents = [task.trajectory[0].float()]
        for step in range(1, task.config.edit_from + 1):
            share = task.schedule.alpha(step) / task.schedule.alpha(step - 1)
            noise = torch.randn(latents[0].shape, generator=rng, dtype=torch.float32).to(latents[0])
            latents.append(share**0.5 * latents[-1] + (1 - share) ** 0.5 * noise)
        return tuple(latents)

    def start(self) -> EditState:
        task = self.task
        return EditState({LATENT: self.noised[-1].cpu()}, task.anchors, task.config.edit_from, 0)

    def moved(self, z: Tensor, step: int, count: int) -> Tensor:
        config, (rows, columns) = self.task.config, self._sources
        noised, z = self.noised[step], z.clone()
        if count == 0:  # what is moved away leaves noise behind
            rng = torch.Generator().manual_seed(config.seed + 1)
            noise = torch.randn(z.shape, generator=rng, dtype=torch.float32).to(z)
            z[..., rows, columns] = (1 - config.vacate**2) ** 0.5 * z[..., rows, columns] + config.vacate * noise[
                ..., rows, columns
            ]
        if step > config.refine_from:
            z[(..., *self._targets)] = noised[..., rows, columns]
        return self._held(z, step)

    def down(self, z: Tensor, step: int) -> DDIMState:
        """A DDPM step with the kept noise and the noised picture's keys and values."""
        task, schedule = self.task, self.task.schedule
        pair = torch.cat([self.noised[step], z])
        encoded = self._sharing.encode(pair, schedule.timestep(step), task.text)
        predicted = self._sharing.predict(encoded.bottleneck, encoded)
        (own, edited), sigma = ddpm_means(schedule, predicted, pair, step).split(1), schedule.ddpm_sigma(step)
        kept = self.noised[step - 1] - own if sigma > 0 else 0.0  # sigma times the kept noise
        below, timestep = self._held(edited + kept, step - 1), schedule.timestep(step - 1) if step > 1 else 0
        return DDIMState(step - 1, timestep, below, encoded.bottleneck[1:].float())

    def _held(self, z: Tensor, step: int) -> Tensor:
        return torch.where(self._free.to(z.device), z, self.noised[step])

    @cached_property
    def _sharing(self) -> Model:
        return with_shared_blocks(self.task.model, up_blocks_alone=False)


def ddpm_means(schedule: Schedule, prediction: Tensor, z: Tensor, step: int) -> Tensor:
    """The latent one DDPM step below without its noise; prediction: the U-Net's, of z (B, C, h, w) at the step."""
    below = schedule.alpha(step - 1)
    z0, noise = clean_and_noise(prediction, z, schedule.alpha(step), schedule.prediction)
    return below**0.5 * z0 + max(1 - below - schedule.ddpm_sigma(step) ** 2, 0.0) ** 0.5 * noise


Cells = tuple[Tensor, Tensor]
"""Rows and columns of cells, (n,) each."""


def along_drags(free: Tensor, anchors: Tensor, objectives: Tensor) -> tuple[Cells, Cells]:
    """Target cells and the source cell of each: the free cells, moved by their nearest drags.

    Each free cell moves as its `NEIGHBOURS` nearest drags do, by inverse distance; a target is a free cell that one
    comes to, and looks back from there by the motion of the nearest moved cells.  free (h, w); points (m, 2) in cells.
    """
    cells = torch.stack(free.nonzero(as_tuple=True)[::-1], -1).double()
    field = _nearest_mean(cells, anchors, objectives - anchors)
    landed = cells + field
    targets = torch.unique(landed.round().long(), dim=0)
    h, w = free.shape
    on_grid = (targets >= 0).all(1) & (targets[:, 0] < w) & (targets[:, 1] < h)
    targets = targets[on_grid]
    targets = targets[free[targets[:, 1], targets[:, 0]]]
    if not len(targets):
        raise ValueError("the drags move everything out of what the mask frees; paint over their objectives too.")
    places = targets.double()
    return _rounded(places, free), _rounded(places - _nearest_mean(places, landed, field), free)


def polygons(free: Tensor, anchors: Tensor, objectives: Tensor) -> tuple[Cells, Cells]:
    """Target cells and the source cell of each: the polygon of the objectives, mapped to that of the anchors.

    Three drags make an affine map, four a perspective one.  Targets are those that are free.
    """
    m, (h, w) = len(anchors), free.shape
    if m not in (3, 4):
        raise ValueError(f'regions="polygon" takes a region\'s corners as 3 or 4 drags, not {m}; add or remove some.')
    for corners in itertools.chain(itertools.combinations(anchors, 3), itertools.combinations(objectives, 3)):
        (ax, ay), (bx, by) = (corners[1] - corners[0]).tolist(), (corners[2] - corners[0]).tolist()
        if abs(ax * by - ay * bx) < 1e-6:
            raise ValueError("three corners of a region lie on one line; move one of them.")
    picture = Image.new("1", (w, h))
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in objectives.tolist()], fill=1, outline=1)
    rows, columns = (torch.from_numpy(np.array(picture)) & free).nonzero(as_tuple=True)
    if not len(rows):
        raise ValueError("the mask frees nothing of the polygon of the objectives; paint over it.")
    places = torch.stack([columns, rows], -1).double()
    one = torch.ones(len(places), 1, dtype=torch.float64)
    mapped = torch.cat([places, one], 1) @ _projection(objectives, anchors).T
    return (rows, columns), _rounded(mapped[:, :2] / mapped[:, 2:], free)


def _projection(start: Tensor, end: Tensor) -> Tensor:
    """The 3 x 3 map of homogeneous (x, y, 1) that takes 3 points (affine) or 4 (perspective) to others, (m, 2) each."""
    rows, wanted, is_affine = [], [], len(start) == 3
    for (x, y), (u, v) in zip(start.tolist(), end.tolist(), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    system = torch.tensor(rows, dtype=torch.float64)[:, : 6 if is_affine else 8]
    found = torch.linalg.solve(system, torch.tensor(wanted, dtype=torch.float64))
    last = torch.zeros(3, dtype=torch.float64) if is_affine else found.new_zeros(1)
    return torch.cat([found, last[: 8 - len(found)], found.new_ones(1)]).reshape(3, 3)


def _nearest_mean(points: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """Values (m, 2) at known places (m, 2), at points (n, 2): of the nearest ones, by inverse distance -> (n, 2)."""
    distance, index = torch.cdist(points, known).topk(min(NEIGHBOURS, len(known)), largest=False)
    weights = 1 / (distance + 1e-6)
    return (weights[..., None] * values[index]).sum(1) / weights.sum(1, keepdim=True)


def _rounded(points: Tensor, free: Tensor) -> Cells:
    """(n, 2) as (x, y) -> the nearest cells of a grid."""
    h, w = free.shape
    x, y = points.round().long().unbind(-1)
    return y.clamp(0, h - 1), x.clamp(0, w - 1)


def make(task: Task) -> Editor:
    """The editor of a task."""
    return RegionDrag(task)
