"""The optimiser of the trainings: Muon for matrices and convolutions, AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Newton-Schulz's iteration, as in torch.optim.Muon."""


class Optimiser:
    """Muon (orthogonalised momentum) where weights are matrices or convolutions, AdamW for all others.

    A convolution (out, in, h, w) is a matrix of `out` rows.  Norms, biases, embeddings and the
    convolutions at the two ends, whose sides are channels with a meaning of their own, are AdamW's.
    Muon's update has AdamW's size, so that one learning rate serves both.  With `muon` False all
    weights are AdamW's, whose step takes next to no time.
    """

    def __init__(self, module: Module, lr: float, *, weight_decay: float = 1e-3, muon: bool = True) -> None:
        parameters = dict(module.named_parameters())
        matrices = [p for name, p in parameters.items() if muon and _is_matrix(name, p)]
        others = [p for name, p in parameters.items() if not (muon and _is_matrix(name, p))]
        self._all = list(parameters.values())
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
        ]
        if matrices:
            self._parts.append(Muon(matrices, lr, weight_decay))

    def set_lr(self, lr: float) -> None:
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = lr

    def zero_grad(self) -> None:
        for parameter in self._all:
            parameter.grad = None

    def step(self) -> None:
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, kept in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(kept)


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon with its "match_rms_adamw" rate, for convolutions too, and in float32 on a CPU.

    torch's iterates in bfloat16, seven times as slow as float32 on a CPU without bfloat16 arithmetic.
    """

    def __init__(self, parameters: list[Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
                update = parameter.grad.lerp(state["momentum"], MOMENTUM).flatten(1)
                size = 0.2 * max(update.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonal(update).view_as(parameter), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The matrix (m, n) with its singular values brought near 1 by Newton-Schulz's iteration."""
    a, b, c = COEFFICIENTS
    x = matrix if matrix.device.type == "cpu" else matrix.bfloat16()
    wide = x if x.shape[0] <= x.shape[1] else x.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide if x.shape[0] <= x.shape[1] else wide.T).to(matrix.dtype)


def _is_matrix(name: str, parameter: Parameter) -> bool:
    apart = ("embedding", "conv_in", "conv_out")
    ends = parameter.ndim == 4 and min(parameter.shape[:2]) <= 4  # of an autoencoder
    return parameter.ndim >= 2 and not ends and not any(word in name for word in apart)
