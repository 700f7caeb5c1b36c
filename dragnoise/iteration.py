"""One iteration as pure functions: a snapshot and an editor in, the next snapshot out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dragnoise import geometry
from dragnoise.editors import DragNoise
from dragnoise.history import Moments, Snapshot
from dragnoise.unet import Decoded


@dataclass(frozen=True, eq=False)
class Ahead:
    """The forward that the next iteration starts from, and the anchors tracked on it.

    Made by `look_ahead`; it says where the anchors are now, and the next iteration goes on with its
    graph, so that there is one forward an iteration.

    editor, bottleneck: what it was made of.
    """

    editor: DragNoise
    bottleneck: Tensor
    leaf: Tensor
    decoded: Decoded
    anchors: Tensor


def start(editor: DragNoise) -> Snapshot:
    """The snapshot before any update."""
    return Snapshot(
        iteration=0,
        loss=math.nan,
        alignment_loss=math.nan,
        mask_loss=math.nan,
        anchors=_in_image(editor, editor.task.anchors),
        distances=_distances(editor, editor.task.anchors),
        grad_norm=math.nan,
        bottleneck=editor.original.cpu(),
        status="running",
        seconds=0.0,
        grid_anchors=editor.task.anchors,
        moments=None,
        config=editor.task.config,
        mask=editor.task.mask,
    )


def look_ahead(editor: DragNoise, last: Snapshot, *, grad: bool) -> Ahead:
    """The forward of a snapshot's bottleneck, and Eq. 4 on it; the initial anchors need no tracking."""
    leaf = last.bottleneck.to(editor.original.device).clone().requires_grad_(grad)
    with torch.set_grad_enabled(grad):
        decoded = editor.look(leaf, iteration=last.iteration + 1)
    require_finite(editor.feature(decoded), f"the supervision feature of iteration {last.iteration + 1}")
    anchors = last.grid_anchors if last.iteration == 0 else editor.track(decoded, last.grid_anchors)
    return Ahead(editor, last.bottleneck, leaf, decoded, anchors)


@torch.enable_grad()  # whatever the caller has switched
def iterate(editor: DragNoise, last: Snapshot, ahead: Ahead) -> Snapshot:
    """Loss, backward and update; uses up the graph of `ahead`.

    Raises FloatingPointError when a number is not finite.
    """
    started = time.perf_counter()
    k, config = last.iteration + 1, editor.task.config
    losses = editor.losses(ahead.decoded, ahead.leaf, ahead.anchors, iteration=k)
    (gradient,) = torch.autograd.grad(losses.total, ahead.leaf)
    require_finite(losses.total, f"the loss of iteration {k}")
    require_finite(gradient, f"the gradient of iteration {k}")
    bottleneck, moments = adam(ahead.leaf.detach(), gradient, last.moments, lr=config.lr, eps=config.eps)
    require_finite(bottleneck, f"the bottleneck of iteration {k}")
    return Snapshot(
        iteration=k,
        loss=float(losses.total.detach()),
        alignment_loss=float(losses.alignment.detach()),
        mask_loss=float(losses.masking.detach()),
        anchors=_in_image(editor, ahead.anchors),
        distances=_distances(editor, ahead.anchors),
        grad_norm=float(gradient.norm()),
        bottleneck=bottleneck.cpu(),
        status="running",
        seconds=time.perf_counter() - started,
        grid_anchors=ahead.anchors,
        moments=moments,
        config=config,
        mask=editor.task.mask,
    )


def arrived(editor: DragNoise, anchors: Tensor) -> bool:
    """Is every anchor, (m, 2) in grid pixels, within the tolerance of its objective?"""
    return bool(geometry.arrived((editor.task.objectives - anchors).norm(dim=-1), editor.task.config).all())


def adam(
    bottleneck: Tensor, gradient: Tensor, moments: Moments | None, *, lr: float, eps: float = 1e-8
) -> tuple[Tensor, Moments]:
    """One update of torch's Adam as a pure function: shapes (1, C, h, w), float32.

    Moments are kept on the CPU, as snapshots are.
    """
    parameter = bottleneck.clone().requires_grad_()
    parameter.grad = gradient
    optimiser = torch.optim.Adam([parameter], lr=lr, eps=eps)
    if moments is not None:
        optimiser.state[parameter] = {
            "step": torch.tensor(float(moments.updates)),
            "exp_avg": moments.first.to(parameter.device, copy=True),
            "exp_avg_sq": moments.second.to(parameter.device, copy=True),
        }
    optimiser.step()
    state = optimiser.state[parameter]
    return parameter.detach(), Moments(state["exp_avg"].cpu(), state["exp_avg_sq"].cpu(), int(state["step"]))


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise FloatingPointError, saying what to try, when a tensor holds NaN or infinity."""
    if not bool(torch.isfinite(tensor).all()):
        raise FloatingPointError(
            f"{what} is not finite; the session stays at the last good iteration: "
            "try a smaller lr, or dtype=torch.float32 when loading the model."
        )


def _in_image(editor: DragNoise, anchors: Tensor) -> np.ndarray:
    return _readonly(editor.task.frame.to_image(anchors))


def _distances(editor: DragNoise, anchors: Tensor) -> np.ndarray:
    frame, objectives = editor.task.frame, editor.task.objectives
    return _readonly((frame.to_image(objectives) - frame.to_image(anchors)).norm(dim=-1))


def _readonly(values: Tensor) -> np.ndarray:
    array = values.numpy().astype(np.float64)
    array.flags.writeable = False
    return array
