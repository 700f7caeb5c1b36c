"""The layout of a studio: the transport, the pictures and curves side by side, then panels that fold away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import ipywidgets as widgets

from dragnoise_widgets.access.access import Access
from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.compare.preview import Preview
from dragnoise_widgets.export.clipboard import Clipboard
from dragnoise_widgets.export.export_panel import ExportPanel
from dragnoise_widgets.pages.curves import Curves
from dragnoise_widgets.panels.advice import Advice
from dragnoise_widgets.panels.breakpoints_panel import BreakpointsPanel
from dragnoise_widgets.panels.inspector import Inspector
from dragnoise_widgets.panels.parameters import Parameters
from dragnoise_widgets.panels.question import Question
from dragnoise_widgets.panels.transport import Transport
from dragnoise_widgets.sketch.view import NARROWEST
from dragnoise_widgets.studio.library import Library


class Parts(Protocol):
    """The widgets that are arranged."""

    access: Access
    library: Library
    canvas: DragCanvas
    preview: Preview
    curves: Curves
    stage: widgets.Box
    transport: Transport
    remarks: widgets.HTML
    advice: Advice
    question: Question
    clipboard: Clipboard
    inspector: Inspector
    parameters: Parameters
    breakpoints: BreakpointsPanel
    share: ExportPanel

    def refresh(self) -> None: ...


GAP = 14
"""CSS pixels between the pictures."""

NOTES = "38px"
"""Room kept below the pictures for a remark or an advice with its button, so that nothing moves when one comes."""

STYLE = """<style>
.dragnoise-studio .widget-button, .dragnoise-studio .jupyter-button { border-radius: 4px; padding: 0 6px }
.dragnoise-studio .widget-html-content, .dragnoise-studio .widget-html > div { line-height: 1.5 }
.dragnoise-studio .widget-label-basic { display: flex; align-items: center }
.dragnoise-transport .widget-readout { min-width: 34px }
.dragnoise-bar .progress { margin: 0 !important; height: 6px !important }
.dragnoise-line { position: relative; overflow: visible; height: 42px }
.dragnoise-line .widget-html-content { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  overflow: hidden; line-height: 21px; max-height: 42px }
.dragnoise-line:hover .widget-html-content { -webkit-line-clamp: unset; max-height: none; position: absolute;
  z-index: 8; left: 0; right: 0; background: var(--jp-layout-color0, #fff) }
.dragnoise-studio .lm-TabPanel-tabContents, .dragnoise-studio .widget-tab-contents { padding: 8px 6px }
</style>"""


def arranged(studio: Parts, *, folded: bool) -> list[widgets.Widget]:
    """The studio's parts from top to bottom.  folded: hide where pictures come from too."""
    column = {"flex": f"1 1 {NARROWEST}px", "min_width": "0", "overflow": "hidden"}
    canvas, mask_row = studio.canvas, studio.canvas.toolbar.mask_row
    canvas.children = [canvas.column]  # its table goes below the pictures, which are used more often
    canvas.column.children = [part for part in canvas.column.children if part is not mask_row]
    pictures = [widgets.VBox([part], layout=column) for part in (canvas, studio.preview)]
    studio.stage.children = [*pictures, widgets.VBox([studio.curves], layout=column | {"flex": "1 1 180px"})]

    def fit(_: Any = None) -> None:
        for each in pictures:  # no wider than its picture, which a low window makes narrow
            each.layout.max_width = f"max({NARROWEST}px, calc({canvas.view.width} + {GAP}px))"

    fit()
    canvas.observe(fit, "image")
    return [
        studio.access,
        widgets.HTML(STYLE, layout={"display": "none"}),
        _fold("Picture, prompt, model", studio.library.source, folded=folded, unfolded=studio.refresh),
        studio.transport,
        studio.stage,
        widgets.VBox([studio.question, studio.remarks, studio.advice], layout={"min_height": NOTES}),
        mask_row,
        studio.clipboard,
        studio.canvas.table,
        _fold("Inspector", studio.inspector, unfolded=studio.refresh),
        _fold("Parameters", studio.parameters, unfolded=studio.parameters.fill),
        _fold("Breakpoints", studio.breakpoints),
        _fold("Download and code", studio.share, unfolded=studio.refresh),
        _fold("Branches and files", studio.library.branches_panel, unfolded=studio.refresh),
    ]


def _fold(
    title: str, content: Any, *, folded: bool = True, unfolded: Callable[[], Any] | None = None
) -> widgets.Accordion:
    """A panel that folds away.  unfolded: brings up to date a content that minds whether it is `visible`."""
    fold = widgets.Accordion([content], layout={"margin": "2px 0"})
    fold.set_title(0, title)
    fold.selected_index = None if folded else 0
    if unfolded is not None:
        content.visible = not folded

        def toggled(change: Any) -> None:
            content.visible = change.new is not None
            unfolded()

        fold.observe(toggled, "selected_index")
    return fold
