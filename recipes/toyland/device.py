"""Which device and precision a training uses."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """Where a training runs and whether its forward passes are in bfloat16.

    bf16 None chooses: yes on an accelerator and on a CPU with AVX-512; no on others, where a bfloat16
    convolution was eleven times slower than a float32 one (AVX2, torch 2.13).
    """

    name: str = "cpu"
    bf16: bool | None = None

    @property
    def place(self) -> torch.device:
        return torch.device(self.name)

    def autocast(self) -> AbstractContextManager[object]:
        chosen = self.bf16
        if chosen is None:
            chosen = self.place.type != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        return torch.autocast(self.place.type, torch.bfloat16) if chosen else contextlib.nullcontext()

    def generator(self, seed: int) -> torch.Generator:
        """A generator of this device; the draws of two kinds of device differ."""
        return torch.Generator(self.place).manual_seed(seed)


CPU = Device()
