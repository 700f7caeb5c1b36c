"""The rendered world: deterministic, anti-aliased, and its landmarks are where the picture shows them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from dragnoise.toyland.factors import LENGTHS
from dragnoise.toyland.scenes import (
    LANDMARKS,
    RANGES,
    SIZE,
    Scene,
    caption,
    factors,
    landmarks,
    render,
    sample_scene,
    with_factors,
)
from recipes.toyland.networks import TOKENS, build_tokenizer


def clear_scene(**changes: float | str) -> Scene:
    """A day scene with the sun and the peak far from a creature that looks ahead."""
    scene = dataclasses.replace(
        sample_scene(5), time="day", kind="cat", coat="orange", hat="red", sun_x=22.0, sun_y=20.0, sun_radius=8.0,
        peak_x=36.0, peak_y=48.0, x=90.0, y=114.0, size=1.0, neck=6.0, lean=0.0, yaw=0.0, pitch=0.0, roll=0.0,
        hat_tilt=0.0,
    )  # fmt: skip
    return dataclasses.replace(scene, **changes)  # type: ignore[arg-type]


def test_same_seed_same_picture() -> None:
    assert sample_scene(3) == sample_scene(3)
    assert sample_scene(3) != sample_scene(4)
    np.testing.assert_array_equal(render(sample_scene(3)), render(sample_scene(3)))


def test_picture_is_rgb_bytes() -> None:
    picture = render(sample_scene(0))
    assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("seed", range(0, 200, 20))
def test_factors_stay_in_their_ranges(seed: int) -> None:
    for name, value in factors(sample_scene(seed)).items():
        low, high = RANGES[name]
        assert low <= value <= high, name


def test_about_thirty_factors() -> None:
    assert len(RANGES) >= 30


def test_with_factors_clips() -> None:
    assert with_factors(sample_scene(0), sun_x=1e6).sun_x == RANGES["sun_x"][1]


def test_every_landmark_moves_through_much_of_the_picture() -> None:
    points = [landmarks(sample_scene(seed)) for seed in range(400)]
    for name in LANDMARKS:
        found = np.array([p[name] for p in points if name in p])
        assert np.ptp(np.percentile(found, (5, 95), axis=0), axis=0).max() > SIZE / 3, name


def test_sun_landmark_is_the_middle_of_the_sun() -> None:
    scene = clear_scene()
    there = np.abs(render(scene).astype(int) - render(with_factors(scene, sun_x=110.0))).sum(-1)
    y, x = np.nonzero(render(scene)[:60, :60, 2] < 130)  # the only yellow thing in a blue corner
    assert math.dist((x.mean(), y.mean()), landmarks(scene)["sun"]) < 0.75
    assert there[60:].max() < 12  # and nothing else moved with it


def test_peak_landmark_is_the_top_of_the_snow() -> None:
    scene = clear_scene(time="night", sun_x=100.0, sun_y=10.0)
    x, y = landmarks(scene)["peak"]
    column = render(scene)[:, round(x)].astype(int).sum(-1)
    top = int(np.argmax(np.diff(column) > 60)) + 1
    assert abs(top - y) <= 2.5


def test_hat_top_is_a_pale_bobble_and_only_under_a_hat() -> None:
    scene = clear_scene()
    x, y = landmarks(scene)["hat_top"]
    assert render(scene)[round(y), round(x)].min() > 180
    assert "hat_top" not in landmarks(dataclasses.replace(scene, hat="none"))


def test_eyes_are_dark_in_the_middle() -> None:
    scene = clear_scene(gaze_x=0.0, gaze_y=0.0)
    for name in ("left_eye", "right_eye"):
        x, y = landmarks(scene)[name]
        assert render(scene)[round(y), round(x)].max() < 90, name


def test_left_is_the_pictures_left() -> None:
    for seed in range(30):
        points = landmarks(sample_scene(seed))
        assert points["left_eye"][0] < points["right_eye"][0]
        assert points["left_foot"][0] < points["right_foot"][0]


def test_edges_are_soft() -> None:
    scene = clear_scene()
    row = render(scene)[round(scene.sun_y), :45, 2].astype(int)
    inside, outside = row[22], row[40]
    between = [v for v in row[23:36] if min(inside, outside) + 8 < v < max(inside, outside) - 8]
    assert between, "no pixel between the sun's colour and the sky's"


def test_captions_fit_and_differ_in_their_tokens() -> None:
    tokenizer = build_tokenizer()
    texts = {caption(sample_scene(seed)) for seed in range(300)}
    ids = {tuple(tokenizer(text).input_ids) for text in texts}
    assert len(ids) == len(texts) > 50
    assert max(map(len, ids)) <= TOKENS
    assert tokenizer.unk_token_id not in {i for row in ids for i in row[1:-1]}


@pytest.mark.parametrize("name", RANGES)
def test_factors_far_outside_their_ranges_still_give_a_picture(name: str) -> None:
    for value in (-1e4, -50.0, 0.0, 1e-12, 300.0, 1e4):
        if name in LENGTHS and value <= 0:
            with pytest.raises(ValueError, match=f"{name}=.* must be a number above 0"):
                dataclasses.replace(sample_scene(2), **{name: value})
            continue
        scene = dataclasses.replace(sample_scene(2), **{name: value})
        assert render(scene).shape == (SIZE, SIZE, 3)
        assert np.isfinite(list(landmarks(scene).values())).all()


@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        (lambda: render(3), TypeError, "give a Scene"),
        (lambda: landmarks(None), TypeError, "give a Scene"),
        (lambda: caption("a cat"), TypeError, "give a Scene"),
        (lambda: with_factors(7, x=1.0), TypeError, "give a Scene"),
        (lambda: with_factors(sample_scene(0), moon=1.0), ValueError, "no factor 'moon'"),
        (lambda: with_factors(sample_scene(0), x=math.nan), ValueError, "x=nan"),
        (lambda: sample_scene(-1), ValueError, "seed=-1"),
        (lambda: sample_scene(1.5), ValueError, "seed=1.5"),
        (lambda: render(sample_scene(0), supersample=0), ValueError, "supersample=0"),
        (lambda: render(sample_scene(0), supersample=10**6), ValueError, "supersample=1000000"),
        (lambda: dataclasses.replace(sample_scene(0), hat="yellow"), ValueError, "hat='yellow'"),
        (lambda: dataclasses.replace(sample_scene(0), yaw=math.inf), ValueError, "yaw=inf"),
        (lambda: dataclasses.replace(sample_scene(0), yaw="left"), ValueError, "yaw='left'"),
    ],
)
def test_wrong_scenes_get_one_sentence(wrong: Callable[[], object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence) as raised:
        wrong()
    assert "\n" not in str(raised.value)
