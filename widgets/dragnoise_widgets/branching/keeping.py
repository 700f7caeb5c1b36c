"""The panel of branches and files: choose, compare, forget, save, open, autosave."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets

ROW = {"flex_flow": "row wrap", "align_items": "center"}
NOTHING = "nothing"


class Keeping(widgets.VBox):
    """Which branch is shown, which one it is compared with, and a file.

    actions: what they do, by name: choose(index), forget(index), compare(index or None), save(path),
    open(path), autosave(path or None).
    """

    def __init__(self, actions: Mapping[str, Callable[..., Any]]) -> None:
        self._actions = actions
        self._busy = False
        style = {"description_width": "initial"}
        self.branch = widgets.Dropdown(description="show", layout={"width": "260px"}, style=style)
        self.branch.observe(self._chosen, "value")
        self.forget = widgets.Button(
            icon="trash", tooltip="Let go of the branch shown; what is not saved is lost", layout={"width": "34px"}
        )
        self.forget.on_click(lambda _: self._actions["forget"](self.branch.value))
        self.other = widgets.Dropdown(
            options=[(NOTHING, -1)], value=-1, description="compare with", layout={"width": "300px"}, style=style
        )
        self.other.observe(self._compared, "value")
        self.path = widgets.Text(
            value="edit.drag", description="file", style={"description_width": "28px"},
            layout={"flex": "1 1 220px", "min_width": "180px", "max_width": "420px"},
        )  # fmt: skip
        self.save_button = self._button("Save", "floppy-o", "Save everything: iterations, LoRA, drags", "save")
        self.open_button = self._button("Open", "folder-open-o", "Open a saved session beside this one", "open")
        self.autosave = widgets.Checkbox(
            False, description="save there by itself", indent=False, layout={"width": "auto"}
        )
        self.autosave.observe(self._autosaved, "value")
        self.found = widgets.HBox(layout={"display": "none", **ROW})
        super().__init__(
            [
                self.found,
                widgets.HBox([self.branch, self.forget, self.other], layout=ROW),
                widgets.HBox([self.path, self.save_button, self.open_button, self.autosave], layout=ROW),
            ]
        )

    def show(self, names: Sequence[str], chosen: int, other: int | None) -> None:
        """Show these branches; `other` is compared with the chosen one."""
        options = [(name, i) for i, name in enumerate(names)]
        self.forget.disabled = len(options) < 2
        self._busy = True
        try:
            if list(self.branch.options) != options:
                self.branch.options = options
            if self.branch.value != chosen:
                self.branch.value = chosen
            others = [(NOTHING, -1), *(option for option in options if option[1] != chosen)]
            if list(self.other.options) != others:
                self.other.options = others
            wanted = -1 if other is None else other
            if self.other.value != wanted:
                self.other.value = wanted
        finally:
            self._busy = False

    def offer(self, path: str, action: Callable[[], Any]) -> None:
        """Offer to open a file that was saved by itself."""

        def take(_: Any) -> None:
            self.found.layout.display = "none"
            action()

        button = widgets.Button(description="Open it", icon="history", button_style="info", layout={"width": "100px"})
        button.on_click(take)
        self.found.children = (
            widgets.HTML(f"An edit was saved by itself to <code>{html.escape(path)}</code>."),
            button,
        )
        self.found.layout.display = ""

    def _chosen(self, change: Any) -> None:
        if not self._busy and change.new is not None:
            self._actions["choose"](change.new)

    def _compared(self, change: Any) -> None:
        if not self._busy:
            self._actions["compare"](None if change.new == -1 else change.new)

    def _autosaved(self, change: Any) -> None:
        if not self._busy:
            self._actions["autosave"](self.path.value if change.new else None)

    def _button(self, label: str, icon: str, tooltip: str, action: str) -> widgets.Button:
        button = widgets.Button(description=label, icon=icon, tooltip=tooltip, layout={"width": "84px"})
        button.on_click(lambda _: self._actions[action](self.path.value))
        return button
