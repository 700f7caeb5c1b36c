"""Curves over the iterations: losses, and distances of the anchors to their objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from dragnoise import DragSession, Snapshot
from dragnoise.plots.colours import COLOURS, GREY, INK
from dragnoise.plots.panels import DOTS, one_axes, style_axes
from dragnoise.plots.snapshots import snapshots_of
from dragnoise.validation import as_float, shown


def plot_loss(source: DragSession | Sequence[Snapshot], *, ax: Axes | None = None) -> Axes:
    """The loss that each update was computed from (Eq. 3), from iteration 1 on.

    Where more than one part contributes, the parts are drawn too, by the editor's own names: for DragNoise with a
    mask the alignment loss (Eq. 1), and the masking loss (Eq. 2) times lambda, which add up to the loss.
    Raises ValueError before the first update.
    """
    snapshots = [s for s in snapshots_of(source) if not math.isnan(s.loss)]
    if not snapshots:
        raise ValueError(
            "there is no loss before the first update; call session.step() or session.run() first, with an editor that "
            "minimises one."
        )
    ax = one_axes(ax)
    iterations = [s.iteration for s in snapshots]
    loss = np.array([s.loss for s in snapshots])
    names = [name for name in snapshots[0].losses if name != "total"]
    parts = {name: np.array([s.losses.get(name, math.nan) for s in snapshots]) for name in names}
    if sum(bool(np.nan_to_num(part).any()) for part in parts.values()) > 1:
        for i, (name, part) in enumerate(parts.items()):
            weighted = name == "mask" and "alignment" in parts
            values, label = (loss - parts["alignment"], "λ · masking") if weighted else (part, name)
            ax.plot(iterations, values, color=COLOURS[i % len(COLOURS)], lw=1.2, label=label, **DOTS)
    ax.plot(iterations, loss, color=INK, lw=1.8, label="loss", **DOTS)
    return style_axes(ax, "iteration", "loss")


def plot_anchor_motion(
    source: DragSession | Sequence[Snapshot], *, tolerance: float | None = None, ax: Axes | None = None
) -> Axes:
    """How far each anchor is from its objective, in image pixels, at the beginning of each iteration.

    tolerance: in image pixels, marked by a dashed line; default `config.tolerance` of a session, and
        none for a list.

    A session's dotted ends lead to where the anchors are now.  Raises ValueError when there are no snapshots.
    """
    snapshots = snapshots_of(source)
    if tolerance is not None and ((far := as_float(tolerance)) is None or not 0 <= far < math.inf):
        raise ValueError(f"tolerance={shown(tolerance)} must be a finite number of image pixels, at least 0.")
    iterations = [s.iteration for s in snapshots]
    distances = np.stack([s.distances for s in snapshots])  # (n, m)
    now = None
    if isinstance(source, DragSession):
        if tolerance is None:
            tolerance = source.config.tolerance * source.state.frame.grid_step
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
    style_axes(ax, "iteration", "distance to objective (px)")
    ax.set_ylim(bottom=0)
    return ax
