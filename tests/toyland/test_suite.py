"""The suite measures what it says: the judge, the oracle, the yardstick."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dragnoise
from dragnoise import DragSession, Model
from dragnoise.locks import PATCHING
from dragnoise.toyland import caption, drag_cases, judge, render, suite
from dragnoise.toyland.cases import TEST_SEED
from dragnoise.toyland.detector import load_judge, sightings
from dragnoise.toyland.measures import CREATURE, Quality, psnr, quality, ssim_map, visible
from dragnoise.toyland.results import Result, sheet, summary, table
from dragnoise.toyland.scenes import LANDMARKS, Body, Scene, landmarks, render_land, sample_scene
from dragnoise.toyland.suite import main, measure, oracle
from recipes.toyland.judge import judge_errors

WEIGHTS = Path(dragnoise.__file__).parent / "toyland" / "weights"


def test_weights_are_small() -> None:
    assert sum(f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()) <= 40e6
    assert not [f for f in WEIGHTS.rglob("*") if f.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def test_judge_knows_where_things_are() -> None:
    """Held-out renders: within 1.5 px on average for every landmark that drags use."""
    seeds = range(TEST_SEED + 5_000_000, TEST_SEED + 5_000_150)
    errors = judge_errors(load_judge(), np.stack([render(sample_scene(s)) for s in seeds]), seeds)
    assert set(errors) == set(LANDMARKS)
    assert max(errors.values()) <= 1.5, errors


def test_judge_answers_for_any_picture_of_its_size() -> None:
    found = judge(render(sample_scene(1)))
    assert set(found) == set(LANDMARKS)
    with pytest.raises(ValueError, match="64x64"):
        judge(np.zeros((64, 64, 3), np.uint8))


def test_the_judge_is_made_while_nobody_loads_a_model() -> None:
    """Whatever is made during another thread's load has no values."""
    made = threading.Event()
    thread = threading.Thread(target=lambda: (load_judge.__wrapped__(), made.set()))
    with PATCHING:
        thread.start()
        assert not made.wait(0.2)
    thread.join(60)
    assert made.is_set()


CASES = [case for kind in ("sun", "creature", "head") for case in drag_cases(kind, 1, TEST_SEED)]


@pytest.fixture(scope="module")
def model() -> Model:
    return dragnoise.load_model()


@pytest.fixture(scope="module")
def measured(model: Model) -> list[Result]:
    quick = model.default_config.replace(max_iterations=10)
    return [measure(model, case, quick) for case in CASES]


def test_measured_from_the_pictures_by_the_judge(measured: list[Result]) -> None:
    for case, result in zip(CASES, measured, strict=True):
        start = [np.hypot(*np.subtract(d.anchor, d.objective)) for d in case.drags]
        assert result.before == pytest.approx(np.mean(start))
        found = judge(result.pictures[1])
        end = [np.hypot(*np.subtract(found[n], d.objective)) for n, d in zip(case.names, case.drags, strict=True)]
        assert result.edit.missed == pytest.approx(np.mean(end))
        assert result.unedited.missed == pytest.approx(result.before, abs=2.5)
        assert np.isinf(result.unedited.outside) or result.unedited.outside > 90
        assert result.iterations <= 10


def test_the_right_answer_would_be_measured_as_one() -> None:
    """The yardstick itself: on the ground truth nearly nothing is missed, on the given picture all."""
    for case in CASES:
        given, answer = (judge(render(scene)) for scene in (case.scene, case.answer))
        for name, drag in zip(case.names, case.drags, strict=True):
            assert np.hypot(*np.subtract(answer[name], drag.objective)) < 2.5
            assert np.hypot(*np.subtract(given[name], drag.anchor)) < 2.5


def test_the_model_keeps_a_picture_that_nobody_drags(model: Model) -> None:
    for case in CASES:
        picture = render(case.scene)
        again = np.asarray(DragSession(model, picture, caption(case.scene)).reconstruct()).astype(float)
        assert 10 * np.log10(255**2 / np.square(again - picture).mean()) > 27


def test_the_oracle_of_the_same_picture_is_its_reconstruction(model: Model) -> None:
    config = model.default_config.replace(steps=10, edit_from=7, refine_from=6)  # its own bottleneck, at one step
    session = DragSession(model, render(CASES[0].scene), caption(CASES[0].scene), config)
    session.drags = CASES[0].drags
    list(session.invert())
    best = np.asarray(oracle(session, render(CASES[0].scene))).astype(int)
    assert np.abs(best - np.asarray(session.reconstruct())).max() <= 1


def test_an_edit_changes_the_picture(measured: list[Result]) -> None:
    for result in measured:
        assert np.abs(result.pictures[0].astype(int) - result.pictures[1]).max() > 20


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads gain little on so small a model, and lose much where others want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_drags_drag(model: Model, one_thread: None) -> None:
    """Of held-out suns, peaks, turning heads and creatures at least half end at half the way or nearer."""
    cases = [case for kind in ("sun", "peak", "turn", "creature") for case in drag_cases(kind, 2, TEST_SEED)]
    results = [measure(model, case) for case in cases]
    row = summary(results)["all"]
    assert row["edit_halved"] >= 0.5 and row["edit_median_share"] <= 0.45, [r.numbers() for r in results]
    assert row["edit_outside"] >= 27


def test_the_sheet_shows_every_case(measured: list[Result]) -> None:
    page = np.asarray(sheet(measured, CASES, columns=2, zoom=1))
    assert page.shape == (2 * 150, 2 * 524, 3)
    np.testing.assert_array_equal(page[:128, 384:512], measured[0].pictures[3])


def a_quality(missed: float, *, lost: tuple[str, ...] = (), inside: float = 20.0) -> Quality:
    return Quality(missed=missed, outside=30.0, inside=inside, ssim=0.8, landmarks=1.5, lost=lost)


def test_summary_counts() -> None:
    blank = (np.zeros((1, 1, 3), np.uint8),) * 4
    results = [
        Result("sun", before, a_quality(after, lost=lost), a_quality(0.0), a_quality(before), 10, "reached", 1.0, blank)
        for before, after, lost in ((10, 2, ()), (10, 5, ("chin",)), (10, 8, ()))
    ]
    row = summary(results)["all"]
    assert row["edit_halved"] == row["edit_whole"] == pytest.approx(2 / 3)
    assert row["edit_median_share"] == pytest.approx(0.5) and row["edit_mean_share"] == pytest.approx(0.5)
    assert (row["oracle_halved"], row["unedited_halved"], row["edit_inside"]) == (1, 0, 20)
    assert summary(results)["sun"] == row
    heads, _, line, *_ = table(summary(results)).splitlines()
    cells = dict(zip(*([cell.strip() for cell in row.split("|")] for row in (heads, line)), strict=True))
    assert cells["whole"] == "67% / 100% / 100%" and cells["inside dB"] == "20.0 / 20.0 / 20.0"
    assert cells["median"] == "50%" and cells["landmarks px"] == "1.5 / 1.5 / 1.5"


def test_the_numbers_of_a_result_are_json(measured: list[Result]) -> None:
    numbers = json.loads(json.dumps(measured[0].numbers()))
    assert set(numbers["edit"]) == {f.name for f in dataclasses.fields(Quality)} == set(numbers["oracle"])
    assert "pictures" not in numbers


def test_ssim_is_the_one_of_the_paper() -> None:
    """Against the formula with the window written out at single pixels, and its known values."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (24, 20, 3)).astype(np.uint8)
    b = np.clip(a + rng.normal(0, 30, a.shape), 0, 255).astype(np.uint8)
    found = ssim_map(a, b)
    np.testing.assert_allclose(ssim_map(a, a), 1)
    np.testing.assert_allclose(found, ssim_map(b, a))
    g = np.exp(-((np.mgrid[-5:6, -5:6] ** 2).sum(0)) / (2 * 1.5**2))
    g /= g.sum()
    for y, x in ((5, 5), (12, 9), (18, 14)):
        values = []
        for c in range(3):
            p, q = (picture[y - 5 : y + 6, x - 5 : x + 6, c].astype(float) for picture in (a, b))
            mp, mq = (g * p).sum(), (g * q).sum()
            vp, vq, cov = (g * (p - mp) ** 2).sum(), (g * (q - mq) ** 2).sum(), (g * (p - mp) * (q - mq)).sum()
            c1, c2 = 2.55**2, 7.65**2
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
        assert found[y, x] == pytest.approx(np.mean(values), rel=1e-9)


def test_psnr_of_a_known_error() -> None:
    a = np.full((4, 4, 3), 100, np.uint8)
    b = a.copy()
    b[0] += 10
    where = np.zeros((4, 4), bool)
    where[0] = True
    assert psnr(a, b, where) == pytest.approx(20 * np.log10(25.5))
    assert psnr(a, b, ~where) > 90


def painted_out(scene: Scene, what: str) -> np.ndarray:
    """The scene's picture with one thing painted over by what is round it or behind it."""
    picture, body = render(scene).copy(), Body(scene)
    y, x = np.mgrid[:128, :128]
    if what == "hat_top":
        return render(dataclasses.replace(scene, hat="none"))
    if what == "tail_tip":
        root, knee, tip = body.tail
        near = np.full((128, 128), np.inf)
        for (ax, ay), (bx, by) in ((root, knee), (knee, tip)):
            t = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2), 0, 1)
            near = np.minimum(near, np.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay)))
        (hx, hy), (rx, ry) = body.hips, (scene.body_width * scene.size, scene.body_height * 0.82 * scene.size)
        tail = (near < 5.2 * scene.size) & (((x - hx) / rx) ** 2 + ((y - hy) / ry) ** 2 > 1.02)
        picture[tail] = render_land(scene)[tail]
        return picture
    ex, ey, _ = body.eye(-1 if what == "left_eye" else 1)
    away, radius = np.hypot(x - ex, y - ey), scene.eye_size * scene.size + 1.2
    picture[away <= radius] = np.median(picture[(away > radius) & (away < radius + 2)], 0)
    return picture


FRESH = [sample_scene(TEST_SEED + 6_000_000 + i) for i in range(60)]


@pytest.mark.parametrize("what", ["left_eye", "right_eye", "hat_top", "tail_tip"])
def test_what_is_painted_out_is_noticed(what: str) -> None:
    """The judge is unsure of it in at least nineteen of twenty pictures, and sure of it before."""
    scenes = [s for s in FRESH if what in landmarks(s) and all(3 < v < 124 for v in landmarks(s)[what])][:20]
    before = [sightings(render(s))[what].sure for s in scenes]
    after = [sightings(painted_out(s, what))[what].sure for s in scenes]
    assert np.mean(before) >= 0.95 and np.mean(after) <= 0.05


def test_a_picture_without_an_eye_is_not_whole() -> None:
    case = next(c for c in drag_cases("creature", 4, TEST_SEED) if abs(c.answer.yaw) < 25)
    given, answer = render(case.scene), render(case.answer)
    right = quality(case, answer, given, answer)
    assert right.whole and right.landmarks < 1 and right.missed < 2
    assert right.inside > 90 and right.ssim == pytest.approx(1)
    blind = quality(case, painted_out(case.answer, "left_eye"), given, answer)
    assert "left_eye" in blind.lost and not blind.whole and blind.inside < right.inside
    still = quality(case, given, given, answer)
    assert still.outside > 90 and len(still.lost) > 5 and still.landmarks > 5  # nothing went where it should


def test_the_whole_creature_is_looked_at_but_only_what_can_be_seen() -> None:
    counts = []
    for scene in FRESH[:20]:
        names = visible(landmarks(scene), render(scene))
        assert set(names) <= set(CREATURE) and (scene.hat != "none" or "hat_top" not in names)
        counts.append(len(names))
    assert np.mean(counts) > 10
    outside = dataclasses.replace(FRESH[0], x=140.0)  # its right half is beyond the edge
    assert "right_foot" not in visible(landmarks(outside), render(outside))


def test_fresh_cases_without_a_mask_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, bool]] = []

    def measured_as(model: Model, case: Any, config: Any, *, mask: bool) -> Result:
        asked.append((case.scene, mask))
        picture = render(case.scene)
        q = quality(case, picture, picture, render(case.answer))
        return Result(case.kind, 10.0, q, q, q, 1, "reached", 0.1, (picture,) * 4)

    class Here:
        def __init__(self, workers: int, initializer: Any, initargs: Any) -> None:
            initializer(*initargs)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None: ...

        map = staticmethod(map)

    monkeypatch.setattr(suite, "measure", measured_as)
    monkeypatch.setattr(suite, "ProcessPoolExecutor", Here)
    threads = torch.get_num_threads()
    for seed, extra in (("0", []), ("3", ["--no-mask"])):
        main(["--each", "1", "--kinds", "sun", "--out", str(tmp_path / seed), "--seed", seed, *extra])
    torch.set_num_threads(threads)
    assert asked[0][0] == drag_cases("sun", 1, TEST_SEED)[0].scene != asked[1][0]
    assert [mask for _, mask in asked] == [True, False]
    report = json.loads((tmp_path / "3" / "results.json").read_text())
    assert (report["seed"], report["mask"], report["split"]) == (3, False, "test")
    assert report["summary"]["all"]["edit_whole"] in (0, 1) and (tmp_path / "3" / "sheet.png").exists()
    with pytest.raises(ValueError, match="seed=12"):
        main(["--seed", "12", "--out", str(tmp_path / "4")])
    assert not list((tmp_path / "4").iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "run", lambda **_: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        main(["--out", str(tmp_path / "file")])
