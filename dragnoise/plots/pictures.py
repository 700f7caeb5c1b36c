"""Pictures: side by side, and with the paths of the anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from PIL import Image

from dragnoise import DragSession, Snapshot, geometry
from dragnoise.images.pictures import Picture, as_picture
from dragnoise.plots.colours import COLOURS, GREY
from dragnoise.plots.panels import Panels, halo, label, one_axes, picture_panels
from dragnoise.plots.snapshots import snapshots_of
from dragnoise.validation import shown

LARGEST = 1024
"""Pixels of the longer side of a picture that is drawn on."""


def plot_trajectory(
    source: DragSession | Sequence[Snapshot], *, image: Picture | None = None, drags: Any = None, ax: Axes | None = None
) -> Axes:
    """The picture with the path of every anchor over the iterations, in image pixels.

    A ring is where an anchor started, a dot where it is, a diamond its objective; the thin arrow is the
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
        paths = np.stack([s.anchors for s in snapshots_of(source)])
        if image is None:
            raise ValueError("snapshots hold no picture; give image=, or a session instead of the snapshots.")
        picture = as_picture(image)
    pairs = () if drags is None else geometry.as_drags(drags, picture.size)
    if drags is not None and len(pairs) != paths.shape[1]:
        raise ValueError(f"there are {len(pairs)} drags for {paths.shape[1]} anchors; give those of the snapshots.")
    ax = one_axes(ax, 5.0, 5.0 * min(max(picture.height / picture.width, 0.4), 1.6))
    show_picture(ax, picture)
    ax.autoscale(False)
    for i in range(paths.shape[1]):
        _draw_drag(ax, i, paths[:, i], pairs[i] if pairs else None)
    ax.tick_params(colors=GREY, labelsize="small", length=2.5)
    ax.spines[:].set_visible(False)
    return ax


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
        show_picture(panel, as_picture(picture))
        label(panel, name, "")
    return panels


def show_picture(ax: Axes, picture: Image.Image) -> None:
    """A picture in its own pixels' coordinates; a large one is made smaller first, for nobody sees more of it here."""
    width, height = picture.size
    small = picture.copy()
    small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    ax.imshow(np.asarray(small), extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def _draw_drag(ax: Axes, index: int, path: np.ndarray, drag: geometry.Drag | None) -> None:
    """One anchor's path (n, 2), white round everything so that it shows on dark pictures too.

    The path of an edit with a carried start begins far from the drag's anchor.
    """
    colour, away = COLOURS[index % len(COLOURS)], np.array([0.0, 1.0])
    start = float(path[0, 0]), float(path[0, 1])
    if drag is not None:
        start, objective = drag.anchor, drag.objective
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 12, "shrinkA": 6, "shrinkB": 7}
        ax.add_patch(FancyArrowPatch(start, objective, color=colour, lw=1, path_effects=halo(3), zorder=3, **arrow))
        ax.plot(*objective, marker="D", ms=9, mfc="white", mec=colour, mew=2, path_effects=halo(4), zorder=4)
        step = np.subtract(start, objective) * (1, -1)  # on the screen y goes up
        away = step / max(float(np.hypot(*step)), 1e-9)  # keeps the number off the arrow
    ax.plot(*start, marker="o", ms=11, mfc="none", mec=colour, mew=2, path_effects=halo(4.5), zorder=5)
    ax.plot(*path.T, color=colour, lw=2.2, label=f"drag {index}", path_effects=halo(4.6), zorder=6)
    ax.plot(*path[-1], marker="o", ms=6.5, mfc=colour, mec="white", mew=1.2, zorder=7)
    text: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "path_effects": halo(3), "zorder": 8}
    ax.annotate(str(index), start, tuple(14 * away), textcoords="offset points", color=colour, **text)
