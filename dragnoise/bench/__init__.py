"""Benchmarks: data sets, metrics, the runner and its reports.  Names are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dragnoise.bench.datasets import Dataset, read_dataset
    from dragnoise.bench.exporting import save_sample
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
    "save_sample": "exporting",
}  # fmt: skip
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
