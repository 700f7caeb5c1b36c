"""The parameters panel: a field for each number of `DragConfig`."""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

import ipywidgets as widgets

from dragnoise import DragConfig
from dragnoise.config import FRAME_FIELDS, INVERSION_FIELDS
from dragnoise_widgets.controls import ROW, button

NEEDS_INVERSION = "needs a new inversion"
STARTS_AFRESH = "starts the optimisation afresh"

PRESETS: tuple[tuple[str, str, Callable[[], DragConfig | None]], ...] = (
    ("Model's own", "The numbers recommended for this model", lambda: None),
    ("Paper", "The numbers of the paper", DragConfig),
    ("Released program", "The behaviour of the authors' program", DragConfig.released),
)
"""The buttons above the fields: label, tooltip, and what makes the config; None is the model's own."""


@dataclasses.dataclass(frozen=True)
class Meaning:
    """Of one field.  section: the heading it stands under.  text: what `DragConfig`'s docstring says of it."""

    name: str
    section: str
    text: str
    effect: str


def meanings() -> tuple[Meaning, ...]:
    """Of every field of `DragConfig`, in the docstring's order."""
    section, found = "", {}
    names: list[str] = []
    for line in inspect.cleandoc(DragConfig.__doc__ or "").splitlines():
        entry = re.match(r"( *)([a-z]\w*(?:, [a-z]\w*)*): (.*)", line)
        if entry:
            names = entry[2].split(", ")
            section = section if entry[1] else "Convention"
            found.update(dict.fromkeys(names, (section, entry[3])))
        elif re.fullmatch(r"[A-Z]\w*", line):
            section, names = line, []
        elif line.strip() and names:
            found.update({name: (found[name][0], f"{found[name][1]} {line.strip()}") for name in names})
        else:
            names = []
    fields = {field.name for field in dataclasses.fields(DragConfig)}
    return tuple(Meaning(name, *told, _effect(name)) for name, told in found.items() if name in fields)


class Parameters(widgets.VBox):
    """A row for each field: its name, a field to change it, what it means.

    change: called with (name, value) for what was typed; what it raises, or the Future that it returns, refuses it.
    preset: called with a `DragConfig` to take as a whole, None for the model's own.
    """

    def __init__(self, change: Callable[[str, Any], Any], preset: Callable[[DragConfig | None], Any]) -> None:
        self._change = change
        self._shown: DragConfig | None = None
        self._given: dict[str, Any] = {}  # typed, and not yet in a config that was shown
        self._busy = False
        self._lock = threading.RLock()  # fields are typed in on one thread and brought up to date on others
        self.fields: dict[str, widgets.Widget] = {}
        self.error = widgets.HTML()
        rows: list[widgets.Widget] = [self._presets(preset), self.error]
        section = ""
        for meaning in meanings():
            if meaning.section != section:
                section = meaning.section
                rows.append(widgets.HTML(f"<b>{section}</b>", layout={"margin": "6px 2px 0"}))
            rows.append(self._row(meaning))
        super().__init__(rows)
        self.show(DragConfig())
        self._shown = None
        for field in self.fields.values():
            field.disabled = True  # until there is a session

    def show(self, config: DragConfig) -> None:
        """Show the numbers of a config."""
        with self._lock:
            if config is self._shown:
                return
            self._shown, self._given, self._busy = config, {}, True
            try:
                for name, field in self.fields.items():
                    field.disabled = False
                    value = getattr(config, name)
                    field.value = "" if value is None else str(value) if isinstance(field, widgets.Text) else value
            finally:
                self._busy = False

    def _row(self, meaning: Meaning) -> widgets.HBox:
        field = self.fields[meaning.name] = _field(meaning.name)
        field.observe(lambda change: self._typed(meaning.name, field, change.new), "value")
        note = meaning.text + (f" [{meaning.effect}]" if meaning.effect else "")
        tag = ""
        if meaning.effect:
            tag = f'<span style="color: var(--jp-warn-color1, #b45f06)"> · {meaning.effect}</span>'
        name = f'<span title="{html.escape(note)}" style="font-family: monospace">{meaning.name}</span>'
        text = (
            f'<div title="{html.escape(note)}" style="line-height: 1.35; font-size: 12px">'
            f'<span style="opacity: 0.75">{html.escape(meaning.text)}</span>{tag}</div>'
        )
        return widgets.HBox(
            [
                widgets.HTML(name, layout={"width": "138px", "flex": "0 0 auto"}),
                field,
                widgets.HTML(text, layout={"flex": "1 1 260px", "margin": "2px 8px"}),
            ],
            layout={"align_items": "center"},
        )

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
        with self._lock:
            shown, self._shown = self._shown, None
            if shown is not None:
                self.show(shown)
            self.say(" ".join(str(error).split()))

    def say(self, message: str) -> None:
        """A line above the fields, for what was refused."""
        red = "color: var(--jp-error-color1, #d32f2f)"
        self.error.value = f'<span style="{red}">{html.escape(message)}</span>' if message else ""

    def _presets(self, preset: Callable[[DragConfig | None], Any]) -> widgets.HBox:
        return widgets.HBox(
            [
                button(label, partial(lambda make: preset(make()), make), tooltip=tooltip)
                for label, tooltip, make in PRESETS
            ],
            layout=ROW,
        )


def _field(name: str) -> widgets.Widget:
    """What one types in or chooses from, by the field's type."""
    kind = get_type_hints(DragConfig)[name]
    layout = {"width": "130px", "flex": "0 0 auto"}
    if get_origin(kind) is Literal:
        return widgets.Dropdown(options=get_args(kind), layout=layout)
    if kind is int:
        return widgets.IntText(layout=layout)
    if kind is float:
        return widgets.FloatText(layout=layout, step=0.01)
    return widgets.Text(layout=layout, placeholder="the model's own", continuous_update=False)


def _read(name: str, value: Any) -> Any:
    """What was typed as a value; only `int | None` comes as text."""
    if not isinstance(value, str) or get_origin(get_type_hints(DragConfig)[name]) is Literal:
        return value
    text = value.strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name}={text!r} must be a whole number, or empty for the model's own.") from None


def _effect(name: str) -> str:
    return NEEDS_INVERSION if name in INVERSION_FIELDS else STARTS_AFRESH if name in FRAME_FIELDS else ""
