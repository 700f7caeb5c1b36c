"""Equations 1-4 of the paper as pure functions on tensors.

A feature map F is (C, h, w); points are (x, y) in pixels of the *grid* (width, height) that the
paper resizes F to, (m, 2).  Windows are cut off at the grid's border: a point that is not there is
neither compared nor chosen.  The `released_*` functions are the authors' program's versions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dragnoise.transfers import to_device

Grid = tuple[int, int]


def window(radius: int, *, like: Tensor) -> Tensor:
    """Offsets of the square of half side `radius`, ((2r+1)^2, 2) as (dx, dy), row by row."""
    side = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    dy, dx = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([dx.flatten(), dy.flatten()], -1)


def sample(feature: Tensor, points: Tensor, grid: Grid) -> Tensor:
    """F at points: feature (C, h, w), points (..., n, 2) in grid pixels on the CPU -> (..., n, C), bilinear.

    Equal to resizing F to the grid (bilinear, align_corners=False) and sampling that bilinearly, with points clamped
    into the grid.  The resized map is never built: each window of n points reads the small box of F that it touches,
    by one matrix product, whose gradient is deterministic on every device.
    """
    c, h, w = feature.shape
    windows = points.reshape(-1, *points.shape[-2:])
    axes = [axis_weights(windows[..., i], grid[i], (w, h)[i]) for i in (0, 1)]
    weights = [weights for _, _, weights in axes]
    sent = to_device(torch.cat([part.flatten() for part in weights]), feature.device, feature.dtype)  # one upload
    across, down = (
        part.view_as(its) for part, its in zip(sent.split([x.numel() for x in weights]), weights, strict=True)
    )
    read = []
    for i, (left, right, top, bottom) in enumerate(zip(*axes[0][:2], *axes[1][:2], strict=True)):
        box = feature[:, top:bottom, left:right]
        shares = (down[i, :, : bottom - top, None] * across[i, :, None, : right - left]).flatten(1)
        read.append(shares @ box.reshape(c, -1).T)
    return torch.stack(read).reshape(*points.shape[:-1], c)


def axis_weights(positions: Tensor, grid: int, feature: int) -> tuple[list[int], list[int], Tensor]:
    """Weights that read one axis of a feature map at grid positions of windows (k, n).

    -> first index of each window and the one after its last, and the weights (k, n, length of the longest) float64.
    Sampling between the two nearest grid pixels, each of which the resizing makes of its two nearest feature pixels.
    """
    positions = positions.double().clamp(0, grid - 1)
    low = positions.floor().clamp(max=max(grid - 2, 0))
    share = positions - low
    taps, weights = [], []
    for pixel, amount in ((low, 1 - share), ((low + 1).clamp(max=grid - 1), share)):
        source = ((pixel + 0.5) * (feature / grid) - 0.5).clamp(min=0)
        first = source.floor().clamp(max=feature - 1)
        rest = source - first
        taps += [first, (first + 1).clamp(max=feature - 1)]
        weights += [amount * (1 - rest), amount * rest]
    columns = torch.stack(taps, -1).long()
    start, stop = columns.amin((1, 2)), columns.amax((1, 2)) + 1
    dense = positions.new_zeros(*positions.shape, int((stop - start).max()))
    dense.scatter_add_(2, columns - start[:, None, None], torch.stack(weights, -1))
    return start.tolist(), stop.tolist(), dense


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
    here, ahead = sample(feature, torch.cat([patch, moved], 1), grid).chunk(2, 1)
    difference = (here.detach() - ahead).abs().sum(-1)
    return (difference * to_device(inside(patch, grid), difference.device, difference.dtype)).sum()


def target_loss(feature: Tensor, initial: Tensor, anchors: Tensor, wanted: Tensor, r1: int, grid: Grid) -> Tensor:
    """The initial feature as a fixed target: sum_i sum_{p in Omega(a_i, r1)} || sg(F0_p) - F_{p + q_i - a_i} ||_1.

    feature (C, h, w); initial (m, (2 r1 + 1)^2, C), F0 in the windows of the initial anchors a_i, `anchors` (m, 2);
    wanted (m, 2): the points q_i where it shall be -> scalar.  As GoodDrag's reference feature, with Eq. 1's sum.
    """
    patch = anchors[:, None] + window(r1, like=anchors)
    moved = wanted[:, None] + window(r1, like=wanted)
    difference = (initial.detach().to(feature) - sample(feature, moved, grid)).abs().sum(-1)
    counts = inside(patch, grid) & inside(moved, grid)
    return (difference * to_device(counts, difference.device, difference.dtype)).sum()


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
    places = tracking_places(anchors, r2)
    return chosen_places(places, nearest_place(feature, initial, places, grid))


def tracking_places(anchors: Tensor, r2: int) -> Tensor:
    """Omega(a_i, r2): anchors (m, 2) -> (m, (2 r2 + 1)^2, 2), row by row."""
    return anchors[:, None] + window(r2, like=anchors)


def nearest_place(feature: Tensor, initial: Tensor, places: Tensor, grid: Grid) -> Tensor:
    """The argmin of Eq. 4 as indices into places (m, n, 2) -> (m,) on the feature's device, without waiting for it."""
    distance = (sample(feature, places, grid) - initial[:, None].to(feature)).abs().sum(-1)
    outside = ~inside(places, grid)
    if outside.any():
        distance = distance.masked_fill(to_device(outside, distance.device), torch.inf)
    return distance.argmin(-1)


def chosen_places(places: Tensor, index: Tensor) -> Tensor:
    """places (m, n, 2), index (m,) -> (m, 2)."""
    return places[torch.arange(len(places)), index.to(places.device)]


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
        here, ahead = sample(feature, torch.cat([patch, moved]), grid).chunk(2)
        losses.append((2 * r1 + 1) ** 2 * (here.detach() - ahead).abs().mean())
    return torch.stack(losses).sum() if losses else feature.sum() * 0


def released_masking_loss(latents: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """Masking of the released program, on the latents after one DDIM step: sum |x_{t-1} - x0_{t-1}| (1 - M)."""
    return ((edited - latents) * (1 - mask)).abs().sum()
