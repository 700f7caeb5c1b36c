"""Factory of the buttons in the studio's panels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

ROW = {"flex_flow": "row wrap", "align_items": "center"}
"""The layout of a row of controls."""


def button(
    label: str, action: Callable[[], Any], *, icon: str = "", tooltip: str = "", width: str = "auto", style: str = ""
) -> widgets.Button:
    """A button that calls `action()`.  width: CSS.  style: "", "primary", "info", "warning" or "danger"."""
    made = widgets.Button(description=label, icon=icon, tooltip=tooltip, layout={"width": width}, button_style=style)
    made.on_click(lambda _: action())
    return made
