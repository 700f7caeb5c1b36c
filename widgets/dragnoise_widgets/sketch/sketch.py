"""The state of a canvas: frozen dataclasses, in image pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dragnoise.geometry import Drag
from dragnoise_widgets.sketch.masks import Mask
from dragnoise_widgets.sketch.view import Point

Tool = Literal["drag", "paint", "erase"]
End = Literal["anchor", "objective", "arrow"]

TOOLS: tuple[Tool, ...] = ("drag", "paint", "erase")
ENDS: tuple[End, ...] = ("anchor", "objective")
PENDING = -1
"""The index of the lone anchor, which is of no drag yet."""


@dataclass(frozen=True)
class Edit:
    """The part of a sketch that undo restores.  pending: an anchor that waits for its objective."""

    drags: tuple[Drag, ...] = ()
    pending: Point | None = None
    mask: Mask | None = None


@dataclass(frozen=True)
class Spot:
    """An end of drag `index`, or of `PENDING` its anchor; "arrow" is its middle, which moves it as a whole."""

    index: int
    end: End


LONE = Spot(PENDING, "anchor")


@dataclass(frozen=True)
class Pull:
    """A press on an empty place: an arrow in the making, or a click."""

    start: Point
    now: Point


@dataclass(frozen=True)
class Move:
    """A press on a point or on the middle of an arrow: it goes where the pointer goes, from where it was."""

    spot: Spot
    origin: Point
    start: Point
    now: Point


@dataclass(frozen=True)
class Stroke:
    """A brush stroke under way.

    points: its way since the mask was last painted.  size: the diameter in image pixels.
    begun: is a part of the stroke painted already, as an undo step that the rest belongs to?
    """

    points: tuple[Point, ...]
    size: float
    erase: bool
    begun: bool = False


@dataclass(frozen=True)
class Sketch:
    """The state of a canvas.  size: (width, height) of the picture; past and future: for undo and redo, latest last."""

    size: tuple[int, int]
    edit: Edit = Edit()
    past: tuple[Edit, ...] = ()
    future: tuple[Edit, ...] = ()
    selected: Spot | None = None
    gesture: Pull | Move | Stroke | None = None
