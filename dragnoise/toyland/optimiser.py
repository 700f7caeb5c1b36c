"""What the denoiser is trained with: Muon for its matrices, AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter


class Optimiser:
    """Muon (orthogonalised momentum) where weights are matrices or convolutions, AdamW for all others.

    A convolution (out, in, h, w) is the matrix (out, h w in).  Norms, biases, embeddings and the
    convolutions at the two ends, whose sides are channels with a meaning of their own, are AdamW's.
    Muon's update has AdamW's size, so that one learning rate serves both.

    The module must have been given its memory format before.
    """

    def __init__(self, module: Module, lr: float, *, weight_decay: float = 1e-3) -> None:
        parameters = dict(module.named_parameters())
        self._matrices = [p for name, p in parameters.items() if _is_matrix(name, p)]
        self._others = [p for name, p in parameters.items() if not _is_matrix(name, p)]
        self._flat = [Parameter(flattened(p.detach())) for p in self._matrices]
        if any(flat.data_ptr() != p.data_ptr() for flat, p in zip(self._flat, self._matrices, strict=True)):
            raise ValueError("the weights cannot be seen as matrices without a copy; use channels_last.")
        self._parts = (
            torch.optim.AdamW(self._others, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True),
            torch.optim.Muon(self._flat, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        )

    def set_lr(self, lr: float) -> None:
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = lr

    def zero_grad(self) -> None:
        for parameter in (*self._matrices, *self._others):
            parameter.grad = None

    def step(self) -> None:
        for flat, parameter in zip(self._flat, self._matrices, strict=True):
            flat.grad = None if parameter.grad is None else flattened(parameter.grad)
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, kept in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(kept)


def flattened(weight: Tensor) -> Tensor:
    """(out, in, h, w) -> (out, h w in), of a channels-last weight without a copy; a matrix as it is."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1) if weight.ndim == 4 else weight


def _is_matrix(name: str, parameter: Parameter) -> bool:
    apart = ("embedding", "conv_in", "conv_out")
    return parameter.ndim >= 2 and not any(word in name for word in apart)
