"""Published figures of editors on DragBench, each with its source; protocols differ by more than methods do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """md: mean distance in pixels.  fidelity: IF = 1 - LPIPS.  seconds: a point.  None where a source has none."""

    source: str
    editor: str
    md: float
    fidelity: float | None = None
    seconds: float | None = None


PAPER = "DragNoise, Fig. 12"
GEODRAG = "GeoDrag, arXiv 2509.25740"
LAZYDRAG = "LazyDrag, arXiv 2509.12203"
DRAGFLOW = "DragFlow, arXiv 2510.02253, MD within the mask, on DragBench-DR"
FLOWDRAG = "FlowDrag, ICML 2025"

FIGURES = (
    Published(PAPER, "DragNoise", 33.4, 0.89), Published(PAPER, "DragDiffusion", 34.2, 0.88),
    Published(PAPER, "FreeDrag", 55, 0.70), Published(PAPER, "DragGAN", 58, 0.69),
    Published(GEODRAG, "GeoDrag", 29.2, 0.847, 3.95), Published(GEODRAG, "FreeDrag", 30.8, 0.845, 42.9),
    Published(GEODRAG, "FastDrag", 32.1, 0.850, 3.2), Published(GEODRAG, "DragNoise", 33.8, 0.861, 21.1),
    Published(GEODRAG, "DragDiffusion", 34.6, 0.871, 22.5),
    Published(LAZYDRAG, "LazyDrag", 21.5), Published(LAZYDRAG, "GoodDrag", 22.2),
    Published(LAZYDRAG, "Inpaint4Drag", 23.7), Published(LAZYDRAG, "DiffEditor", 27.0),
    Published(LAZYDRAG, "FastDrag", 31.8), Published(LAZYDRAG, "FastDrag, nearest anchor", 28.6),
    Published(LAZYDRAG, "FreeDrag", 34.1), Published(LAZYDRAG, "DragDiffusion", 34.8),
    Published(LAZYDRAG, "DragNoise", 37.9),
    Published(DRAGFLOW, "DragFlow", 31.6), Published(DRAGFLOW, "RegionDrag", 32.3),
    Published(DRAGFLOW, "FreeDrag", 34.8), Published(DRAGFLOW, "FastDrag", 36.0),
    Published(DRAGFLOW, "InstantDrag", 36.3), Published(DRAGFLOW, "GoodDrag", 37.9),
    Published(DRAGFLOW, "DragNoise", 39.3), Published(DRAGFLOW, "DragDiffusion", 39.4),
    Published(FLOWDRAG, "FlowDrag", 22.9), Published(FLOWDRAG, "GoodDrag", 23.0),
    Published(FLOWDRAG, "DiffEditor", 28.5), Published(FLOWDRAG, "DragNoise", 33.4),
    Published(FLOWDRAG, "DragDiffusion", 33.7), Published(FLOWDRAG, "FreeDrag", 35.0),
)  # fmt: skip
"""On DragBench's 205 pictures unless the source says otherwise."""
