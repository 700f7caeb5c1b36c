"""The choice of the two pictures that are compared, and of their difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from dragnoise_widgets.controls import ROW, named

GIVEN, RECONSTRUCTION, SHOWN, ITERATION, BRANCH = "given", "reconstruction", "shown", "iteration", "branch "
"""Keys of the pictures: a branch's is followed by its number."""


class Choice(widgets.HBox):
    """Two lists of pictures, a number of its own for each "iteration", and a button for the difference.

    changed: called when another picture is chosen.  compare: called with the number of a branch that is chosen on the
    left, None when it is no branch.
    """

    def __init__(self, changed: Callable[[], Any], compare: Callable[[int | None], Any]) -> None:
        self._changed, self._compare_with, self._busy = changed, compare, False
        layout = {"width": "auto", "flex": "1 1 72px", "min_width": "64px", "max_width": "170px"}
        self.left = named(widgets.Dropdown(options=[(GIVEN, GIVEN)], layout=layout), "left half of the comparison")
        self.right = named(widgets.Dropdown(options=[(SHOWN, SHOWN)], layout=layout), "right half of the comparison")
        self.number, self.other_number = (
            named(
                widgets.BoundedIntText(value=0, min=0, max=0, layout={"width": "62px", "display": "none"}),
                f"iteration of the {half} half",
            )
            for half in ("left", "right")
        )
        self.difference = widgets.ToggleButton(
            description="difference", tooltip="Show where the two differ", layout={"width": "84px"}
        )
        self.left.observe(self._left_chosen, "value")
        for field in (self.right, self.number, self.other_number, self.difference):
            field.observe(self._other_chosen, "value")
        super().__init__(
            [self.left, self.number, widgets.Label("|"), self.right, self.other_number, self.difference], layout=ROW
        )
        self.layout.max_width = "480px"
        self.add_class("dragnoise-choice")

    def show(self, names: Sequence[str], chosen: int, compared: int | None, last: int, decibels: float | None) -> None:
        """Offer what there is.  names: of the branches.  last: newest iteration.  decibels: of the reconstruction."""
        given_back = RECONSTRUCTION if decibels is None else f"{RECONSTRUCTION}, {decibels:.1f} dB"
        common = [(GIVEN, GIVEN), (given_back, RECONSTRUCTION), ("shown", SHOWN), ("iteration …", ITERATION)]
        others = [(f"branch {name}", f"{BRANCH}{i}") for i, name in enumerate(names) if i != chosen]
        self._busy = True
        try:
            left = self.left.value if not self.left.value.startswith(BRANCH) else GIVEN
            _offer(self.left, [*common, *others], left if compared is None else f"{BRANCH}{compared}")
            _offer(self.right, [*common, *others], self.right.value if len(self.right.options) > 1 else SHOWN)
            for field, number in ((self.left, self.number), (self.right, self.other_number)):
                if number.max != last:
                    number.max = last
                wanted = "" if field.value == ITERATION else "none"
                if number.layout.display != wanted:
                    number.layout.display = wanted
        finally:
            self._busy = False

    def _left_chosen(self, change: Any) -> None:
        if not self._busy:
            key = change.new
            self._compare_with(int(key.removeprefix(BRANCH)) if key.startswith(BRANCH) else None)

    def _other_chosen(self, _: Any) -> None:
        if not self._busy:
            self._changed()


def _offer(field: Any, options: list[tuple[str, str]], wanted: str) -> None:
    """Give a list these options, with `wanted` chosen if it is one of them, else the first."""
    keys = [key for _, key in options]
    value = wanted if wanted in keys else keys[0]
    if list(field.options) != options:
        field.options = options
    if field.value != value:
        field.value = value
