"""Asynchronous copies of tensors between the CPU and a device, where the device allows them.

A plain `.to()` waits until the device has done all that it was asked before.
"""

from __future__ import annotations

import torch
from torch import Tensor

WAITING = ("cpu", "mps")
"""Kinds of devices with synchronous copies; on MPS an asynchronous copy may be read before it is complete."""


def to_host(tensor: Tensor) -> Tensor:
    """A copy on the CPU; it is on its way, and has arrived when a later blocking read returns."""
    if tensor.device.type in WAITING:
        return tensor.to("cpu", copy=True)
    there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
    return there.copy_(tensor, non_blocking=True)


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of the CPU on a device, in a dtype, default its own."""
    tensor = tensor.to(dtype or tensor.dtype)
    if device.type in WAITING:
        return tensor.to(device)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
