"""Efficiency (Fig. 8): DragNoise and DragDiffusion from one inversion, and the ratio of their iterations over drags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dragnoise.config import DragConfig
from dragnoise.models.model import Model, load_model
from dragnoise.plots.colours import COLOURS
from dragnoise.plots.panels import NotebookFigure, style_axes
from dragnoise.studies.bootstrap import Interval, interval
from dragnoise.studies.comparison import Comparison, plot_distances
from dragnoise.studies.editing import Edit, edits
from dragnoise.studies.sweep import sweep
from dragnoise.toyland.cases import TUNE_SEED, drag_cases
from dragnoise.toyland.scenes import caption, render
from dragnoise.toyland.suite import PAPER


def pair(model: Model) -> dict[str, DragConfig]:
    """DragNoise and DragDiffusion with the numbers of the model, so that one inversion serves both.

    Both as the paper describes them: convention "paper", the same iterations, windows and tolerance; the rates are
    DragDiffusion's published one and the model's own for a bottleneck.
    """
    usual = model.default_config
    noise = usual if usual.start == "inverted" else usual.replace(**PAPER)
    diffusion = noise.replace(editor="dragdiffusion", lr=0.01, eps=1e-8, max_iterations=80, r1=1, r2=3, mask_weight=0.1)
    return {"dragnoise": noise.replace(max_iterations=80), "dragdiffusion": diffusion}


def iterations_to(distances: np.ndarray, share: float) -> int | None:
    """Updates until the mean distance is at most `share` of what it was, None if never; distances (n + 1, m)."""
    mean = distances.mean(1)
    (there,) = np.nonzero(mean <= share * mean[0])
    return int(there[0]) if len(there) else None


def seconds_to(edit: Edit, share: float) -> float | None:
    """Seconds of the updates until then, None if never."""
    count = iterations_to(edit.distances, share)
    return None if count is None else sum(s.seconds for s in edit.session.history[1 : count + 1])


def plot_efficiency(comparison: Comparison) -> NotebookFigure:
    """Per iteration, a line for each edit: loss in shares of the first, mean distance, the anchors' path so far."""
    figure = NotebookFigure(figsize=(10.5, 3.0), layout="constrained")
    loss, distance, motion = figure.subplots(1, 3)
    for i, edit in enumerate(comparison.edits):
        count, style = range(1, len(edit.losses) + 1), {"color": COLOURS[i % len(COLOURS)], "label": edit.name}
        loss.plot(count, edit.losses / edit.losses[0], **style)
        motion.plot(count, edit.motion.mean(1).cumsum(), **style)
    style_axes(loss, "iteration", "loss, in shares of the first")
    style_axes(motion, "iteration", "path of the anchors (px)")
    plot_distances(comparison.edits, ax=distance)
    return figure


@dataclass(frozen=True, eq=False)
class Ratios:
    """DragNoise against DragDiffusion over drags, by their iterations to leave `share` of the distance.

    rows: of each drag {"kind", "case", "dragnoise": {"iterations", "seconds"}, "dragdiffusion": ..}, None where it is
    never reached.
    """

    rows: list[dict[str, Any]]
    share: float

    def values(self, what: str = "iterations") -> np.ndarray:
        """(k,) dragnoise's divided by dragdiffusion's, of the drags where both got there; what: or "seconds"."""
        both = [(r["dragnoise"][what], r["dragdiffusion"][what]) for r in self.rows]
        return np.array([a / b for a, b in both if a is not None and b])

    @property
    def data(self) -> dict[str, Any]:
        """How many drags, how many got there, and the median ratios with their intervals, None where none got there."""
        names = ("dragnoise", "dragdiffusion")
        return {"drags": len(self.rows)} | {
            f"{name}_reached": sum(r[name]["iterations"] is not None for r in self.rows) for name in names
        } | {what: self._median(what) for what in ("iterations", "seconds")}  # fmt: skip

    @property
    def figure(self) -> NotebookFigure:
        """Histograms of the ratios of iterations and of seconds; 1 is as long as DragDiffusion."""
        figure = NotebookFigure(figsize=(8.0, 3.0), layout="constrained")
        for ax, what in zip(figure.subplots(1, 2), ("iterations", "seconds"), strict=True):
            values = self.values(what)
            ax.hist(values, bins=12, color=COLOURS[0])
            ax.axvline(1, color="black", lw=1, ls=":")
            if len(values):
                ax.axvline(float(np.median(values)), color=COLOURS[1])
            style_axes(ax, f"{what}, dragnoise / dragdiffusion", "drags")
        return figure

    def _median(self, what: str) -> Interval | None:
        values = self.values(what)
        return interval(values) if len(values) else None


def ratios(
    kinds: Sequence[str],
    each: int,
    *,
    seed: int = TUNE_SEED,
    share: float = 0.5,
    changes: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> Ratios:
    """Both editors on `each` toyland cases of every kind, with masks; see `sweep` for folder and executor.

    changes: of both configurations of `pair`, such as {"max_iterations": 20}.
    """
    tasks = {
        f"{kind}.{i}.{seed}": {"kind": kind, "case": i, "seed": seed, "share": share, "changes": dict(changes or {})}
        for kind in kinds for i in range(each)
    }  # fmt: skip
    return Ratios(list(sweep(race, tasks, folder=folder, executor=executor, progress=progress).values()), share)


def race(task: Mapping[str, Any]) -> dict[str, Any]:
    """Both editors on one case: iterations and seconds to leave the share, a row of `Ratios`."""
    model = _model()
    case = drag_cases(task["kind"], task["case"] + 1, task["seed"])[task["case"]]
    configs = {name: config.replace(**task["changes"]) for name, config in pair(model).items()}
    row: dict[str, Any] = {"kind": task["kind"], "case": task["case"]}
    picture, prompt = render(case.scene), caption(case.scene)
    for edit in edits(model, picture, case.drags, configs, prompt=prompt, mask=case.mask, progress=False):
        row[edit.name] = {
            "iterations": iterations_to(edit.distances, task["share"]), "seconds": seconds_to(edit, task["share"])
        }  # fmt: skip
    return row


@cache
def _model() -> Model:
    torch.set_num_threads(1)
    return load_model()
