"""The inspector: tabs with figures of the iteration shown, and the log."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ipywidgets as widgets

from dragnoise import DragSession
from dragnoise_widgets.pages import pages
from dragnoise_widgets.pages.page import Sight
from dragnoise_widgets.panels.log import Log

VARIABLES = {"latent": "Edited latent"}
"""The title of the page of the optimised tensor, by the tensor's name, where it is no bottleneck."""


class Inspector(widgets.Tab):
    """All pages and the log; only the one that is seen is drawn."""

    def __init__(self, call: Callable[[Callable[[DragSession], Any]], Future[Any]], log: Log) -> None:
        self._variable = pages.bottleneck_page()
        self.pages = (
            pages.loss_page(), pages.anchors_page(), self._variable, pages.LatentsPage(), pages.FeaturesPage(call),
            pages.lora_page(),
        )  # fmt: skip
        self._journal = log
        self.visible = True
        self._sight: Sight | None = None
        super().__init__([*self.pages, log])
        self.add_class("dragnoise-inspector")
        for i, title in enumerate([*(page.title for page in self.pages), "Log"]):
            self.set_title(i, title)
        self.selected_index = 0
        self.observe(lambda _: self.show(self._sight), "selected_index")

    def show(self, sight: Sight | None) -> None:
        """Bring the page that is seen up to date."""
        self._sight = sight
        self._name_variable(sight)
        at = self.selected_index
        if sight is None or not self.visible or at is None or at >= len(self.pages):
            return
        try:
            self.pages[at].show(sight)
        except Exception as error:
            self._journal.error(f"the tab {self.pages[at].title} failed", error)

    def set_dark(self, dark: bool) -> None:
        """Draw for a page with a dark theme, or with a light one."""
        for page in self.pages:
            page.plot.dark = dark
            page.forget()
        self.show(self._sight)

    def _name_variable(self, sight: Sight | None) -> None:
        """Call the page of the optimised tensor after it."""
        name = "" if sight is None or not len(sight.history) else next(iter(sight.history[-1].state.tensors), "")
        title = VARIABLES.get(name, self._variable.title)
        at = self.pages.index(self._variable)
        if self.get_title(at) != title:
            self.set_title(at, title)
