"""Colours of a finished figure on a page with a dark theme."""

from __future__ import annotations

from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from dragnoise.plots.colours import GREY, HAIR, INK

LETTERS, FAINT, LINES = "#e3e6ea", "#a6aeb8", "#3d444d"
"""Of texts, of ticks and spines, of grids on a dark page."""

DARK = {"#000000": LETTERS, INK: LETTERS, GREY: FAINT, HAIR: LINES}
"""A colour of the plots -> the one on a dark page; all others are seen on both."""


def darken(figure: Figure) -> None:
    """Put the colours of a figure that was painted for a white page right for a dark one; its ground is the page's."""
    figure.patch.set_alpha(0)
    for axes in figure.findobj(Axes):
        _darken_axes(axes)
    for artist in figure.findobj():
        if isinstance(artist, Text | Line2D):
            _replace(artist, "color")
        elif isinstance(artist, Patch):
            _replace(artist, "edgecolor")


def _darken_axes(axes: Axes) -> None:
    if not axes.images:
        axes.patch.set_alpha(0)
    axes.tick_params(color=FAINT, labelcolor=LETTERS, grid_color=LINES)
    if (legend := axes.get_legend()) is not None:
        legend.get_frame().set_alpha(0)


def _replace(artist: Artist, name: str) -> None:
    thing: Any = artist
    colour = DARK.get(to_hex(getattr(thing, f"get_{name}")()))
    if colour is not None:
        getattr(thing, f"set_{name}")(colour)
