"""Drags with known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dragnoise.toyland.cases import KINDS, drag_cases
from dragnoise.toyland.scenes import landmarks, render


@pytest.mark.parametrize("kind", KINDS)
def test_cases_join_the_landmarks_of_two_scenes(kind: str) -> None:
    for case in drag_cases(kind, 3, seed=7):
        before, after = landmarks(case.scene), landmarks(case.answer)
        assert [d.anchor for d in case.drags] == [before[name] for name in case.names]
        assert [d.objective for d in case.drags] == [after[name] for name in case.names]
        assert all(0 < v < 127 for d in case.drags for v in (*d.anchor, *d.objective))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_outside_the_mask(kind: str) -> None:
    for case in drag_cases(kind, 3, seed=7):
        change = np.abs(render(case.scene).astype(int) - render(case.answer)).max(-1)
        assert change[~case.mask].max() <= 12
        assert change[case.mask].max() > 12
        assert case.mask.mean() < 0.6


def test_same_seed_same_cases() -> None:
    first, again = drag_cases("tail", 3, seed=1), drag_cases("tail", 3, seed=1)
    assert [c.scene for c in first] == [c.scene for c in again]
    assert [c.drags for c in first] == [c.drags for c in again]
    assert drag_cases("tail", 1, seed=2)[0].scene != first[0].scene


def test_more_cases_begin_with_the_same() -> None:
    assert [c.scene for c in drag_cases("ear", 4, seed=1)][:2] == [c.scene for c in drag_cases("ear", 2, seed=1)]


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match=r"'nose'.*sun"):
        drag_cases("nose", 1, seed=0)


@pytest.mark.parametrize(
    ("kind", "n", "seed", "sentence"),
    [("moon\nrise", 1, 0, "no drags of kind"), (None, 1, 0, "no drags of kind None"), ("sun", 1.5, 0, "n=1.5"),
     ("sun", -1, 0, "n=-1"), ("sun", 1, "a", "seed='a'"), ("sun", 1, -3, "seed=-3")],
)  # fmt: skip
def test_wrong_cases_get_one_sentence(kind: Any, n: Any, seed: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as raised:
        drag_cases(kind, n, seed)
    assert "\n" not in str(raised.value)
