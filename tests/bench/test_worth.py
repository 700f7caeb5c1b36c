"""Rank correlations, against scipy, and of results whose distances are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dragnoise.bench import __main__ as command
from dragnoise.bench.datasets import Dataset, toyland_samples
from dragnoise.bench.worth import rank_correlation, ranks, true_distance, worth


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
            (folder / "result.json").write_text(json.dumps({"metrics": metrics}))
    found = worth(tmp_path)
    assert found["md"] == {"true_distance": 1, "answer_inside_psnr": -1, "results": 4}
    assert found["dai_1"]["true_distance"] == -1 and "if" not in found
    command.main(["worth", str(tmp_path)])
    assert "| md | 4 | +1.00 | -1.00 |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds no result"):
        worth(tmp_path / "nowhere")
