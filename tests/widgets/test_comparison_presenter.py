"""Comparison of any two pictures, their difference, the reconstruction, and the same part of all."""

from __future__ import annotations

import io

import numpy as np
import pytest
from helpers import smooth_picture
from PIL import Image

from dragnoise import DragSession
from dragnoise.images.difference import difference
from dragnoise.inspection import limits
from dragnoise_widgets.compare.choice import GIVEN, ITERATION, RECONSTRUCTION, SHOWN
from dragnoise_widgets.compare.comparison_presenter import BLANK
from dragnoise_widgets.sketch.window import WHOLE, Window
from dragnoise_widgets.studio.studio import DragStudio


def halves(studio: DragStudio) -> list[np.ndarray]:
    """The pictures on the page, left and right."""
    preview = studio.preview
    return [np.asarray(Image.open(io.BytesIO(image.value))) for image in (preview.before_image, preview.after_image)]


def names(studio: DragStudio) -> list[str]:
    return [label.value for label in studio.preview.names]


def test_after_inversion_the_reconstruction_is_shown_with_its_psnr(studio: DragStudio, session: DragSession) -> None:
    studio.canvas.drags = ()
    studio.prepare()
    limit = limits.of_reconstruction(session)
    assert studio.preview.caption.value == f"reconstruction, {limit.psnr:.1f} dB"
    np.testing.assert_array_equal(halves(studio)[1], np.asarray(limit.picture))
    assert limit.sentence and limit.sentence.split(";")[0] in studio.remarks.value.replace("&#x27;", "'")


def test_given_reconstruction_and_two_iterations_are_compared(studio: DragStudio, session: DragSession) -> None:
    studio.step(2)
    choice = studio.preview.choice
    studio.preview.slider.value = 50
    assert names(studio) == ["given", "iteration 2"]
    choice.left.value = RECONSTRUCTION
    np.testing.assert_array_equal(halves(studio)[0], np.asarray(session.reconstruct()))
    studio.show(1)
    choice.left.value, choice.number.value = ITERATION, 2
    assert names(studio) == ["iteration 2", "iteration 1"]
    np.testing.assert_array_equal(halves(studio)[0], np.asarray(session.render()))
    choice.right.value = GIVEN
    np.testing.assert_array_equal(halves(studio)[1], np.asarray(session.image))
    assert studio.image is not session.image, "what is saved is still the edit"


def test_two_iterations_are_compared(studio: DragStudio, session: DragSession) -> None:
    studio.step(2)
    studio.show(1)
    studio.show(2)
    choice = studio.preview.choice
    studio.preview.slider.value = 50
    choice.left.value, choice.number.value = ITERATION, 1
    choice.right.value, choice.other_number.value = ITERATION, 2
    assert names(studio) == ["iteration 1", "iteration 2"]
    for half, k in zip(halves(studio), (1, 2), strict=True):
        np.testing.assert_array_equal(half, np.asarray(session.branch(k).render()))
    assert [number.layout.display for number in (choice.number, choice.other_number)] == ["", ""]
    choice.left.value = GIVEN
    assert [number.layout.display for number in (choice.number, choice.other_number)] == ["none", ""]


def test_a_branch_that_was_never_rendered_shows_its_own_picture(studio: DragStudio, session: DragSession) -> None:
    other = DragSession(session.model, smooth_picture(*session.image.size).rotate(180), config=session.config)
    studio.session = other
    studio.session = session
    choice = studio.preview.choice
    studio.preview.slider.value = 50
    branch = next(key for name, key in choice.left.options if "branch" in name)
    for half, field in enumerate((choice.left, choice.right)):
        field.value = branch
        np.testing.assert_array_equal(halves(studio)[half], np.asarray(other.image))
        assert names(studio)[half].endswith(", given")
        field.value = GIVEN


def test_a_half_without_a_picture_is_blank_and_says_why(studio: DragStudio) -> None:
    choice = studio.preview.choice
    studio.preview.slider.value = 50
    choice.left.value = choice.right.value = RECONSTRUCTION
    assert names(studio) == ["not reconstructed yet"] * 2
    for half in halves(studio):
        assert (half == BLANK).all()


def test_a_branch_is_compared_from_both_lists(studio: DragStudio) -> None:
    studio.step(2)
    first = studio.image
    studio.branch(0)
    choice = studio.preview.choice
    branch = next(key for name, key in choice.left.options if "branch" in name)
    choice.left.value = branch
    assert studio.library.branches_panel.other.value == 0 and studio.preview.before is first
    assert names(studio)[0] == f"branch {studio.library.branches.names[0]}"
    choice.left.value = GIVEN
    assert studio.library.branches.compared is None
    choice.right.value = branch
    np.testing.assert_array_equal(halves(studio)[1], np.asarray(first))
    studio.library.forget(0)
    assert choice.right.value in (GIVEN, SHOWN)


def test_the_difference_view(studio: DragStudio, session: DragSession) -> None:
    studio.step(2)
    studio.preview.choice.difference.value = True
    found = difference(session.image, studio.image)
    np.testing.assert_array_equal(halves(studio)[1], np.asarray(found.picture))
    assert studio.preview.caption.value == found.caption
    studio.preview.choice.difference.value = False
    assert studio.preview.caption.value == "iteration 2"
    np.testing.assert_array_equal(halves(studio)[1], np.asarray(studio.image))


@pytest.mark.parametrize("window", [Window(10, 8, 4), WHOLE])
def test_both_pictures_show_the_part_that_the_canvas_shows(studio: DragStudio, window: Window) -> None:
    studio.step(1)
    studio.canvas.window = Window(20, 20, 2)
    studio.canvas.window = window
    given = studio.session.image
    left, right = halves(studio)
    if window == WHOLE:
        np.testing.assert_array_equal(left, np.asarray(given))
    else:
        expected = given.resize(left.shape[1::-1], Image.Resampling.BICUBIC, box=window.box(given.size))
        np.testing.assert_array_equal(left, np.asarray(expected))
    assert left.shape == right.shape
