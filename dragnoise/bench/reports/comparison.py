"""Comparison of two runs: their metrics sample by sample, with the pictures of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dragnoise.bench.datasets import Dataset, read_dataset
from dragnoise.bench.reports.report import METRICS, interval
from dragnoise.bench.reports.tables import table
from dragnoise.bench.runner import stored
from dragnoise.plots.panels import NotebookFigure, label, picture_panels
from dragnoise.plots.pictures import show_picture

Found = tuple[Path, dict[str, Any]]
"""A result's folder and its record."""


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Two runs on the samples that both have.  In a notebook it is a table.

    pairs: name of the sample -> its result in the first and in the second run.  alone: samples that one run lacks.
    """

    pairs: dict[str, tuple[Found, Found]]
    metrics: tuple[str, ...]
    alone: tuple[str, ...]

    def differences(self, metric: str) -> dict[str, tuple[float, float, float]]:
        """Sample -> the metric's mean in the first run, in the second, and the second less the first."""
        found = {}
        for name, both in self.pairs.items():
            one, other = (_number(record, metric) for _, record in both)
            if one is not None and other is not None:
                found[name] = (one, other, other - one)
        return found

    def table(self, form: str = "text") -> str:
        """A row a sample, three columns a metric; the last row has the means, and the interval of the difference."""
        found = {metric: self.differences(metric) for metric in self.metrics}
        heads = ["sample", *(f"{m}{end}" for m in self.metrics for end in ("", ", second", ", difference"))]
        rows = []
        for name in self.pairs:
            cells = [found[m].get(name) for m in self.metrics]
            rows.append([name, *(text for numbers in cells for text in _cells(numbers))])
        last = ["mean"]
        for metric in self.metrics:
            numbers = list(found[metric].values())
            means = np.mean(numbers, axis=0)
            _, low, high = interval([[difference] for _, _, difference in numbers])
            last += [f"{means[0]:.4g}", f"{means[1]:.4g}", f"{means[2]:+.4g} [{low:+.3g}, {high:+.3g}]"]
        below = "" if form == "csv" or not self.alone else f"\nIn one run alone: {', '.join(self.alone)}.\n"
        return table(heads, [*rows, last], form) + below

    def figure(self, metric: str = "md", *, most: int = 6, data: str | Path | Dataset | None = None) -> NotebookFigure:
        """The pictures of both runs for the samples in which a metric differs most, the largest difference first.

        most: rows.  data: what was run, to show the given pictures too.  Raises ValueError where no sample has the
        metric in both runs.
        """
        found = self.differences(metric)
        if not found:
            raise ValueError(
                f"no sample has the metric {metric!r} in both runs; give one of {', '.join(self.metrics)}."
            )
        names = sorted(found, key=lambda name: -abs(found[name][2]))[:most]
        samples = {} if data is None else {s.id: s for s in _read(data).samples}
        columns = 3 if samples else 2
        panels = picture_panels(None, len(names), columns)
        for row, name in zip(panels.reshape(-1, columns), names, strict=True):
            one, other = self.pairs[name]
            if samples:
                sample = samples.get(one[1]["id"])
                if sample is not None:
                    show_picture(row[0], sample.image)
                label(row[0], "given", name)
            for panel, (folder, record), number in zip(row[-2:], (one, other), found[name], strict=False):
                with Image.open(folder / "edited.png") as picture:
                    show_picture(panel, picture.convert("RGB"))
                label(panel, record["editor"], f"{name if not samples else metric}: {number:.3g}")
        return panels[0].figure

    def _repr_markdown_(self) -> str:
        return self.table("markdown")


def compare_runs(one: str | Path, other: str | Path, metrics: Sequence[str] | None = None) -> RunComparison:
    """Two runs, or two editors of a run (`out/<editor>` as folders), on the samples that both have.

    Results belong together that have the editor and the sample in common, or the sample alone where each folder has
    one editor.  metrics: default those of `report.METRICS` that both have.
    Raises ValueError where no sample is in both, or none has a metric that is asked for.
    """
    first, second = _found(one), _found(other)
    single = all(len({record["editor"] for _, record in some}) <= 1 for some in (first, second))

    def by_name(some: list[Found]) -> dict[str, Found]:
        return {r["id"] if single else f"{r['id']}, {r['editor']}": (folder, r) for folder, r in some}

    left, right = by_name(first), by_name(second)
    pairs = {name: (left[name], right[name]) for name in left if name in right}
    if not pairs:
        raise ValueError(f"{str(one)!r} and {str(other)!r} have no sample in common; give two runs on the same data.")
    everything = [record for both in pairs.values() for _, record in both]
    known = [
        name for name in dict.fromkeys((*METRICS, *(n for r in everything for n in (*r["metrics"], *r["cost"]))))
        if any(all(_number(record, name) is not None for _, record in both) for both in pairs.values())
    ]  # fmt: skip
    for name in metrics or ():
        if name not in known:
            raise ValueError(f"no sample has the metric {name!r} in both runs; there are {', '.join(known)}.")
    wanted = tuple(metrics or (name for name in METRICS if name in known))
    return RunComparison(pairs, wanted, tuple(sorted(set(left) ^ set(right))))


def _found(out: str | Path) -> list[Found]:
    found = [(path.parent, stored(path.parent)) for path in sorted(Path(out).rglob("result.json"))]
    return [(folder, record) for folder, record in found if record is not None]


def _number(record: dict[str, Any], metric: str) -> float | None:
    value = record["metrics"].get(metric, record["cost"].get(metric))
    return None if value is None else float(np.mean(value))


def _cells(numbers: tuple[float, float, float] | None) -> list[str]:
    return ["", "", ""] if numbers is None else [f"{numbers[0]:.4g}", f"{numbers[1]:.4g}", f"{numbers[2]:+.4g}"]


def _read(data: str | Path | Dataset) -> Dataset:
    return data if isinstance(data, Dataset) else read_dataset(data)
