"""The reasons why an edit stopped short, each with its remedy as a button."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from dragnoise_widgets.controls import ROW, button

if TYPE_CHECKING:
    from dragnoise.session.diagnosis import Finding, Remedy
    from dragnoise.session.state import SessionState

BEFORE = ("short", "mask")
"""Kinds of findings whose sentences are among the remarks: of them only the remedy is shown."""


class Advice(widgets.VBox):
    """A line for each finding of `session.diagnose()`, with a button for its remedy.

    apply: what a button does, with the remedy.
    """

    children: tuple[widgets.Widget, ...]

    def __init__(self, apply: Callable[[Remedy], Any]) -> None:
        self.findings: tuple[Finding, ...] = ()
        self._apply = apply
        super().__init__(layout={"display": "none", "margin": "2px"})

    @property
    def buttons(self) -> tuple[widgets.Button, ...]:
        """Those of the remedies, in the order of the findings."""
        rows = (row for row in self.children if isinstance(row, widgets.HBox))
        return tuple(each for row in rows for each in row.children if isinstance(each, widgets.Button))

    def examine(self, state: SessionState | None, anchors: np.ndarray | None) -> None:
        """Show what `session.diagnose()` finds in a state, with the anchors after its last update; None: nothing."""
        if state is None:
            return self.show(())
        from dragnoise.session.diagnosis import diagnose

        self.show(diagnose(state, anchors=anchors))

    def show(self, findings: Sequence[Finding]) -> None:
        """Show these instead of those before."""
        if tuple(findings) == self.findings:
            return
        self.findings, gone = tuple(findings), self.children
        self.children = tuple(row for finding in findings if (row := self._row(finding)) is not None)
        self.layout.display = "" if self.children else "none"
        for row in gone:
            for part in (*row.children, row):
                part.close()

    def _row(self, finding: Finding) -> widgets.HBox | None:
        remedy = finding.remedy
        if remedy is None and finding.what in BEFORE:
            return None
        about = ", ".join(map(str, finding.drags))
        said = f"drag {about}:" if finding.what in BEFORE else finding.sentence
        parts = [widgets.HTML(html.escape(said), layout={"margin": "0 8px 0 0"})]
        if remedy is not None:
            parts.append(button(remedy.label, partial(self._apply, remedy), style="info", tooltip=finding.sentence))
        return widgets.HBox(parts, layout=ROW)
