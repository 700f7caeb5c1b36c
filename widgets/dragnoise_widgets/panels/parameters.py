"""The parameters panel: presets, the six numbers that matter most, and a field for each other one of `DragConfig`."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets

from dragnoise import DragConfig
from dragnoise.config import FIELDS
from dragnoise.fields import FieldInfo
from dragnoise_widgets.controls import ROW, button, named
from dragnoise_widgets.panels.presets import CHANGED, OWN, PRESETS, base_of, main_fields, preset_of

AMBER = "var(--jp-warn-color1, #b45f06)"

EFFECTS = {"inversion": "needs a new inversion", "optimisation": "starts the optimisation afresh"}
"""The effect of a change in words, by `FieldInfo.forgets`."""


class Parameters(widgets.VBox):
    """A list of presets, and a row for each field: its name, a field to change it, what it means.

    Numbers that differ from the preset chosen last are marked, and a button goes back to it.

    change: called with (name, value) for what was typed; what it raises, or the Future that it returns, refuses it.
    preset: called with a `DragConfig` to take as a whole, None for the model's own; returns a Future as `change` does.

    Fields that the chosen editor does not read are greyed out.  They are more than half of a studio's widgets, and made
    when the panel is unfolded (`fill`) or asked for.
    """

    children: tuple[widgets.Widget, ...]

    def __init__(self, change: Callable[[str, Any], Any], preset: Callable[[DragConfig | None], Any]) -> None:
        self._change = change
        self._preset = preset
        self._shown: DragConfig | None = None
        self._own: DragConfig | None = None
        self._base: tuple[str, DragConfig] = OWN, DragConfig()  # the preset that was shown last
        self._given: dict[str, Any] = {}  # typed, and not yet in a config that was shown
        self._busy = False
        self._lock = threading.RLock()  # fields are typed in on one thread and brought up to date on others
        self._fields: dict[str, widgets.Widget] = {}  # those that have been made
        self._labels: dict[str, widgets.HTML] = {}
        self._rows: dict[str, widgets.HBox] = {}
        self._headings: dict[str, widgets.HTML] = {}
        self._parts_seen: set[str] = set()  # of "main" and "rest"
        self._notes: dict[str, str] = {}  # the tooltips, as HTML
        self.error = widgets.HTML()
        self.presets = widgets.Dropdown(
            options=[CHANGED, OWN, *PRESETS], description="preset", disabled=True, layout={"width": "340px"},
            style={"description_width": "initial"},
        )  # fmt: skip
        self.presets.observe(lambda change: self._chosen(change.new), "value")
        self.back = button("", self._go_back, tooltip="Undo all changes by hand")
        self.back.layout.visibility = "hidden"
        self.rest = widgets.Accordion([widgets.VBox()], layout={"margin": "4px 0"})
        self.rest.set_title(0, "All other numbers")
        self.rest.selected_index = None
        self.rest.observe(lambda _: self._fill_rest(), "selected_index")
        self._top = widgets.HBox([self.presets, self.back], layout=ROW)
        super().__init__([self._top, self.error, self.rest])

    @property
    def fields(self) -> dict[str, widgets.Widget]:
        """The control of each field of `DragConfig`, by name."""
        self._fill_all()
        return self._fields

    @property
    def labels(self) -> dict[str, widgets.HTML]:
        """The name of each field as it is shown, marked where it was changed."""
        self._fill_all()
        return self._labels

    def _fill_all(self) -> None:
        self.fill()
        self._fill_rest()

    def fill(self) -> None:
        """Make the fields that are seen at once."""
        self._see("main")

    def _fill_rest(self) -> None:
        self._see("rest")

    def _see(self, part: str) -> None:
        with self._lock:
            if part not in self._parts_seen:
                self._parts_seen.add(part)
                self._arrange()

    def _arrange(self) -> None:
        """Put the fields that matter for the config shown above the others, and make those that are missing."""
        main, known = main_fields(self._shown or DragConfig()), set(self._fields)
        if "main" in self._parts_seen:
            rows = [self._row(name) for name in main]
            children = (self._top, self.error, *rows, self.rest)
            if self.children != children:
                self.children = children
        if "rest" in self._parts_seen:
            rest: list[widgets.Widget] = []
            for name in (name for name in FIELDS if name not in main):
                heading = self._heading(FIELDS[name].group)
                rest += [self._row(name)] if heading in rest else [heading, self._row(name)]
            if self.rest.children[0].children != tuple(rest):
                self.rest.children[0].children = tuple(rest)
        self._show_fields(set(self._fields) - known)

    def _heading(self, group: str) -> widgets.HTML:
        if group not in self._headings:
            self._headings[group] = widgets.HTML(f"<b>{group}</b>", layout={"margin": "6px 2px 0"})
        return self._headings[group]

    def show(self, config: DragConfig, own: DragConfig | None = None) -> None:
        """Show the numbers of a config.  own: those recommended for the model, if there is one."""
        with self._lock:
            if config is self._shown and own == self._own:
                return
            self._shown, self._own, self._given = config, own, {}
            with self._by_code():
                self.presets.disabled = False
                self.presets.value = label = preset_of(config, own)
                self._base = base_of(config, own, label, self._base)
                self.back.description = f"Back to {self._base[0]}"
                self.back.layout.visibility = "visible" if label == CHANGED else "hidden"
            self._arrange()
            self._show_fields(self._fields)

    def _show_fields(self, names: Iterable[str]) -> None:
        """Bring these fields in line with the config shown; without one they cannot be used."""
        shown = self._shown
        config, changed = shown or DragConfig(), shown is not None and self.presets.value == CHANGED
        with self._by_code():
            for name in names:
                field, value = self._fields[name], getattr(config, name)
                field.disabled = shown is None or not FIELDS[name].is_read_by(config.editor)
                field.value = "" if value is None else str(value) if isinstance(field, widgets.Text) else value
                self._mark(name, changed=changed and value != getattr(self._base[1], name))

    @contextmanager
    def _by_code(self) -> Iterator[None]:
        """Context manager: changes of fields inside it are made by code, not typed."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _row(self, name: str) -> widgets.HBox:
        if name not in self._rows:
            self._rows[name] = self._make_row(name, FIELDS[name])
        return self._rows[name]

    def _make_row(self, name: str, info: FieldInfo) -> widgets.HBox:
        field = self._fields[name] = named(_field(info), name)
        field.observe(lambda change: self._typed(name, field, change.new), "value")
        effects = [f"{_listed(info.editors)} alone"] if info.editors else []
        effect = "; ".join([*effects, *([EFFECTS[info.forgets]] if info.forgets in EFFECTS else [])])
        meaning = f"{info.meaning} ({info.range}{', ' + info.unit if info.unit else ''})"
        note = meaning + (f" [{effect}]" if effect else "")
        tag = f'<span style="color: {AMBER}"> · {effect}</span>' if effect else ""
        self._labels[name] = label = widgets.HTML(layout={"width": "158px", "flex": "0 0 auto"})
        self._notes[name] = html.escape(note)
        self._mark(name, changed=False)
        text = (
            f'<div title="{html.escape(note)}" style="line-height: 1.35; font-size: 12px">'
            f'<span style="opacity: 0.75">{html.escape(meaning.replace("`", ""))}</span>{tag}</div>'
        )
        return widgets.HBox(
            [
                label,
                field,
                widgets.HTML(text, layout={"flex": "1 1 260px", "margin": "2px 8px"}),
            ],
            layout={"align_items": "center"},
        )

    def _mark(self, name: str, *, changed: bool) -> None:
        """Show the name of a field, with a dot before it where it differs from the preset."""
        weight, dot = ("bold", f'<span style="color: {AMBER}" aria-label="changed">● </span>') if changed else ("", "")
        style = f"font-family: monospace; font-weight: {weight or 'normal'}"
        text = f'<span title="{self._notes[name]}" style="{style}">{dot}{name}</span>'
        if text != self._labels[name].value:
            self._labels[name].value = text

    def _go_back(self) -> None:
        """Take the preset that was shown last."""
        self.presets.value = self._base[0]

    def _chosen(self, label: str) -> None:
        with self._lock:
            if self._busy or label == CHANGED:
                return
        self.say("")
        future = self._preset(None if label == OWN else PRESETS[label]())
        if isinstance(future, Future):
            future.add_done_callback(self._tried)
        else:
            self._show_again()

    def _typed(self, name: str, field: widgets.Widget, value: Any) -> None:
        with self._lock:
            if self._busy or self._shown is None:
                return
            try:
                wanted = _read(name, value)
                if wanted == self._given.get(name, getattr(self._shown, name)):
                    return
                future = self._change(name, wanted)
            except Exception as error:
                self._refuse(error)
                return
            self._given[name] = wanted
            self.say("")
        if isinstance(future, Future):
            future.add_done_callback(self._tried)

    def _tried(self, future: Future[Any]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self._refuse(error)

    def _refuse(self, error: BaseException) -> None:
        """Say why, and show the numbers that hold."""
        self._show_again()
        self.say(" ".join(str(error).split()))

    def _show_again(self) -> None:
        with self._lock:
            shown, self._shown = self._shown, None
            if shown is not None:
                self.show(shown, self._own)

    def say(self, message: str) -> None:
        """A line above the fields, for what was refused."""
        red = "color: var(--jp-error-color1, #d32f2f)"
        self.error.value = f'<span style="{red}">{html.escape(message)}</span>' if message else ""


def _listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c" """
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])


def _field(info: FieldInfo) -> widgets.Widget:
    """The control of a field."""
    layout = {"width": "130px", "flex": "0 0 auto"}
    if info.choices:
        return widgets.Dropdown(options=info.choices, layout=layout)
    if info.optional:
        return widgets.Text(layout=layout, placeholder="the model's own", continuous_update=False)
    return widgets.IntText(layout=layout) if info.integer else widgets.FloatText(layout=layout, step=0.01)


def _read(name: str, value: Any) -> Any:
    """The typed value; only optional whole numbers come as text."""
    if not isinstance(value, str) or not FIELDS[name].optional:
        return value
    text = value.strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name}={text!r} must be a whole number, or empty for the model's own.") from None
