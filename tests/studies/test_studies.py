"""The studies on small models: each figure's numbers against an independent computation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dragnoise
from dragnoise import Drag, DragConfig, DragSession, Model
from dragnoise.studies import ablations, efficiency, situations, substitution
from dragnoise.studies.comparison import Comparison

TINY = DragConfig(
    steps=6, edit_from=4, refine_from=1, max_iterations=2, side=64, supervision_block=1, r2=1, latent_noise=0.1
)
DRAGS = [Drag((20, 20), (44, 40))]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def compared(small: Model, picture: Image.Image) -> Comparison:
    configs = {"one": TINY, "lower": TINY.replace(edit_from=3), "latent": TINY.replace(editor="dragdiffusion")}
    return dragnoise.compare(small, picture, DRAGS, configs, progress=False)


# ---- compare


def test_compare_gives_what_sessions_of_their_own_give(
    small: Model, picture: Image.Image, compared: Comparison
) -> None:
    for edit in compared.edits:
        alone = DragSession(small, picture, config=edit.session.config)
        alone.drags = DRAGS
        assert np.array_equal(np.asarray(alone.run(progress=False)), np.asarray(edit.picture)), edit.name
        assert [s.loss for s in alone.history[1:]] == edit.losses.tolist()
    assert [edit.name for edit in compared.edits] == ["one", "lower", "latent"]


def test_one_inversion_serves_all_that_agree_on_it(compared: Comparison) -> None:
    one, lower, latent = (compared[name].session.state.trajectory for name in ("one", "lower", "latent"))
    assert all(a is b for a, b in zip(one, latent, strict=True))
    assert len(lower) == 4 and all(a is b for a, b in zip(lower, one[:4], strict=True))


def test_numbers_of_an_edit(compared: Comparison) -> None:
    edit = compared["one"]
    before = [s.distances for s in edit.session.history[1:]]
    now = np.linalg.norm(edit.session.anchors - [d.objective for d in DRAGS], axis=-1)
    assert np.allclose(edit.distances, [*before, now])
    assert edit.motion.shape == (2, 1)
    assert edit.numbers["distance"] == pytest.approx(now.mean()) and edit.numbers["iterations"] == 2


def test_a_comparison_goes_on_from_an_earlier_one(small: Model, picture: Image.Image, compared: Comparison) -> None:
    more = dragnoise.compare(
        small, picture, DRAGS, {"one": TINY, "new": TINY.replace(lr=0.02)}, done=compared, progress=False
    )
    assert more["one"] is compared["one"] and more["new"].session.config.lr == 0.02
    assert len(more.figure.subfigs[0].axes) == 3


def test_a_comparison_of_something_else_is_refused(small: Model, picture: Image.Image, compared: Comparison) -> None:
    given: dict[str, Any] = {"done": compared, "progress": False}
    with pytest.raises(ValueError, match="earlier comparison"):
        dragnoise.compare(small, picture, DRAGS, {"one": TINY}, prompt="another", **given)
    with pytest.raises(ValueError, match="other drags"):
        dragnoise.compare(small, picture, [Drag((9, 9), (30, 30))], {"x": TINY, "one": TINY}, **given)
    with pytest.raises(ValueError, match="nothing to compare"):
        dragnoise.compare(small, picture, DRAGS, {})
    with pytest.raises(ValueError, match="one name"):
        dragnoise.compare(small, picture, DRAGS, [TINY, TINY])
    with pytest.raises(TypeError, match="a DragConfig or the name"):
        dragnoise.compare(small, picture, DRAGS, {"x": 3})  # type: ignore[dict-item]


# ---- Fig. 2 and 3


def test_substitution_is_the_plain_loop_with_one_output_held(small: Model, picture: Image.Image) -> None:
    session = DragSession(small, picture, config=TINY)
    found = substitution.substitutions(session, sites=["mid"], steps=[2], progress=False)
    scheduler, unet = small.scheduler, small.unet.unet
    z, text = session.state.trajectory[-1], small.embed("")
    scheduler.set_timesteps(TINY.steps)
    kept: list[torch.Tensor] = []

    def hold(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor | None:
        if len(seen) == 3:  # steps 4 and 3 ran plainly, step 2 is recorded
            kept.append(output)
        return kept[0] if kept else None

    handle, seen = unet.mid_block.register_forward_hook(hold), []
    with torch.no_grad():
        for t in scheduler.timesteps[-4:]:
            seen.append(int(t))
            z = scheduler.step(unet(z, t, text).sample, t, z).prev_sample
    handle.remove()
    expected, made = session.picture_of(z), found.cells[0].picture
    assert np.abs(np.asarray(expected, int) - np.asarray(made, int)).max() <= 1
    assert found.cells[0].mse == pytest.approx(
        np.mean((np.asarray(made, float) - np.asarray(found.original, float)) ** 2) / 255**2
    )


def test_substitutions_are_kept_in_a_folder(
    small: Model, picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = DragSession(small, picture, config=TINY)
    first = substitution.substitutions(session, sites=["mid", "up.0"], steps=[4, 1], folder=tmp_path, progress=False)
    monkeypatch.setattr(small, "predict", lambda *_: pytest.fail("nothing is computed again"))
    again = substitution.substitutions(session, sites=["mid", "up.0"], steps=[4, 1], folder=tmp_path, progress=False)
    assert again.data == first.data and len(first.data) == 4
    assert len(first.figure.axes) == 6 and len(first.curves.axes) == 2
    last = {cell.site: cell.mse for cell in first.cells if cell.step == 1}
    assert last == {"mid": 0, "up.0": 0}  # the last step's own output in its own place changes nothing


@pytest.mark.parametrize("wrong", [{"sites": ["middle"]}, {"steps": [0]}, {"steps": [5]}])
def test_blocks_and_steps_that_there_are_not(small: Model, picture: Image.Image, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no blocks|must be 1 to edit_from=4"):
        substitution.substitutions(DragSession(small, picture, config=TINY), **wrong)


# ---- Fig. 8


def test_iterations_to_a_share_of_the_distance() -> None:
    distances = np.array([[10, 20], [8, 16], [6, 9], [7, 9]])
    assert efficiency.iterations_to(distances, 0.5) == 2
    assert efficiency.iterations_to(distances, 1.0) == 0
    assert efficiency.iterations_to(distances, 0.1) is None


def test_ratios_count_the_drags_where_both_got_there() -> None:
    def row(a: int | None, b: int | None) -> dict[str, Any]:
        return {"dragnoise": {"iterations": a, "seconds": a}, "dragdiffusion": {"iterations": b, "seconds": b}}

    found = efficiency.Ratios([row(5, 10), row(9, 10), row(None, 4), row(4, None)], 0.5)
    assert found.values().tolist() == [0.5, 0.9]
    assert found.data["dragnoise_reached"] == 3 and found.data["iterations"].value == pytest.approx(0.7)
    assert len(found.figure.axes) == 2
    assert efficiency.Ratios([row(None, 1)], 0.5).data["seconds"] is None


def test_the_figure_of_one_inversion(compared: Comparison) -> None:
    figure = efficiency.plot_efficiency(compared)
    loss = figure.axes[0].lines[0].get_ydata()
    assert np.allclose(loss, compared["one"].losses / compared["one"].losses[0])


# ---- Fig. 9 to 11


def test_initial_timesteps_and_layers(small: Model, picture: Image.Image) -> None:
    given: dict[str, Any] = {"config": TINY, "progress": False}
    begun = ablations.initial_timesteps(small, picture, DRAGS, (1, 5), **given)
    assert [(e.session.config.edit_from, e.session.config.refine_from) for e in begun.edits] == [(1, 1), (5, 1)]
    blocks = ablations.layers(small, picture, DRAGS, **given)
    assert list(blocks.data) == ["down.0", "down.1", "down.2", "mid", "up.0"]
    assert all(e.session.config.variable == e.name for e in blocks.edits)


def test_stops_are_one_optimisation(small: Model, picture: Image.Image) -> None:
    found = ablations.stops(small, picture, DRAGS, [4, 1, 0], config=TINY, progress=False)
    alone = DragSession(small, picture, config=TINY.replace(refine_from=0))
    alone.drags = DRAGS
    assert np.array_equal(np.asarray(alone.run(progress=False)), np.asarray(found["t' = 0"].picture))
    assert np.array_equal(np.asarray(alone.reconstruct()), np.asarray(found["t' = 4"].picture))
    assert len({id(e.session.history[-1].state) for e in found.edits}) == 1
    given: dict[str, Any] = {"config": TINY, "done": found, "progress": False}
    assert ablations.stops(small, picture, DRAGS, [4, 1, 0], **given) is found
    assert ablations.stops(small, picture, [Drag((20, 20), (30, 30))], [4, 1, 0], **given) is not found


# ---- Fig. 7 and 13


def test_opposing_drags_and_rotations() -> None:
    one, other = situations.opposing((10, 10), (40, 50), 20)
    assert one.objective == pytest.approx((22, 26)) and other.objective == pytest.approx((28, 34))
    with pytest.raises(ValueError, match="the two points are one"):
        situations.opposing((3, 3), (3, 3), 5)
    turned = situations.rotation((50, 50), 10, 90, points=4)
    assert turned[0].anchor == pytest.approx((60, 50)) and turned[0].objective == pytest.approx((50, 60))
    assert all(math.dist((50, 50), d.objective) == pytest.approx(10) for d in turned)


def test_situations_say_what_the_session_says(small: Model, picture: Image.Image) -> None:
    asked = {"opposing": situations.opposing((16, 30), (48, 30), 28), "one": DRAGS}
    found = situations.situations(small, picture, asked, config=TINY, progress=False)
    assert found["opposing"].data["findings"] == [
        {"what": f.what, "sentence": f.sentence} for f in found["opposing"].edit.session.diagnose()
    ]
    assert found["opposing"].failed and len(situations.plot_situations(found).axes) == 4
    again = situations.situations(small, picture, asked, config=TINY, done=found, progress=False)
    assert again["one"] is found["one"]
    other = {"one": [Drag((20, 20), (30, 30))]}
    changed = situations.situations(small, picture, other, config=TINY, done=found, progress=False)
    assert changed["one"].edit.session.drags[0].objective == (30, 30)
