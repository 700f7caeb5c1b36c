"""Rank correlation of metrics with the true distance and with the similarity to the true answer, on toyland."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dragnoise.bench.datasets import read_dataset
from dragnoise.bench.reports.tables import table
from dragnoise.bench.runner import stored
from dragnoise.plots.colours import COLOURS, GREY, INK
from dragnoise.plots.panels import NotebookFigure, style_axes
from dragnoise.toyland.detector import sightings

HIGHER_IS_BETTER = {
    "md": False, "m_md": False, "regiondrag_md": False, "dai_1": False, "dai_5": False, "dai_10": False,
    "dai_20": False, "drag_back_psnr": True, "if": True, "input_ssim": True, "input_psnr": True,
}  # fmt: skip
"""Metrics that are evaluated if results have them; the last two stand in for IF where it was not measured."""

TRUTHS = {"true_distance": "true distance", "answer_inside_psnr": "inside PSNR to the answer"}
"""Lower is better for the first, higher for the second."""

KINDS = {"pooled": "all results", "within": "within a picture"}

DRAWS = 1000
"""Number of bootstrap draws."""


class Rho(NamedTuple):
    """Spearman's rho, and its 95 % bootstrap interval by drawing pictures with the results of all editors on them."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Worth:
    """Rank correlations of one metric: truth -> rho, over all results together and as the mean within a picture.

    Within a picture: does the metric put the editors of one picture in the true order?  Of all results together, a
    long drag that is left undone counts too.
    """

    results: int
    pictures: int
    pooled: dict[str, Rho]
    within: dict[str, Rho]


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """(n,) -> (n,) ranks from 1, the mean rank for equals."""
    _, places, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[places]


def rank_correlation(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """Spearman's rho, -1 to 1, of two sequences of one length; NaN where either is constant or shorter than 2."""
    if len(one) < 2 or len(set(one)) < 2 or len(set(other)) < 2:
        return math.nan
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def true_distance(picture: Image.Image, names: Sequence[str], objectives: Sequence[tuple[float, float]]) -> float:
    """Mean distance in pixels of the dragged landmarks, where toyland's judge sees them, from their objectives."""
    seen = sightings(picture)
    return float(np.mean([math.dist(seen[name].point, at) for name, at in zip(names, objectives, strict=True)]))


def results(out: str | Path, data: str = "toyland") -> list[dict[str, Any]]:
    """For each result of a run on toyland: id, editor, true_distance, and each metric as one number.

    out: the run's folder.  data: what was run, "toyland" or "toyland:N".  Raises ValueError where no result is of it.
    """
    samples = {sample.id: sample for sample in read_dataset(data).samples}
    found: list[dict[str, Any]] = []
    for path in sorted(Path(out).glob("*/*/*/edited.png")):
        sample = samples.get("/".join(path.parts[-3:-1]))
        record = stored(path.parent)
        if sample is None or record is None:
            continue
        with Image.open(path) as picture:
            objectives = [drag.objective for drag in sample.drags]
            true = true_distance(picture, sample.regions["names"], objectives)
        numbers = {name: float(np.mean(value)) for name, value in record["metrics"].items()}
        found.append({"id": sample.id, "editor": record["editor"], "true_distance": true} | numbers)
    if not found:
        raise ValueError(f"{str(out)!r} holds no result of {data!r}; run it with --data {data} first.")
    return found


def worth(out: str | Path, data: str = "toyland") -> dict[str, Worth]:
    """Metric -> its rank correlations, over all results of a run on toyland that have it.  See `results`.

    A good metric of distance, where lower is better, has rho near +1 with `true_distance` and near -1 with
    `answer_inside_psnr`; one that is better where it is higher has them the other way round.
    """
    return weighed(results(out, data))


def weighed(found: Sequence[dict[str, Any]], *, seed: int = 0) -> dict[str, Worth]:
    """As `worth`, from the rows that `results` gives."""
    table: dict[str, Worth] = {}
    for metric in HIGHER_IS_BETTER:
        have = [row for row in found if metric in row and all(truth in row for truth in TRUTHS)]
        if not have:
            continue
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in have:
            groups.setdefault(row["id"], []).append(row)
        pictures = [np.array([[row[metric], *(row[t] for t in TRUTHS)] for row in rows]) for rows in groups.values()]
        within = [[rank_correlation(p[:, 0], p[:, 1 + i]) for i in range(len(TRUTHS))] for p in pictures]
        pooled, inside = {}, {}
        for i, truth in enumerate(TRUTHS):
            columns = [picture[:, [0, 1 + i]] for picture in pictures]
            pooled[truth] = _interval(columns, lambda some: rank_correlation(*np.concatenate(some).T), seed)
            known = [row[i] for row in within if not math.isnan(row[i])]
            inside[truth] = _interval(known, lambda some: float(np.mean(some)) if some else math.nan, seed)
        table[metric] = Worth(len(have), len(pictures), pooled, inside)
    return table


def _interval(items: Sequence[Any], statistic: Callable[[list[Any]], float], seed: int) -> Rho:
    """A statistic of items and its interval over draws of them with replacement."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, max(len(items), 1), (DRAWS if items else 0, len(items)))
    drawn = [statistic([items[i] for i in draw]) for draw in draws]
    known = [value for value in drawn if not math.isnan(value)]
    low, high = np.quantile(known, [0.025, 0.975]) if known else (math.nan, math.nan)
    return Rho(statistic(list(items)), float(low), float(high))


def worth_table(found: dict[str, Worth], form: str = "text") -> str:
    """A table of rank correlations in a format of `tables.FORMATS`: rho [low, high] with each truth."""
    heads = ["metric", "results", "pictures", *(f"{t}, {k}" for k in KINDS.values() for t in TRUTHS.values())]
    rows = []
    for metric, one in found.items():
        cells = [_cell(getattr(one, kind)[truth]) for kind in KINDS for truth in TRUTHS]
        rows.append([metric, str(one.results), str(one.pictures), *cells])
    return table(heads, rows, form)


def plot_worth(found: dict[str, Worth]) -> NotebookFigure:
    """Each metric's rho with both truths and its interval, turned so that 1 is a perfect metric and 0 none at all."""
    figure = NotebookFigure(figsize=(9.5, 0.42 * len(found) + 1.4), layout="constrained")
    for ax, truth in zip(figure.subplots(1, 2, sharey=True), TRUTHS, strict=True):
        for j, (kind, told) in enumerate(KINDS.items()):
            for i, (metric, one) in enumerate(found.items()):
                sign = 1 if HIGHER_IS_BETTER[metric] == (truth != "true_distance") else -1
                value, low, high = (sign * n for n in getattr(one, kind)[truth])
                y, colour = i + (j - 0.5) * 0.28, COLOURS[j]
                ax.plot((low, high), (y, y), color=colour, lw=2)
                ax.plot(value, y, "o", color=colour, ms=6, mec="white", label=told if i == 0 else None)
        ax.axvline(0, color=GREY, lw=1)
        style_axes(ax, f"agreement with the {TRUTHS[truth]} (rho)", "")
        ax.set_xlim(-1, 1)
        ax.set_xticks([-1, -0.5, 0, 0.5, 1])
        ax.set_yticks(range(len(found)), list(found), color=INK)
        ax.set_ylim(len(found) - 0.4, -0.6)
    return figure


def _cell(rho: Rho) -> str:
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*rho)
