"""Checks that numbers are finite."""

from __future__ import annotations

from torch import Tensor

ITERATION = (
    "the session stays at the last good iteration: try a smaller lr, or dtype=torch.float32 when loading the model"
)
"""What to say of an update."""


def require_finite(tensor: Tensor, what: str, *, advice: str = ITERATION) -> None:
    """Raise FloatingPointError when a tensor holds NaN or infinity.  advice: what to try, for the sentence's end."""
    if not bool(tensor.isfinite().all()):
        raise not_finite(what, advice=advice)


def not_finite(what: str, *, advice: str = ITERATION) -> FloatingPointError:
    """The error for numbers that are not finite."""
    return FloatingPointError(f"{what} is not finite; {advice}.")


def without_lr(dtype: object, *, worn: bool = False) -> str:
    """Advice where no update took place, so that no learning rate is to blame.

    dtype: of the model; in torch.float32 another one does not help.  worn: does the model wear a LoRA?
    """
    tries = [] if str(dtype) == "torch.float32" else ["dtype=torch.float32 when loading the model"]
    tries += ["a lora_weight nearer to 0"] if worn else []
    return f"try {', then '.join([*tries, 'more steps', 'another model'])}"
