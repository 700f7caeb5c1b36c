"""The inspector: tabs with figures of the iteration shown, and the log."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from dragnoise_widgets.pages.view_state import ViewState
from dragnoise_widgets.panels.log import Log

if TYPE_CHECKING:
    from dragnoise import DragSession
    from dragnoise_widgets.pages.page import Page

VARIABLES = {"latent": "Edited latent"}
"""The title of the page of the optimised tensor, by the tensor's name, where it is no bottleneck."""

TITLES = ("Loss", "Anchors", "Bottleneck", "Latents", "Features", "LoRA", "Log")
VARIABLE = TITLES.index("Bottleneck")


class Inspector(widgets.Tab):
    """All pages and the log; only the one that is seen is drawn.

    The pages are made when the inspector is first seen, for matplotlib takes a while to be imported.
    """

    def __init__(self, call: Callable[[Callable[[DragSession], Any]], Future[Any]], log: Log) -> None:
        self._call, self._journal = call, log
        self._pages: tuple[Page, ...] = ()
        self._dark = False
        self.visible = True
        self._view: ViewState | None = None
        super().__init__([*[widgets.HTML()] * (len(TITLES) - 1), log])
        self.add_class("dragnoise-inspector")
        for i, title in enumerate(TITLES):
            self.set_title(i, title)
        self.selected_index = 0
        self.observe(lambda _: self.show(self._view), "selected_index")

    @property
    def pages(self) -> tuple[Page, ...]:
        """The pages in order, without the log."""
        if not self._pages:
            self._make_pages()
        return self._pages

    def show(self, view: ViewState | None) -> None:
        """Bring the page that is seen up to date."""
        self._view = view
        if not self.visible:
            return
        pages, at = self.pages, self.selected_index
        self._name_variable(view)
        if view is None or at is None or at >= len(pages):
            return
        try:
            pages[at].show(view)
        except Exception as error:
            self._journal.error(f"the tab {TITLES[at]} failed", error)

    def set_dark(self, dark: bool) -> None:
        """Draw for a page with a dark theme, or with a light one."""
        self._dark = dark
        for page in self._pages:
            page.plot.dark = dark
            page.forget()
        self.show(self._view)

    def _make_pages(self) -> None:
        from dragnoise_widgets.pages import pages

        self._pages = (
            pages.loss_page(), pages.anchors_page(), pages.bottleneck_page(), pages.LatentsPage(),
            pages.FeaturesPage(self._call), pages.lora_page(),
        )  # fmt: skip
        assert len(self._pages) == len(TITLES) - 1, "each page has a title"
        for page in self._pages:
            page.plot.dark = self._dark
        self.children = [*self._pages, self._journal]

    def _name_variable(self, view: ViewState | None) -> None:
        """Call the page of the optimised tensor after it."""
        name = "" if view is None or not len(view.history) else next(iter(view.history[-1].state.tensors), "")
        title = VARIABLES.get(name, TITLES[VARIABLE])
        if self.get_title(VARIABLE) != title:
            self.set_title(VARIABLE, title)
