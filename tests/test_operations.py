"""Speed, counted: what an iteration costs on the real Stable Diffusion 1.5 architecture."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "iteration.py"
    spec = importlib.util.spec_from_file_location("bench_iteration", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_an_iteration_costs_less_than_a_third_of_the_plain_one(bench: ModuleType) -> None:
    ours = bench.operations(bench.ours, bench.SD15, 512)
    plain = bench.operations(bench.plain, bench.SD15, 512)
    assert ours < 750  # the design's 696 GFLOP, and some room for the points
    assert plain > 3 * ours
