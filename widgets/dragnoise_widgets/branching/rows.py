"""The list of branches: a row with thumbnail, name, iterations and time for each, to be shown, renamed or deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ipywidgets as widgets
from PIL import Image

from dragnoise_widgets.controls import button, named
from dragnoise_widgets.png import png_within

SIDE = 48
"""CSS pixels of a thumbnail's longer side."""


@dataclass(frozen=True, eq=False)
class Listed:
    """name: of the session.  iterations: done.  since: when it came, `time.time()`.  picture: its newest."""

    name: str
    iterations: int
    since: float
    picture: Image.Image


class BranchRows(widgets.VBox):
    """actions: what its buttons do, by name: choose(index), forget(index), rename(index, name)."""

    children: tuple[widgets.Widget, ...]

    def __init__(self, actions: Mapping[str, Callable[..., Any]]) -> None:
        self._actions = actions
        self.rows: list[BranchRow] = []
        super().__init__()

    def show(self, listed: Sequence[Listed], chosen: int) -> None:
        """Show these; `chosen` is on the canvas."""
        while len(self.rows) < len(listed):
            self.rows.append(BranchRow(self._actions, len(self.rows)))
        for i, each in enumerate(listed):
            self.rows[i].show(each, shown=i == chosen, alone=len(listed) == 1)
        wanted = tuple(self.rows[: len(listed)])
        if wanted != self.children:
            self.children = wanted

    @property
    def apart(self) -> tuple[BranchRow, ...]:
        """The rows that there are, shown or not."""
        return tuple(self.rows)


class BranchRow(widgets.HBox):
    """One branch."""

    def __init__(self, actions: Mapping[str, Callable[..., Any]], index: int) -> None:
        self._rename = partial(actions["rename"], index)
        self._busy = False
        self._picture: Image.Image | None = None
        side = f"{SIDE}px"
        self.thumbnail = widgets.Image(
            format="png", layout={"width": "auto", "height": "auto", "max_width": side, "max_height": side}
        )
        frame = widgets.Box([self.thumbnail], layout={"width": "56px", "height": "52px", "align_items": "center"})
        field = widgets.Text(continuous_update=False, layout={"flex": "1 1 120px", "max_width": "240px"})
        self.name = named(field, f"name of branch {index}")
        self.name.observe(self._renamed, "value")
        self.about = widgets.HTML(layout={"margin": "0 8px", "flex": "0 0 auto"})
        self.choose = button("Show", partial(actions["choose"], index), tooltip="Switch to this branch", width="72px")
        self.forget = button(
            "", partial(actions["forget"], index), icon="trash", width="34px",
            tooltip=f"Delete branch {index}; what is not saved is lost",
        )  # fmt: skip
        super().__init__([frame, self.name, self.about, self.choose, self.forget], layout={"align_items": "center"})

    def show(self, listed: Listed, *, shown: bool, alone: bool) -> None:
        """Bring it in line.  shown: is it on the canvas?  alone: is it the only one, which must stay?"""
        if listed.picture is not self._picture:
            self._picture = listed.picture
            self.thumbnail.value = png_within(_small(listed.picture), (2 * SIDE, 2 * SIDE))
        self._busy = True
        try:
            self.name.value = listed.name
        finally:
            self._busy = False
        count = f"{listed.iterations} iteration{'' if listed.iterations == 1 else 's'}"
        self.about.value = f"{count} · {time.strftime('%H:%M', time.localtime(listed.since))}"
        self.choose.description = "Shown" if shown else "Show"
        self.choose.disabled, self.forget.disabled = shown, alone
        self.choose.button_style = "info" if shown else ""

    def _renamed(self, change: Any) -> None:
        if not self._busy:
            self._rename(change.new)


def _small(picture: Image.Image) -> Image.Image:
    share = 2 * SIDE / max(picture.size)
    return picture.resize(tuple(max(round(side * share), 1) for side in picture.size), Image.Resampling.LANCZOS)  # type: ignore[arg-type]
