"""The state of a canvas: gestures, undo, masks, as pure functions."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from properties import given, st

from dragnoise import Drag
from dragnoise.geometry import as_drags
from dragnoise_widgets.sketch import edits
from dragnoise_widgets.sketch.masks import Mask, brushed
from dragnoise_widgets.sketch.sketch import ENDS, LONE, TOOLS, Edit, Move, Pull, Sketch, Spot, Stroke

SIZE = (40, 30)


def drawn(*points, tool="drag", sketch=None, **options):
    """Press at the first point, move through all, release; reach and slack of 2 px."""
    sketch = edits.press(sketch or Sketch(SIZE), points[0], tool=tool, reach=2, **options)
    for point in points:
        sketch = edits.move(sketch, point)
    return edits.release(sketch, slack=2)


@pytest.fixture
def pair() -> Sketch:
    """One drag from (5, 6) to (20, 10)."""
    return drawn((5, 6), (20, 10))


# ------------------------------------------------------------------------------------ gestures


def test_press_drag_release_makes_an_arrow_that_is_selected():
    sketch = edits.press(Sketch(SIZE), (5, 6), reach=2)
    assert sketch.gesture == Pull((5, 6), (5, 6))
    sketch = edits.move(sketch, (20, 10))
    assert sketch.edit == Edit()  # not before it is let go
    sketch = edits.release(sketch, slack=2)
    assert sketch.edit.drags == (Drag((5, 6), (20, 10)),)
    assert (sketch.gesture, sketch.selected, sketch.past) == (None, Spot(0, "objective"), (Edit(),))


def test_click_then_click_makes_an_anchor_then_its_objective():
    sketch = drawn((5, 6), (6, 6))  # a click may slip
    assert sketch.edit == Edit(pending=(5, 6))
    assert sketch.selected == LONE
    sketch = drawn((20, 10), sketch=sketch)
    assert sketch.edit == Edit(drags=(Drag((5, 6), (20, 10)),))
    assert edits.undo(sketch).edit == Edit(pending=(5, 6))


def test_an_arrow_beside_a_lone_anchor_leaves_it_waiting():
    sketch = drawn((30, 20), (35, 25), sketch=drawn((5, 6)))
    assert sketch.edit == Edit((Drag((30, 20), (35, 25)),), pending=(5, 6))


def test_a_click_on_the_lone_anchor_does_nothing_and_a_drag_moves_it():
    lone = drawn((5, 6))
    assert drawn((5, 6), sketch=lone) == lone
    assert drawn((6, 6), (16, 8), sketch=lone).edit == Edit(pending=(15, 8))


@pytest.mark.parametrize("grab, spot, moved", [
    ((5, 7), Spot(0, "anchor"), Drag((9, 5), (20, 10))),
    ((21, 10), Spot(0, "objective"), Drag((5, 6), (24, 9))),
])  # fmt: skip
def test_a_press_on_a_point_moves_it_by_as_much_as_the_pointer(pair, grab, spot, moved):
    sketch = edits.press(pair, grab, reach=2)
    assert sketch.gesture == Move(spot, edits.place(pair.edit, spot), grab, grab)
    sketch = edits.release(edits.move(sketch, (grab[0] + 4, grab[1] - 1)), slack=2)
    assert sketch.edit.drags == (moved,)
    assert sketch.selected == spot


def test_a_click_on_a_point_selects_it_and_moves_nothing(pair):
    sketch = drawn((5, 6), (5.5, 6.5), sketch=edits.select(pair, None))
    assert sketch.edit == pair.edit
    assert sketch.past == pair.past
    assert sketch.selected == Spot(0, "anchor")


def test_the_nearest_point_is_taken_then_the_selected_then_the_topmost():
    drags = (Drag((10, 10), (20, 10)), Drag((10, 10), (10, 20)), Drag((13, 10), (30, 20)))
    sketch = edits.with_drags(Sketch(SIZE), drags)
    assert edits.spot_at(sketch, (12, 10), 3) == Spot(2, "anchor")
    assert edits.spot_at(sketch, (10, 10), 3) == Spot(1, "anchor")
    assert edits.spot_at(edits.select(sketch, Spot(0, "anchor")), (10, 10), 3) == Spot(0, "anchor")
    assert edits.spot_at(sketch, (36, 3), 3) is None


def test_pulling_the_middle_of_an_arrow_moves_the_arrow(pair):
    sketch = edits.press(edits.select(pair, None), (12, 8), reach=2)
    assert sketch.gesture == Move(Spot(0, "arrow"), (12.5, 8), (12, 8), (12, 8))
    sketch = edits.release(edits.move(sketch, (15, 10)), slack=2)
    assert sketch.edit.drags == (Drag((8, 8), (23, 12)),) and sketch.selected == Spot(0, "objective")
    assert edits.undo(sketch).edit == pair.edit
    assert drawn((12, 8), (99, 8), sketch=pair).edit.drags == (Drag((24, 6), (39, 10)),), "no end leaves the picture"
    assert drawn((12, 8), (-9, -9), sketch=pair).edit.drags == (Drag((0, 0), (15, 4)),)


def test_a_click_on_an_arrow_selects_it_and_beside_it_begins_another(pair):
    clicked = drawn((12, 8), sketch=edits.select(pair, None))
    assert clicked.edit == pair.edit and clicked.selected == Spot(0, "objective")
    assert len(drawn((12, 11), (30, 20), sketch=pair).edit.drags) == 2
    waiting = drawn((30, 25), sketch=pair)
    assert drawn((12, 8), sketch=waiting).edit.drags[-1] == Drag((30, 25), (12, 8)), "the objective may be put there"


def test_points_stay_in_the_picture():
    assert drawn((-5, 10), (99, 99)).edit.drags == (Drag((0, 10), (39, 29)),)
    sketch = edits.put(drawn((5, 6), (20, 10)), Spot(0, "anchor"), (1000, -1000))
    assert sketch.edit.drags[0].anchor == (39, 0)
    assert as_drags(sketch.edit.drags, SIZE) == sketch.edit.drags


def test_an_anchor_is_never_put_on_its_objective(pair):
    assert edits.put(pair, Spot(0, "anchor"), (20, 10)).edit == pair.edit
    assert drawn((5, 6), (20, 10), sketch=pair).edit == pair.edit


def test_a_press_whose_release_was_lost_ends_the_gesture_before():
    sketch = edits.move(edits.press(Sketch(SIZE), (5, 6), reach=2), (20, 10))
    sketch = edits.press(sketch, (30, 25), reach=2)
    assert sketch.edit.drags == (Drag((5, 6), (20, 10)),)
    assert sketch.gesture == Pull((30, 25), (30, 25))


def test_moves_and_releases_without_a_press_do_nothing(pair):
    assert edits.move(pair, (1, 1)) == pair
    assert edits.release(pair) == pair
    assert edits.cancel(edits.move(edits.press(pair, (30, 20), reach=2), (1, 1))) == pair


# --------------------------------------------------------------------------- select, nudge, delete


def test_nudge_moves_the_selected_point_and_stops_at_the_border(pair):
    assert edits.nudge(pair, 1, -10).edit.drags == (Drag((5, 6), (21, 0)),)
    sketch = edits.nudge(edits.select(pair, Spot(0, "anchor")), -10, 1)
    assert sketch.edit.drags == (Drag((0, 7), (20, 10)),)
    assert edits.nudge(edits.select(pair, None), 1, 1) == edits.select(pair, None)
    assert edits.nudge(edits.select(drawn((5, 6)), None), 1, 0).edit.pending == (6, 6)


def test_delete_removes_the_selected_pair_or_the_lone_anchor():
    sketch = drawn((30, 20), (35, 25), sketch=drawn((5, 6), (20, 10)))
    assert edits.delete(sketch).edit.drags == sketch.edit.drags[:1]
    assert edits.delete(sketch, 0).edit.drags == sketch.edit.drags[1:]
    assert edits.delete(sketch).selected is None
    assert edits.delete(edits.delete(sketch)).edit == edits.delete(sketch).edit  # nothing is selected any more
    assert edits.delete(sketch, 7) == sketch
    assert edits.delete(drawn((5, 6))).edit == Edit()


def test_add_makes_a_valid_drag_in_any_picture():
    for size in ((40, 30), (2, 1), (1, 2), (9, 1)):
        (drag,) = edits.add(Sketch(size)).edit.drags
        assert as_drags([drag], size) == (drag,)
    assert edits.add(Sketch((1, 1))) == Sketch((1, 1))
    assert edits.add(drawn((5, 6))).edit == Edit((Drag((5, 6), (10, 6)),))


def test_a_drag_that_vanishes_under_the_pointer_ends_the_move(pair):
    held = edits.move(edits.press(pair, (5, 6), reach=2), (9, 9))
    for step in (partial(edits.with_drags, drags=()), edits.delete, edits.undo):
        gone = step(held)
        assert (gone.gesture, gone.selected, gone.edit.drags) == (None, None, ())
        assert edits.release(edits.move(gone, (1, 1))) == gone


# ------------------------------------------------------------------------------------- the mask


def near(points, size):
    """Pixels within size / 2 of any of many points along the way, computed one by one."""
    mask = np.zeros(SIZE[::-1], np.bool_)
    for y in range(SIZE[1]):
        for x in range(SIZE[0]):
            mask[y, x] = any(math.dist(point, (x, y)) <= max(size / 2, 0.5**0.5) + 1e-9 for point in points)
    return mask


def test_a_stroke_covers_what_is_within_half_the_brush():
    way = [(8, 7), (25, 20.5), (25, 3)]
    fine = [tuple(np.add(a, np.multiply(k / 2000, np.subtract(b, a)))) for a, b in itertools.pairwise(way)
            for k in range(2001)]  # fmt: skip
    sketch = drawn(*way, tool="paint", brush=7)
    assert np.mean(sketch.edit.mask.array != near(fine[::40], 7)) < 0.005
    assert np.array_equal(drawn((12, 13), tool="paint", brush=9).edit.mask.array, near([(12, 13)], 9))


@pytest.mark.parametrize("place", [(10, 10), (10.5, 10.5), (0, 0), (39, 29), (10.2, 9.6)])
def test_the_thinnest_brush_paints_the_pixel_under_it(place):
    mask = brushed(np.zeros(SIZE[::-1], np.bool_), [place], 0.1, True)
    assert mask[math.floor(place[1] + 0.5), math.floor(place[0] + 0.5)]
    assert 1 <= mask.sum() <= 4


def test_paint_and_erase_are_strokes_and_each_is_one_step():
    painted = drawn((10, 10), (20, 10), tool="paint", brush=8)
    assert len(painted.past) == 1
    erased = drawn((10, 10), (20, 10), tool="erase", brush=4, sketch=painted)
    assert 0 < erased.edit.mask.array.sum() < painted.edit.mask.array.sum()
    assert not erased.edit.mask.array[10, 15]
    assert edits.undo(erased).edit == painted.edit
    assert drawn((10, 10), (20, 10), tool="erase", brush=30, sketch=painted).edit.mask is None
    assert drawn((10, 10), tool="erase", sketch=Sketch(SIZE)) == Sketch(SIZE)


def test_a_stroke_is_seen_on_its_way_and_the_mask_waits():
    sketch = edits.press(Sketch(SIZE), (3, 3), tool="paint", brush=5)
    sketch = edits.move(edits.move(sketch, (4, 4)), (4, 4))
    assert sketch.gesture == Stroke(((3, 3), (4, 4)), 5, erase=False)
    assert sketch.edit.mask is None


def test_invert():
    painted = drawn((10, 10), (20, 10), tool="paint", brush=8)
    inverted = edits.invert_mask(painted)
    assert np.array_equal(inverted.edit.mask.array, ~painted.edit.mask.array)
    assert edits.invert_mask(inverted).edit == painted.edit
    assert edits.invert_mask(Sketch(SIZE)) == Sketch(SIZE)


def test_packed_masks_are_equal_just_when_their_pixels_are():
    array = np.random.default_rng(1).random((13, 7)) < 0.5
    other = array.copy()
    other[5, 5] ^= True
    assert Mask.of(array) == Mask.of(array.copy())
    assert Mask.of(array) != Mask.of(other)
    assert Mask.of(array) != Mask.of(array.T)
    assert np.array_equal(Mask.of(array).array, array)
    assert not Mask.of(array).array.flags.writeable
    assert Mask.of(np.zeros((3, 3), np.bool_)) is None


# ----------------------------------------------------------------------------------- undo, redo


def test_undo_and_redo_have_no_bottom_and_no_top(pair):
    assert edits.undo(edits.undo(edits.undo(pair))).edit == Edit()
    assert edits.redo(edits.redo(edits.undo(pair))).edit == pair.edit
    many = Sketch(SIZE)
    for i in range(500):
        many = edits.with_drags(many, [Drag((0, 0), (1 + i % 39, 1))])
    for _ in range(500):
        many = edits.undo(many)
    assert many.edit == Edit()
    assert len(many.future) == 500


def test_undo_is_bounded_in_steps_and_in_bytes(monkeypatch):
    monkeypatch.setattr(edits, "UNDO_STEPS", 20)
    monkeypatch.setattr(edits, "UNDO_BYTES", 3000)
    many = Sketch(SIZE)
    for i in range(50):
        many = edits.with_drags(many, [Drag((0, 0), (1 + i % 39, 1))])
    assert len(many.past) == 20 and many.past[-1].drags[0].objective == (10, 1)
    noise = np.random.default_rng(0)
    for _ in range(50):
        many = edits.with_mask(many, noise.random(SIZE[::-1]) > 0.5)
    sizes = [len(edit.mask.packed) for edit in many.past]
    assert sum(sizes) <= 3000 < sum(sizes) + sizes[0]
    for i in range(30):
        many = edits.with_drags(many, [Drag((0, 0), (1 + i % 39, 1))])
    assert len(many.past) == 20, "one mask that many steps have in common counts once"
    monkeypatch.setattr(edits, "UNDO_BYTES", 1)
    assert edits.undo(edits.with_mask(many, None)).edit == many.edit, "the last step can always be taken back"


@pytest.mark.parametrize("tool", ["paint", "erase"])
def test_a_long_stroke_holds_few_points_and_is_one_undo_step(tool):
    start = edits.with_mask(Sketch(SIZE), np.ones(SIZE[::-1], np.bool_)) if tool == "erase" else Sketch(SIZE)
    way = [(20 + 15 * math.cos(i / 50), 15 + 10 * math.sin(i / 70)) for i in range(1000)]
    long = edits.press(start, way[0], tool=tool, brush=4)
    for point in way[1:]:
        long = edits.move(long, point)
        assert len(long.gesture.points) < 300
    done = edits.release(long)
    before = np.zeros(SIZE[::-1], np.bool_) if start.edit.mask is None else start.edit.mask.array
    assert np.array_equal(done.edit.mask.array, brushed(before, way, 4, tool == "paint"))
    assert len(done.past) == len(start.past) + 1
    assert edits.undo(done).edit == start.edit
    assert edits.undo(long).edit == start.edit and edits.undo(long).gesture is None


def test_a_change_forgets_what_was_undone(pair):
    other = drawn((30, 20), (35, 25), sketch=edits.undo(pair))
    assert edits.redo(other) == other


POINTS = st.tuples(st.floats(-20, 60), st.floats(-20, 50))
EVERY_TOOL = st.sampled_from(TOOLS)
STEPS = st.one_of(
    st.builds(lambda p, t: partial(edits.press, point=p, tool=t, reach=4, brush=6), POINTS, EVERY_TOOL),
    st.builds(lambda p: partial(edits.move, point=p), POINTS),
    st.builds(lambda s: partial(edits.release, slack=s), st.sampled_from([0, 2])),
    st.builds(lambda ps, t: lambda sketch: drawn(*ps, tool=t, sketch=sketch), st.lists(POINTS, min_size=1, max_size=4),
              EVERY_TOOL),
    st.builds(lambda i, e, p: partial(edits.put, spot=Spot(i, e), point=p), st.integers(-1, 3),
              st.sampled_from(ENDS), POINTS),
    st.builds(lambda i, e: partial(edits.select, spot=Spot(i, e)), st.integers(-1, 3), st.sampled_from(ENDS)),
    st.builds(lambda dx, dy: partial(edits.nudge, dx=dx, dy=dy), st.integers(-10, 10), st.integers(-10, 10)),
    st.builds(lambda i: partial(edits.delete, index=i), st.one_of(st.none(), st.integers(-1, 3))),
    st.sampled_from([edits.undo, edits.redo, edits.cancel, edits.add, edits.invert_mask,
                     partial(edits.with_drags, drags=[Drag((1, 1), (2, 2))]),
                     partial(edits.with_mask, array=None)]),
)  # fmt: skip


@given(st.lists(STEPS, max_size=25))
def test_any_sequence_keeps_the_state_valid_and_undo_exact(steps):
    sketch = Sketch(SIZE)
    for step in steps:
        before, sketch = sketch, step(sketch)
        assert_valid(sketch)
        if len(sketch.past) == len(before.past) + 1 and not before.future:
            assert edits.undo(sketch).edit == before.edit
    there = sketch = edits.cancel(sketch)
    states = [*there.past, there.edit]
    for edit in reversed(states[:-1]):
        sketch = edits.undo(sketch)
        assert_valid(sketch)
        assert sketch.edit == edit
    for edit in states[1:]:
        sketch = edits.redo(sketch)
        assert sketch.edit == edit
    assert replace(sketch, selected=None) == replace(there, selected=None)


def assert_valid(sketch):
    edit = sketch.edit
    assert as_drags(edit.drags, SIZE) == edit.drags  # all inside, none on itself
    if edit.pending is not None:
        assert edits.inside(sketch, edit.pending) == edit.pending
    if edit.mask is not None:
        assert edit.mask.array.shape == SIZE[::-1]
        assert edit.mask.array.any()
    assert sketch.selected is None or sketch.selected in edits.spots(edit)
    assert edit not in sketch.past[-1:]
    if isinstance(sketch.gesture, Move):
        assert edits.place(edit, sketch.gesture.spot) == sketch.gesture.origin
