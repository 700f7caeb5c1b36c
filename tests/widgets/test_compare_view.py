"""The view of several edits: linked scrubbers, and what each column shows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import dragnoise
from dragnoise import Drag, DragConfig, Model
from dragnoise.session import stages
from dragnoise.studies.comparison import Comparison
from dragnoise_widgets import CompareView

CONFIG = DragConfig(
    steps=6, edit_from=4, refine_from=1, max_iterations=3, side=64, supervision_block=1, r2=1, latent_noise=0.1
)


@pytest.fixture(scope="module")
def comparison(small: Model) -> Comparison:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((64, 64))
    configs = {"<three>": CONFIG, "two": CONFIG.replace(max_iterations=2)}
    return dragnoise.compare(small, picture, [Drag((20, 20), (44, 40))], configs, progress=False)


def at(view: CompareView) -> list[int]:
    return [column.slider.value for column in view.columns]


def test_scrubbers_move_together_while_they_are_linked(comparison: Comparison) -> None:
    view = CompareView(comparison)
    assert at(view) == [3, 2]  # the results
    view.columns[0].slider.value = 1
    assert at(view) == [1, 1]
    view.columns[0].slider.value = 3
    assert at(view) == [3, 2]
    view.columns[1].slider.value = 0
    assert at(view) == [0, 0]
    view.linked.value = False
    view.columns[0].slider.value = 2
    assert at(view) == [2, 0]
    view.show(9)
    assert at(view) == [3, 2]


def test_a_column_shows_the_iteration_s_picture_and_numbers(comparison: Comparison) -> None:
    column = CompareView(comparison).columns[0]
    session = comparison.edits[0].session
    assert column.picture(3) is comparison.edits[0].picture and column.picture(0) is session.image
    then = session.branch(1)
    expected = then.picture_of(stages.predicted(then.store))
    assert np.array_equal(np.asarray(column.picture(1)), np.asarray(expected))
    before = column.figure.picture.value
    column.slider.value = 1
    assert column.figure.picture.value != before
    assert column.numbers.value.startswith(f"iteration 1: {comparison.edits[0].distances[1].mean():.1f} px to go, loss")
    assert column.numbers.value.endswith(" · quick look"), "which is blurred"
    column.slider.value = 3
    assert "quick look" not in column.numbers.value
    assert "&lt;three&gt;" in column.children[0].value and column.slider.description == "iteration of <three>"
    assert session.history[-1].iteration == 3  # looking changes nothing


def test_a_picture_fills_its_figure_so_that_no_page_s_ground_is_seen(comparison: Comparison) -> None:
    column = CompareView(comparison).columns[0]
    (axes,) = column.figure.figure.axes
    assert axes.get_position().bounds == (0, 0, 1, 1) and not axes.axison
    shown = np.asarray(Image.open(io.BytesIO(column.figure.picture.value)).convert("RGB")).astype(int)
    expected = np.asarray(comparison.edits[0].picture.resize(shown.shape[1::-1])).astype(int)
    for corner in ((1, 1), (1, -2), (-2, 1), (-2, -2)):
        assert np.abs(shown[corner] - expected[corner]).max() < 60


def test_it_shows_comparisons_alone() -> None:
    with pytest.raises(TypeError, match=r"what dragnoise\.compare"):
        CompareView([1])  # type: ignore[arg-type]
