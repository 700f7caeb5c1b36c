"""Table of the points' coordinates, which can be typed, also on pages that send no mouse events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from dragnoise_widgets.canvas.drawing import ANCHOR, OBJECTIVE
from dragnoise_widgets.controls import button, named
from dragnoise_widgets.sketch import edits
from dragnoise_widgets.sketch.sketch import ENDS, PENDING, Sketch, Spot
from dragnoise_widgets.sketch.view import Point

NUMBER, FIELD = "34px", "72px"


class PointTable(widgets.VBox):
    """A row for each drag, and one for the lone anchor.

    actions: what its fields and buttons do, by name: put(spot, axis, value) for a coordinate that was
    typed, axis 0 is x; select(spot), delete(index), add().
    """

    children: tuple[widgets.Widget, ...]

    def __init__(self, actions: dict[str, Callable[..., Any]]) -> None:
        self._actions = actions
        self._rows: list[_Row] = []
        self._lone = _Row(actions, PENDING)
        self._head = widgets.HTML(_HEAD, layout={"margin": "0"})
        self.add = button("Add a drag", actions["add"], icon="plus", tooltip="A drag to be typed over", width="120px")
        super().__init__([self._head, self.add])
        self.add_class("dragnoise-table")

    @property
    def rows(self) -> tuple[_Row, ...]:
        """The rows shown, as many as there are drags, then the lone anchor's if there is one."""
        return tuple(child for child in self.children if isinstance(child, _Row))

    @property
    def apart(self) -> tuple[_Row, ...]:
        """The rows that there are, shown or not."""
        return (*self._rows, self._lone)

    def show(self, sketch: Sketch, *, view_only: bool) -> None:
        """Bring the numbers in line."""
        drags = sketch.edit.drags
        while len(self._rows) < len(drags):
            self._rows.append(_Row(self._actions, len(self._rows)))
        shown = self._rows[: len(drags)] + ([self._lone] if sketch.edit.pending is not None else [])
        for row in shown:
            row.show(sketch, view_only=view_only)
        head = [self._head] if shown else []
        if (children := (*head, *shown, self.add)) != self.children:
            self.children = children
        self.add.disabled = view_only


class _Row(widgets.HBox):
    def __init__(self, actions: dict[str, Callable[..., Any]], index: int) -> None:
        self._index, self._busy = index, False
        ends = ENDS[:1] if index == PENDING else ENDS
        spot = Spot(index, ends[-1])
        self.number = button("", lambda: actions["select"](spot), tooltip=f"Select {_drag(index)}", width=NUMBER)
        self.fields = {(end, axis): self._field(actions, Spot(index, end), axis) for end in ends for axis in (0, 1)}
        fields = list(self.fields.values())
        to = widgets.HTML("→" if len(ends) > 1 else "→ now its objective", layout={"margin": "0 4px"})
        self.remove = button(
            "", lambda: actions["delete"](index), icon="times", tooltip=f"Remove {_drag(index)}", width=NUMBER
        )
        super().__init__([self.number, *fields[:2], to, *fields[2:], self.remove], layout={"align_items": "center"})

    def _field(self, actions: dict[str, Callable[..., Any]], spot: Spot, axis: int) -> Any:
        name = f"{'xy'[axis]} of the {spot.end} of {_drag(spot.index)}"
        field = named(widgets.BoundedFloatText(min=0, max=0, layout={"width": FIELD}), name)

        def typed(change: Any) -> None:
            if not self._busy:
                actions["put"](spot, axis, change.new)

        field.observe(typed, "value")
        return field

    def show(self, sketch: Sketch, *, view_only: bool) -> None:
        selected = sketch.selected is not None and sketch.selected.index == self._index
        self.number.description = str(self._index if self._index >= 0 else len(sketch.edit.drags))
        self.number.button_style = "warning" if selected else ""
        self.number.disabled = self.remove.disabled = view_only
        self._busy = True
        try:
            for (end, axis), field in self.fields.items():
                point: Point = edits.place(sketch.edit, Spot(self._index, end))
                field.max, field.disabled = sketch.size[axis] - 1, view_only
                field.value = round(point[axis], 2)
        finally:
            self._busy = False


def _drag(index: int) -> str:
    return "the lone anchor" if index == PENDING else f"drag {index}"


def _title(colour: str, mark: str, text: str) -> str:
    return f'<span style="width: 156px; text-align: center"><span style="color: {colour}">{mark}</span> {text}</span>'


_HEAD = (
    f'<div style="display: flex; padding-left: 38px; gap: 18px; line-height: 20px">'
    f"{_title(ANCHOR, '●', 'anchor x, y')}{_title(OBJECTIVE, '◆', 'objective x, y')}</div>"
)
