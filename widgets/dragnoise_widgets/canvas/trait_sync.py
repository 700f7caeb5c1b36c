"""Two-way synchronisation of a canvas's traits `drags`, `mask` and `selected` with its sketch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import traitlets

from dragnoise_widgets.canvas.batch import LOCK
from dragnoise_widgets.sketch import edits
from dragnoise_widgets.sketch.masks import Mask
from dragnoise_widgets.sketch.sketch import LONE, PENDING, Sketch, Spot

NOTHING = object()


class Sure(traitlets.Any):
    """Anything but None, which traitlets would let pass unchecked."""

    allow_none = False


class Owner(Protocol):
    """The part of `DragCanvas` that publishing uses."""

    sketch: Sketch
    drags: Any
    selected: Any

    def change(self, step: Callable[[Sketch], Sketch]) -> None: ...


class TraitSync:
    """owner: whose traits are set.  own: the value that a trait is just being given from the sketch."""

    def __init__(self, owner: Owner) -> None:
        self.own: Any = NOTHING
        self._owner = owner
        self._under_way = False
        self._mask: Mask | None = None  # what the trait `mask` shows

    def publish(self) -> None:
        """Set the traits to what the sketch is by now; outside the lock, by one thread at a time.

        A call while another thread is publishing returns at once: that thread goes on until nothing differs.
        """
        with LOCK:
            if self._under_way:
                return
            self._under_way = True
        try:
            while differing := self._differing():
                for name, value in differing.items():
                    self.own = value
                    setattr(self._owner, name, value)
                    self.own = NOTHING
        except BaseException:
            self._under_way, self.own = False, NOTHING
            raise

    def adopt(self, name: str, value: Any) -> None:
        """Handle a set trait: change the sketch, unless the value came from it."""
        if name == "mask":
            self._mask = Mask.of(value)
        if value is self.own:
            self.own = NOTHING
        elif name == "drags":
            self._owner.change(partial(edits.with_drags, drags=value))
        elif name == "mask":
            self._owner.change(partial(edits.with_mask, array=value))
        elif value != PENDING or self._owner.sketch.selected not in (None, LONE):
            self._owner.change(partial(edits.select, spot=Spot(value, "objective")))

    def _differing(self) -> dict[str, Any]:
        """Traits that differ from the sketch -> their new values; if there are none, publishing is marked as ended."""
        with LOCK:
            edit, selected = self._owner.sketch.edit, self._owner.sketch.selected
            index = PENDING if selected is None else selected.index
            differing: dict[str, Any] = {}
            if self._owner.drags != edit.drags:
                differing["drags"] = edit.drags
            if self._mask != edit.mask:
                differing["mask"] = None if edit.mask is None else edit.mask.array
            if self._owner.selected != index:
                differing["selected"] = index
            self._under_way = bool(differing)
            return differing
