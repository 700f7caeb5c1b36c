"""matplotlib pictures of a session or of its snapshots: `plot_loss(session).figure` as a cell's last line.

Every function draws on the `ax` it is given and returns it; without one it makes a figure outside of pyplot,
which is not shown twice and need not be closed.  Functions of several panels take an array with one Axes
each, in reading order, or a single Axes, which is divided among them; they return the panels' Axes as a flat
array, so that `plot_bottleneck(session)[0].figure` shows in a notebook.

A session also shows where its anchors are now, after the last update, which may cost one forward of
the model; a list of snapshots costs nothing, and may be drawn while another thread runs the session.
Drags have one colour each and are numbered as in `session.drags`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dragnoise.lazy_names import lazy_names

if TYPE_CHECKING:
    from dragnoise.plots.colours import COLOURS
    from dragnoise.plots.curves import plot_anchor_motion, plot_loss
    from dragnoise.plots.features import plot_bottleneck, plot_latents, plot_similarity, principal_colours
    from dragnoise.plots.panels import NotebookFigure, Panels
    from dragnoise.plots.pictures import plot_pictures, plot_trajectory

__all__ = [
    "COLOURS",
    "NotebookFigure",
    "Panels",
    "plot_anchor_motion",
    "plot_bottleneck",
    "plot_latents",
    "plot_loss",
    "plot_pictures",
    "plot_similarity",
    "plot_trajectory",
    "principal_colours",
]

_MODULES = {
    "COLOURS": "colours", "NotebookFigure": "panels", "Panels": "panels", "plot_anchor_motion": "curves",
    "plot_bottleneck": "features", "plot_latents": "features", "plot_loss": "curves", "plot_pictures": "pictures",
    "plot_similarity": "features", "plot_trajectory": "pictures", "principal_colours": "features",
}  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
