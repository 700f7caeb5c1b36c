"""The figure of a run in the manner of the paper's Fig. 12: distance against fidelity, editors as points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dragnoise.bench.reports.published import FIGURES
from dragnoise.plots.colours import COLOURS, INK
from dragnoise.plots.panels import NotebookFigure, style_axes

MARKERS = "os^Dv"
"""Of the published figures' sources, in the order of `FIGURES`."""

WORDS = {"md": "mean distance MD (px)", "m_md": "mean distance within the mask m-MD (px)",
         "regiondrag_md": "RegionDrag's MD", "if": "image fidelity IF",
         "input_ssim": "SSIM to the given picture", "input_outside_psnr": "PSNR outside the mask (dB)"}  # fmt: skip


def distance_and_fidelity(
    records: Sequence[dict[str, Any]], distance: str = "md", fidelity: str = "if", *, published: bool = True
) -> NotebookFigure:
    """Each editor as a point: its mean distance against its mean fidelity; better is to the left and up.

    distance, fidelity: names of metrics.  published: those that have both, as hollow points, with their source: in the
    same axes for "md" and "if", otherwise in axes of their own, for their numbers mean something else.
    Raises ValueError where no record has both metrics.
    """
    points: dict[str, list[tuple[float, float, int]]] = {}
    for record in records:
        found = record["metrics"]
        if distance in found and fidelity in found:
            pairs = np.atleast_1d(found[distance])
            points.setdefault(record["editor"], []).append((float(pairs.sum()), found[fidelity], len(pairs)))
    if not points:
        known = sorted({name for record in records for name in record["metrics"]})
        raise ValueError(
            f"no result has both {distance!r} and {fidelity!r}; give two of {', '.join(known) or 'a run with results'}."
        )
    together = (distance, fidelity) == ("md", "if")
    apart = published and not together
    figure = NotebookFigure(figsize=(11.0 if apart else 7.0, 4.4), layout="constrained")
    axes = figure.subplots(1, 2 if apart else 1, squeeze=False).ravel()
    named: list[tuple[Axes, str, tuple[float, float]]] = []
    for i, (editor, some) in enumerate(sorted(points.items())):
        sums, likeness, counts = np.array(some, float).T
        place = float(sums.sum() / counts.sum()), float(likeness.mean())
        axes[0].plot(*place, "o", color=COLOURS[i % len(COLOURS)], ms=8, mec="white")
        named.append((axes[0], editor, place))
    if published:
        named += _published(axes[-1])
    for ax in axes:
        style_axes(ax, WORDS.get(distance, distance), WORDS.get(fidelity, fidelity))
        ax.margins(0.18, 0.12)
        _write([(text, place) for of, text, place in named if of is ax], ax)
    if apart:
        axes[0].set_title("this run", color=INK, fontsize="medium")
        axes[1].set_title("published, DragBench with Stable Diffusion", color=INK, fontsize="medium")
        style_axes(axes[1], WORDS["md"], WORDS["if"])
    return figure


def _published(ax: Axes) -> list[tuple[Axes, str, tuple[float, float]]]:
    """Draw the published points that have a distance and a fidelity, a marker for each source; gives their names."""
    named = []
    both = [p for p in FIGURES if p.fidelity is not None]
    for marker, source in zip(MARKERS, dict.fromkeys(p.source for p in both), strict=False):
        some = [(p.md, p.fidelity or 0.0, p.editor) for p in both if p.source == source]
        x, y, _ = zip(*some, strict=True)
        ax.plot(x, y, marker, mfc="none", color=INK, ms=7, ls="none", label=source)
        named += [(ax, editor, (md, fidelity)) for md, fidelity, editor in some]
    return named


def _write(named: Sequence[tuple[str, tuple[float, float]]], ax: Axes) -> None:
    """Names beside their points, each on the first side where it covers no other name and no point, if there is one."""
    ax.autoscale_view()
    points = [ax.transData.transform(place) for _, place in named]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for (text, place), (x, y) in zip(named, points, strict=True):
        width, boxes = 6.5 * len(text), []
        for dx, dy in (
            (9, 0),
            (-9 - width, 0),
            (-width / 2, 13),
            (-width / 2, -13),
            (9, 12),
            (9, -12),
            (9, 24),
            (9, -24),
        ):
            boxes.append((x + dx, y + dy - 6, x + dx + width, y + dy + 6))
        free = [box for box in boxes if not any(_overlap(box, other) for other in taken)]
        left, low, *_ = box = (free or boxes)[0]
        taken.append(box)
        scale = 72 / ax.figure.dpi
        ax.annotate(
            text, place, ((left - x) * scale, (low + 6 - y) * scale), textcoords="offset points", fontsize="small",
            color=INK, va="center", parse_math=False,
        )  # fmt: skip


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
