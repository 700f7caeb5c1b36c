"""How a picture moves along drags: translations, rotations, and the choice between them by the seam."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import smooth_picture
from PIL import Image, ImageDraw, ImageFilter

from dragnoise.editors.parts import motion
from dragnoise.geometry import FALL, HELD
from dragnoise.images import inpainting
from dragnoise.images.masks import closing, depth, erosion, joined

PIXELS = np.asarray(smooth_picture(64, 64))


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[top:bottom, left:right] = True
    return mask


def points(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, float)


def test_a_mask_moves_as_a_whole() -> None:
    mask = box(8, 8, 48, 40)
    d = motion.translation((64, 64), points((20, 20)), points((29, 17)))
    np.testing.assert_allclose(d[mask], np.broadcast_to([9, -3], (mask.sum(), 2)), atol=1e-9)
    plain = np.full((64, 64, 3), 90, np.uint8)
    _, field = motion.moved(plain, points((20, 20)), points((29, 17)), mask=mask)
    np.testing.assert_allclose(field[mask], np.broadcast_to([9, -3], (mask.sum(), 2)), atol=1e-5)
    assert not field[~mask].any(), "a picture of one colour has no seam, and the translation is favoured"


def test_every_drag_decides_near_its_objective() -> None:
    starts, ends = points((12, 12), (50, 50)), points((16, 12), (50, 42))
    d = motion.translation((64, 64), starts, ends)
    np.testing.assert_allclose(d[12, 16], [4, 0], atol=0.02)
    np.testing.assert_allclose(d[42, 50], [0, -8], atol=0.02)
    weights = 1 / (((np.array([30, 20]) - ends) ** 2).sum(1) + 0.25)
    np.testing.assert_allclose(d[20, 30], weights @ (ends - starts) / weights.sum())


def test_without_a_mask_what_lies_within_reach_counts_as_inside() -> None:
    near = np.array([[math.dist((min(max(x, 20), 28), 32), (x, y)) <= 16 for x in range(64)] for y in range(64)])
    asked = {"starts": points((20, 32)), "ends": points((28, 32))}
    picture, d = motion.moved(PIXELS, **asked, mask=None, reach=16)
    painted, as_painted = motion.moved(PIXELS, **asked, mask=near)
    np.testing.assert_array_equal(picture, painted)
    np.testing.assert_array_equal(d, as_painted)
    assert not d[~near].any() and np.array_equal(picture[~near], PIXELS[~near])
    _, d = motion.moved(PIXELS, **asked, mask=None)
    np.testing.assert_allclose(d[0, 0], [8, 0], atol=1e-5)


def test_every_rotation_of_a_drag_brings_its_start_to_its_end() -> None:
    start, end = points((20, 30)), points((32, 22))
    fields = list(motion.rotations((64, 64), start, end))
    assert len(fields) == 2 * len(motion.PIVOTS)
    for d, far in zip(fields, (*motion.PIVOTS, *(-p for p in motion.PIVOTS)), strict=True):
        np.testing.assert_allclose(d[22, 32], end[0] - start[0], atol=1e-9)
        a, b = (motion.places((64, 64))[y, x] - d[y, x] for y, x in ((22, 32), (22, 33)))
        assert math.dist(a, b) == pytest.approx(1), "rigid"
        angle = math.atan2((b - a)[1], (b - a)[0])
        assert angle == pytest.approx(-2 * math.atan(0.5 / far))


def test_several_drags_turn_about_their_middle() -> None:
    angle, starts = 0.4, points((20, 20), (44, 22), (30, 40))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    ends = (starts - starts.mean(0)) @ turn.T + starts.mean(0) + [3, -2]
    (d,) = motion.rotations((64, 64), starts, ends)
    for start, end in zip(starts, ends, strict=True):
        x, y = end
        i, j = int(y), int(x)
        source = motion.places((64, 64))[i, j] - d[i, j] + turn.T @ (end - [j, i])
        np.testing.assert_allclose(source, start, atol=1e-9)


def test_a_pointer_on_a_hub_turns_and_a_ball_slides() -> None:
    """The mask cuts through the hub, which must stay as it is; a ball touches no edge."""
    dial = Image.new("RGB", (64, 64), (120, 160, 200))
    draw = ImageDraw.Draw(dial)
    draw.line([(32, 60), (32, 24)], fill=(200, 30, 30), width=7)
    mask = box(12, 14, 60, 50)
    start, angle = np.array([32.0, 26.0]), 0.7
    pivot = np.array([32.0, 52.0])
    end = pivot + 26 * np.array([math.sin(angle), -math.cos(angle)])
    _, d = motion.moved(np.asarray(dial), start[None], end[None], mask=mask)
    assert abs(d[48, 33, 0]) < abs(d[int(end[1]), int(end[0]), 0]) / 3, "near the hub little moves"
    ball = Image.new("RGB", (64, 64), (120, 160, 200))
    ImageDraw.Draw(ball).ellipse([20, 20, 32, 32], fill=(200, 30, 30))
    picture, d = motion.moved(np.asarray(ball), points((26, 26)), points((38, 30)), mask=box(12, 12, 52, 44))
    np.testing.assert_allclose(d[30, 40], [12, 4], atol=1e-5)
    away = Image.new("RGB", (64, 64), (120, 160, 200))
    ImageDraw.Draw(away).ellipse([32, 24, 44, 36], fill=(200, 30, 30))
    assert np.abs(picture.astype(int) - np.asarray(away)).max() <= 1, "there, and gone from where it was"


def test_what_goes_on_outside_of_the_mask_is_stretched() -> None:
    """A striped board that the mask cuts on every side: the stripe arrives, the board stays whole at the edge."""
    board = Image.new("RGB", (64, 64), (120, 160, 200))
    draw = ImageDraw.Draw(board)
    for x in range(0, 64, 12):
        draw.rectangle([x, 0, x + 5, 63], fill=(200, 120, 60))
    pixels, mask = np.asarray(board), box(12, 12, 52, 52)
    picture, d = motion.moved(pixels, points((26, 32)), points((32, 33)), mask=mask)
    np.testing.assert_allclose(d[33, 32], [6, 1], atol=1e-5)
    edge = mask & ~erosion(mask, 1)
    assert np.abs(d[edge]).max() < 1, "hardly anything moves at the edge"
    assert np.abs(picture[edge].astype(float) - pixels[edge]).max() < 70 and picture[33, 32, 0] > 180
    np.testing.assert_array_equal(picture[~mask], pixels[~mask])


def test_a_head_moves_as_a_whole_and_its_neck_is_stretched() -> None:
    """Drags at two eyes: the ear, far from both, moves with them; where the neck crosses the edge nothing moves."""
    head = Image.new("RGB", (96, 96), (120, 160, 200))
    draw = ImageDraw.Draw(head)
    draw.rectangle([36, 50, 58, 95], fill=(200, 80, 40))
    draw.ellipse([34, 30, 60, 56], fill=(200, 80, 40))
    draw.rectangle([36, 16, 40, 40], fill=(200, 80, 40))
    for x in (42, 52):
        draw.ellipse([x - 2, 40, x + 2, 44], fill=(10, 10, 10))
    pixels, mask = np.asarray(head), np.zeros((96, 96), bool)
    mask[10:70, 28:92] = True
    picture, d = motion.moved(pixels, points((42, 42), (52, 42)), points((62, 42), (72, 42)), mask=mask)
    np.testing.assert_allclose([d[42, 62], d[42, 72]], [[20, 0]] * 2, atol=1e-5)
    assert d[24, 58, 0] > 18 and picture[24, 58].tolist() == [200, 80, 40], "the ear is there"
    np.testing.assert_allclose(picture[24, 38], [120, 160, 200], atol=6, err_msg="and gone from where it was")
    assert np.abs(d[69, 37:57]).max() < 1 and np.abs(picture[69, 37:58].astype(int) - [200, 80, 40]).max() < 40
    assert np.array_equal(picture[~mask], pixels[~mask])


def head(dx: float = 0, face: float = 0, *, neck: bool = True) -> np.ndarray:
    """A head with two eyes and a mouth on a neck: moved by dx; its face, within it, by `face` pixels."""
    picture = Image.new("RGB", (128, 128), (90, 140, 200))
    draw = ImageDraw.Draw(picture)
    if neck:
        draw.rectangle((54, 60, 66, 128), fill=(200, 150, 120))
    draw.ellipse((36 + dx, 30, 84 + dx, 78), fill=(200, 150, 120))
    at = dx + face
    for x, y in ((50, 46), (66, 46)):
        draw.ellipse((x - 4 + at, y - 4, x + 4 + at, y + 4), fill=(30, 30, 30))
    draw.rectangle((52 + at, 62, 64 + at, 65), fill=(150, 20, 30))
    return np.asarray(picture)


FACE = points((50, 46), (66, 46), (58, 63))


def painted(*pictures: np.ndarray, by: int = 4) -> np.ndarray:
    """What differs between the first picture and one without a head, or with another head, and a little round it."""
    empty = np.full((128, 128, 3), (90, 140, 200), np.uint8)
    differs = np.any([np.abs(each.astype(int) - empty).max(-1) > 12 for each in pictures], axis=0)
    return np.asarray(Image.fromarray(differs).convert("L").filter(ImageFilter.MaxFilter(2 * by + 1))) > 0


@pytest.mark.parametrize("by", [-9, 10, 12])
def test_a_face_turns_in_a_head_that_is_painted_no_wider_than_it_is(by: float) -> None:
    given, answer = head(), head(face=by)
    mask = painted(head(neck=False))
    result, field = motion.moved(given, FACE, FACE + np.array([by, 0.0]), mask=mask)
    outline = mask & ~erosion(painted(head(neck=False), by=0), 2)
    np.testing.assert_array_equal(result[outline], given[outline])
    np.testing.assert_allclose(field[47, 58 + round(by)], [by, 0], atol=1e-3)
    wrong = np.abs(result.astype(int) - answer).max(-1) > 30
    assert wrong.sum() < 0.1 * (np.abs(given.astype(int) - answer).max(-1) > 30).sum()


@pytest.mark.parametrize("by", [-12, 14])
def test_a_head_moves_as_a_whole_where_the_mask_has_room_for_it(by: float) -> None:
    given, answer = head(), head(dx=by)
    mask = painted(head(neck=False), head(dx=by, neck=False))
    result, _ = motion.moved(given, FACE, FACE + np.array([by, 0.0]), mask=mask)
    above = np.s_[:70]
    wrong = np.abs(result[above].astype(int) - answer[above]).max(-1) > 30
    assert wrong.sum() < 0.1 * (np.abs(given[above].astype(int) - answer[above]).max(-1) > 30).sum()


def test_tightness_is_the_edge_crossed_and_what_leaves() -> None:
    mask, thing, crossed = box(10, 10, 40, 40), box(14, 14, 36, 36), box(10, 10, 13, 40)
    edge = mask & ~erosion(mask, 3)
    found = motion.tightness(mask, edge, crossed & edge, thing, np.array([16.0, 0.0]))
    leaving = sum(x + 16 >= 40 for x in range(14, 36)) / 22
    over, leaving = 90 / edge.sum(), motion.LEAVING * leaving / (16 / 64)
    assert found == pytest.approx(max(over, (over + leaving) / 2))
    more = motion.tightness(mask, edge, crossed & edge, thing, np.array([2.5, 0.0]))
    assert more == pytest.approx(over) and motion.tightness(mask, edge, edge & False, thing, np.array([16.0, 0.0])) == (
        pytest.approx(leaving / 2)
    )
    roomy = motion.tightness(mask, edge, crossed & edge & False, thing, np.array([3.0, 0.0]))
    assert roomy == 0


def test_what_is_stretched_moves_fully_near_the_drags_and_not_at_the_crossings() -> None:
    crossed = np.zeros((64, 64), bool)
    crossed[13:15, 12:52] = True
    ends = points((28, 28), (38, 28), (33, 40))
    share = motion.stretching(crossed, ends)
    for x, y in ends.astype(int):
        assert share[y, x] == pytest.approx(1, abs=1e-5)
    assert share[crossed].max() < 1e-6 and share[34, 13] > 0.5


def test_without_a_mask_several_drags_move_what_they_hold_and_nothing_is_torn_or_folded() -> None:
    starts, by = points((28, 28), (36, 28), (32, 36)), np.array([6.0, 2.0])
    wide = math.dist((28, 28), (32, 36))
    reach = HELD * wide + FALL * float(np.linalg.norm(by))
    picture, d = motion.moved(PIXELS, starts, starts + by, mask=None, reach=reach)
    near = np.linalg.norm(motion.places((64, 64))[:, :, None] - (starts + by), axis=-1).min(-1)
    held = near <= HELD * wide - 1
    np.testing.assert_allclose(d[held], np.broadcast_to(by, (held.sum(), 2)), atol=1e-3)
    assert not d[near >= reach].any() and np.array_equal(picture[near >= reach], PIXELS[near >= reach])
    steps = [np.diff(d[..., axis], axis=1 - axis).max() for axis in (0, 1)]
    assert max(steps) < 1, "the source of a pixel never lies beyond that of its neighbour"
    source = np.rint(motion.places((64, 64)) - d).astype(int)
    whole = held & (np.abs(picture.astype(int) - PIXELS[source[..., 1], source[..., 0]]).max(-1) <= 12)
    assert whole.sum() > 0.9 * held.sum()


def test_drags_without_length_move_nothing() -> None:
    points_ = points((20, 20), (40, 30))
    with np.errstate(all="raise"):
        picture, d = motion.moved(PIXELS, points_, points_, mask=None, reach=HELD * math.dist(*points_))
    assert not d.any() and np.abs(picture.astype(int) - PIXELS).mean() < 1


def test_what_is_joined_lies_near_a_line_between_points() -> None:
    starts, ends = points((20, 20), (40, 22), (30, 44)), points((26, 20), (46, 22), (36, 44))
    found = joined((64, 64), starts, ends, 5.0)
    lines = [(starts[i], ends[i]) for i in range(3)]
    lines += [(p[i], p[j]) for p in (starts, ends) for i in range(3) for j in range(i)]
    apart = np.full((64, 64), np.inf)
    for one, other in lines:
        for share in np.linspace(0, 1, 200):
            apart = np.minimum(apart, np.linalg.norm(motion.places((64, 64)) - (one + share * (other - one)), axis=-1))
    assert found[apart <= 4].all() and not found[apart >= 6].any()


def test_a_thing_that_hardly_differs_leaves_nothing() -> None:
    mask, edge = box(10, 10, 40, 40), box(10, 10, 13, 40)
    assert motion.tightness(mask, edge, edge, box(0, 0, 0, 0), np.array([5.0, 0.0])) == 1


def test_holes_and_bays_are_closed_and_the_outline_stays() -> None:
    mask = box(10, 10, 50, 50)
    with_hole = mask & ~box(20, 20, 26, 26) & ~box(10, 34, 16, 38)
    np.testing.assert_array_equal(closing(with_hole, 4), mask)


def test_depth_is_the_city_block_distance_to_the_outside() -> None:
    mask = np.random.default_rng(0).random((13, 9)) < 0.8
    mask[3, 4] = False
    outside = np.argwhere(~mask)
    nearest = [[np.abs(outside - [y, x]).sum(1).min() for x in range(9)] for y in range(13)]
    np.testing.assert_array_equal(depth(mask), nearest)


def test_what_is_behind_is_filled_in_from_round_the_mask() -> None:
    ramp = np.broadcast_to(np.linspace(20, 220, 64)[None, :, None], (64, 64, 3))
    covered = ramp.copy()
    mask = box(20, 20, 44, 40)
    covered[24:36, 24:40] = 255
    filled = inpainting.inpainted(covered.round().astype(np.uint8), mask)
    assert np.abs(filled - ramp).max() <= 12
    np.testing.assert_array_equal(filled[~mask], covered.round()[~mask])


def test_odd_sizes_and_narrow_pictures() -> None:
    for height, width in ((1, 9), (9, 1), (7, 13), (2, 2)):
        pixels = np.full((height, width, 3), 70, np.uint8)
        mask = np.zeros((height, width), bool)
        mask[0, 0] = True
        assert (inpainting.inpainted(pixels, mask).round() == 70).all()


def test_it_moves_the_picture_as_said() -> None:
    moved, _ = motion.moved(PIXELS, points((20, 20)), points((25, 18)), mask=None)
    np.testing.assert_array_equal(moved[10:60, 10:60], PIXELS[12:62, 5:55])
