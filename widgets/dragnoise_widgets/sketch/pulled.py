"""What a drag asks for while it is being pulled: the picture, warped without a model, the latest position wins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from dragnoise.geometry import Drag
from dragnoise.images.warp import Warp
from dragnoise_widgets.sketch import edits
from dragnoise_widgets.sketch.sketch import Move, Pull, Sketch

log = logging.getLogger(__name__)


def drags_as_pulled(sketch: Sketch) -> tuple[Drag, ...]:
    """The drags that there would be if the pointer were let go now; none while no drag is being pulled."""
    gesture = sketch.gesture
    if not isinstance(gesture, Pull | Move) or gesture.start == gesture.now:
        return ()
    return edits.release(sketch).edit.drags


class PulledPicture:
    """show: gets the warped picture, None when nothing is pulled any more.  inline: warp in the caller's thread."""

    def __init__(self, show: Callable[[Image.Image | None], Any], *, inline: bool) -> None:
        self._show, self._inline = show, inline
        self._wanted: tuple[Image.Image, Sketch] | None = None
        self._busy = False
        self._shown = False
        self._lock = threading.Lock()
        self._warp: tuple[Any, Any, Warp] | None = None  # of a picture and a mask

    def pull(self, picture: Image.Image, sketch: Sketch) -> None:
        """The pointer has moved, or was let go; returns at once."""
        with self._lock:
            self._wanted = picture, replace(sketch, past=(), future=())
            if self._busy or not (self._shown or drags_as_pulled(sketch)):
                return
            self._busy = True
        if self._inline:
            self._work()
        else:
            threading.Thread(target=self._work, name="dragnoise warp", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._wanted is None:
                    self._busy = False
                    return
                (picture, sketch), self._wanted = self._wanted, None
            try:
                drags = drags_as_pulled(sketch)
                self._shown = bool(drags)
                self._show(Image.fromarray(self._warped(picture, sketch, drags)) if drags else None)
            except Exception:  # a preview may fail; pulling must go on
                log.exception("the picture could not be warped")

    def _warped(self, picture: Image.Image, sketch: Sketch, drags: tuple[Drag, ...]) -> np.ndarray:
        mask = sketch.edit.mask
        if self._warp is None or self._warp[0] is not picture or self._warp[1] is not mask:
            self._warp = picture, mask, Warp(picture, mask=None if mask is None else mask.array)
        return self._warp[2].preview(drags)
