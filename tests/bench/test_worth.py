"""Rank correlations, against scipy, and of results whose distances are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dragnoise.bench import __main__ as command
from dragnoise.bench.datasets import Dataset, toyland_samples
from dragnoise.bench.worth import plot_worth, rank_correlation, ranks, true_distance, weighed, worth


def test_spearman_with_ties() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 40).tolist(), rng.integers(0, 6, 40).tolist()
    np.testing.assert_allclose(ranks(a), stats.rankdata(a))
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert math.isnan(rank_correlation([1, 1], [1, 2])) and math.isnan(rank_correlation([], []))


def test_a_metric_that_tells_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unedited pictures and true answers: a metric with the true distances has rho 1 with them."""
    samples = [s for s, _ in zip(toyland_samples(1), range(2), strict=False)]
    monkeypatch.setattr("dragnoise.bench.worth.read_dataset", lambda _: Dataset(tuple(samples)))
    for editor in ("nothing", "oracle"):
        for sample in samples:
            picture = sample.image if editor == "nothing" else sample.answer_image
            assert picture is not None
            far = true_distance(picture, sample.regions["names"], [d.objective for d in sample.drags])
            assert (far < 3) == (editor == "oracle")
            folder = tmp_path / editor / sample.id
            folder.mkdir(parents=True)
            picture.save(folder / "edited.png")
            metrics = {"md": [far, far], "dai_1": -far, "answer_inside_psnr": 50 - far}
            (folder / "result.json").write_text(json.dumps({"editor": editor, "metrics": metrics}))
    found = worth(tmp_path)
    md = found["md"]
    assert [md.pooled[truth].value for truth in md.pooled] == pytest.approx([1, -1])
    assert md.within["true_distance"] == pytest.approx((1, 1, 1)) and (md.results, md.pictures) == (4, 2)
    assert found["dai_1"].pooled["true_distance"].value == pytest.approx(-1) and "if" not in found
    png = tmp_path / "worth.png"
    command.main(["worth", str(tmp_path), "--format", "markdown", "--figure", str(png)])
    assert "| md | 4 | 2 | +1.00 [" in capsys.readouterr().out and png.stat().st_size > 5000
    with pytest.raises(ValueError, match="holds no result"):
        worth(tmp_path / "nowhere")


def test_intervals_draw_pictures_with_all_their_editors_and_within_a_picture_lengths_do_not_count() -> None:
    """A metric that knows how long a drag is, and not which editor did it better: good of all results, not within."""
    rng = np.random.default_rng(3)
    rows = [
        {"id": str(i), "editor": str(e), "true_distance": 10 * i + e, "answer_inside_psnr": -10 * i - e,
         "md": 10 * i + rng.permutation(6)[0], "m_md": 10 * i + e}
        for i in range(8) for e in range(6)
    ]  # fmt: skip
    found = weighed(rows)
    assert found["m_md"].within["true_distance"] == pytest.approx((1, 1, 1))
    assert found["m_md"].pooled["true_distance"].value == pytest.approx(1)
    loose = found["md"]
    assert loose.pooled["true_distance"].low > 0.8 > 0.6 > loose.within["true_distance"].value
    low, high = loose.within["true_distance"][1:]
    assert low < loose.within["true_distance"].value < high < 0.9
    assert loose.results == 48 and loose.pictures == 8
    one, other = plot_worth(found).axes
    assert [text.get_text() for text in one.get_yticklabels()] == ["md", "m_md"]
    dots = [line.get_xdata()[0] for ax in (one, other) for line in ax.lines if line.get_marker() == "o"]
    assert len(dots) == 8 and min(dots) > -0.5, "turned so that 1 is perfect"
