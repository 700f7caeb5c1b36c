"""The figures, axes and colours of the plots under their former name; see `dragnoise.plots.panels`."""

from dragnoise.plots.panels import (
    COLOURS,
    DOTS,
    GREY,
    HAIR,
    INK,
    NotebookFigure,
    Panels,
    calm,
    halo,
    label,
    one_axes,
    picture_panels,
    require_panels,
)

__all__ = [
    "COLOURS",
    "DOTS",
    "GREY",
    "HAIR",
    "INK",
    "NotebookFigure",
    "Panels",
    "calm",
    "halo",
    "label",
    "one_axes",
    "picture_panels",
    "require_panels",
]
