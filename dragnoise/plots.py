"""matplotlib pictures of a session or of its snapshots: `plot_loss(session).figure` as a cell's last line.

Every function draws on the `ax` it is given, over what is there, and returns it; without one it
makes a figure that pyplot does not know, so nothing is shown twice and nothing has to be closed.
Functions of several panels take an array with one Axes each, in reading order, or a single Axes,
which is turned off and divided among them; they return the panels' Axes as a flat array, so that
`plot_bottleneck(session)[0].figure` shows in a notebook.

A session also shows where its anchors are now, after the last update, which may cost one forward of
the model; a list of snapshots costs nothing, and may be drawn while another thread runs the session.
Drags have one colour each and are numbered as in `session.drags`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image
from torch import Tensor

from dragnoise import feature_maps, geometry
from dragnoise.feature_maps import FeatureMaps
from dragnoise.given import as_float, shown
from dragnoise.panels import (
    COLOURS,
    DOTS,
    GREY,
    INK,
    Panels,
    calm,
    halo,
    label,
    one_axes,
    picture_panels,
)
from dragnoise.pictures import Picture, as_picture
from dragnoise.session import DragSession
from dragnoise.session.history import Snapshot

LARGEST = 1024
"""Pixels of the longer side of a picture that is drawn on."""

# ------------------------------------------------------------------------------ over iterations


def plot_loss(source: DragSession | Sequence[Snapshot], *, ax: Axes | None = None) -> Axes:
    """The loss that each update was computed from (Eq. 3), from iteration 1 on.

    Where a mask contributes, its two parts are drawn too: the alignment loss (Eq. 1) and the masking
    loss (Eq. 2) times lambda; they add up to the loss.  Raises ValueError before the first update.
    """
    snapshots = [s for s in _snapshots(source) if not math.isnan(s.loss)]
    if not snapshots:
        raise ValueError("there is no loss before the first update; call session.step() or session.run() first.")
    ax = one_axes(ax)
    iterations = [s.iteration for s in snapshots]
    loss, alignment = np.array([[s.loss, s.alignment_loss] for s in snapshots]).T
    if any(s.mask_loss for s in snapshots):
        ax.plot(iterations, alignment, color=COLOURS[0], lw=1.2, label="alignment", **DOTS)
        ax.plot(iterations, loss - alignment, color=COLOURS[1], lw=1.2, label="λ · masking", **DOTS)
    ax.plot(iterations, loss, color=INK, lw=1.8, label="loss", **DOTS)
    return calm(ax, "iteration", "loss")


def plot_anchor_motion(
    source: DragSession | Sequence[Snapshot], *, tolerance: float | None = None, ax: Axes | None = None
) -> Axes:
    """How far each anchor is from its objective, in image pixels, at the beginning of each iteration.

    tolerance: in image pixels, marked by a dashed line; default `config.tolerance` of a session, and
        none for a list.

    A session's dotted ends lead to where the anchors are now.  Raises ValueError when there are no snapshots.
    """
    snapshots = _snapshots(source)
    if tolerance is not None and ((far := as_float(tolerance)) is None or not 0 <= far < math.inf):
        raise ValueError(f"tolerance={shown(tolerance)} must be a finite number of image pixels, at least 0.")
    iterations = [s.iteration for s in snapshots]
    distances = np.stack([s.distances for s in snapshots])  # (n, m)
    now = None
    if isinstance(source, DragSession):
        if tolerance is None:
            tolerance = source.config.tolerance * source.frame.grid_step
        if iterations[-1] > 0:
            now = np.linalg.norm(np.array([d.objective for d in source.drags]) - source.anchors, axis=-1)
    ax = one_axes(ax)
    for i, distance in enumerate(distances.T):
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(iterations, distance, color=colour, lw=1.8, label=f"drag {i}", **DOTS)
        if now is not None:
            x, y = [iterations[-1], iterations[-1] + 1], [distance[-1], now[i]]
            ax.plot(x, y, color=colour, lw=1.4, ls=":", marker="o", markevery=[1], ms=5, mfc="white")
    if tolerance is not None:
        ax.axhline(tolerance, color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
        place = ax.get_yaxis_transform()  # x in parts of the axes, y in pixels
        ax.text(0.01, tolerance, "arrived", color=GREY, fontsize="small", va="bottom", transform=place)
    calm(ax, "iteration", "distance to objective (px)")
    ax.set_ylim(bottom=0)
    return ax


# ------------------------------------------------------------------------------- on the picture


def plot_trajectory(
    source: DragSession | Sequence[Snapshot], *, image: Picture | None = None, drags: Any = None, ax: Axes | None = None
) -> Axes:
    """The picture with the path of every anchor over the iterations, in image pixels.

    A ring is where an anchor started, a dot where it is, a star its objective; the thin arrow is the
    drag that was asked for.  A session with drags but no iterations yet shows just those.

    image: what to draw on; default the session's picture, whose size it must have.  Snapshots have
        no picture, so a list of them needs it.
    drags: as `session.drags` takes them; without, a list of snapshots shows no objectives.

    Raises ValueError when there are no drags or snapshots, the picture is missing or of another
    size, or the drags are not as many as the anchors.
    """
    if isinstance(source, DragSession):
        if not source.drags:
            raise ValueError("there are no drags to plot; set session.drags first.")
        picture = source.image if image is None else as_picture(image)
        if picture.size != source.image.size:
            raise ValueError(f"image has size {picture.size}, not {source.image.size} as the session's picture has.")
        paths = np.stack([*(s.anchors for s in source.history), source.anchors])  # (n, m, 2)
        drags = source.drags if drags is None else drags
    else:
        paths = np.stack([s.anchors for s in _snapshots(source)])
        if image is None:
            raise ValueError("snapshots hold no picture; give image=, or a session instead of the snapshots.")
        picture = as_picture(image)
    pairs = () if drags is None else geometry.as_drags(drags, picture.size)
    if drags is not None and len(pairs) != paths.shape[1]:
        raise ValueError(f"there are {len(pairs)} drags for {paths.shape[1]} anchors; give those of the snapshots.")
    ax = one_axes(ax, 5.0, 5.0 * min(max(picture.height / picture.width, 0.4), 1.6))
    _show(ax, picture)
    ax.autoscale(False)
    for i in range(paths.shape[1]):
        _draw_drag(ax, i, paths[:, i], pairs[i].objective if pairs else None)
    ax.tick_params(colors=GREY, labelsize="small", length=2.5)
    ax.spines[:].set_visible(False)
    return ax


def _show(ax: Axes, picture: Image.Image) -> None:
    """A picture in its own pixels' coordinates; a large one is made smaller first, for nobody sees more of it here."""
    width, height = picture.size
    small = picture.copy()
    small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    ax.imshow(np.asarray(small), extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def _draw_drag(ax: Axes, index: int, path: np.ndarray, objective: tuple[float, float] | None) -> None:
    """One anchor's path (n, 2), white round everything so that it shows on dark pictures too."""
    colour, start, away = COLOURS[index % len(COLOURS)], path[0], np.array([0.0, 1.0])
    if objective is not None:
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 12, "shrinkA": 6, "shrinkB": 7}
        ax.add_patch(FancyArrowPatch(start, objective, color=colour, lw=1, path_effects=halo(3), zorder=3, **arrow))
        ax.plot(*objective, marker="*", ms=17, mfc="white", mec=colour, mew=1.5, path_effects=halo(3.6), zorder=4)
        step = np.subtract(start, objective) * (1, -1)  # on the screen y goes up
        away = step / max(float(np.hypot(*step)), 1e-9)  # keeps the number off the arrow
    ax.plot(*start, marker="o", ms=11, mfc="none", mec=colour, mew=2, path_effects=halo(4.5), zorder=5)
    ax.plot(*path.T, color=colour, lw=2.2, label=f"drag {index}", path_effects=halo(4.6), zorder=6)
    ax.plot(*path[-1], marker="o", ms=6.5, mfc=colour, mec="white", mew=1.2, zorder=7)
    text: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "path_effects": halo(3), "zorder": 8}
    ax.annotate(str(index), start, tuple(14 * away), textcoords="offset points", color=colour, **text)


# --------------------------------------------------------------------------- what the model sees


def plot_bottleneck(source: DragSession | Sequence[Snapshot], *, ax: Panels | None = None) -> np.ndarray:
    """The bottleneck of the first and the last snapshot, and their difference, in six panels.

    Upper row: the norm over channels at every place, before and after on one scale, and the norm of
    the difference; the range is written below.  Lower row: the first three principal components as
    red, green and blue, found on both together so that colours compare; in their difference grey
    means no change.

    ax: six Axes in an array, or one to divide.  Returns the (6,) array in reading order.  Raises
    ValueError without snapshots, or for bottlenecks of two shapes.
    """
    snapshots = _snapshots(source)
    first, last = snapshots[0], snapshots[-1]
    before, after = first.bottleneck[0].float(), last.bottleneck[0].float()  # (C, h, w)
    if before.shape != after.shape:
        raise ValueError(f"bottlenecks of {tuple(before.shape)} and {tuple(after.shape)} have no difference.")
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
        done = source.trajectory or (source.latents,)
        step = len(done) - 1 if step is None else step
        if isinstance(step, bool) or not isinstance(step, int | np.integer):
            raise TypeError(f"a step of the inversion is a whole number, not {shown(step)}.")
        if not 0 <= step < len(done):
            raise ValueError(
                f"step {shown(step)} is not among the done 0..{len(done) - 1}; go through session.invert() first."
            )
        source = done[step]
    elif not isinstance(source, Tensor):
        raise TypeError(f"give a session or a latent such as session.latents, not {shown(source)}.")
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
    source: DragSession | FeatureMaps, *, iteration: int | None = None, drags: Any = None, ax: Panels | None = None
) -> np.ndarray:
    """What point tracking sees (Eq. 4), a panel for each anchor: light where the feature is like its initial one.

    The square is the window of half side r2 that is searched, the ring where the anchor was, the dot
    where it is found; the star is the objective.  Below stands the range of the L1 distance.

    source: a session, which costs one forward of the decoder, or what `feature_maps.measure` made of it.
    iteration: of the session; default the last.  drags: for maps, to show the objectives.
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
    corners = source.frame.to_image(torch.tensor([(-0.5, -0.5), (w - 0.5, h - 0.5)]))
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
        panel.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour, lw=1.8, path_effects=halo(3.6)))
        panel.plot(*was[i], marker="o", ms=9, mfc="none", **ring)
        panel.plot(*source.tracked[i], marker="o", ms=5, mfc=colour, mec="white", mew=1)
        if pairs:
            panel.plot(*pairs[i].objective, marker="*", ms=13, mfc="white", **ring)
        label(panel, f"drag {i}, iteration {k}", f"{distance.min():.3g} to {distance.max():.3g}")
    return panels


def plot_pictures(pictures: Mapping[str, Picture], *, ax: Panels | None = None) -> np.ndarray:
    """Pictures side by side under their names, {name: path, PIL image or array} -> one Axes each.

    Raises ValueError when there are none.
    """
    if not isinstance(pictures, Mapping):
        raise TypeError(f"give {{name: picture}} to plot, not {shown(pictures)}.")
    if not pictures:
        raise ValueError("there are no pictures to plot; give {name: picture}.")
    panels = picture_panels(ax, 1, len(pictures), side=3.2)
    for panel, (name, picture) in zip(panels, pictures.items(), strict=True):
        _show(panel, as_picture(picture))
        label(panel, name, "")
    return panels


# ----------------------------------------------------------------- what is given and drawn on


def _snapshots(source: Any) -> list[Snapshot]:
    """The snapshots of a session or a list, at least one, all of as many drags."""
    snapshots = source.history if isinstance(source, DragSession) else source
    if not isinstance(snapshots, Sequence) or not all(isinstance(s, Snapshot) for s in snapshots):
        raise TypeError(f"give a session or a list of its snapshots, such as session.history, not {shown(source)}.")
    if not snapshots:
        raise ValueError("there are no snapshots to plot yet; call session.step() or session.run() first.")
    if len({len(s.anchors) for s in snapshots}) > 1:
        raise ValueError("the snapshots have different numbers of anchors; give those of one session.")
    return list(snapshots)
