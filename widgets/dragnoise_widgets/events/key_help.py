"""KeyHelp: the list of keys under a canvas, which a key shows and hides."""

from __future__ import annotations

import ipywidgets as widgets

from dragnoise_widgets.events import keys


class KeyHelp(widgets.HTML):
    """Hidden at first."""

    def __init__(self) -> None:
        super().__init__(keys.help_html(), layout={"margin": "0 2px", "display": "none"})

    def toggle(self) -> None:
        """Show or hide it."""
        self.layout.display = "" if self.layout.display == "none" else "none"
