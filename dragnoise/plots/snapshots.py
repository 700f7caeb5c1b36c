"""Snapshots of whatever a plot is given: a session or a list of its snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragnoise import DragSession, Snapshot
from dragnoise.validation import shown


def snapshots_of(source: Any) -> list[Snapshot]:
    """The snapshots of a session or a list, at least one, all of as many drags."""
    snapshots = source.history if isinstance(source, DragSession) else source
    if not isinstance(snapshots, Sequence) or not all(isinstance(s, Snapshot) for s in snapshots):
        raise TypeError(f"give a session or a list of its snapshots, such as session.history, not {shown(source)}.")
    if not snapshots:
        raise ValueError("there are no snapshots to plot yet; call session.step() or session.run() first.")
    if len({len(s.anchors) for s in snapshots}) > 1:
        raise ValueError("the snapshots have different numbers of anchors; give those of one session.")
    return list(snapshots)
