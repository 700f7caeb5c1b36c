"""The runner and the report: each result once, resumed, on executors, and bad samples beside good ones."""

from __future__ import annotations

import csv
import errno
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import smooth_picture

from dragnoise import Drag, Model
from dragnoise.bench import __main__ as command
from dragnoise.bench import measuring, report, runner
from dragnoise.bench.datasets import Dataset
from dragnoise.bench.features import Dift
from dragnoise.bench.measuring import Protocol
from dragnoise.bench.samples import Sample

CHANGES = {"steps": 4, "edit_from": 2, "refine_from": 0, "max_iterations": 1, "side": 64}
PROTOCOL = Protocol(dift=Dift(ensemble=1, side=64), changes=CHANGES)
MASK = np.zeros((24, 32), bool)
MASK[2:20, 2:28] = True


@pytest.fixture
def data(small: Model, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    for module in (measuring, runner):
        monkeypatch.setattr(module, "worker_model", lambda _: small)
    picture = smooth_picture(32, 24)
    drags = (Drag((5, 6), (20, 12)), Drag((25, 6), (12, 6)))
    return Dataset(tuple(Sample(f"a/{i}", "a", picture, drags[: i + 1], MASK, answer=picture) for i in range(2)))


def test_a_run_is_resumed_and_every_result_is_there_once(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, real = [0], measuring.edit_sample

    def interrupted(*given: Any) -> Any:
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(runner, "edit_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run(data, ["dragnoise"], tmp_path, protocol=PROTOCOL, progress=False)
    assert len(runner.records(tmp_path)) == 1
    done = runner.run(data, ["dragnoise"], tmp_path, protocol=PROTOCOL, progress=False)
    assert count[0] == 3 and [r["id"] for r in done.records] == ["a/0", "a/1"] and not done.skipped
    again = runner.run(data, ["dragnoise"], tmp_path, protocol=PROTOCOL, progress=False)
    assert count[0] == 3 and again.records == done.records
    with ThreadPoolExecutor(1) as pool:
        threaded = runner.run(data, ["dragnoise"], tmp_path / "b", protocol=PROTOCOL, executor=pool, progress=False)
    assert [r["metrics"] for r in threaded.records] == [r["metrics"] for r in done.records]
    assert [len(r["metrics"]["md"]) for r in done.records] == [1, 2]
    assert {"m_md", "regiondrag_md", "dai_5", "input_outside_ssim", "answer_inside_psnr"} <= set(
        done.records[0]["metrics"]
    )


def test_what_cannot_be_edited_is_told_and_a_full_disk_stops(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "edit_sample", lambda *_: (_ for _ in ()).throw(ValueError("no mask.")))
    done = runner.run(data, ["dragnoise"], tmp_path, protocol=PROTOCOL, progress=False)
    assert done.skipped[0] == "a/0 with dragnoise is left out (no mask)." and not done.records
    monkeypatch.setattr(runner, "edit_sample", lambda *_: (smooth_picture(8, 8), {}))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr("dragnoise.atomic_write.os.fsync", full)
    with pytest.raises(OSError, match="cannot be written"):
        runner.run(data, ["dragnoise"], tmp_path, protocol=PROTOCOL, progress=False)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(ValueError, match="no preset"):
        runner.run(data, ["nobody"], tmp_path, protocol=PROTOCOL)


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        {
            "id": str(i),
            "editor": "e",
            "category": "ab"[i % 2],
            "cost": {"seconds": 2.0},
            "metrics": {"md": [1.0 + i] * 2},
        }
        for i in range(6)
    ]
    made = report.rows([*records, records[0] | {"metrics": {"md": [100.0]}, "category": "b"}], ["md", "seconds", "if"])
    assert [row["category"] for row in made] == ["a", "b", "all"]
    mean, low, high = made[-1]["md"]
    assert mean == pytest.approx((2 * 21 + 100) / 13) and low < mean < high
    assert made[-1]["seconds"] == (2, 2, 2) and "if" not in made[-1]
    assert "| e | all | 7 |" in report.markdown(made, ["md"])
    parsed = list(csv.DictReader(io.StringIO(report.as_csv(made, ["md", "if"]))))
    assert float(parsed[2]["md"]) == mean and parsed[2]["if_low"] == ""
    command.main(["report", str(tmp_path)])
    assert "editor" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is no folder"):
        command.main(["run", "--data", str(tmp_path / "x"), "--editor", "dragnoise", "--out", str(tmp_path / "o")])
