"""Buttons of the studio's panels, and the widgets that a widget is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

UNSEEN = "dragnoise-unseen"
"""The CSS class of a widget whose description is there for screen readers alone."""

UNSEEN_LABELS = f""".{UNSEEN} > .widget-label {{ position: absolute !important; width: 1px !important; height: 1px;
  min-width: 0; margin: -1px; overflow: hidden; clip-path: inset(50%) }}"""

ROW = {"flex_flow": "row wrap", "align_items": "center"}
"""The layout of a row of controls."""


def button(
    label: str,
    action: Callable[[], Any],
    *,
    icon: str = "",
    tooltip: str = "",
    width: str = "auto",
    margin: str | None = None,
    style: str = "",
) -> widgets.Button:
    """A button that calls `action()`.  width, margin: CSS.  style: "", "primary", "info", "warning" or "danger"."""
    made = widgets.Button(
        description=label, icon=icon, tooltip=tooltip, layout={"width": width, "margin": margin}, button_style=style
    )
    made.on_click(lambda _: action())
    return made


def named(widget: Any, name: str) -> Any:
    """The widget, with a name for screen readers that is not shown.  For fields without a description."""
    widget.description = name
    return widget.add_class(UNSEEN)


def all_below(widget: widgets.Widget) -> set[widgets.Widget]:
    """A widget and all that it is made of: children, layout, style, and what it holds `apart`."""
    found, new = set(), {widget}
    while new:
        found |= new
        held = [getattr(one, name) for one in new for name in one.trait_names() if not name.startswith("_")]
        held += [getattr(one, "apart", ()) for one in new]
        parts = [part for value in held for part in (value if isinstance(value, tuple | list) else [value])]
        new = {part for part in parts if isinstance(part, widgets.Widget)} - found
    return found
