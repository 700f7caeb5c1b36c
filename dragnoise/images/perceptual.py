"""LPIPS, a perceptual distance of two pictures, by the package lpips."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dragnoise.locks import PATCHING
from dragnoise.validation import said

if TYPE_CHECKING:
    from torch import Tensor

Distance = Callable[["Tensor", "Tensor"], "Tensor"]
"""LPIPS: two (1, 3, H, W) in -1..1 -> one number of at least 0, which has no upper end."""

ALEXNET = "alexnet-owt-7be5be79.pth"
"""torchvision's file of AlexNet's weights, in `torch.hub`'s folder."""


def weights_at_hand() -> bool:
    """Are AlexNet's weights here already?  Without them `load_lpips` fetches 230 MB."""
    import torch

    return (Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET).is_file()


@cache
def load_lpips() -> Distance:
    """LPIPS with AlexNet; raises ImportError where the package, torchvision or the weights are missing."""
    try:
        package = importlib.import_module("lpips")
    except Exception as error:  # torchvision that does not fit torch raises RuntimeError on import
        raise ImportError(
            f"IF needs the package lpips, which cannot be imported ({said(error)}); pip install 'dragnoise[bench]' and "
            "a torchvision that fits your torch, or leave IF out."
        ) from error
    try:
        with PATCHING:  # while another thread loads a model, new parameters have no values
            distance: Distance = package.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)
    except Exception as error:  # no network, no cache, a broken download
        raise ImportError(
            f"IF needs the weights of AlexNet, which cannot be loaded ({said(error)}); fetch them once with network by "
            "torchvision.models.alexnet(weights='DEFAULT'), or leave IF out."
        ) from error
    return distance
