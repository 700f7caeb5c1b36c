"""The report, the figure and the comparison of two runs, of records that are written here."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence, smooth_picture

from dragnoise import Drag, bench
from dragnoise.bench import __main__ as command
from dragnoise.bench.datasets import Dataset
from dragnoise.bench.reports.figure import distance_and_fidelity
from dragnoise.bench.reports.published import FIGURES
from dragnoise.bench.reports.report import report_of, rows
from dragnoise.bench.reports.tables import table
from dragnoise.bench.samples import Sample


def record(i: int, editor: str = "e", **metrics: Any) -> dict[str, Any]:
    return {
        "id": f"{'ab'[i % 2]}/{i}", "editor": editor, "category": "ab"[i % 2], "metrics": metrics,
        "cost": {"seconds_a_point": 2.0}, "protocol": {"model": "m", "seed": 42, "dift": {"timestep": 261}},
    }  # fmt: skip


def written(out: Path, *some: dict[str, Any]) -> Path:
    for one in some:
        folder = out / one["editor"] / one["id"]
        folder.mkdir(parents=True)
        smooth_picture(16, 12, len(list(out.rglob("*.png")))).save(folder / "edited.png")
        (folder / "result.json").write_text(json.dumps(one))
    return out


def test_rows_are_over_pairs_and_over_pictures() -> None:
    some = [record(i, md=[1.0 + i] * 2) for i in range(6)] + [record(7, md=[100.0])]
    made = rows(some, ["md", "seconds_a_point", "if"])
    assert [row["category"] for row in made] == ["a", "b", "all"]
    mean, low, high = made[-1]["md"]
    assert mean == pytest.approx((2 * 21 + 100) / 13) and low < mean < high
    assert made[-1]["md_a_picture"][0] == pytest.approx((21 + 100) / 7)
    assert made[-1]["seconds_a_point"] == (2, 2, 2) and "if" not in made[-1]


def test_the_report_in_every_format() -> None:
    found = report_of([record(i, md=[1.0, 3.0]) for i in range(4)])
    assert found.metrics == ("md", "md_a_picture", "seconds_a_point")
    assert "| e | all | 4 | 2 [2, 2] |" in found.table("markdown") and found._repr_markdown_().startswith("| editor")
    lines = found.table().splitlines()
    assert lines[0].split() == ["editor", "category", "pictures", *found.metrics] and set(lines[1]) == {"-", " "}
    assert lines[-1] == "Protocol: model=m, seed=42, timestep=261 (4 results)."
    parsed = list(csv.DictReader(io.StringIO(found.table("csv"))))
    assert [row["category"] for row in parsed] == ["a", "b", "all"] and float(parsed[2]["md_high"]) == 2
    with pytest.raises(ValueError) as caught:
        report_of(found.records, ["psnr"])
    assert_one_sentence(caught.value, "'psnr'", "there are md, seconds_a_point")


def test_cells_with_a_bar_stay_in_their_column() -> None:
    assert table(["a"], [["x|y"]], "markdown").splitlines()[2] == r"| x\|y |"
    with pytest.raises(ValueError, match="one of text, markdown, csv"):
        table(["a"], [], "html")


def labels(figure: Any) -> set[str]:
    return {text.get_text() for ax in figure.axes for text in ax.texts}


def test_the_figure_has_editors_and_published_points() -> None:
    some = [record(i, e, md=[float(i), i + 2.0], **{"if": 0.8 + 0.01 * i}) for i in range(2) for e in ("e", "f")]
    figure = distance_and_fidelity(some)
    (ax,) = figure.axes
    solid, *hollow = ax.lines[:1] + ax.lines[2:]
    assert solid.get_xydata().tolist() == [[1.5, pytest.approx(0.805)]]
    assert all(line.get_markerfacecolor() == "none" for line in hollow)
    assert sum(len(line.get_xdata()) for line in hollow) == sum(p.fidelity is not None for p in FIGURES) == 9
    assert {"e", "f", "DragNoise", "GeoDrag"} <= labels(figure)
    named = {text.get_text() for text in ax.get_legend().get_texts()}
    assert named == {"DragNoise, Fig. 12", "GeoDrag, arXiv 2509.25740"}


def test_where_there_is_no_if_the_published_points_have_axes_of_their_own() -> None:
    some = [record(i, md=[4.0], input_ssim=0.9) for i in range(2)]
    one, other = distance_and_fidelity(some, fidelity="input_ssim").axes
    assert one.get_ylabel() == "SSIM to the given picture" and other.get_ylabel() == "image fidelity IF"
    assert len(distance_and_fidelity(some, fidelity="input_ssim", published=False).axes) == 1
    with pytest.raises(ValueError) as caught:
        distance_and_fidelity(some)
    assert_one_sentence(caught.value, "'if'", "input_ssim, md")


def test_two_runs_sample_by_sample(tmp_path: Path) -> None:
    one = written(tmp_path / "one", record(0, md=[4.0, 6.0]), record(1, md=[1.0]), record(2, md=[1.0]))
    other = written(tmp_path / "two", record(0, md=[1.0, 2.0]), record(1, md=[2.0]))
    found = bench.compare_runs(one, other)
    assert found.differences("md") == {"a/0": (5, 1.5, -3.5), "b/1": (1, 2, 1)}
    assert found.alone == ("a/2",) and "In one run alone: a/2." in found.table()
    parsed = list(csv.reader(io.StringIO(found.table("csv"))))
    assert (
        parsed[1][:4] == ["a/0", "5", "1.5", "-3.5"] and parsed[-1][0] == "mean" and parsed[-1][3].startswith("-1.25 [")
    )
    assert "| b/1 | 1 | 2 | +1 |" in found._repr_markdown_()
    assert len(found.figure().axes) == 4
    data = Dataset((Sample("a/0", "a", smooth_picture(16, 12), (Drag((1, 1), (2, 2)),)),))
    with_given = found.figure(most=1, data=data)
    assert [ax.get_title() for ax in with_given.axes] == ["given", "e", "e"]
    assert all(ax.images for ax in with_given.axes)
    with pytest.raises(ValueError) as caught:
        bench.compare_runs(one, other, ["dai_1"])
    assert_one_sentence(caught.value, "'dai_1'", "md")
    with pytest.raises(ValueError) as caught:
        bench.compare_runs(one, tmp_path / "nothing")
    assert_one_sentence(caught.value, "no sample in common")


def test_two_editors_of_one_run_are_compared_by_their_folders(tmp_path: Path) -> None:
    written(tmp_path, record(0, "e", md=[4.0]), record(0, "f", md=[3.0]))
    assert bench.compare_runs(tmp_path / "e", tmp_path / "f").differences("md") == {"a/0": (4, 3, -1)}
    assert set(bench.compare_runs(tmp_path, tmp_path).pairs) == {"a/0, e", "a/0, f"}


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(written(tmp_path / "run", *[record(i, md=[4.0], input_ssim=0.9) for i in range(2)]))
    png = tmp_path / "figure.png"
    command.main(["report", out, "--csv"])
    assert capsys.readouterr().out.startswith("editor,category,pictures,md,md_low")
    command.main(["report", out, "--figure", str(png), "--fidelity", "input_ssim"])
    assert png.read_bytes().startswith(b"\x89PNG")
    command.main(["compare", out, out, "--format", "markdown", "--figure", str(png)])
    assert "| mean | 4 | 4 | +0 [+0, +0] |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds no result"):
        command.main(["report", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="'if'"):
        command.main(["report", out, "--figure", str(png)])
    with pytest.raises(SystemExit, match="is no folder"):
        command.main(["run", "--data", str(tmp_path / "x"), "--editor", "dragnoise", "--out", str(tmp_path / "o")])


def test_names_are_there_when_they_are_asked_for() -> None:
    assert set(bench.__all__) <= set(dir(bench)) and all(getattr(bench, name) for name in bench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bench.nothing
    assert np.isfinite([p.md for p in FIGURES]).all()
