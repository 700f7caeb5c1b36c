"""PSNR and the view of where two pictures differ."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_one_sentence, smooth_picture
from PIL import Image

from dragnoise.images.difference import TINT, difference, psnr


def test_psnr_of_a_known_error() -> None:
    a = np.zeros((4, 6, 3), np.uint8)
    b = a + np.uint8(10)
    assert psnr(a, b) == pytest.approx(20 * np.log10(25.5)) and psnr(a, a) == 120


def test_the_least_difference_of_a_large_picture_is_not_taken_for_none() -> None:
    a = np.zeros((1000, 1000, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 1
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 * 3e6)) and psnr(a, b) < psnr(a, a)


def test_where_pictures_are_alike_the_view_is_grey_and_where_they_differ_it_is_tinted() -> None:
    a = np.full((20, 30, 3), 90, np.uint8)
    b = a.copy()
    b[5:15, 10:20, 1] += 100
    b[0, 0] += 5  # too little to count
    found = difference(a, b)
    view = np.asarray(found.picture)
    assert (view[10, 15] == TINT).all() and (view[18, 28] == 30).all()
    assert found.changed == pytest.approx(100 / 600) and found.psnr == pytest.approx(psnr(a, b))
    assert found.caption == f"17% of the pixels differ by more than 12 levels, {found.psnr:.1f} dB"


def test_a_picture_of_another_size_is_brought_to_the_first_ones() -> None:
    picture = smooth_picture(60, 40)
    found = difference(picture, picture.resize((120, 80), Image.Resampling.BICUBIC))
    assert found.picture.size == (60, 40) and found.psnr > 35


def test_a_wrong_gain_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        difference(smooth_picture(9, 9), smooth_picture(9, 9), gain=0)
    assert_one_sentence(caught.value, "gain=0")
