"""Plots that compare branches of an edit."""

from __future__ import annotations

import math
from collections.abc import Container

import numpy as np
from matplotlib.axes import Axes

from dragnoise.plots import plot_pictures
from dragnoise.plots.colours import COLOURS, GREY
from dragnoise.plots.panels import DOTS, NotebookFigure, Panels, require_panels, style_axes
from dragnoise.session.history import Snapshot
from dragnoise.session.session import DragSession
from dragnoise.validation import shown


def fork(one: DragSession, other: DragSession) -> int | None:
    """The last iteration that two sessions have in common, by their numbers; None if there is none.

    The numbers of an iteration are of before its update, so that a difference shows one later.  Raises
    TypeError if it is not a session.
    """
    _require_sessions((one, other))
    common = None
    for mine, its in zip(one.history, other.history, strict=False):
        if not _same(mine, its):
            break
        common = mine.iteration
    return common


def plot_branches(*sessions: DragSession, ax: Panels | None = None) -> np.ndarray:
    """The loss, and the mean distance of the anchors to their objectives in image pixels, a line for each session.

    What the first two have in common is shaded.  ax: two Axes in an array; default a new figure.
    Returns the (2,) array.  Raises TypeError if it is not a session, ValueError without sessions or
    iterations.
    """
    _require_sessions(sessions)
    if not all(session.history for session in sessions):
        raise ValueError("one of the sessions has no iterations to plot yet; call its session.step() first.")
    if ax is None:
        ax = NotebookFigure(figsize=(9.0, 3.2), layout="constrained").subplots(1, 2)
    panels = np.asarray(ax, dtype=object).ravel()
    if len(panels) != 2 or not all(isinstance(panel, Axes) for panel in panels):
        raise ValueError(f"ax must be two matplotlib Axes, not {shown(ax)}.")
    for i, session in enumerate(sessions):
        colour = COLOURS[i % len(COLOURS)]
        name = f" {session.name}" if session.name.startswith("_") else session.name  # "_..." has no place in a legend
        steps = [s for s in session.history if not math.isnan(s.loss)]
        panels[0].plot([s.iteration for s in steps], [s.loss for s in steps], color=colour, label=name, **DOTS)
        distances = [float(s.distances.mean()) for s in session.history]
        panels[1].plot(range(len(distances)), distances, color=colour, label=name, **DOTS)
    if len(sessions) > 1 and (common := fork(sessions[0], sessions[1])):
        for panel in panels:
            panel.axvspan(0, common, color=GREY, alpha=0.12, lw=0)
    style_axes(panels[0], "iteration", "loss")
    style_axes(panels[1], "iteration", "mean distance (px)")
    return panels


def plot_before_after(*sessions: DragSession, ax: Panels | None = None) -> np.ndarray:
    """The given picture, and what each session renders where it stands, side by side.

    ax: an Axes for each picture, or one to divide.  Returns the panels in a flat array.  Raises
    TypeError if it is not a session, ValueError without sessions or for those of different pictures.
    """
    _require_sessions(sessions)
    given = sessions[0].image
    if any(
        s.image is not given and (s.image.size, s.image.tobytes()) != (given.size, given.tobytes()) for s in sessions
    ):
        raise ValueError("the sessions edit different pictures; give branches of one edit.")
    require_panels(ax, 1 + len(sessions))  # before the rendering, which takes its time
    pictures = {"given": given}
    for session in sessions:
        k = session.history[-1].iteration if session.history else 0
        pictures[_unused(f"{session.name}, iteration {k}", pictures)] = session.render()
    return plot_pictures(pictures, ax=ax)


def _same(one: Snapshot, other: Snapshot) -> bool:
    mine, its = ((s.loss, s.alignment_loss, s.mask_loss, s.grad_norm) for s in (one, other))
    return np.array_equal(mine, its, equal_nan=True) and np.array_equal(one.anchors, other.anchors)


def _require_sessions(sessions: tuple[object, ...]) -> None:
    if not sessions:
        raise ValueError("there is nothing to compare; give at least one session, such as session, session.branch(3).")
    for session in sessions:
        if not isinstance(session, DragSession):
            raise TypeError(f"give sessions to compare, not {shown(session)}.")


def _unused(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "'"
    return name
