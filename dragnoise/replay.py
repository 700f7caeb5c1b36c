"""Snapshots that were thinned, made whole again by running their iterations once more."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from dragnoise import iteration
from dragnoise.config import DragConfig
from dragnoise.editors import DragNoise
from dragnoise.history import History, Snapshot

EditorOf = Callable[[DragConfig, np.ndarray | None], DragNoise]
"""Gives the editor of these numbers and this mask."""


def snapshot(history: History, k: int, editor_of: EditorOf) -> Snapshot:
    """Snapshot k with its bottleneck and moments, run again from the nearest iteration that has kept them.

    On the CPU that they were made on the bits are those that were let go.  On a GPU, whose backward kernels
    may add in another order each time, on another device, and after a change of torch they may not be;
    then a RuntimeWarning says so.  Raises IndexError beyond the history.
    """
    wanted = history.upto(k)
    start = max(s.iteration for s in wanted if s.is_whole)
    last, editor = wanted[start], None
    for thin in wanted[start + 1 :]:
        assert thin.config is not None
        if editor is None or editor.task.config is not thin.config or editor.task.mask is not thin.mask:
            editor = editor_of(thin.config, thin.mask)
        again = iteration.iterate(editor, last, iteration.look_ahead(editor, last, grad=True))
        if again.loss != thin.loss or not np.array_equal(again.anchors, thin.anchors):
            warnings.warn(
                f"iteration {thin.iteration} came out a little differently than before (loss {again.loss!r} for "
                f"{thin.loss!r}), as it may on a GPU, whose kernels add in an order that varies, and on another "
                "device or version of torch than it was first run on.",
                RuntimeWarning,
                stacklevel=3,
            )
        last = thin.whole(again.bottleneck, again.moments)
    return last
