"""DragNoise: the bottleneck at one timestep is optimised, and its semantics propagate to the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dragnoise import ddim, semantics
from dragnoise.config import DragConfig
from dragnoise.editors.task import Task
from dragnoise.geometry import around
from dragnoise.model import Model
from dragnoise.pictures import mask_tensor
from dragnoise.unet import Decoded


@dataclass(frozen=True, eq=False)
class Losses:
    """Eq. 3 and its parts, scalars; `total` carries the graph to the bottleneck it was made from."""

    alignment: Tensor
    masking: Tensor
    total: Tensor


class DragNoise:
    """One edit's editor: reads a bottleneck (1, C, h, w), never keeps one but the first."""

    def __init__(self, task: Task) -> None:
        self.task = task
        config, model = task.config, task.model
        if config.supervision_block >= model.unet.blocks:
            raise ValueError(
                f"supervision_block={config.supervision_block} is beyond this model's {model.unet.blocks} up blocks; "
                f"choose 0..{model.unet.blocks - 1}."
            )
        with torch.no_grad():
            self.encoded = model.encode(task.latents, task.schedule.timestep(config.edit_from), task.text)
        self.original = self.encoded.bottleneck.float()
        self._initial: Tensor | None = None

    def is_for(self, model: Model, config: DragConfig, mask: np.ndarray | None, latents: Tensor) -> bool:
        """Was it made of these very things?"""
        task = self.task
        return task.model is model and task.config is config and task.mask is mask and task.latents is latents

    def look(self, bottleneck: Tensor, *, iteration: int) -> Decoded:
        """The one forward of an iteration, counted from 1: as far up the decoder as its losses read."""
        block = self.task.config.supervision_block
        upto = None if self._holds_latents(iteration) else block
        decoded = self.task.model.decode(bottleneck, self.encoded, upto=upto)
        if iteration == 1 and self._initial is None:  # the first forward is of the original
            self._initial = self._at_initial_anchors(decoded)
        return decoded

    def feature(self, decoded: Decoded) -> Tensor:
        """The supervision feature F, (C, h, w) float32."""
        return decoded.features[self.task.config.supervision_block][0].float()

    def track(self, decoded: Decoded, anchors: Tensor) -> Tensor:
        """Eq. 4 on a forward of an edited bottleneck: anchors (m, 2) -> (m, 2) in grid pixels."""
        with torch.no_grad():
            feature = self.feature(decoded).detach()
            return semantics.track(feature, self.initial_features, anchors, self.task.config.r2, self.task.frame.grid)

    def losses(self, decoded: Decoded, bottleneck: Tensor, anchors: Tensor, *, iteration: int) -> Losses:
        """Eqs. 1-3 for the anchors as tracked, on the forward of `bottleneck`."""
        task, config = self.task, self.task.config
        feature, grid = self.feature(decoded), task.frame.grid
        if config.is_released:
            alignment = semantics.released_alignment_loss(
                feature, anchors, task.objectives, config.r1, grid, near=config.tolerance
            )
            masking = self._released_masking(decoded) if self._holds_latents(iteration) else alignment.new_zeros(())
        else:
            alignment = semantics.alignment_loss(feature, anchors, task.objectives, config.r1, grid)
            masking = alignment.new_zeros(())
            if self._bottleneck_mask is not None:
                masking = semantics.masking_loss(self.original, bottleneck, self._bottleneck_mask)
        return Losses(alignment, masking, semantics.objective(alignment, masking, config.mask_weight))

    def render(self, bottleneck: Tensor) -> Iterator[ddim.DDIMState]:
        """Semantic propagation (section 3.2): denoise with the edited bottleneck, a state per step."""
        task, config = self.task, self.task.config
        yield from ddim.denoise(
            task.model, task.latents, task.text, task.schedule, config.edit_from,
            edited=bottleneck.to(self.original), original=self.original,
            refine_from=config.refine_from, propagation=config.propagation,
        )  # fmt: skip

    @property
    def initial_features(self) -> Tensor:
        """f_i of Eq. 4: (m, C), the initial feature at the initial anchors."""
        if self._initial is None:  # a branch that never ran its first iteration here
            with torch.no_grad():
                self.look(self.original, iteration=1)
        assert self._initial is not None
        return self._initial

    def _at_initial_anchors(self, decoded: Decoded) -> Tensor:
        return semantics.sample(self.feature(decoded).detach(), self.task.anchors, self.task.frame.grid)

    # ---- masks

    @cached_property
    def _bottleneck_mask(self) -> Tensor | None:
        """M of Eq. 2; without a mask it is what the drags reach, and None if that is everything."""
        task, (h, w) = self.task, self.original.shape[-2:]
        mask = task.mask
        if mask is None and task.config.reach > 0:
            grid = task.frame.grid
            mask = around(task.anchors, task.objectives, task.config.reach * max(grid), grid)
        return None if mask is None else mask_tensor(mask, (w, h)).to(self.original)

    @cached_property
    def _latent_mask(self) -> Tensor:
        """M of the released program: nearest, by way of the half-size grid; 0 everywhere without a mask."""
        h, w = self.task.latents.shape[-2:]
        if self.task.mask is None:
            return self.original.new_zeros(1, 1, h, w)
        return mask_tensor(self.task.mask, (w, h), through=self.task.frame.grid).to(self.original)

    def _holds_latents(self, iteration: int) -> bool:
        """Does the released program's masking term need the noise in this iteration?

        In the first it is exactly zero, the bottleneck being the original; with a full mask, always.
        """
        config = self.task.config
        return config.is_released and iteration > 1 and config.mask_weight > 0 and bool((self._latent_mask < 1).any())

    def _released_masking(self, decoded: Decoded) -> Tensor:
        return semantics.released_masking_loss(self._original_step, self._one_step(decoded), self._latent_mask)

    @cached_property
    def _original_step(self) -> Tensor:
        with torch.no_grad():
            return self._one_step(self.task.model.decode(self.original, self.encoded))

    def _one_step(self, decoded: Decoded) -> Tensor:
        """The latent one DDIM step below, from a full forward."""
        task, step = self.task, self.task.config.edit_from
        assert decoded.noise is not None
        return task.schedule.down(decoded.noise.float(), task.latents, step)
