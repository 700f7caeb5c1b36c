"""The picture now, the slider that brings the one before over it, and how often it is made."""

from __future__ import annotations

import io
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
from helpers import smooth_picture
from PIL import Image

from dragnoise import DragSession
from dragnoise_widgets.compare.preview import Preview
from dragnoise_widgets.sketch.view import View
from dragnoise_widgets.studio.studio import DragStudio


def shown(image: widgets.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.value)))


@pytest.mark.parametrize("size", [(1000, 3000), (512, 768), (300, 1200), (1600, 900), (64, 64)])
def test_both_sides_are_as_wide_and_no_larger_than_is_seen(size: tuple[int, int]) -> None:
    preview, view = Preview(), View.of(size)
    preview.before = Image.new("RGB", size)
    preview.show(smooth_picture(*size))
    assert preview.stage.layout.width == view.width and preview.stage.layout.max_width == "100%"
    for data in (preview.after_image.value, preview.before_image.value):
        with Image.open(io.BytesIO(data)) as sent:
            assert sent.size == (size if max(size) <= max(view.canvas) else view.canvas)


def test_both_pictures_go_to_the_page_without_loss() -> None:
    preview, before, after = Preview(), smooth_picture(60, 40), smooth_picture(60, 40, seed=1)
    preview.before = before
    preview.show(after, "iteration 3")
    np.testing.assert_array_equal(shown(preview.before_image), np.asarray(before))
    np.testing.assert_array_equal(shown(preview.after_image), np.asarray(after))
    assert preview.picture is after and preview.before is before
    assert preview.caption.value == "iteration 3"
    preview.show(None)
    assert preview.after_image.value == b"" and preview.caption.value == ""


@pytest.mark.parametrize("share, image", [(25, "400.00%"), (50, "200.00%"), (100, "100.00%"), (1, "10000.00%")])
def test_the_slider_uncovers_the_one_before_from_the_left(share: int, image: str) -> None:
    preview = Preview()
    preview.before = smooth_picture(60, 40)
    assert preview.curtain.layout.display == "none"
    preview.slider.value = share
    assert preview.curtain.layout.display == ""
    assert preview.curtain.layout.width == f"{share}%"
    assert preview.before_image.layout.width == image  # of the curtain, so that it lies exactly over the other
    preview.slider.value = 0
    assert preview.curtain.layout.display == "none"


def test_the_same_picture_is_not_sent_again() -> None:
    preview, picture, sent = Preview(), smooth_picture(60, 40), []
    preview.after_image.observe(sent.append, "value")
    preview.show(picture, "iteration 1")
    preview.show(picture, "iteration 1")
    assert len(sent) == 1


def test_before_is_the_picture_as_it_was_given_and_after_the_edited_one(
    studio: DragStudio, session: DragSession
) -> None:
    studio.step(3)
    np.testing.assert_array_equal(shown(studio.preview.before_image), np.asarray(session.image))
    np.testing.assert_array_equal(shown(studio.preview.after_image), np.asarray(session.render()))


@pytest.mark.parametrize("every, rendered", [(0, 0), (1, 9), (5, 2), ("auto", None), ("end", 1)])
def test_how_often_it_is_made_is_chosen_by_hand(
    studio: DragStudio, session: DragSession, monkeypatch: pytest.MonkeyPatch, every: Any, rendered: int | None
) -> None:
    made: list[int] = []
    picture_of = DragSession.picture_of

    def counted(branch: DragSession, latents: Any, **more: Any) -> Image.Image:
        made.append(len(branch.history) - 1)
        return picture_of(branch, latents, **more)

    monkeypatch.setattr(DragSession, "picture_of", counted)
    studio.preview.every.value = every
    assert studio.runner.preview_every == every
    studio.run()
    last = session.config.max_iterations
    assert len(made) == (len(made) if rendered is None else rendered)
    if every == 0:
        assert studio.image is session.image
        assert studio.preview.caption.value == "given"
    else:
        assert made[-1] == last
        assert studio.preview.caption.value == f"iteration {last}"


def test_what_is_held_while_rendering_makes_another_picture(studio: DragStudio, session: DragSession) -> None:
    session.config = session.config.replace(hold="latents")
    studio.step(2)
    whole = studio.image
    masks = [np.broadcast_to(np.arange(session.image.width) < edge, session.image.size[::-1]) for edge in (60, 50)]
    for mask in masks:
        studio.canvas.mask = mask
        assert len(session.history) == 3 and studio.preview.caption.value == "iteration 2"
        np.testing.assert_array_equal(np.asarray(studio.image), np.asarray(session.render()))
    studio.canvas.mask = None
    assert studio.image is whole


def test_with_previews_off_one_may_still_look_back(studio: DragStudio, session: DragSession) -> None:
    studio.preview.every.value = 0
    studio.step(3)
    studio.show(1)
    np.testing.assert_array_equal(np.asarray(studio.image), np.asarray(session.branch(1).render()))
