"""Sweeps, bootstrap intervals and the table of editors."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragnoise import load_model
from dragnoise.studies import table
from dragnoise.studies.bootstrap import interval
from dragnoise.studies.sweep import sweep

CALLS: list[Any] = []


def doubled(task: dict[str, int]) -> int:
    CALLS.append(task)
    if task["x"] < 0:
        raise ArithmeticError("below zero")
    return 2 * task["x"]


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


@pytest.mark.parametrize("parallel", [False, True])
def test_a_sweep_goes_on_where_it_was_left(tmp_path: Path, parallel: bool) -> None:
    tasks = {"a": {"x": 1}, "b": {"x": -1}, "c": {"x": 3}}
    with ThreadPoolExecutor(1) as pool:
        given: dict[str, Any] = {"folder": tmp_path, "progress": False, "executor": pool if parallel else None}
        with pytest.raises(ArithmeticError):
            sweep(doubled, tasks, **given)
        CALLS.clear()
        tasks["b"] = {"x": 5}
        assert list(sweep(doubled, tasks, **given).items()) == [("a", 2), ("b", 10), ("c", 6)]
        assert {"x": 1} not in CALLS and {"x": 5} in CALLS
        CALLS.clear()
        sweep(doubled, tasks, **given)
        assert CALLS == []


def test_another_task_or_a_spoilt_file_is_computed_again(tmp_path: Path) -> None:
    sweep(doubled, {"a": {"x": 1}, "b": {"x": 2}}, folder=tmp_path, progress=False)
    (tmp_path / "b.json").write_text("{")
    assert sweep(doubled, {"a": {"x": 4}, "b": {"x": 2}}, folder=tmp_path, progress=False) == {"a": 8, "b": 4}
    assert json.loads((tmp_path / "b.json").read_text()) == {"task": {"x": 2}, "result": 4}


@pytest.mark.parametrize("name", ["", "a/b", "a/"])
def test_names_that_are_no_files(name: str) -> None:
    with pytest.raises(ValueError, match="leave out the slashes"):
        sweep(doubled, {name: {"x": 1}})


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = interval(values, np.mean)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.03)
    assert interval([3.0]) == (3, 3, 3)
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def result(row: str, kind: str, left: float, *, whole: bool = True) -> dict[str, Any]:
    return {
        "row": row, "kind": kind, "left": left, "halved": left <= 0.5, "inside": 20.0, "outside": 30.0, "whole": whole,
        "iterations": 7, "seconds": 1.0,
    }  # fmt: skip


def test_the_tables_of_some_results() -> None:
    results = [result("firm", "sun", 0.1), result("firm", "hat", 0.3), result("dragnoise", "sun", 0.6, whole=False)]
    rows = table.summary(results)
    assert rows["firm"]["left"].value == pytest.approx(0.2) and rows["dragnoise"]["halved"].value == 0
    assert table.by_kind(results) == {"firm": {"sun": 0.1, "hat": 0.3}, "dragnoise": {"sun": 0.6}}
    text = table.markdown(results)
    assert "| firm | 2 | **20%** (10% to 30%) |" in text and "| dragnoise | 1 | 60% (60% to 60%) | 0%" in text
    assert "| left, median | sun | hat |" in text


def test_every_row_is_a_config_and_every_task_a_file() -> None:
    model = load_model()
    for row, changes in table.ROWS.items():
        config = table.config_of(changes, model)
        assert config.editor == row.split(",")[0].replace("firm", "dragnoise")
    names = table.tasks(table.ROWS, each=2)
    assert len(names) == len(table.ROWS) * 16 and all("/" not in name and " " not in name for name in names)


def test_one_case_is_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.main(["--only", "fastdrag", "--kinds", "sun", "--out", str(tmp_path)])
    report = json.loads((tmp_path / "editors.json").read_text())
    (case,) = report["cases"]
    assert case["iterations"] == 7 and case["status"] == "denoised"
    assert case["left"] == pytest.approx(case["missed"] / case["before"])
    assert report["configs"]["fastdrag"]["steps"] == 10
    assert "| fastdrag | 1 |" in capsys.readouterr().out and (tmp_path / "editors.md").is_file()
