"""`python -m benchmarks`: a command measures, and writes its numbers and the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.measuring import report


@pytest.mark.slow
def test_a_run_writes_numbers_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "RESULTS.md").write_text(f"Above.\n{report.BEGIN}\nof an earlier run\n{report.END}\nBelow.\n")
    usual = ["run", "--shape", "tiny", "--side", "64", "--steps", "1", "--rounds", "1", "--no-memory", "--no-counts"]
    for phase in ("iteration", "quick look"):
        main([*usual, "--phases", phase, "--folder", str(tmp_path / "results")])
    (path,) = (tmp_path / "results").iterdir()
    result = json.loads(path.read_text())
    assert list(result["phases"]) == ["iteration", "quick look"]  # of both runs
    assert all(len(side["processor"]) == 1 for side in result["phases"]["iteration"].values())
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.startswith("Above.") and text.endswith("Below.\n") and "of an earlier run" not in text
    assert "| iteration | plain, weights frozen |" in text and "| quick look | ours |" in text
    assert "Written to" in capsys.readouterr().out


@pytest.mark.slow
def test_what_only_a_gpu_can_show_is_tried_on_the_cpu(tmp_path: Path) -> None:
    main(["gpu", "--dry", "--only", "same bits", "out of memory", "--folder", str(tmp_path / "results")])
    (path,) = (tmp_path / "results").iterdir()
    found = {row[0]: row[1] for row in json.loads(path.read_text())["rows"]}
    assert found["two runs of 10 iterations"].endswith(" 0") and found["back by 5 and on again"].endswith(" 0")
    assert "is used up" in found["memory used up"] and found["and then"] == "history kept, next variable differs by 0"


def test_times_are_written_beside_the_counts_of_an_earlier_run(tmp_path: Path) -> None:
    run = {"shape": "tiny", "side": 64, "device": "cpu", "dtype": "float32"}
    counted = {"phases": {"it": {"ours": {"counts": 1}, "plain": {"counts": 2}}, "other": {}}, "command": "a"}
    timed = {"phases": {"it": {"ours": {"seconds": [3.0]}}}, "command": "b"}
    for each in (counted, timed):
        path = report.write(run | each, tmp_path)
    result = json.loads(path.read_text())
    assert result["phases"] == {"it": {"ours": {"counts": 1, "seconds": [3.0]}, "plain": {"counts": 2}}, "other": {}}
    assert result["command"] == "a`, `b"


def test_the_table_says_how_many_times_as_long() -> None:
    counts = dict.fromkeys(("reads", "blocking_uploads", "posted", "bytes_down", "bytes_up", "allocations"), 1)
    ours = {"counts": counts | {"flops": 2e9}, "seconds": [1.0], "processor": [0.5, 0.5, 9.0]}
    plain = {"counts": counts | {"flops": 4e9}, "seconds": [3.0], "processor": [1.5]}
    assert report.row("it", "plain", plain, ours, {}).startswith("| it | plain | 4.0 | 3.000 | 1.500 | 3.00 | ")
    assert "| 2.00 |" in report.row("it", "plain", {"counts": plain["counts"]}, ours, {})  # of operations
