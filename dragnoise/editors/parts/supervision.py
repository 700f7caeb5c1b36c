"""Supervision: the losses that pull a variable, as the paper defines them and as the released programs compute them."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dragnoise import semantics
from dragnoise.editors.base import Task
from dragnoise.editors.parts.area import editable_area, latent_area
from dragnoise.editors.parts.variables import Variable, feature_of
from dragnoise.models.unet import Decoded


class Supervision(Protocol):
    """The losses of an iteration, from its one forward.

    task: may be exchanged for one whose numbers differ where `FieldInfo.forgets` is "nothing".
    """

    task: Task

    def upto(self, count: int) -> int | None:
        """How far up the decoder the losses after `count` updates read: an up block, or None for the noise."""

    def losses(self, decoded: Decoded, value: Tensor, anchors: Tensor, *, count: int) -> dict[str, Tensor]:
        """Scalars by name, unweighted: "alignment", Eq. 1, and "mask", Eq. 2, for anchors (m, 2) as tracked."""


def require_block(task: Task) -> None:
    """Raise ValueError if the model has no up block of the number `supervision_block`."""
    blocks, block = task.model.unet.blocks, task.config.supervision_block
    if block >= blocks:
        raise ValueError(
            f"supervision_block={block} is beyond this model's {blocks} up blocks; choose 0..{blocks - 1}."
        )


class Paper:
    """Eqs. 1 and 2 of DragNoise: one step on from the current feature; the variable held outside the mask.

    With another `config.target` than "current" the initial feature is a fixed target, see `semantics.target_loss`.
    """

    def __init__(self, task: Task, variable: Variable) -> None:
        self.task, self._variable = task, variable

    def upto(self, count: int) -> int | None:
        return self.task.config.supervision_block

    def losses(self, decoded: Decoded, value: Tensor, anchors: Tensor, *, count: int) -> dict[str, Tensor]:
        task = self.task
        feature, grid = feature_of(decoded, task), task.frame.grid
        if task.config.target == "current":
            alignment = semantics.alignment_loss(feature, anchors, task.objectives, task.config.r1, grid)
        else:
            wanted = self._wanted(anchors, count)
            alignment = semantics.target_loss(
                feature, self._initial_patches, task.anchors, wanted, task.config.r1, grid
            )
        masking = alignment.new_zeros(())
        if self._mask is not None:
            masking = semantics.masking_loss(self._variable.original, value, self._mask)
        return {"alignment": alignment, "mask": masking}

    def _wanted(self, anchors: Tensor, count: int) -> Tensor:
        """Where the initial feature shall be after this update, (m, 2) grid pixels."""
        task, config = self.task, self.task.config
        if config.target == "direct":
            return task.objectives
        if config.target == "path":
            return task.anchors + (task.objectives - task.anchors) * min((count + 1) / config.most_iterations, 1.0)
        gap = task.objectives - anchors
        share = config.stride / gap.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return anchors + gap * share.clamp(max=1.0)

    @cached_property
    def _initial_patches(self) -> Tensor:
        """The initial feature in the window of every initial anchor, (m, (2 r1 + 1)^2, C)."""
        task = self.task
        patch = task.anchors[:, None] + semantics.window(task.config.r1, like=task.anchors)
        return semantics.sample(self._variable.reference, patch, task.frame.grid)

    @cached_property
    def _mask(self) -> Tensor | None:
        """M of Eq. 2; without a mask it is what lies within `reach` of a drag, and None if that is everything."""
        h, w = self._variable.original.shape[-2:]
        return editable_area(self.task, (w, h))


class Released:
    """The released programs' losses: a mean over patch and channels; the latent held after one denoising step.

    blank_mask_holds: without a mask, or with an empty one, DragNoise's program holds the whole picture and
    DragDiffusion's nothing.
    """

    def __init__(self, task: Task, variable: Variable, *, blank_mask_holds: bool) -> None:
        self.task, self._variable, self._blank_mask_holds = task, variable, blank_mask_holds

    def upto(self, count: int) -> int | None:
        return None if self._holds(count) else self.task.config.supervision_block

    def losses(self, decoded: Decoded, value: Tensor, anchors: Tensor, *, count: int) -> dict[str, Tensor]:
        task, config = self.task, self.task.config
        feature, grid = feature_of(decoded, task), task.frame.grid
        alignment = semantics.released_alignment_loss(
            feature, anchors, task.objectives, config.r1, grid, near=config.tolerance
        )
        masking = alignment.new_zeros(())
        if self._holds(count):
            assert self._mask is not None
            masking = semantics.released_masking_loss(self._original_step, self._one_step(decoded, value), self._mask)
        return {"alignment": alignment, "mask": masking}

    def _holds(self, count: int) -> bool:
        """Does the masking term need the noise?  It is exactly zero before the first update, and with a full mask."""
        return count > 0 and self.task.config.mask_weight > 0 and self._mask is not None

    @cached_property
    def _mask(self) -> Tensor | None:
        return latent_area(self.task, blank_mask_holds=self._blank_mask_holds)

    @cached_property
    def _original_step(self) -> Tensor:
        with torch.no_grad():
            original = self._variable.original
            return self._one_step(self._variable.forward(original, upto=None), original)

    def _one_step(self, decoded: Decoded, value: Tensor) -> Tensor:
        """The latent one DDIM step below, from a full forward."""
        task, step = self.task, self.task.config.edit_from
        assert decoded.noise is not None
        return task.schedule.down(decoded.noise.float(), self._variable.latents(value), step)


def supervision_of(task: Task, variable: Variable, *, blank_mask_holds: bool = True) -> Supervision:
    """The losses of the task's convention."""
    if task.config.is_released:
        return Released(task, variable, blank_mask_holds=blank_mask_holds)
    return Paper(task, variable)
