"""Replay: thinned snapshots made whole again by running their iterations once more."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np

from dragnoise.editors.base import Editor
from dragnoise.session.history import History, Snapshot

EditorOf = Callable[[Snapshot], Editor]
"""Gives the editor of the numbers, mask and drags that a snapshot was made with."""


def whole(history: History, k: int, editor_of: EditorOf) -> Snapshot:
    """Snapshot k with its tensors, run again from the nearest iteration that has kept them.

    On the CPU that they were made on the bits are those that were let go.  On a GPU, whose backward kernels
    may add in another order each time, on another device, and after a change of torch they may not be;
    then a RuntimeWarning says so.  Raises IndexError beyond the history.
    """
    wanted = history.upto(k)
    start = max(s.iteration for s in wanted if s.is_whole)
    last, made_for, editor = wanted[start], None, None
    for thin in wanted[start + 1 :]:
        if editor is None or made_for is None or not _same_inputs(made_for, thin):
            editor, made_for = editor_of(thin), thin
        state, report = editor.advance(last.state)
        anchors = editor.task.frame.to_image(state.anchors).numpy()
        if report.losses.get("total") != thin.losses.get("total") or not np.array_equal(anchors, thin.anchors):
            warnings.warn(
                f"iteration {thin.iteration} came out a little differently than before (loss "
                f"{report.losses.get('total')!r} for {thin.loss!r}), as it may on a GPU, whose kernels add in an order "
                "that varies, and on another device or version of torch than it was first run on.",
                RuntimeWarning,
                stacklevel=3,
            )
        last = dataclasses.replace(thin, state=state)
    return last


def upto(history: History, k: int, editor_of: EditorOf) -> History:
    """The history as it was at iteration k, whose snapshot is whole."""
    then = history.upto(k)
    return then if then[-1].is_whole else History([*then[:-1], whole(history, k, editor_of)])


def _same_inputs(one: Snapshot, other: Snapshot) -> bool:
    return one.config == other.config and one.mask is other.mask and one.drags == other.drags
