"""DragonDiffusion (Mou et al., ICLR 2024), without its image-prompt adapter: denoising guided by energies."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dragnoise import semantics
from dragnoise.config import RELEASED
from dragnoise.editors.base import Editor, EditState, Task
from dragnoise.editors.parts.area import editable_area
from dragnoise.editors.parts.attention import with_shared_blocks
from dragnoise.editors.parts.denoising import Denoising, beside_inversion, prediction_beside_inversion
from dragnoise.editors.parts.latent_editor import forward
from dragnoise.models.model import Model
from dragnoise.models.text import Text
from dragnoise.sampling.ddim import DDIMState, clean_and_noise, noised

PRESET: dict[str, Any] = RELEASED | {
    "steps": 50, "edit_from": 50, "drag_steps": 30, "r1": 4, "energy": 2.0, "edit_weight": 4.0, "content_weight": 6.0,
    "leave_weight": 0.2, "guidance": 4.0, "seed": 42,
}  # fmt: skip
"""Numbers of the released user interface; its regions are painted, and `r1` of the windows in their place is ours."""

SHARE = 4e-2
"""Factor of the energies' gradient that is added to the predicted noise."""

REPEATS, ETA = 3, 0.4
"""How many times each guided step of the last third is made; and how random a step within the mask is in the second
third, as a share of DDPM's noise."""


class DragonDiffusion(Denoising):
    """Latent x energies of the current feature beside the inversion's of the same step x the inversion's keys, values.

    Of the `drag_steps` first steps, each of the first third is guided, and every second one of the rest.  Without the
    trained image-prompt adapter the picture's look is kept by the inversion's keys and values alone.  The anchors are
    tracked by Eq. 4 between the same two features.
    """

    def locate(self, state: EditState) -> Tensor:
        if not state.count:
            return self.task.anchors
        return semantics.track(
            self.feature(state), self.initial_features(state), state.anchors, self.task.config.r2, self.task.frame.grid
        )

    def edited(self, z: Tensor, step: int, count: int) -> tuple[Tensor, dict[str, float], float]:
        config = self.task.config
        third, i = config.drag_steps / 3, config.edit_from - step
        if i >= config.drag_steps or (i >= third and i % 2) or config.energy == 0:
            return super().edited(z, step, count)
        again = REPEATS if i > 2 * third and i % 2 == 0 else 1
        for k in range(again):
            gradient, losses = self._gradient(z, step)
            with torch.no_grad():
                below = self._step(z, step, SHARE * gradient, random=third < i < 2 * third)
                if k < again - 1:
                    z = self._up(below, step)
        norm = float(gradient.norm())
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient of iteration {count + 1} is not finite; lower energy.")
        return below, losses, norm

    def down(self, z: Tensor, step: int) -> DDIMState:
        if self.task.config.guidance == 1:
            return beside_inversion(self.task, self._sharing, z, step)
        prediction, bottleneck = self._predicted(z, step)
        below = self.task.schedule.down(prediction, z, step)
        return DDIMState(step - 1, self.task.schedule.timestep(step - 1) if step > 1 else 0, below, bottleneck)

    @torch.enable_grad()
    def _gradient(self, z: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """The energies' gradient at the latent, the edit's inside the mask and the content's outside it."""
        task, config = self.task, self.task.config
        z = z.detach().clone().requires_grad_()
        with torch.no_grad():
            first, _ = forward(task, task.trajectory[step].to(z), step, full=False)
        feature, _ = forward(task, z, step, full=False)
        edit = edit_energy(
            feature, first, task.anchors, task.objectives, config.r1, task.frame.grid, weight=config.edit_weight,
            leave=config.leave_weight,
        )  # fmt: skip
        size = (feature.shape[2], feature.shape[1])
        held, area = editable_area(task, size), editable_area(task, (z.shape[3], z.shape[2]))
        content = content_energy(feature, first, held, weight=config.content_weight)
        scale = config.energy * 1e3
        (by_edit,) = torch.autograd.grad(scale * edit, z, retain_graph=True)
        if area is None:
            gradient = by_edit
        else:
            (by_content,) = torch.autograd.grad(scale * content, z)
            gradient = area * by_edit + (1 - area) * by_content
        losses = {"total": edit + content, "edit": edit, "content": content}
        return gradient, {name: float(value.detach()) for name, value in losses.items()}

    def _step(self, z: Tensor, step: int, added: Tensor, *, random: bool) -> Tensor:
        """A DDIM step with something added to the noise; random: with fresh noise where the mask is free."""
        task, schedule = self.task, self.task.schedule
        alpha, below = schedule.alpha(step), schedule.alpha(step - 1)
        _, noise = clean_and_noise(self._predicted(z, step)[0], z, alpha, schedule.prediction)
        noise = noise + added
        z0, _ = clean_and_noise(noise, z, alpha, "epsilon")
        plain = noised(z0, noise, below)
        if not random:
            return plain
        sigma = ETA * schedule.ddpm_sigma(step)
        rng = torch.Generator().manual_seed(task.config.seed + step)
        fresh = torch.randn(z.shape, generator=rng, dtype=torch.float32).to(z)
        mixed = below**0.5 * z0 + (1 - below - sigma**2) ** 0.5 * noise + sigma * fresh
        area = editable_area(task, (z.shape[3], z.shape[2]))
        return mixed if area is None else torch.where(area > 0.5, mixed, plain)

    def _up(self, below: Tensor, step: int) -> Tensor:
        """The latent of a step again, from the one below, by a step of inversion."""
        task = self.task
        encoded = task.model.encode(below, task.schedule.timestep(step - 1), task.text)
        return task.schedule.up(task.model.predict(encoded.bottleneck, encoded), below, step)

    def _predicted(self, z: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The U-Net's prediction, guided by the prompt, and its bottleneck."""
        task, guidance = self.task, self.task.config.guidance
        with_text, bottleneck = prediction_beside_inversion(task, self._sharing, z, step, task.text)
        if guidance == 1:
            return with_text, bottleneck
        without, _ = prediction_beside_inversion(task, self._sharing, z, step, self._away)
        return without + guidance * (with_text - without), bottleneck

    @cached_property
    def _sharing(self) -> Model:
        return with_shared_blocks(self.task.model, up_blocks_alone=True)

    @cached_property
    def _away(self) -> Text:
        return self.task.model.embed_negative()


def edit_energy(
    feature: Tensor, first: Tensor, anchors: Tensor, objectives: Tensor, r1: int, grid: semantics.Grid, *,
    weight: float, leave: float,
) -> Tensor:  # fmt: skip
    """weight / (1 + 4 mean s) + leave mean s' -> scalar.

    s: similarity of the feature in the objectives' windows to the first one in the anchors'; s': of both where an
    anchor's window and no objective's is.  feature, first (C, h, w); points (m, 2) grid pixels.
    """
    window = semantics.window(r1, like=anchors)
    source, target = anchors[:, None] + window, objectives[:, None] + window
    both = (semantics.inside(source, grid) & semantics.inside(target, grid)).to(feature.device)
    similar = _similarity(semantics.sample(feature, target, grid), semantics.sample(first, source, grid))
    there = (similar * both).sum() / both.sum().clamp(min=1)
    away = (source[:, :, None] - objectives).abs().amax(-1).amin(-1) > r1
    away = (away & semantics.inside(source, grid)).to(feature.device)
    similar = _similarity(semantics.sample(feature, source, grid), semantics.sample(first, source, grid))
    left = (similar * away).sum() / away.sum().clamp(min=1)
    return weight / (1 + 4 * there) + leave * left


def content_energy(feature: Tensor, first: Tensor, area: Tensor | None, *, weight: float) -> Tensor:
    """weight / (1 + 4 mean s) -> scalar, s the similarity of both where `area` (1, 1, h, w) is held, if anything is."""
    if area is None or not bool((area < 1).any()):
        return feature.sum() * 0
    held = 1 - area[0, 0].to(feature)
    similar = _similarity(feature.movedim(0, -1), first.movedim(0, -1))
    return weight / (1 + 4 * (similar * held).sum() / held.sum())


def _similarity(one: Tensor, other: Tensor) -> Tensor:
    """(cos + 1) / 2 over the last axis."""
    return (F.cosine_similarity(one, other, dim=-1) + 1) / 2


def make(task: Task) -> Editor:
    """The editor of a task."""
    return DragonDiffusion(task)
