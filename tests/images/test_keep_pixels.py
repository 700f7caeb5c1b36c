"""Given pixels put back where an edit changed nothing."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_one_sentence, smooth_picture
from PIL import Image, ImageFilter

from dragnoise import DragConfig, DragSession, load_model
from dragnoise.images.keep_pixels import CHANGED, MARGIN, SAME, keep_pixels
from dragnoise.toyland.cases import drag_cases
from dragnoise.toyland.scenes import render


def noisy(seed: int, spread: int = 3) -> Image.Image:
    pixels = np.asarray(smooth_picture(64, 48)).astype(int)
    return Image.fromarray(
        (pixels + np.random.default_rng(seed).integers(-spread, spread + 1, pixels.shape)).clip(0, 255).astype(np.uint8)
    )


def test_where_nothing_changed_the_given_picture_is_there_to_the_bit() -> None:
    given, plain = noisy(0), smooth_picture(64, 48)
    plain = Image.fromarray(np.asarray(plain))
    assert (np.asarray(keep_pixels(plain, (plain, given))) == np.asarray(given)).all()


def test_what_changed_is_not_mixed_with_what_was_there() -> None:
    given, plain = noisy(0, 12), Image.fromarray(np.asarray(smooth_picture(64, 48)))
    edited = np.array(plain)
    edited[20:30, 30:44] = 255 - edited[20:30, 30:44]
    changed = np.abs(edited.astype(int) - np.asarray(plain)).max(-1) >= CHANGED
    assert changed.sum() > 100
    result = np.asarray(keep_pixels(Image.fromarray(edited), (plain, given)))
    assert (result[changed] == edited[changed]).all()
    away = np.ones_like(changed)
    away[20 - 3 * MARGIN : 30 + 3 * MARGIN, 30 - 3 * MARGIN : 44 + 3 * MARGIN] = False
    assert (result[away] == np.asarray(given)[away]).all()


def test_the_edge_is_soft() -> None:
    plain = Image.new("RGB", (80, 40), (100, 100, 100))
    given = Image.new("RGB", (80, 40), (130, 100, 100))
    edited = np.array(plain)
    edited[:, 40:] = 200
    row = np.asarray(keep_pixels(Image.fromarray(edited), (plain, given)))[20, :40, 0].astype(int)
    assert row[0] == 130 and row[39] == 100 and (np.diff(row) <= 0).all()
    assert np.abs(np.diff(row)).max() <= 12, "no step"


def test_small_differences_stay_beside_the_given_details() -> None:
    plain, given = Image.new("RGB", (40, 40), (100, 100, 100)), Image.new("RGB", (40, 40), (120, 100, 100))
    edited = Image.new("RGB", (40, 40), (100 + SAME, 100, 100))
    assert np.asarray(keep_pixels(edited, (plain, given)))[20, 20].tolist() == [120 + SAME, 100, 100]


def test_of_several_known_pictures_the_first_that_is_equal_counts() -> None:
    """Left the edit equals the given picture, right the moved one; where it equals neither it stays as it is."""
    plain, moved = np.full((40, 120, 3), 100, np.uint8), np.full((40, 120, 3), 100, np.uint8)
    moved[:, 60:] = 160
    edited = moved.copy()
    edited[:, 100:] = 220
    given_details, moved_details = plain + 7, moved + 4
    pairs = [(plain, given_details), (moved, moved_details)]
    result = np.asarray(
        keep_pixels(Image.fromarray(edited), *((Image.fromarray(a), Image.fromarray(b)) for a, b in pairs))
    )
    row = result[20, :, 0]
    assert (row[:50] == 107).all() and (row[70:90] == 164).all() and (row[100:] == 220).all()


def test_a_large_picture_keeps_its_own_pixels_where_nothing_moved() -> None:
    given = Image.fromarray(np.random.default_rng(0).integers(60, 190, (192, 256, 3)).astype(np.uint8))
    plain = given.resize((64, 48), Image.Resampling.LANCZOS)
    assert (np.asarray(keep_pixels(plain, (plain, given))) == np.asarray(given)).all()


def test_a_session_puts_them_back() -> None:
    model = load_model()
    (case,) = drag_cases("sun", 1, 20_000_000)
    config = model.default_config.replace(steps=6, edit_from=3, refine_from=0, drag_steps=1, step_iterations=1)
    session = DragSession(model, render(case.scene), config=config)
    session.drags, session.mask = case.drags, case.mask
    given, outside = np.asarray(session.image).astype(int), ~grown(case.mask)
    assert np.abs(np.asarray(session.run(progress=False)).astype(int) - given)[outside].max() <= 1
    session.config = session.config.replace(keep="nothing")
    assert np.abs(np.asarray(session.render()).astype(int) - given)[outside].max() > 3


def grown(mask: np.ndarray) -> np.ndarray:
    """Within two latent cells, which the decoder mixes, and the soft edge of a mask."""
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(25))) > 0


def test_the_authors_program_keeps_nothing() -> None:
    with pytest.raises(ValueError) as caught:
        DragConfig.released(keep="pixels")
    assert_one_sentence(caught.value, "keep='pixels'", '"released"')
