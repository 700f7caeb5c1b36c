"""The two small curves: their values, the mark at the iteration shown, and how they follow a studio."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from dragnoise_widgets.formatting import format_number
from dragnoise_widgets.pages.curves import BOTTOM, HEIGHT, TOP, Curves, curve
from dragnoise_widgets.studio.studio import DragStudio


def points(svg: str) -> list[tuple[float, float]]:
    (found,) = re.findall(r'points="([^"]*)"', svg)
    return [tuple(map(float, pair.split(","))) for pair in found.split()]


def test_a_line_runs_from_nothing_to_the_largest_value() -> None:
    svg = curve("loss", [("red", [math.nan, 4.0, 2.0, 0.0])], 2)
    heights = [y for _, y in points(svg)]
    assert heights == [TOP, (TOP + HEIGHT - BOTTOM) / 2, HEIGHT - BOTTOM], "what is no number is left out"
    assert "loss: 2" in svg and 'aria-label="loss: 2, iteration 2"' in svg
    ElementTree.fromstring(svg)


def test_nothing_yet_is_drawn_as_two_titles() -> None:
    curves = Curves()
    assert [title in curves.value for title in ("loss", "px to go")] == [True, True]
    assert "nan" not in curves.value and 'points=""' not in curves.value
    ElementTree.fromstring(curves.value)


def test_constant_and_odd_values_are_drawn() -> None:
    for values in ([0.0, 0.0], [math.inf, 1.0], [math.nan, math.nan], [1.0]):
        svg = curve("loss", [("red", values)], 0, level=0.5)
        ElementTree.fromstring(svg)
        assert "inf" not in svg and "nan" not in svg


def test_they_follow_the_scrubber(studio: DragStudio) -> None:
    studio.step(3)
    session, history = studio.session, studio.session.history
    to_go = np.linalg.norm(session.anchors - [drag.objective for drag in session.drags], axis=-1)
    assert f"loss: {history[3].loss:.4g}" in studio.curves.value
    assert f"px to go: {to_go[0]:.1f}, {to_go[1]:.1f}" in studio.curves.value
    studio.show(1)
    assert f"loss: {history[1].loss:.4g}" in studio.curves.value
    assert f"px to go: {history[2].distances[0]:.1f}" in studio.curves.value, "after update 1"


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (0.01234567, "0.01235"), (3.14159, "3.142"), (999.96, "1000"), (11822.4, "11822"), (1e9, "1e+09"),
     (math.nan, "nan")],
)  # fmt: skip
def test_numbers_are_told_in_few_digits(value: float, said: str) -> None:
    assert format_number(value) == said
