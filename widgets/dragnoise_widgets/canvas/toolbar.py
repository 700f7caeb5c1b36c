"""The buttons over a canvas: tools, undo, and what belongs to the mask."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from dragnoise_widgets.controls import ROW, button
from dragnoise_widgets.sketch.masks import Mask, mask_png
from dragnoise_widgets.sketch.sketch import Sketch

NARROW, WORD = "24px", "52px"
"""Widths of a button with an icon, and of one with a word."""


class Toolbar(widgets.HBox):
    """Tools and undo; `mask_row`, to be put elsewhere, is there while one paints or has painted.

    actions: what the buttons do, by name: undo, redo, delete, fit, invert_mask, clear_mask, and
    load_mask, which gets a file's bytes.  The traits of `tool`, `brush` and `opacity` are there to be linked.
    """

    def __init__(self, actions: dict[str, Callable[..., Any]]) -> None:
        self.tool = widgets.ToggleButtons(
            options=[(name, name.lower()) for name in ("Drag", "Paint", "Erase")],
            tooltips=["Pull arrows, move points", "Paint where the picture may change", "Take paint away"],
            style={"button_width": "46px"},
            layout={"width": "auto"},
        )
        self.undo = _button("↶", "Undo (Ctrl+Z)", actions["undo"])
        self.redo = _button("↷", "Redo (Shift+Ctrl+Z)", actions["redo"])
        self.delete = _button("", "Remove the selected drag (Delete)", actions["delete"], icon="trash")
        self.fit = _button("", "Show the whole picture (F); Ctrl+wheel zooms", actions["fit"], icon="arrows-alt")
        self.fit.disabled = True
        self.brush = widgets.FloatSlider(
            min=1, max=64, step=1, description="brush", readout_format=".0f", **_slider("190px")
        )
        self.opacity = widgets.FloatSlider(
            min=0, max=1, step=0.05, description="opacity", readout=False, **_slider("140px")
        )
        self.invert = _button("Invert", "Invert the mask: swap free and held areas", actions["invert_mask"], width=WORD)
        self.clear = _button("Clear", "Remove the mask", actions["clear_mask"], width=WORD)
        self.load = widgets.FileUpload(
            accept="image/png", multiple=False, description="Load", icon="", layout={"width": WORD, "margin": "2px 1px"}
        )
        if self.load.has_trait("tooltip"):  # not in ipywidgets 7
            self.load.tooltip = "Load a mask"
        self._saved: Mask | None = None
        self.save = widgets.HTML(layout={"margin": "0"})
        self.load.observe(lambda _: self._loaded(actions["load_mask"]), "value")
        self.load.add_class("dragnoise-upload")
        self.brush.add_class("dragnoise-brush")
        styles = widgets.HTML(_STYLES, layout={"width": "4px", "margin": "0"})
        mask_tools = [self.brush, self.opacity, self.invert, self.clear, self.load, self.save]
        self.mask_row = widgets.HBox(mask_tools, layout=ROW).add_class("dragnoise-tools")
        super().__init__([self.tool, styles, self.undo, self.redo, self.delete, self.fit], layout=ROW)
        self.add_class("dragnoise-tools")

    def show(self, sketch: Sketch, *, view_only: bool) -> None:
        """Disable the buttons that would do nothing."""
        edit = sketch.edit
        for widget in (self.tool, self.load, self.brush):
            widget.disabled = view_only
        self.undo.disabled = view_only or not sketch.past
        self.redo.disabled = view_only or not sketch.future
        self.mask_row.layout.display = "none" if self.tool.value == "drag" and edit.mask is None else ""
        self.delete.disabled = view_only or (sketch.selected is None and edit.pending is None)
        self.invert.disabled = self.clear.disabled = view_only or edit.mask is None
        if edit.mask != self._saved:
            self._saved = edit.mask
            self.save.value = "" if edit.mask is None else _download(mask_png(edit.mask.array))

    def _loaded(self, load_mask: Callable[[bytes], Any]) -> None:
        data = uploaded(self.load)
        if data is not None:
            load_mask(data)


def uploaded(upload: widgets.FileUpload) -> bytes | None:
    """What was uploaded last, taken out, so that the same file can be given again; None if nothing.

    ipywidgets 7 holds a dict by file name, 8 a tuple.
    """
    files = list(upload.value.values() if isinstance(upload.value, dict) else upload.value)
    if not files:
        return None
    data = bytes(files[-1]["content"])
    upload.set_trait("value", type(upload.value)())
    return data


# A file upload counts its files after its word, a readout is wide, and a link in HTML stands a little high.
_STYLES = f"""<style>
.dragnoise-tools button {{ padding: 0 2px !important }}
.dragnoise-tools .dragnoise-save {{ padding: 0 }}
.dragnoise-upload {{ font-size: 0 }}
.dragnoise-upload::after {{ content: "Load"; font-size: var(--jp-widgets-font-size, 13px) }}
.dragnoise-brush .widget-readout {{ min-width: 30px }}
.dragnoise-save {{ display: block; width: {WORD}; margin: 2px 1px }}
</style>"""


def _button(
    label: str, tooltip: str, action: Callable[[], Any], *, icon: str = "", width: str = NARROW
) -> widgets.Button:
    return button(label, action, tooltip=tooltip, icon=icon, width=width, margin="2px 1px")


def _slider(width: str) -> dict[str, Any]:
    return {"layout": {"width": width}, "style": {"description_width": "48px"}, "continuous_update": True}


def _download(png: bytes) -> str:
    """A link that looks like a button and needs nothing of the kernel."""
    data = base64.b64encode(png).decode()
    return (
        f'<a class="jupyter-widgets jupyter-button widget-button dragnoise-save" title="Save the mask"'
        f' download="mask.png" href="data:image/png;base64,{data}">Save</a>'
    )
