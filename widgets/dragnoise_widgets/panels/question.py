"""A question to the person, with a button for each answer."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets

from dragnoise_widgets.controls import ROW, button

Answer = tuple[str, Callable[[], Any]]
"""A button's label and its action."""


class Question(widgets.HBox):
    """Hidden until `ask()`; an answer hides it again.  A new question takes the place of the one before."""

    def __init__(self) -> None:
        self.text = ""
        self.answers: tuple[widgets.Button, ...] = ()
        self._shown: tuple[widgets.Widget, ...] = ()
        frame = {"border": "1px solid var(--jp-warn-color1, #f5b041)", "padding": "2px 6px", "margin": "4px 2px"}
        super().__init__(layout={**ROW, **frame, "display": "none"})

    def ask(self, text: str, answers: Sequence[Answer]) -> None:
        """Show a question, plain text, with its answers; the first is the one to recommend."""
        gone = self._shown
        self.text = text
        self.answers = tuple(
            button(label, partial(self._answered, action), style="" if i else "info")
            for i, (label, action) in enumerate(answers)
        )
        said = widgets.HTML(html.escape(text), layout={"margin": "0 8px 0 0"})
        self._shown = (said, *self.answers)
        self.children = self._shown
        self.layout.display = ""
        for widget in gone:
            widget.close()

    def withdraw(self) -> None:
        """Hide it; it need not be answered any more."""
        self.text = ""
        self.layout.display = "none"

    def _answered(self, action: Callable[[], Any]) -> None:
        self.withdraw()
        action()
