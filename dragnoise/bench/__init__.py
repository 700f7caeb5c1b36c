"""Benchmarks: data sets, metrics, the runner and its reports.  Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dragnoise.lazy_names import lazy_names

if TYPE_CHECKING:
    from dragnoise.bench.datasets import Dataset, read_dataset
    from dragnoise.bench.export import save_sample
    from dragnoise.bench.measuring import Protocol
    from dragnoise.bench.metrics.features import Dift
    from dragnoise.bench.reports.comparison import compare_runs
    from dragnoise.bench.reports.report import report
    from dragnoise.bench.runner import Run, run
    from dragnoise.bench.samples import Sample

__all__ = [
    "Dataset", "Dift", "Protocol", "Run", "Sample", "compare_runs", "read_dataset", "report", "run", "save_sample",
]  # fmt: skip

_MODULES = {
    "Dataset": "datasets", "Dift": "metrics.features", "Protocol": "measuring", "Run": "runner", "Sample": "samples",
    "compare_runs": "reports.comparison", "read_dataset": "datasets", "report": "reports.report", "run": "runner",
    "save_sample": "export",
}  # fmt: skip
"""Public name -> the module that defines it."""

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
