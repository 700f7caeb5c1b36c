"""Branches beside each other: what is shaded, named and coloured, and that a wrong place to draw costs no rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence, quick_session
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dragnoise import DragSession, Model
from dragnoise.plots.branches import fork, plot_before_after, plot_branches
from dragnoise.plots.colours import COLOURS


@pytest.fixture(scope="module")
def tree(small: Model) -> list[DragSession]:
    """A session of four iterations, a branch from the second that goes another way, and one that has not begun."""
    session = quick_session(small, 4)
    other = session.branch(2, name="bold")
    other.config = other.config.replace(lr=0.3)
    for _ in range(4):
        other.step()
    return [session, other, session.branch(0)]


def test_the_common_part_is_shaded(tree: list[DragSession]) -> None:
    common = fork(tree[0], tree[1])
    assert common == 3
    for panel in plot_branches(*tree[:2]):
        (shade,) = (patch for patch in panel.patches if isinstance(patch, Rectangle))
        assert (shade.get_x(), shade.get_width()) == (0, common)
    assert not any(panel.patches for panel in plot_branches(tree[0]))
    assert not any(panel.patches for panel in plot_branches(tree[0], tree[2]))  # nothing but the start in common


def test_every_branch_has_its_colour_and_name(tree: list[DragSession]) -> None:
    for panel in plot_branches(*tree[:2]):
        assert [line.get_color() for line in panel.lines] == list(COLOURS[:2])
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["main", "bold"]


def test_names_are_no_formulas(tree: list[DragSession], tmp_path: Path) -> None:
    odd = tree[1].branch(name=r"for $5 or $\\frac$")
    for panels in (plot_branches(tree[0], odd), plot_before_after(tree[0], odd)):
        panels[0].figure.savefig(tmp_path / "odd.png")


def test_a_name_that_begins_with_an_underscore_is_in_the_legend_too(tree: list[DragSession]) -> None:
    hidden = tree[1].branch(name="_bold")
    for panel in plot_branches(tree[0], hidden, tree[1]):
        assert [text.get_text().strip() for text in panel.get_legend().get_texts()] == ["main", "_bold", "bold"]


def test_two_of_one_name_and_one_that_has_not_begun(tree: list[DragSession]) -> None:
    first, second = (tree[0].branch(0, name="same") for _ in range(2))
    fresh = DragSession(tree[0].model, tree[0].image, config=tree[0].config, name="fresh")
    titles = [panel.get_title() for panel in plot_before_after(first, second, fresh)]
    assert titles == ["given", "same, iteration 0", "same, iteration 0'", "fresh, iteration 0"]


def test_they_draw_where_they_are_asked_to(tree: list[DragSession]) -> None:
    axes = Figure().subplots(1, 2)
    assert list(plot_branches(*tree[:2], ax=axes)) == list(axes)
    alone = Figure().subplots()
    panels = plot_before_after(tree[0], ax=alone)
    assert len(panels) == 2 and all(panel.figure is alone.figure for panel in panels)


@pytest.mark.parametrize("ax", [3, "ax", Figure(), [], Figure().subplots(1, 5), np.zeros(2)])
def test_a_wrong_place_is_refused_before_the_rendering(
    tree: list[DragSession], monkeypatch: pytest.MonkeyPatch, ax: Any
) -> None:
    monkeypatch.setattr(DragSession, "render", lambda _: pytest.fail("it was rendered"))
    for plot in (plot_branches, plot_before_after):
        with pytest.raises(ValueError) as caught:
            plot(*tree[:2], ax=ax)
        assert_one_sentence(caught.value, "ax must be")


@pytest.mark.parametrize("other", [None, "main", 3])
def test_only_sessions_fork(tree: list[DragSession], other: Any) -> None:
    with pytest.raises(TypeError) as caught:
        fork(tree[0], other)
    assert_one_sentence(caught.value, repr(other))
