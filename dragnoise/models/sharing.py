"""Copies of modules that share every weight with the original."""

from __future__ import annotations

import copy

from torch import nn


def sharing_copy(module: nn.Module) -> nn.Module:
    """A module tree of its own whose parameters and buffers are the original's very tensors."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
