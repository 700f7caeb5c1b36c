"""The gallery: six scenes of the embedded world, one for each of six kinds of drag, to begin with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from PIL import Image

import dragnoise
from dragnoise.toyland import caption, drag_cases, render
from dragnoise.toyland.cases import TUNE_SEED, DragCase
from dragnoise_widgets.controls import button
from dragnoise_widgets.png import png_within

if TYPE_CHECKING:
    from dragnoise import DragSession, Model

SIDE = 72
"""CSS pixels of a picture."""


@dataclass(frozen=True)
class Example:
    """kind, number: of a case of `toyland.drag_cases`.  hint: what to do first.  drawn: do its drags come with it?"""

    kind: str
    number: int
    title: str
    hint: str
    drawn: bool = True

    @property
    def case(self) -> DragCase:
        return _case(self.kind, self.number)


EXAMPLES = {
    example.kind: example
    for example in (
        Example("sun", 7, "Move the sun", "pull the sun to where it should be, then press Run", drawn=False),
        Example("head", 1, "Stretch the neck", "three drags move the head as one; press Run"),
        Example("turn", 0, "Turn the head", "four drags turn the face; press Run"),
        Example("ear", 0, "Raise an ear", "press Run, then erase some of the mask and run again"),
        Example("tail", 0, "Bend the tail", "press Run, and follow the anchor's path"),
        Example("creature", 0, "Move the creature", "a large drag; press Run, and see what it costs"),
    )
}
"""By kind; the first takes one pull and one click."""


@lru_cache(maxsize=16)
def _case(kind: str, number: int) -> DragCase:
    return drag_cases(kind, number + 1, seed=TUNE_SEED)[number]


def session_of(model: Model, kind: str) -> DragSession:
    """A new session on an example, with its drags and mask where they come with it."""
    example = EXAMPLES[kind]
    case = example.case
    session = dragnoise.DragSession(model, render(case.scene), prompt=caption(case.scene))
    if example.drawn:
        session.drags, session.mask = case.drags, case.mask
    return session


class Gallery(widgets.HBox):
    """A picture and a button for each example.  choose: called with an example's kind.

    The pictures are rendered when the gallery is first seen, see `show_pictures`.
    """

    def __init__(self, choose: Callable[[str], Any]) -> None:
        self._begun = False
        self.buttons: dict[str, widgets.Button] = {}
        self.pictures: dict[str, widgets.Image] = {}
        cards = []
        for kind, example in EXAMPLES.items():
            self.buttons[kind] = button(
                example.title, partial(choose, kind), tooltip=f"{example.title}: {example.hint}", width="136px"
            )
            side = f"{SIDE}px"
            picture = widgets.Image(format="png", layout={"width": side, "height": side, "margin": "0 auto"})
            self.pictures[kind] = picture
            cards.append(widgets.VBox([picture, self.buttons[kind]], layout={"margin": "0 6px 4px 0"}))
        super().__init__(cards, layout={"flex_flow": "row wrap"})
        self.add_class("dragnoise-gallery")

    def show_pictures(self, *, inline: bool) -> None:
        """Render the scenes, once in a process; inline: in the caller's thread."""
        if self._begun:
            return
        self._begun = True
        if inline:
            self._render()
        else:
            threading.Thread(target=self._render, name="dragnoise gallery", daemon=True).start()

    def _render(self) -> None:
        for kind, picture in self.pictures.items():
            picture.value = _thumbnail(kind)


@lru_cache(maxsize=16)
def _thumbnail(kind: str) -> bytes:
    return png_within(Image.fromarray(render(EXAMPLES[kind].case.scene)), (2 * SIDE, 2 * SIDE))
