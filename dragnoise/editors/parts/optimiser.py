"""torch's Adam for one tensor, with a state that can be saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dragnoise.transfers import to_host

FIRST, SECOND = "adam.first", "adam.second"
"""Names of Adam's moments in an `EditState`."""


class Adam:
    """One optimiser for a whole edit.  value: the variable, (1, C, h, w) float32 on the device, updated in place."""

    def __init__(self, like: Tensor) -> None:
        self.value = like.detach().clone().requires_grad_()
        self._optimiser = torch.optim.Adam([self.value])

    def load(self, tensors: Mapping[str, Tensor], count: int) -> None:
        """Load value and moments from the tensors of an `EditState` after `count` updates."""
        with torch.no_grad():
            self.value.copy_(next(iter(tensors.values())))
        self._optimiser.state.clear()
        if count:
            self._optimiser.state[self.value] = {
                "step": torch.tensor(float(count), dtype=torch.float32),
                "exp_avg": tensors[FIRST].to(self.value.device, copy=True),
                "exp_avg_sq": tensors[SECOND].to(self.value.device, copy=True),
            }

    def step(self, gradient: Tensor, *, lr: float, eps: float) -> None:
        """One update (Kingma & Ba 2015, betas 0.9 and 0.999)."""
        (group,) = self._optimiser.param_groups
        group["lr"], group["eps"] = lr, eps
        self.value.grad = gradient
        self._optimiser.step()
        self.value.grad = None

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Copies on the CPU of the variable, under its name, and of both moments; `to_host` says when they arrive."""
        state = self._optimiser.state[self.value]
        values = {name: self.value.detach(), FIRST: state["exp_avg"], SECOND: state["exp_avg_sq"]}
        return {key: to_host(value) for key, value in values.items()}
