"""What a metric is worth: its rank correlation with the true distance and the likeness to the answer, on toyland."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dragnoise.bench.datasets import read_dataset
from dragnoise.bench.runner import stored
from dragnoise.toyland.judge import sightings

METRICS = ("md", "m_md", "regiondrag_md", "dai_1", "dai_5", "dai_10", "dai_20", "if")
"""What is compared; all but "if" are better where they are lower."""

TRUTHS = ("true_distance", "answer_inside_psnr")


def ranks(values: Sequence[float]) -> np.ndarray:
    """(n,) -> (n,) ranks from 1, the mean rank for equals."""
    numbers = np.asarray(values, float)
    below = (numbers[None] < numbers[:, None]).sum(1)
    return below + ((numbers[None] == numbers[:, None]).sum(1) + 1) / 2


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rho of two sequences of one length; NaN where either is constant or shorter than 2."""
    if len(one) < 2 or len(set(one)) < 2 or len(set(other)) < 2:
        return math.nan
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def true_distance(picture: Image.Image, names: Sequence[str], objectives: Sequence[tuple[float, float]]) -> float:
    """Mean distance in pixels of the dragged landmarks, where toyland's judge sees them, from their objectives."""
    seen = sightings(picture)
    return float(np.mean([math.dist(seen[name].point, at) for name, at in zip(names, objectives, strict=True)]))


def worth(out: str | Path, data: str = "toyland") -> dict[str, dict[str, float]]:
    """Metric -> {truth: Spearman's rho} over all results of a run on toyland that have the metric.

    out: the run's folder.  data: what was run, "toyland" or "toyland:N".  Raises ValueError where no result is of it.
    A good metric of distance is near +1 with `true_distance` and near -1 with `answer_inside_psnr`.
    """
    samples = {sample.id: sample for sample in read_dataset(data).samples}
    found: list[dict[str, float]] = []
    for path in sorted(Path(out).glob("*/*/*/edited.png")):
        sample = samples.get("/".join(path.parts[-3:-1]))
        record = stored(path.parent)
        if sample is None or record is None:
            continue
        with Image.open(path) as picture:
            objectives = [drag.objective for drag in sample.drags]
            row = {"true_distance": true_distance(picture, sample.regions["names"], objectives)}
        found.append(row | {name: float(np.mean(value)) for name, value in record["metrics"].items()})
    if not found:
        raise ValueError(f"{str(out)!r} holds no result of {data!r}; run it with --data {data} first.")
    table: dict[str, dict[str, float]] = {}
    for metric in METRICS:
        have = [row for row in found if metric in row]
        if have:
            table[metric] = {t: rank_correlation([r[metric] for r in have], [r[t] for r in have]) for t in TRUTHS}
            table[metric]["results"] = float(len(have))
    return table


def table(correlations: dict[str, dict[str, float]]) -> str:
    """The correlations as a Markdown table."""
    lines = ["| metric | results | rho with true distance | rho with inside PSNR |", "|---|---|---|---|"]
    for metric, row in correlations.items():
        numbers = " | ".join(f"{row[truth]:+.2f}" for truth in TRUTHS)
        lines.append(f"| {metric} | {row['results']:.0f} | {numbers} |")
    return "\n".join(lines) + "\n"
