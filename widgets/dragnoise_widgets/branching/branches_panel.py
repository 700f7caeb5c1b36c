"""The panel of branches and files: choose, compare, rename, delete, save, open, autosave."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets

from dragnoise_widgets.branching.rows import BranchRows, Listed
from dragnoise_widgets.controls import ROW, button

NOTHING = "nothing"


class BranchesPanel(widgets.VBox):
    """Panel with the list of branches, the branch to compare with, and the file.  visible: is it unfolded?

    actions: what they do, by name: choose(index), forget(index), rename(index, name),
    compare(index or None), save(path), open(path), autosave(path or None).
    """

    def __init__(self, actions: Mapping[str, Callable[..., Any]]) -> None:
        self._actions = actions
        self._busy = False
        style = {"description_width": "initial"}
        self.visible = True
        self.branches = BranchRows(actions)
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
        self.autosave = widgets.Checkbox(False, description="autosave there", indent=False, layout={"width": "auto"})
        self.autosave.observe(self._autosaved, "value")
        self.found = widgets.HBox(layout={"display": "none", **ROW})
        super().__init__(
            [
                self.found,
                self.branches,
                self.other,
                widgets.HBox([self.path, self.save_button, self.open_button, self.autosave], layout=ROW),
            ]
        )

    def show(
        self, listed: Callable[[], Sequence[Listed]], names: Sequence[str], chosen: int, other: int | None
    ) -> None:
        """Show these branches; `other` is compared with the chosen one.  listed: called only while this is seen."""
        if self.visible:
            self.branches.show(listed(), chosen)
        self._busy = True
        try:
            options = [(NOTHING, -1), *((name, i) for i, name in enumerate(names) if i != chosen)]
            if list(self.other.options) != options:
                self.other.options = options
            wanted = -1 if other is None else other
            if self.other.value != wanted:
                self.other.value = wanted
        finally:
            self._busy = False

    def offer(self, path: str, action: Callable[[], Any]) -> None:
        """Offer to open an autosaved file."""

        def take() -> None:
            self.found.layout.display = "none"
            action()

        told = widgets.HTML(f"An edit was autosaved to <code>{html.escape(path)}</code>.")
        self.found.children = (told, button("Open it", take, icon="history", width="100px", style="info"))
        self.found.layout.display = ""

    def _compared(self, change: Any) -> None:
        if not self._busy:
            self._actions["compare"](None if change.new == -1 else change.new)

    def _autosaved(self, change: Any) -> None:
        if not self._busy:
            self._actions["autosave"](self.path.value if change.new else None)

    def _button(self, label: str, icon: str, tooltip: str, action: str) -> widgets.Button:
        return button(label, lambda: self._actions[action](self.path.value), icon=icon, tooltip=tooltip, width="84px")
