"""Plots of bottlenecks, latents and the feature similarity of point tracking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from dragnoise import DragSession, Snapshot, geometry
from dragnoise.inspection import feature_maps
from dragnoise.inspection.feature_maps import FeatureMaps
from dragnoise.plots.colours import COLOURS, INK
from dragnoise.plots.panels import Panels, halo, label, picture_panels
from dragnoise.plots.snapshots import snapshots_of
from dragnoise.session import stages
from dragnoise.validation import shown


def plot_bottleneck(source: DragSession | Sequence[Snapshot], *, ax: Panels | None = None) -> np.ndarray:
    """The optimised variable of the first and the last snapshot, and their difference, in six panels.

    The variable is DragNoise's bottleneck, or what another editor optimises.

    Upper row: the norm over channels at every place, before and after on one scale, and the norm of
    the difference; the range is written below.  Lower row: the first three principal components as
    red, green and blue, found on both together so that colours compare; in their difference grey
    means no change.

    ax: six Axes in an array, or one to divide.  Returns the (6,) array in reading order.  Raises
    ValueError without snapshots, or for variables of two shapes.
    """
    snapshots = snapshots_of(source)
    first, last = snapshots[0], snapshots[-1]
    before, after = first.variable[0].float(), last.variable[0].float()  # (C, h, w)
    if before.shape != after.shape:
        raise ValueError(f"variables of {tuple(before.shape)} and {tuple(after.shape)} have no difference.")
    colours, share = principal_colours(before, after)
    change = colours[1] - colours[0]
    norms = np.stack([x.norm(dim=0).numpy() for x in (before, after, after - before)])
    limits = [(norms[:2].min(), norms[:2].max())] * 2 + [(0, norms[2].max() or 1)]
    panels = picture_panels(ax, 2, 3)
    upper, lower = panels[:3], panels[3:]
    titles = f"iteration {first.iteration}", f"iteration {last.iteration}", "difference"
    for panel, norm, (low, high), title in zip(upper, norms, limits, titles, strict=True):
        panel.imshow(norm, cmap="viridis", vmin=low, vmax=high)
        label(panel, title, f"{norm.min():.3g} to {norm.max():.3g}" if low else f"up to {norm.max():.3g}")
    for panel, rgb in zip(lower, [*colours, 0.5 + 0.5 * change / (np.abs(change).max() or 1)], strict=True):
        panel.imshow(rgb)
    upper[0].set_ylabel("norm", color=INK)
    lower[0].set_ylabel("PCA", color=INK)
    label(lower[0], "", f"{share:.0%} of variance")
    return panels


def principal_colours(before: Tensor, after: Tensor) -> tuple[np.ndarray, float]:
    """Two (C, h, w) feature maps -> (2, h, w, 3) in 0..1, and the share of their variance in it.

    One principal component analysis whose samples are the places of both maps; each component is
    stretched to 0..1 over both, and its sign is that of its strongest channel.
    """
    samples = torch.stack([before, after]).double().flatten(2).transpose(1, 2).flatten(0, 1)  # (2 h w, C)
    samples = samples - samples.mean(0)
    _, sizes, axes = torch.linalg.svd(samples, full_matrices=False)
    axes = axes[:3] * axes[:3].gather(1, axes[:3].abs().argmax(1, keepdim=True)).sign()
    scores = samples @ axes.T
    scores = scores - scores.amin(0)
    colours = torch.full((len(samples), 3), 0.5, dtype=torch.float64)  # grey for components there are not
    colours[:, : len(axes)] = scores / scores.amax(0).clamp(min=1e-12)
    share = float(sizes[:3].square().sum() / sizes.square().sum().clamp(min=1e-300))
    return colours.reshape(2, *before.shape[1:], 3).numpy(), share


def plot_latents(source: DragSession | Tensor, *, step: int | None = None, ax: Panels | None = None) -> np.ndarray:
    """The channels of a latent, a panel each, on one scale: red above 0, blue below, mean ± std under it.

    source: a session, or any latent (1, C, h, w), such as a denoising state's; snapshots hold none.
    step: of the session's inversion, 0 is the picture's own; default where it has come to.
    ax: C Axes in an array, or one to divide.  Returns the (C,) array.  Raises ValueError for a step
    that has not been done or a latent that is not finite, TypeError for a source without latents.
    """
    if isinstance(source, DragSession):
        done = source.state.trajectory or (stages.latents(source.store),)
        step = len(done) - 1 if step is None else step
        if isinstance(step, bool) or not isinstance(step, int | np.integer):
            raise TypeError(f"a step of the inversion is a whole number, not {shown(step)}.")
        if not 0 <= step < len(done):
            raise ValueError(
                f"step {shown(step)} is not among the done 0..{len(done) - 1}; go through session.invert() first."
            )
        source = done[step]
    elif not isinstance(source, Tensor):
        raise TypeError(f"give a session or a latent such as a denoising state's, not {shown(source)}.")
    elif source.ndim != 4 or len(source) != 1 or 0 in source.shape or step is not None:
        raise ValueError(
            f"give a latent (1, C, h, w) and no step, or a session, not {tuple(source.shape)}, step={shown(step)}."
        )
    channels = source[0].detach().float().cpu().numpy()  # (C, h, w)
    if not np.isfinite(channels).all():
        raise ValueError("this latent holds numbers that are not finite, which have no colour; give an earlier one.")
    limit = np.abs(channels).max() or 1
    columns = next(n for n in (4, 3, 5, 2, 1) if len(channels) % n == 0)
    panels = picture_panels(ax, len(channels) // columns, columns)
    for i, (panel, channel) in enumerate(zip(panels, channels, strict=True)):
        panel.imshow(channel, cmap="RdBu_r", vmin=-limit, vmax=limit)
        label(panel, f"channel {i}", f"{channel.mean():.2f} ± {channel.std():.2f}")
    if step is not None:
        panels[0].set_ylabel(f"step {step}", color=INK)
    return panels


def plot_similarity(
    source: DragSession | FeatureMaps, *, iteration: int | None = None, drags: Any = None, zoom: bool = False,
    ax: Panels | None = None,
) -> np.ndarray:  # fmt: skip
    """What point tracking sees (Eq. 4), a panel for each anchor: light where the feature is like its initial one.

    The square is the window of half side r2 that is searched, the ring where the anchor was, the dot
    where it is found; the diamond is the objective.  Below stands the range of the L1 distance.

    source: a session, which costs one forward of the decoder, or what `feature_maps.measure` made of it.
    iteration: of the session; default the last.  drags: for maps, to show the objectives.
    zoom: show the window that is searched alone, on a scale of its own.
    ax: m Axes in an array, or one to divide.  Returns the (m,) array.  Raises ValueError before there
    is anything to compare, IndexError for an iteration beyond the history.
    """
    if isinstance(source, DragSession):
        drags = source.drags if drags is None else drags
        source = feature_maps.measure(source, iteration)
    elif not isinstance(source, FeatureMaps):
        raise TypeError(f"give a session or what feature_maps.measure(session) made, not {shown(source)}.")
    elif iteration is not None:
        raise ValueError(f"{iteration=} is for a session; these maps are of one iteration.")
    w, h = source.frame.grid
    corners = source.frame.to_image(torch.tensor([(-0.5, -0.5), (w - 0.5, h - 0.5)], dtype=torch.float64))
    (left, top), (right, bottom) = corners.tolist()
    pairs = () if drags is None else geometry.as_drags(drags, source.frame.given)
    if drags is not None and len(pairs) != len(source.distance):
        raise ValueError(f"there are {len(pairs)} drags for {len(source.distance)} anchors; give those of the maps.")
    was, k = source.snapshot.anchors, source.snapshot.iteration
    panels = picture_panels(ax, 1, len(source.distance), side=3.2)
    for i, (panel, distance) in enumerate(zip(panels, source.distance, strict=True)):
        colour, (x0, y0, x1, y1) = COLOURS[i % len(COLOURS)], source.windows[i]
        ring: dict[str, Any] = {"mec": colour, "mew": 1.5, "path_effects": halo(3)}
        panel.imshow(distance, cmap="viridis_r", extent=(left, right, bottom, top), interpolation="nearest")
        panel.autoscale(False)
        if zoom:
            x0, x1, y0, y1 = max(x0, left), min(x1, right), max(y0, top), min(y1, bottom)
            panel.set(xlim=(x0, x1), ylim=(y1, y0))
            across, down = (right - left) / w, (bottom - top) / h
            rows = slice(round((y0 - top) / down), round((y1 - top) / down))
            distance = distance[rows, round((x0 - left) / across) : round((x1 - left) / across)]
            panel.images[0].set_clim(distance.min(), distance.max())
        panel.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour, lw=1.8, path_effects=halo(3.6)))
        panel.plot(*was[i], marker="o", ms=9, mfc="none", **ring)
        panel.plot(*source.tracked[i], marker="o", ms=5, mfc=colour, mec="white", mew=1)
        if pairs:
            panel.plot(*pairs[i].objective, marker="D", ms=8, mfc="white", **ring)
        what = "the window" if zoom else f"iteration {k}"
        label(panel, f"drag {i}, {what}", f"{distance.min():.3g} to {distance.max():.3g}")
    return panels
