"""Checks that numbers are finite."""

from __future__ import annotations

from torch import Tensor


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise FloatingPointError, saying what to try, when a tensor holds NaN or infinity."""
    if not bool(tensor.isfinite().all()):
        raise not_finite(what)


def not_finite(what: str) -> FloatingPointError:
    """The error for numbers that are not finite."""
    return FloatingPointError(
        f"{what} is not finite; the session stays at the last good iteration: "
        "try a smaller lr, or dtype=torch.float32 when loading the model."
    )
