"""Iterations: an editor's update as a snapshot, and thinned snapshots made whole again by running them once more."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable

import numpy as np
from torch import Tensor

from dragnoise.editors.base import Editor, EditState, Report
from dragnoise.geometry import Drag
from dragnoise.session.history import History, Snapshot

EditorOf = Callable[[Snapshot], Editor]
"""Gives the editor of the numbers, mask and drags that a snapshot was made with."""


def first(editor: Editor, drags: tuple[Drag, ...]) -> Snapshot:
    """The snapshot before any update."""
    return _snapshot(editor, editor.start(), Report({}, math.nan), drags, seconds=0.0)


def following(editor: Editor, last: Snapshot, drags: tuple[Drag, ...]) -> Snapshot:
    """The next iteration.  Raises FloatingPointError when a number is not finite."""
    started = time.perf_counter()
    state, report = editor.advance(last.state)
    return _snapshot(editor, state, report, drags, seconds=time.perf_counter() - started)


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
        if report.losses.get("total") != thin.losses.get("total") or not np.array_equal(
            _in_image(editor, state.anchors), thin.anchors
        ):
            warnings.warn(
                f"iteration {thin.iteration} came out a little differently than before (loss "
                f"{report.losses.get('total')!r} for {thin.loss!r}), as it may on a GPU, whose kernels add in an order "
                "that varies, and on another device or version of torch than it was first run on.",
                RuntimeWarning,
                stacklevel=3,
            )
        last = dataclasses.replace(thin, state=state)
    return last


def _snapshot(editor: Editor, state: EditState, report: Report, drags: tuple[Drag, ...], *, seconds: float) -> Snapshot:
    frame, task = editor.task.frame, editor.task
    gap = frame.to_image(task.objectives) - frame.to_image(state.anchors)
    return Snapshot(
        iteration=state.count, losses=report.losses, anchors=_in_image(editor, state.anchors),
        distances=_read_only(gap.norm(dim=-1)), grad_norm=report.grad_norm, state=state, status="running",
        seconds=seconds, config=task.config, mask=task.mask, drags=drags,
    )  # fmt: skip


def _same_inputs(one: Snapshot, other: Snapshot) -> bool:
    return one.config == other.config and one.mask is other.mask and one.drags == other.drags


def _in_image(editor: Editor, anchors: Tensor) -> np.ndarray:
    return _read_only(editor.task.frame.to_image(anchors))


def _read_only(values: Tensor) -> np.ndarray:
    array = values.numpy().astype(np.float64)
    array.flags.writeable = False
    return array
