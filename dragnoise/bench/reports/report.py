"""The report of a run: a row an editor and category, with bootstrap intervals over pairs or pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dragnoise.bench.reports.figure import distance_and_fidelity
from dragnoise.bench.reports.tables import table
from dragnoise.bench.runner import records
from dragnoise.plots.panels import NotebookFigure

PAIRWISE = ("md", "m_md")
"""Metrics of pairs, whose mean and interval are over the pairs of all pictures; all others are over pictures."""

METRICS = ("md", "m_md", "regiondrag_md", "dai_10", "if", "input_outside_psnr", "answer_inside_psnr", "seconds_a_point")
"""What a report shows where nothing else is asked for."""


@dataclass(frozen=True, eq=False)
class Report:
    """Rows as `rows` gives them, their metrics, and the records they come from.  In a notebook it is a table."""

    rows: tuple[dict[str, Any], ...]
    metrics: tuple[str, ...]
    records: tuple[dict[str, Any], ...]

    def table(self, form: str = "text") -> str:
        """The rows as "text", "markdown" or "csv".

        "mean [low, high]", of a single picture the mean alone; in CSV three columns a metric.
        Below the text and the Markdown stands the protocol, a line for each that the results have.
        """
        if form == "csv":
            ends = [f"{m}{end}" for m in self.metrics for end in ("", "_low", "_high")]
            cells = [[str(n) for m in self.metrics for n in row.get(m, ("", "", ""))] for row in self.rows]
            heads = ["editor", "category", "pictures", *ends]
        else:
            cells = [[_cell(row[m], row["pictures"]) if m in row else "" for m in self.metrics] for row in self.rows]
            heads = ["editor", "category", "pictures", *self.metrics]
        lines = [
            [row["editor"], row["category"], str(row["pictures"]), *some]
            for row, some in zip(self.rows, cells, strict=True)
        ]
        below = "" if form == "csv" else "".join(f"\n{line}\n" for line in protocols(self.records))
        return table(heads, lines, form) + below

    def figure(self, distance: str = "md", fidelity: str = "if") -> NotebookFigure:
        """Distance against fidelity, see `figure.distance_and_fidelity`."""
        return distance_and_fidelity(self.records, distance, fidelity)

    def _repr_markdown_(self) -> str:
        return self.table("markdown")


def report(out: str | Path, metrics: Sequence[str] | None = None) -> Report:
    """The report of a run's folder; metrics: default those of `METRICS` that some result has.

    Raises ValueError where there is no result, or none has a metric that is asked for.
    """
    found = tuple(records(out))
    if not found:
        raise ValueError(f"{str(out)!r} holds no result; give the folder that a run wrote to.")
    return report_of(found, metrics)


def report_of(found: Sequence[dict[str, Any]], metrics: Sequence[str] | None = None) -> Report:
    """The report of records; raises ValueError where none has a metric that is asked for."""
    known = sorted({name for record in found for name in (*record["metrics"], *record["cost"])})
    for name in metrics or ():
        if name not in known:
            raise ValueError(f"no result has the metric {name!r}; there are {', '.join(known)}.")
    asked = metrics or [name for name in METRICS if name in known]
    wanted = tuple(n for name in asked for n in ((name, f"{name}_a_picture") if name in PAIRWISE else (name,)))
    return Report(tuple(rows(found, wanted)), wanted, tuple(found))


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
    """A row for each editor and category, and one for "all": metric -> (mean, low, high).

    Metrics of `PAIRWISE` over pairs and, as <metric>_a_picture, over pictures too; all others over pictures.
    """
    listed, wanted, made = list(records), list(metrics), []
    for editor in sorted({record["editor"] for record in listed}):
        mine = [record for record in listed if record["editor"] == editor]
        for category in (*sorted({record["category"] for record in mine}), "all"):
            some = [record for record in mine if category in (record["category"], "all")]
            row: dict[str, Any] = {"editor": editor, "category": category, "pictures": len(some)}
            for metric in wanted:
                if found := values(some, metric):
                    row[metric] = interval(found)
                    if metric in PAIRWISE:
                        row[f"{metric}_a_picture"] = interval([[float(np.mean(value))] for value in found])
            made.append(row)
    return made


def protocols(records: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each protocol of the records, with what differs from the usual one and the programs' versions."""
    lines: dict[str, int] = {}
    for record in records:
        told = {**record.get("protocol", {}), **record.get("versions", {})}
        numbers = told.pop("dift", {})
        words = [f"{name}={value}" for name, value in {**told, **numbers}.items() if value not in (None, False, {}, 0)]
        line = "Protocol: " + ", ".join(words) + "."
        lines[line] = lines.get(line, 0) + 1
    return [f"{line[:-1]} ({count} results)." for line, count in lines.items() if line != "Protocol: ."]


def _cell(found: tuple[float, ...], pictures: int) -> str:
    """One picture has no interval."""
    return ("{:.3g} [{:.3g}, {:.3g}]" if pictures > 1 else "{:.3g}").format(*found)
