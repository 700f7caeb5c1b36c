"""Plots show the snapshots' own numbers, on the axes they are given, and leave pyplot alone."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import made_snapshot, smooth_picture
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from dragnoise import Drag, DragConfig, DragSession, Model, Snapshot
from dragnoise.geometry import Frame, as_drags
from dragnoise.plots import (
    COLOURS,
    plot_anchor_motion,
    plot_bottleneck,
    plot_latents,
    plot_loss,
    plot_pictures,
    plot_trajectory,
    principal_colours,
)
from dragnoise.session.branches import Branches
from dragnoise.session.cache import Cache
from dragnoise.session.history import History
from dragnoise.session.state import SessionState
from dragnoise.session.store import Store

DRAGS = [((20.0, 30.0), (44.0, 20.0)), ((60.0, 70.0), (50.0, 90.0)), ((5.0, 5.0), (5.0, 25.0))]
SIZE = (96, 128)  # width, height


def make_snapshots(count: int, *, drags: int = 2, masked: bool = False, channels: int = 6) -> list[Snapshot]:
    rng = torch.Generator().manual_seed(count)
    starts, ends = np.array(DRAGS[:drags]).transpose(1, 0, 2)
    snapshots = []
    for k in range(count):
        anchors = starts + (ends - starts) * max(k - 1, 0) / count
        alignment, masking = (100.0 - k, 5.0 * k * masked) if k else (math.nan, math.nan)
        snapshots.append(
            made_snapshot(
                k,
                anchors=anchors,
                distances=np.linalg.norm(ends - anchors, axis=-1),
                variable=torch.randn(1, channels, 4, 5, generator=rng),
                alignment=alignment,
                masking=masking,
                seconds=0.1,
            )
        )
    return snapshots


class StillSession(DragSession):
    """A session that stands somewhere, without a model behind it."""

    def __init__(self, snapshots: list[Snapshot], *, drags: int = 2, latents: int = 1) -> None:
        config = DragConfig(tolerance=1.5)
        state = SessionState(
            image=Image.new("RGB", SIZE, "navy"), prompt="", config=config, drags=as_drags(DRAGS[:drags], SIZE),
            frame=Frame.of(SIZE, config, native=128, multiple=4), history=History(snapshots),
            trajectory=tuple(torch.full((1, 4, 8, 6), float(k)) for k in range(latents)),
        )  # fmt: skip
        self.store, self.branches = Store(None, state, Cache()), Branches()

    @property
    def anchors(self) -> np.ndarray:
        if not self.history:
            return np.array([drag.anchor for drag in self.drags])
        return self.history[-1].anchors + (self.history[-1].iteration > 0)


def lines(ax: Axes) -> dict[str, np.ndarray]:
    """(n, 2) data of the lines that have a name."""
    return {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}


def pixels(ax: Axes) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def new_axes(rows: int = 1, columns: int = 1) -> np.ndarray:
    return Figure().subplots(rows, columns, squeeze=False)


PLOTS = {
    "loss": plot_loss,
    "motion": plot_anchor_motion,
    "trajectory": lambda source, **given: plot_trajectory(source, image=Image.new("RGB", SIZE), **given),
    "bottleneck": plot_bottleneck,
}


# ----------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize(("count", "drags"), [(2, 1), (3, 3), (30, 2)])
def test_lists_and_sessions_of_any_length_draw(name: str, count: int, drags: int) -> None:
    snapshots = make_snapshots(count, drags=drags)
    for source in (snapshots, tuple(snapshots), History(snapshots), StillSession(snapshots, drags=drags)):
        drawn = np.asarray(PLOTS[name](source)).flat[0]
        assert drawn.figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["motion", "trajectory", "bottleneck"])
def test_the_state_before_any_update_draws(name: str) -> None:
    for source in (make_snapshots(1), StillSession(make_snapshots(1))):
        np.asarray(PLOTS[name](source)).flat[0].figure.draw_without_rendering()


@pytest.mark.parametrize("name", PLOTS)
def test_wrong_sources_get_one_clear_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=r"no snapshots.*session\.step\(\)"):
        PLOTS[name]([])
    for wrong in (3, None, [1, 2], make_snapshots(1)[0], "history"):
        with pytest.raises(TypeError, match=r"a session or a list of its snapshots"):
            PLOTS[name](wrong)
    with pytest.raises(ValueError, match="different numbers of anchors"):
        PLOTS[name]([*make_snapshots(2, drags=1), *make_snapshots(2, drags=2)])


@pytest.mark.parametrize("name", ["loss", "motion", "bottleneck"])
def test_a_session_without_iterations_says_what_to_call(name: str) -> None:
    with pytest.raises(ValueError, match=r"session\.step\(\) or session\.run\(\)"):
        PLOTS[name](StillSession([]))


@pytest.mark.parametrize("name", ["loss", "motion", "trajectory"])
def test_given_axes_are_drawn_on_and_returned(name: str) -> None:
    ax = new_axes()[0, 0]
    (kept,) = ax.plot([0, 1], [0, 1])
    assert PLOTS[name](make_snapshots(3), ax=ax) is ax
    assert kept in ax.lines and len(ax.lines) > 1
    for wrong in (ax.figure, [ax, ax], "ax"):
        with pytest.raises(TypeError, match=r"ax must be a matplotlib Axes"):
            PLOTS[name](make_snapshots(3), ax=wrong)


def test_a_real_session_draws_before_and_after_its_iterations(small: Model) -> None:
    config = DragConfig(steps=4, edit_from=2, refine_from=0, max_iterations=2, tolerance=1e-3)
    session = DragSession(small, smooth_picture(48, 40), config=config)
    assert plot_latents(session)[0].get_ylabel() == "step 0"
    session.drags = [Drag((10, 12), (30, 25))]
    assert len(lines(plot_trajectory(session))["drag 0"]) == 1
    list(session.optimize())
    assert len(lines(plot_trajectory(session))["drag 0"]) == 4
    assert plot_latents(session)[0].get_ylabel() == "step 2"
    np.testing.assert_allclose(lines(plot_loss(session))["loss"][:, 1], [s.loss for s in session.history[1:]])
    for drawn in (plot_anchor_motion(session), plot_bottleneck(session)[0]):
        drawn.figure.draw_without_rendering()


def test_pyplot_is_not_imported() -> None:
    code = (
        "import sys, torch, dragnoise.plots as p; p.plot_latents(torch.zeros(1, 4, 2, 2))[0].figure._repr_png_();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ----------------------------------------------------------------------------- over iterations


def test_loss_has_the_snapshots_numbers_from_iteration_one() -> None:
    snapshots = make_snapshots(5)
    drawn = lines(plot_loss(snapshots))
    assert list(drawn) == ["loss"]
    np.testing.assert_array_equal(drawn["loss"], [[s.iteration, s.loss] for s in snapshots[1:]])


def test_the_parts_of_a_masked_loss_add_up() -> None:
    snapshots = make_snapshots(5, masked=True)
    ax = plot_loss(snapshots)
    drawn = lines(ax)
    np.testing.assert_array_equal(drawn["alignment"][:, 1], [s.alignment_loss for s in snapshots[1:]])
    np.testing.assert_allclose(drawn["λ · masking"][:, 1], [0.1 * s.mask_loss for s in snapshots[1:]])
    np.testing.assert_allclose(drawn["alignment"][:, 1] + drawn["λ · masking"][:, 1], drawn["loss"][:, 1])
    assert {text.get_text() for text in ax.get_legend().get_texts()} == set(drawn)


def test_there_is_no_loss_before_the_first_update() -> None:
    for source in (make_snapshots(1), StillSession(make_snapshots(1))):
        with pytest.raises(ValueError, match=r"no loss before the first update; call session\.step\(\)"):
            plot_loss(source)


def test_motion_has_the_snapshots_distances_and_a_list_no_tolerance_of_its_own() -> None:
    snapshots = make_snapshots(6, drags=3)[2:]
    ax = plot_anchor_motion(snapshots)
    for i, (name, data) in enumerate(lines(ax).items()):
        assert name == f"drag {i}"
        np.testing.assert_array_equal(data, [[s.iteration, s.distances[i]] for s in snapshots])
    assert len(ax.lines) == 3 and not ax.texts
    assert len({line.get_color() for line in ax.lines}) == 3
    assert plot_anchor_motion(snapshots, tolerance=2.5).lines[-1].get_ydata() == [2.5, 2.5]


def test_a_session_adds_its_tolerance_in_image_pixels_and_where_the_anchors_are_now() -> None:
    session = StillSession(make_snapshots(4))
    ax = plot_anchor_motion(session)
    *_, tolerance = ax.lines
    assert tolerance.get_ydata() == [3.0, 3.0]  # 1.5 pixels of a grid of half the size
    ends = np.array([drag.objective for drag in session.drags])
    now = np.linalg.norm(ends - session.anchors, axis=-1)
    dotted = [line.get_xydata() for line in ax.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(dotted, [[[3, session.history[-1].distances[i]], [4, now[i]]] for i in range(2)])
    assert plot_anchor_motion(session, tolerance=7).lines[-1].get_ydata() == [7, 7]


def test_one_drag_needs_no_legend_and_many_drags_share_the_palette() -> None:
    assert plot_anchor_motion(make_snapshots(4, drags=1)).get_legend() is None
    many = [SimpleNamespace(**vars(s)) for s in make_snapshots(3, drags=1)]
    crowd = [Snapshot(**(vars(s) | {"anchors": np.zeros((11, 2)), "distances": np.arange(11.0)})) for s in many]
    colours = [line.get_color() for line in plot_anchor_motion(crowd).lines]
    assert len(colours) == 11 and colours[8] == COLOURS[0]


# ----------------------------------------------------------------------------- on the picture


def test_trajectory_of_a_list_has_picture_paths_and_objectives() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    snapshots = make_snapshots(5)
    ax = plot_trajectory(snapshots, image=picture, drags=DRAGS[:2])
    np.testing.assert_array_equal(pixels(ax), picture)
    assert ax.get_xlim() == (-0.5, SIZE[0] - 0.5) and ax.get_ylim() == (SIZE[1] - 0.5, -0.5)
    drawn = lines(ax)
    for i in range(2):
        np.testing.assert_array_equal(drawn[f"drag {i}"], [s.anchors[i] for s in snapshots])
    diamonds = [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "D"]
    assert diamonds == [objective for _, objective in DRAGS[:2]]
    assert [text.get_text() for text in ax.texts] == ["0", "1"] and len(ax.patches) == 2
    assert all(line.get_path_effects() for line in ax.lines if line.get_marker() == "None")


def test_trajectory_without_drags_has_no_objectives() -> None:
    ax = plot_trajectory(make_snapshots(3), image=Image.new("L", SIZE))
    assert len(lines(ax)) == 2 and not ax.patches and all(line.get_marker() != "*" for line in ax.lines)


def test_trajectory_of_a_session_ends_where_the_anchors_are_now() -> None:
    session = StillSession(make_snapshots(4))
    ax = plot_trajectory(session)
    np.testing.assert_array_equal(pixels(ax), np.asarray(session.image))
    np.testing.assert_array_equal(lines(ax)["drag 1"][-1], session.anchors[1])
    np.testing.assert_array_equal(lines(ax)["drag 1"][:-1], [s.anchors[1] for s in session.history])
    edited = Image.new("RGB", SIZE, "white")
    np.testing.assert_array_equal(pixels(plot_trajectory(session, image=edited)), np.asarray(edited))


def test_trajectory_of_a_session_before_any_iteration_shows_the_drags() -> None:
    ax = plot_trajectory(StillSession([]))
    np.testing.assert_array_equal(lines(ax)["drag 0"], [DRAGS[0][0]])
    assert len(ax.patches) == 2


def test_trajectory_says_what_is_missing() -> None:
    snapshots = make_snapshots(3)
    with pytest.raises(ValueError, match="give image="):
        plot_trajectory(snapshots)
    with pytest.raises(ValueError, match=r"set session\.drags"):
        plot_trajectory(StillSession([], drags=0))
    with pytest.raises(ValueError, match="1 drags for 2 anchors"):
        plot_trajectory(snapshots, image=Image.new("RGB", SIZE), drags=[Drag(*DRAGS[0])])
    with pytest.raises(ValueError, match=r"\(10, 10\), not \(96, 128\)"):
        plot_trajectory(StillSession(snapshots), image=Image.new("RGB", (10, 10)))
    with pytest.raises(ValueError, match="outside the picture"):
        plot_trajectory(snapshots, image=Image.new("RGB", (30, 30)), drags=DRAGS[:2])


# ----------------------------------------------------------------------------- what the model sees


def test_bottleneck_panels_have_the_norms_and_the_shared_components() -> None:
    snapshots = make_snapshots(4)
    panels = plot_bottleneck(snapshots)
    assert panels.shape == (6,)
    before, after = snapshots[0].bottleneck[0], snapshots[-1].bottleneck[0]
    for panel, features in zip(panels[:3], (before, after, after - before), strict=True):
        np.testing.assert_allclose(pixels(panel), features.norm(dim=0).numpy(), rtol=1e-6)
    assert panels[0].images[0].get_clim() == panels[1].images[0].get_clim()
    colours, _ = principal_colours(before, after)
    np.testing.assert_allclose([pixels(panels[3]), pixels(panels[4])], colours)
    assert [panel.get_title() for panel in panels[:3]] == ["iteration 0", "iteration 3", "difference"]


def test_principal_colours_are_the_projections_on_the_first_three_eigenvectors() -> None:
    before, after = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(1)).double()
    colours, share = principal_colours(before, after)
    assert colours.shape == (2, 4, 5, 3) and colours.min() == 0 and colours.max() == 1
    samples = np.concatenate([before.reshape(6, -1).T, after.reshape(6, -1).T])
    values, vectors = np.linalg.eigh(np.cov(samples.T))
    expected = (samples - samples.mean(0)) @ vectors[:, ::-1][:, :3]
    for mine, theirs in zip(colours.reshape(-1, 3).T, expected.T, strict=True):
        assert abs(np.corrcoef(mine, theirs)[0, 1]) == pytest.approx(1)
    assert share == pytest.approx(values[::-1][:3].sum() / values.sum())


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_few_channels_and_no_change_are_grey(channels: int) -> None:
    panels = plot_bottleneck(make_snapshots(1, channels=channels))
    np.testing.assert_array_equal(pixels(panels[5]), 0.5)
    np.testing.assert_array_equal(pixels(panels[2]), 0)
    colours, share = principal_colours(torch.ones(channels, 2, 2), torch.ones(channels, 2, 2))
    assert np.isfinite(colours).all() and math.isfinite(share)
    np.testing.assert_array_equal(pixels(panels[3])[..., channels:], 0.5)


def test_bottlenecks_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="have no difference"):
        plot_bottleneck([make_snapshots(1)[0], make_snapshots(2, channels=3)[1]])


@pytest.mark.parametrize("shape", [(2, 3), (6,), (3, 2)])
def test_an_array_of_axes_is_used_in_reading_order(shape: tuple[int, ...]) -> None:
    given = new_axes(2, 3).reshape(shape)
    panels = plot_bottleneck(make_snapshots(3), ax=given)
    assert panels.shape == (6,) and all(a is b for a, b in zip(panels, given.flat, strict=True))
    assert plot_bottleneck(make_snapshots(3), ax=list(given.flat))[0] is given.flat[0]
    assert given.flat[2].get_title() == "difference"


def test_a_single_axes_is_divided_and_can_be_cleared_for_the_next() -> None:
    ax = new_axes()[0, 0]
    panels = plot_bottleneck(make_snapshots(3), ax=ax)
    assert panels.shape == (6,) and not ax.axison
    assert list(panels) == ax.child_axes and panels[0].figure is ax.figure
    ax.figure.draw_without_rendering()
    ax.clear()
    assert len(plot_latents(torch.zeros(1, 4, 2, 2), ax=ax)) == len(ax.child_axes) == 4


@pytest.mark.parametrize("wrong", [new_axes(1, 2), Figure(), [1, 2, 3, 4, 5, 6], "ax"])
def test_too_few_axes_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="one matplotlib Axes or 6 of them"):
        plot_bottleneck(make_snapshots(3), ax=wrong)


def test_latents_of_a_session_are_of_the_last_or_a_chosen_inversion_step() -> None:
    session = StillSession([], latents=6)
    for step, expected in ((None, 5), (0, 0), (3, 3)):
        panels = plot_latents(session, step=step)
        assert panels.shape == (4,) and panels[0].get_ylabel() == f"step {expected}"
        assert all((pixels(panel) == expected).all() and pixels(panel).shape == (8, 6) for panel in panels)
    for wrong in (6, -1):
        with pytest.raises(ValueError, match=rf"step {wrong} .*0\.\.5.*session\.invert\(\)"):
            plot_latents(session, step=wrong)


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 16])
def test_latents_have_a_panel_per_channel_on_one_scale_around_zero(channels: int) -> None:
    latents = torch.randn(1, channels, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    panels = plot_latents(latents)
    assert panels.shape == (channels,)
    limit = float(latents.detach().abs().max())
    for panel, channel in zip(panels, latents[0].detach().numpy(), strict=True):
        np.testing.assert_array_equal(pixels(panel), channel)
        assert panel.images[0].get_clim() == pytest.approx((-limit, limit))
        assert panel.get_xlabel() == f"{channel.mean():.2f} ± {channel.std():.2f}"


def test_latents_need_something_with_latents() -> None:
    with pytest.raises(TypeError, match="a session or a latent"):
        plot_latents(make_snapshots(2))
    for latents, step in ((torch.zeros(4, 8, 8), None), (torch.zeros(2, 4, 8, 8), None), (torch.zeros(1, 4, 8, 8), 3)):
        with pytest.raises(ValueError, match=r"\(1, C, h, w\)"):
            plot_latents(latents, step=step)


def test_colours_are_told_apart() -> None:
    rgb = np.array([to_rgb(colour) for colour in COLOURS])
    gaps = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1) + np.eye(len(rgb))
    assert gaps.min() > 0.2


def test_pictures_are_shown_side_by_side_under_their_names() -> None:
    first, second = np.zeros((8, 9, 3), np.uint8), np.full((4, 4), 200, np.uint8)
    panels = plot_pictures({"before": first, "after": second})
    assert [panel.get_title() for panel in panels] == ["before", "after"]
    np.testing.assert_array_equal(panels[0].images[0].get_array(), first)
    assert panels[1].images[0].get_array().shape == (4, 4, 3)
    with pytest.raises(ValueError, match="no pictures"):
        plot_pictures({})
