"""Twenty drags as a newcomer makes them first: no mask, no prompt, the shipped settings; judged against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dragnoise import DragSession, load_model
from dragnoise.toyland.cases import TEST_SEED, DragCase, drag_cases
from dragnoise.toyland.detector import sightings
from dragnoise.toyland.measures import NEAR, visible
from dragnoise.toyland.scenes import landmarks, render

KINDS = ("sun", "head", "hat", "tail", "creature")
UNSEEN = TEST_SEED + 7_000_000
"""Scenes on which no setting was chosen."""


def arrived(case: DragCase, picture: np.ndarray) -> bool:
    """Is at most half of the way left?"""
    seen = sightings(picture)
    ends = zip(case.names, case.drags, strict=True)
    left = np.mean([math.dist(seen[name].point, drag.objective) for name, drag in ends])
    return bool(left <= np.mean([math.dist(drag.anchor, drag.objective) for drag in case.drags]) / 2)


def displaced(case: DragCase, picture: np.ndarray) -> list[str]:
    """Landmarks that the drags leave where they are, and that are gone or more than `NEAR` pixels away."""
    seen, before, after = sightings(picture), landmarks(case.scene), landmarks(case.answer)
    elsewhere = [n for n in visible(after, render(case.answer)) if n in before and math.dist(before[n], after[n]) < 1]
    return [n for n in elsewhere if not seen[n].sure or math.dist(seen[n].point, after[n]) > NEAR]


@pytest.mark.slow
def test_sixteen_of_twenty_first_drags_arrive_and_leave_the_rest_alone() -> None:
    model, good, bad = load_model(), 0, []
    for case in (case for kind in KINDS for case in drag_cases(kind, 4, UNSEEN)):
        session = DragSession(model, render(case.scene))
        session.drags = case.drags
        picture = np.asarray(session.run(progress=False))
        if arrived(case, picture) and not displaced(case, picture):
            good += 1
        else:
            bad.append((case.kind, arrived(case, picture), displaced(case, picture)))
    assert good >= 16, bad


def test_the_given_picture_has_not_arrived_and_the_answer_has() -> None:
    for case in (drag_cases(kind, 1, UNSEEN)[0] for kind in KINDS):
        given, answer = render(case.scene), render(case.answer)
        assert not arrived(case, given) and arrived(case, answer)
        assert not displaced(case, given) and not displaced(case, answer)
        assert displaced(case, np.full_like(given, 128)) or case.kind == "creature"
