"""What a session says of a mask or drags that are probably not meant, once and in words that help."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers import assert_one_sentence, quick_session, smooth_picture

from dragnoise import DragConfig, DragSession, Model
from dragnoise.inspection.feature_maps import measure


def test_a_mask_that_holds_both_ends_is_told_when_it_is_set(small: Model) -> None:
    session, mask = quick_session(small), np.zeros((40, 50), bool)
    mask[:4, :4] = True
    with pytest.warns(UserWarning) as told:
        session.mask = mask
    assert_one_sentence(told[0].message, "drag 0", "paint over")
    assert len(told) == 2


def test_a_mask_that_frees_everything_is_told(small: Model) -> None:
    with pytest.warns(UserWarning, match="whole picture"):
        quick_session(small).mask = np.ones((40, 50), bool)


@pytest.mark.parametrize("preset", ["dragnoise", "firm"])
def test_a_drag_shorter_than_a_grid_step_is_told_before_the_first_iteration(small: Model, preset: str) -> None:
    config = DragConfig.preset(preset, edit_from=10, refine_from=1, resize="longer", side=128)
    session = DragSession(small, smooth_picture(1000, 750), "", config)
    session.drags = [((500, 375), (504, 375))]
    with pytest.warns(UserWarning) as told:
        assert list(session.optimize()) == [] and session.status == "reached"
    assert_one_sentence(told[0].message, "drag 0 is 4 px", "grid step", "raise side to")


def test_nothing_is_told_of_what_is_well(small: Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick_session(small, 2)


def test_maps_of_an_iteration_are_drawn_with_its_own_numbers_and_mask(small: Model) -> None:
    session = quick_session(small, 3)
    before = measure(session, 2)
    session.config, session.mask = session.config.replace(r2=9, supervision_block=0), None
    after = measure(session, 2)
    np.testing.assert_array_equal(after.windows, before.windows)
    np.testing.assert_array_equal(after.distance, before.distance)
