"""Axes, figures, colours and marks that all plots have in common."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, withStroke
from matplotlib.ticker import MaxNLocator

from dragnoise.plots.colours import GREY, HAIR, INK
from dragnoise.validation import shown

Panels = Axes | Sequence[Axes] | np.ndarray
"""What several panels may be drawn on: one Axes to divide, or one for each."""

DOTS: dict[str, Any] = {"marker": "o", "ms": 3}


class NotebookFigure(Figure):
    """A Figure that a notebook shows whether or not pyplot has been imported there."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def one_axes(ax: Any, width: float = 6.0, height: float = 3.4) -> Axes:
    """The Axes given, or those of a new figure of so many inches; raises TypeError if it is not one."""
    if ax is None:
        return NotebookFigure(figsize=(width, height), layout="constrained").subplots()
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be a matplotlib Axes, not {type(ax).__name__}; figure.subplots() makes one.")
    return ax


def require_panels(ax: Any, count: int) -> None:
    """Raise ValueError unless it is None, one Axes to divide, or so many."""
    if ax is None or isinstance(ax, Axes):
        return
    panels = np.asarray(ax, dtype=object).ravel()
    if len(panels) != count or not all(isinstance(panel, Axes) for panel in panels):
        raise ValueError(f"ax must be one matplotlib Axes or {count} of them, not {shown(ax)}.")


def picture_panels(ax: Any, rows: int, columns: int, *, side: float = 2.1) -> np.ndarray:
    """(rows * columns,) Axes for pictures, in reading order and without ticks."""
    if ax is None:
        figure = NotebookFigure(figsize=(side * columns, (side + 0.25) * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
    elif isinstance(ax, Axes):
        ax.set_axis_off()
        width, height = 1 / (1.08 * columns - 0.08), 1 / (1.3 * rows - 0.3)
        corners = [(1.08 * width * c, 1 - height - 1.3 * height * r) for r in range(rows) for c in range(columns)]
        panels = np.array([ax.inset_axes((*corner, width, height)) for corner in corners])
    else:
        require_panels(ax, rows * columns)
        panels = np.asarray(ax, dtype=object).ravel()
    for panel in panels:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_color(HAIR)
    return panels


def style_axes(ax: Axes, xlabel: str, ylabel: str) -> Axes:
    """Label and style the axes, with a legend for two or more lines; returns them."""
    ax.set_xlabel(xlabel, color=INK)
    ax.set_ylabel(ylabel, color=INK)
    ax.grid(color=HAIR, lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(colors=GREY, labelcolor=INK, length=3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(ax.get_legend_handles_labels()[1]) > 1:
        legend = ax.legend(frameon=False, labelcolor=INK, fontsize="small", handlelength=1.4)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a branch may be called "$5"
    return ax


def label(panel: Axes, title: str, note: str) -> None:
    """A title above and a note below."""
    panel.set_title(title, color=INK, fontsize="medium", parse_math=False)
    panel.set_xlabel(note, color=GREY, fontsize="small")


def halo(width: float) -> list[Any]:
    """A white rim, in points, that keeps a line readable on any picture."""
    return [withStroke(linewidth=width, foreground="white", alpha=0.9), Normal()]
