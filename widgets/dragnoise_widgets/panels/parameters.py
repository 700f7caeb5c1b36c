"""The parameters panel: a field for each number of `DragConfig`."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import ipywidgets as widgets

from dragnoise import DragConfig
from dragnoise.config import EDITORS, FIELDS, OUR_PRESETS
from dragnoise.fields import FieldInfo
from dragnoise_widgets.controls import ROW, named

EFFECTS = {"inversion": "needs a new inversion", "optimisation": "starts the optimisation afresh"}
"""The effect of a change in words, by `FieldInfo.forgets`."""

CHANGED, OWN = "changed by hand", "the model's own"
"""Entries of the list of presets: of no preset, and of the numbers recommended for the model."""

PRESETS: dict[str, Callable[[], DragConfig]] = {
    **{name: partial(DragConfig.preset, name) for name in EDITORS | OUR_PRESETS},
    "dragnoise, released program": DragConfig.released,
}
"""The other entries of that list, and what makes the config of each."""


class Parameters(widgets.VBox):
    """A list of presets, and a row for each field: its name, a field to change it, what it means.

    change: called with (name, value) for what was typed; what it raises, or the Future that it returns, refuses it.
    preset: called with a `DragConfig` to take as a whole, None for the model's own; returns a Future as `change` does.

    Fields that the chosen editor does not read are greyed out.
    """

    def __init__(self, change: Callable[[str, Any], Any], preset: Callable[[DragConfig | None], Any]) -> None:
        self._change = change
        self._preset = preset
        self._shown: DragConfig | None = None
        self._own: DragConfig | None = None
        self._given: dict[str, Any] = {}  # typed, and not yet in a config that was shown
        self._busy = False
        self._lock = threading.RLock()  # fields are typed in on one thread and brought up to date on others
        self.fields: dict[str, widgets.Widget] = {}
        self.error = widgets.HTML()
        self.presets = widgets.Dropdown(
            options=[CHANGED, OWN, *PRESETS], description="preset", disabled=True, layout={"width": "340px"},
            style={"description_width": "initial"},
        )  # fmt: skip
        self.presets.observe(lambda change: self._chosen(change.new), "value")
        rows: list[widgets.Widget] = [widgets.HBox([self.presets], layout=ROW), self.error]
        section = ""
        for name, info in FIELDS.items():
            if info.group != section:
                section = info.group
                rows.append(widgets.HTML(f"<b>{section}</b>", layout={"margin": "6px 2px 0"}))
            rows.append(self._row(name, info))
        super().__init__(rows)
        self.show(DragConfig())
        self._shown = None
        for field in (self.presets, *self.fields.values()):
            field.disabled = True  # until there is a session

    def show(self, config: DragConfig, own: DragConfig | None = None) -> None:
        """Show the numbers of a config.  own: those recommended for the model, if there is one."""
        with self._lock:
            if config is self._shown and own == self._own:
                return
            self._shown, self._own, self._given, self._busy = config, own, {}, True
            try:
                self.presets.disabled = False
                self.presets.value = _preset_of(config, own)
                for name, field in self.fields.items():
                    field.disabled = bool(FIELDS[name].editors) and config.editor not in FIELDS[name].editors
                    value = getattr(config, name)
                    field.value = "" if value is None else str(value) if isinstance(field, widgets.Text) else value
            finally:
                self._busy = False

    def _row(self, name: str, info: FieldInfo) -> widgets.HBox:
        field = self.fields[name] = named(_field(info), name)
        field.observe(lambda change: self._typed(name, field, change.new), "value")
        effects = [f"{' and '.join(info.editors)} alone"] if info.editors else []
        effect = "; ".join([*effects, *([EFFECTS[info.forgets]] if info.forgets in EFFECTS else [])])
        meaning = f"{info.meaning} ({info.range}{', ' + info.unit if info.unit else ''})"
        note = meaning + (f" [{effect}]" if effect else "")
        tag = f'<span style="color: var(--jp-warn-color1, #b45f06)"> · {effect}</span>' if effect else ""
        label = f'<span title="{html.escape(note)}" style="font-family: monospace">{name}</span>'
        text = (
            f'<div title="{html.escape(note)}" style="line-height: 1.35; font-size: 12px">'
            f'<span style="opacity: 0.75">{html.escape(meaning)}</span>{tag}</div>'
        )
        return widgets.HBox(
            [
                widgets.HTML(label, layout={"width": "138px", "flex": "0 0 auto"}),
                field,
                widgets.HTML(text, layout={"flex": "1 1 260px", "margin": "2px 8px"}),
            ],
            layout={"align_items": "center"},
        )

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


def _preset_of(config: DragConfig, own: DragConfig | None) -> str:
    """The entry of the list of presets that a config is."""
    if config == own:
        return OWN
    return next((label for label, make in PRESETS.items() if make() == config), CHANGED)


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
