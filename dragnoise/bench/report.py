"""The report: a row an editor and category, with bootstrap intervals over pairs or pictures, as Markdown or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np

PAIRWISE = ("md", "m_md")
"""Metrics of pairs, whose mean and interval are over the pairs of all pictures; all others are over pictures."""


def values(records: Iterable[dict[str, Any]], metric: str) -> list[list[float]]:
    """A metric's numbers, a list a picture; pictures that lack it are left out."""
    found = (record["metrics"].get(metric, record["cost"].get(metric)) for record in records)
    return [value if isinstance(value, list) else [value] for value in found if value is not None]


def interval(values: list[list[float]], *, level: float = 0.95, draws: int = 1000, seed: int = 0) -> tuple[float, ...]:
    """Mean over all numbers, and its bootstrap interval (low, high) by drawing pictures with all their pairs."""
    sums, counts = (np.array([f(v) for v in values], float) for f in (np.sum, len))
    drawn = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(sums.sum() / counts.sum()), float(low), float(high)


def rows(records: Iterable[dict[str, Any]], metrics: Iterable[str]) -> list[dict[str, Any]]:
    """A row for each editor and category, and one for "all": metric -> (mean, low, high)."""
    listed, wanted, made = list(records), list(metrics), []
    for editor in sorted({record["editor"] for record in listed}):
        mine = [record for record in listed if record["editor"] == editor]
        for category in (*sorted({record["category"] for record in mine}), "all"):
            some = [record for record in mine if category in (record["category"], "all")]
            row: dict[str, Any] = {"editor": editor, "category": category, "pictures": len(some)}
            for metric in wanted:
                if found := values(some, metric):
                    row[metric] = interval(found)
            made.append(row)
    return made


def markdown(rows: list[dict[str, Any]], metrics: Iterable[str]) -> str:
    """The rows as a Markdown table, "mean [low, high]"."""
    names = list(metrics)
    lines = ["| " + " | ".join(["editor", "category", "pictures", *names]) + " |", "|---" * (3 + len(names)) + "|"]
    for row in rows:
        cells = [f"{row[m][0]:.3g} [{row[m][1]:.3g}, {row[m][2]:.3g}]" if m in row else "" for m in names]
        lines.append("| " + " | ".join([row["editor"], row["category"], str(row["pictures"]), *cells]) + " |")
    return "\n".join(lines) + "\n"


def as_csv(rows: list[dict[str, Any]], metrics: Iterable[str]) -> str:
    """The rows as CSV, three columns a metric: its mean, _low and _high."""
    names, text = list(metrics), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{m}{end}" for m in names for end in ("", "_low", "_high")]
    writer.writerow(["editor", "category", "pictures", *ends])
    for row in rows:
        numbers = [number for m in names for number in row.get(m, ("", "", ""))]
        writer.writerow([row["editor"], row["category"], row["pictures"], *numbers])
    return text.getvalue()
