"""Feature maps for point tracking: the distance of every place to each anchor's initial feature (Eq. 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dragnoise.geometry import Frame
from dragnoise.semantics import Grid
from dragnoise.session.history import Snapshot
from dragnoise.session.session import DragSession
from dragnoise.validation import shown

CHANNELS_AT_ONCE = 32
"""So many channels are resized to the grid at a time, for all of them would fill the memory of a small card."""


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The supervision feature after one iteration, compared with the initial one at every anchor.

    snapshot: of the iteration.
    distance: (m, H, W) float32, || F_p - f_i ||_1 at every pixel p of the grid; small is similar.
    tracked: (m, 2) float64, image pixels: where Eq. 4 finds the anchors in it.
    windows: (m, 4) float64, left, top, right, bottom in image pixels: where Eq. 4 looks, which is
        round the anchors that the iteration began with, the outermost grid pixels included.
    frame: the sizes of the picture and the grid.
    """

    snapshot: Snapshot
    distance: np.ndarray
    tracked: np.ndarray
    windows: np.ndarray
    frame: Frame


@torch.no_grad()
def measure(session: DragSession, k: int | None = None) -> FeatureMaps:
    """The maps after iteration k, default the last; costs a forward of the decoder and changes nothing.

    Raises ValueError before there is a history, IndexError beyond it, TypeError for no session or iteration.
    """
    if not isinstance(session, DragSession):
        raise TypeError(f"give a session to measure, not {shown(session)}.")
    history = session.history
    if not history:
        raise ValueError("there are no features to compare yet; call session.step() or session.run() first.")
    snapshot = session.snapshot(len(history) - 1 if k is None else k)
    editor = session.store.engine.editor_of(session.state, snapshot)
    begun, frame, r2 = snapshot.state.anchors, editor.task.frame, editor.task.config.r2
    feature, tracked = editor.feature(snapshot.state), editor.locate(snapshot.state)
    corners = torch.cat([begun - r2 - 0.5, begun + r2 + 0.5]).double()
    return FeatureMaps(
        snapshot=snapshot,
        distance=distance_maps(feature, editor.initial_features(snapshot.state), frame.grid).cpu().numpy(),
        tracked=frame.to_image(tracked).numpy(),
        windows=np.concatenate(np.split(frame.to_image(corners).numpy(), 2), axis=1),
        frame=frame,
    )


def distance_maps(feature: Tensor, initial: Tensor, grid: Grid) -> Tensor:
    """|| F_p - f_i ||_1 at every pixel p of the grid: feature (C, h, w), initial (m, C) -> (m, height, width)."""
    distance = feature.new_zeros(len(initial), grid[1], grid[0])
    for channels, wanted in zip(feature.split(CHANNELS_AT_ONCE), initial.split(CHANNELS_AT_ONCE, 1), strict=True):
        dense = torch.nn.functional.interpolate(channels[None], distance.shape[1:], mode="bilinear")[0]
        for i, f in enumerate(wanted.to(dense)):
            distance[i] += (dense - f[:, None, None]).abs().sum(0)
    return distance
