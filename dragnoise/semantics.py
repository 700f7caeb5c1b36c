"""Equations 1-4 of the paper as pure functions on tensors.

A feature map F is (C, h, w); points are (x, y) in pixels of the *grid* (width, height) that the
paper resizes F to, (m, 2).  Windows are cut off at the grid's border: a point that is not there is
neither compared nor chosen.  The `released_*` functions are the authors' program's versions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dragnoise.geometry import sampling_weights

Grid = tuple[int, int]


def window(radius: int, *, like: Tensor) -> Tensor:
    """Offsets of the square of half side `radius`, ((2r+1)^2, 2) as (dx, dy), row by row."""
    side = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    dy, dx = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([dx.flatten(), dy.flatten()], -1)


def sample(feature: Tensor, points: Tensor, grid: Grid) -> Tensor:
    """F at points: feature (C, h, w), points (..., 2) in grid pixels -> (..., C), bilinear."""
    c, h, w = feature.shape
    weights = sampling_weights(points.reshape(-1, 2), grid, (w, h)).to(feature.dtype).to(feature.device)
    return (weights @ feature.reshape(c, h * w).T).reshape(*points.shape[:-1], c)


def inside(points: Tensor, grid: Grid) -> Tensor:
    """(..., 2) -> (...) bool: is the point on the grid, half a pixel of border included."""
    x, y = points[..., 0], points[..., 1]
    return (x >= -0.5) & (y >= -0.5) & (x <= grid[0] - 0.5) & (y <= grid[1] - 0.5)


def directions(anchors: Tensor, objectives: Tensor) -> Tensor:
    """v_i = (b_i - a_i) / ||b_i - a_i||_2, (m, 2); zero for an anchor that stands on its objective."""
    gap = objectives - anchors
    length = gap.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, gap / length.clamp(min=1e-12), torch.zeros_like(gap))


def alignment_loss(feature: Tensor, anchors: Tensor, objectives: Tensor, r1: int, grid: Grid) -> Tensor:
    """Eq. 1, semantic alignment: sum_i sum_{p in Omega(a_i, r1)} || sg(F_p) - F_{p+v_i} ||_1 -> scalar."""
    patch = anchors[:, None] + window(r1, like=anchors)  # (m, (2 r1 + 1)^2, 2)
    moved = patch + directions(anchors, objectives)[:, None]
    both = sample(feature, torch.stack([patch, moved]), grid)
    difference = (both[0].detach() - both[1]).abs().sum(-1)
    return (difference * inside(patch, grid).to(difference)).sum()


def masking_loss(bottleneck: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """Eq. 2, semantic masking: || (s_t - s^_t) (1 - M) ||_1 -> scalar.

    bottleneck and edited (1, C, h, w), mask (1, 1, h, w) in 0..1, 1 where the picture may change.
    """
    return ((bottleneck - edited) * (1 - mask)).abs().sum()


def objective(alignment: Tensor, masking: Tensor, weight: float) -> Tensor:
    """Eq. 3: alignment + lambda masking."""
    return alignment + weight * masking


def track(feature: Tensor, initial: Tensor, anchors: Tensor, r2: int, grid: Grid) -> Tensor:
    """Eq. 4, point tracking: a_i := argmin_{p in Omega(a_i, r2)} || F'_p - f_i ||_1.

    feature (C, h, w), initial (m, C) the features f_i of the initial anchors, anchors (m, 2) -> (m, 2).
    Of equally near places the first, row by row, is taken.
    """
    places = anchors[:, None] + window(r2, like=anchors)  # (m, (2 r2 + 1)^2, 2)
    distance = (sample(feature, places, grid) - initial[:, None].to(feature)).abs().sum(-1)
    distance = distance.masked_fill(~inside(places, grid).to(distance.device), torch.inf)
    best = distance.argmin(-1).to(places.device)
    return places[torch.arange(len(anchors), device=places.device), best]


# --------------------------------------------------------------------------- the released program


def released_alignment_loss(
    feature: Tensor, anchors: Tensor, objectives: Tensor, r1: int, grid: Grid, *, near: float
) -> Tensor:
    """Alignment of the released program: (2 r1 + 1)^2 times the mean over patch and channels -> scalar.

    anchors (m, 2) are integers; those closer than `near` grid pixels to their objective are left out.
    """
    losses = []
    for anchor, goal in zip(anchors, objectives, strict=True):
        if float((goal - anchor).norm()) < near:
            continue
        patch = anchor + window(r1, like=anchor)
        patch = patch[inside(patch, grid)]
        moved = patch + directions(anchor[None], goal[None])
        both = sample(feature, torch.stack([patch, moved]), grid)
        losses.append((2 * r1 + 1) ** 2 * (both[0].detach() - both[1]).abs().mean())
    return torch.stack(losses).sum() if losses else feature.sum() * 0


def released_masking_loss(latents: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """Masking of the released program, on the latents after one DDIM step: sum |x_{t-1} - x0_{t-1}| (1 - M)."""
    return ((edited - latents) * (1 - mask)).abs().sum()
