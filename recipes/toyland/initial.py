"""Weights that a training begins with, taken from a pipeline folder wherever names and shapes agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from dragnoise.models.model import TOYLAND


def weights_folder(init: str) -> Path | None:
    """The folder that a recipe's `init` names: None for "", the package's weights for "package"."""
    return None if not init else TOYLAND if init == "package" else Path(init)


@torch.no_grad()
def take_weights(module: torch.nn.Module, given: Mapping[str, Tensor]) -> int:
    """Copy what agrees in name and shape into the module; how many tensors were copied."""
    taken = 0
    for name, weight in module.state_dict().items():
        if name in given and given[name].shape == weight.shape:
            weight.copy_(given[name])
            taken += 1
    return taken


def denoiser_weights(given: UNet2DConditionModel, levels: int) -> dict[str, Tensor]:
    """A U-Net's weights under the names that they have in one with as many or fewer levels.

    The levels nearest to full resolution keep their places: down blocks are counted from the first, up
    blocks from the last.
    """
    missing = len(given.config.block_out_channels) - levels
    weights: dict[str, Tensor] = {}
    for name, weight in given.state_dict().items():
        if name.startswith("up_blocks."):
            _, block, rest = name.split(".", 2)
            weights[f"up_blocks.{int(block) - missing}.{rest}"] = weight
        elif missing == 0 or not name.startswith("mid_block."):
            weights[name] = weight
    return weights
