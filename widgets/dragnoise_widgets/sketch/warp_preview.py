"""Preview of a drag while it is being pulled: the picture warped without a model, for the latest position only."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from dragnoise.geometry import Drag
from dragnoise.identity import Identity
from dragnoise.images.warp import REACH, Warp
from dragnoise_widgets.sketch import edits
from dragnoise_widgets.sketch.sketch import Move, Pull, Sketch

log = logging.getLogger(__name__)

LARGEST = 512
"""A larger picture is warped at this many pixels on its longer side: it is seen no larger than 640, at ten frames a
second or more."""


def drags_if_released(sketch: Sketch) -> tuple[Drag, ...]:
    """The drags that there would be if the pointer were let go now; none while no drag is being pulled."""
    gesture = sketch.gesture
    if not isinstance(gesture, Pull | Move) or gesture.start == gesture.now:
        return ()
    return edits.release(sketch).edit.drags


class WarpPreview:
    """show: gets the warped picture, None when nothing is pulled any more.  inline: warp in the caller's thread.

    reach: gives how far the drags move things where there is no mask, see `Warp`.
    """

    def __init__(
        self,
        show: Callable[[Image.Image | None], Any],
        reach: Callable[[Sequence[Drag]], float] = lambda drags: 0.0,
        *,
        inline: bool,
    ) -> None:
        self._show, self._reach, self._inline = show, reach, inline
        self._wanted: tuple[Image.Image, Sketch] | None = None
        self._busy = False
        self._shown = False
        self._lock = threading.Lock()
        self._warp: tuple[tuple[Any, ...], Warp] | None = None  # of a picture and a mask

    def pull(self, picture: Image.Image, sketch: Sketch) -> None:
        """The pointer has moved, or was let go; returns at once."""
        with self._lock:
            self._wanted = picture, replace(sketch, past=(), future=())
            if self._busy or not (self._shown or drags_if_released(sketch)):
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
                drags = drags_if_released(sketch)
                self._shown = bool(drags)
                self._show(Image.fromarray(self._warped(picture, sketch, drags)) if drags else None)
            except Exception:  # a preview may fail; pulling must go on
                log.exception("the picture could not be warped")

    def _warped(self, picture: Image.Image, sketch: Sketch, drags: tuple[Drag, ...]) -> np.ndarray:
        mask = sketch.edit.mask
        key = Identity(picture), Identity(mask)
        if self._warp is None or key != self._warp[0]:
            small = reduced_size(picture.size)
            array = None if mask is None else mask.array
            if small != picture.size and array is not None:
                array = np.asarray(Image.fromarray(array).resize(small, Image.Resampling.NEAREST))
            self._warp = key, Warp(picture.resize(small, reducing_gap=2.0), mask=array)
        warp = self._warp[1]
        warp.reach = self._reach(drags) or REACH
        return warp.preview(resized_drags(drags, picture.size, warp.size))


def reduced_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height), no longer than `LARGEST`."""
    share = min(LARGEST / max(size), 1.0)
    return max(round(size[0] * share), 1), max(round(size[1] * share), 1)


def resized_drags(drags: tuple[Drag, ...], size: tuple[int, int], small: tuple[int, int]) -> list[Drag]:
    """The drags of a picture of `size` on the same picture in another size, both (width, height)."""

    def moved(point: tuple[float, float]) -> tuple[float, float]:
        x, y = ((p + 0.5) * b / a - 0.5 for p, a, b in zip(point, size, small, strict=True))
        return min(max(x, 0.0), small[0] - 1.0), min(max(y, 0.0), small[1] - 1.0)

    return [Drag(moved(drag.anchor), moved(drag.objective)) for drag in drags]
