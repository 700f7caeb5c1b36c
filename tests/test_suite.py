"""The proof, in small: on the embedded model drags really drag, measured by somebody else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dragnoise
from dragnoise import Model
from dragnoise.toyland import drag_cases, judge, render
from dragnoise.toyland.judge import judge_errors, load_judge
from dragnoise.toyland.pictures import TEST_SEED
from dragnoise.toyland.scenes import LANDMARKS, sample_scene
from dragnoise.toyland.suite import Result, measure, sheet, summary, table

WEIGHTS = Path(dragnoise.__file__).parent / "toyland" / "weights"


def test_weights_are_small() -> None:
    assert sum(f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()) <= 40e6
    assert not [f for f in WEIGHTS.rglob("*") if f.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def test_judge_knows_where_things_are() -> None:
    """Held-out renders: within 1.5 px on average for every landmark that drags use."""
    seeds = range(TEST_SEED + 5_000_000, TEST_SEED + 5_000_150)
    errors = judge_errors(load_judge(), np.stack([render(sample_scene(s)) for s in seeds]), seeds)
    assert set(errors) == set(LANDMARKS)
    assert max(errors.values()) <= 1.5, errors


def test_judge_answers_for_any_picture_of_its_size() -> None:
    found = judge(render(sample_scene(1)))
    assert set(found) == set(LANDMARKS)
    with pytest.raises(ValueError, match="64x64"):
        judge(np.zeros((64, 64, 3), np.uint8))


@pytest.fixture(scope="module")
def measured() -> list[Result]:
    model: Model = dragnoise.load_model()
    return [measure(model, case) for kind in ("sun", "creature", "head") for case in drag_cases(kind, 3, TEST_SEED)]


def test_drags_really_drag(measured: list[Result]) -> None:
    """The content that was dragged ends nearer to where it should than it was, most of the time."""
    rows = summary(measured)
    assert rows["all"]["median_share"] < 0.75, table(rows)
    assert sum(r.after < r.before for r in measured) >= 7


def test_the_rest_stays(measured: list[Result]) -> None:
    assert np.mean([r.psnr for r in measured]) > 24


def test_the_sheet_shows_every_case(measured: list[Result]) -> None:
    cases = [case for kind in ("sun", "creature", "head") for case in drag_cases(kind, 3, TEST_SEED)]
    page = np.asarray(sheet(measured, cases, columns=3, zoom=1))
    assert page.shape == (3 * 136, 3 * 396, 3)
    np.testing.assert_array_equal(page[:128, 256:384], measured[0].pictures[3])


def test_summary_counts() -> None:
    blank = (np.zeros((1, 1, 3), np.uint8),) * 4
    results = [
        Result("sun", before, after, 0.0, 30.0, 30.0, 10, "reached", 1.0, blank)
        for before, after in ((10, 2), (10, 5), (10, 8))
    ]
    row = summary(results)["all"]
    assert row["halved"] == pytest.approx(2 / 3)
    assert row["median_share"] == pytest.approx(0.5) and row["mean_share"] == pytest.approx(0.5)
    assert summary(results)["sun"] == row
