"""Samples saved from a session and a studio are read back as they were."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence, quick_session, smooth_picture

from dragnoise import Model
from dragnoise.bench import export, read_dataset, save_sample


def test_there_and_back(small: Model, tmp_path: Path) -> None:
    session, answer = quick_session(small), smooth_picture(50, 40, 3)
    save_sample(session, tmp_path / "animals" / "fox", answer=answer)
    save_sample(SimpleNamespace(session=session), tmp_path / "animals" / "hare")
    data = read_dataset(tmp_path)
    assert not data.skipped and [s.id for s in data.samples] == ["animals/fox", "animals/hare"]
    for sample in data.samples:
        assert sample.drags == session.drags and sample.prompt == "a fox" and sample.category == "animals"
        assert sample.image.tobytes() == session.image.tobytes()
        np.testing.assert_array_equal(sample.mask, session.mask)
    found = data.samples[0].answer_image
    assert found is not None and found.tobytes() == answer.tobytes() and data.samples[1].answer is None


def test_saved_again_without_mask_and_answer_both_are_gone(small: Model, tmp_path: Path) -> None:
    session = quick_session(small)
    save_sample(session, tmp_path / "fox", answer=smooth_picture(50, 40))
    session.mask = None
    save_sample(session, tmp_path / "fox")
    (sample,) = read_dataset(tmp_path).samples
    assert sample.mask is None and sample.answer is None


def test_a_sample_is_complete_or_none(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = quick_session(small)

    def full(*_: Any) -> None:
        raise OSError("the disk is full.")

    monkeypatch.setattr(export, "write_picture", full)
    with pytest.raises(OSError):
        save_sample(session, tmp_path / "fox")
    with pytest.raises(ValueError, match="holds no sample"):
        read_dataset(tmp_path)


def test_what_is_no_sample_is_refused(small: Model, tmp_path: Path) -> None:
    session = quick_session(small)
    with pytest.raises(ValueError) as caught:
        save_sample(session, tmp_path / "fox", answer=smooth_picture(9, 9))
    assert_one_sentence(caught.value, "9x9", "50x40")
    session.drags = []
    with pytest.raises(ValueError) as caught:
        save_sample(session, tmp_path / "fox")
    assert_one_sentence(caught.value, "no drags")
    with pytest.raises(TypeError) as caught:
        save_sample("fox", tmp_path / "fox")
    assert_one_sentence(caught.value, "'fox'")
    assert not list(tmp_path.iterdir())
