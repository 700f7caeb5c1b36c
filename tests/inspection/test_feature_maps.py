"""The maps are Eq. 4's own distances: compared with a dense computation in float64, and with what tracking chose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, at, resized, smooth_picture

from dragnoise import Drag, DragConfig, DragSession, Model
from dragnoise.inspection.feature_maps import FeatureMaps, distance_maps, measure
from dragnoise.plots import plot_similarity

DRAGS = (Drag((30.0, 40.0), (44.0, 36.0)), Drag((10.0, 12.0), (10.0, 28.0)))
CONFIG = DragConfig(steps=4, edit_from=3, refine_from=1, max_iterations=9, lr=0.2, r2=2, side=64)


@pytest.fixture(scope="module")
def session(small: Model) -> DragSession:
    session = DragSession(small, smooth_picture(72, 56), config=CONFIG)
    session.drags = DRAGS
    for _ in range(3):
        session.step()
    return session


def dense_feature(session: DragSession, k: int) -> torch.Tensor:
    """The supervision feature after iteration k from the whole U-Net, resized to the grid, (C, H, W) float64."""
    encoded = session.store.engine.first_pass(session.state)()
    with torch.no_grad():
        decoded = session.model.decode(session.history[k].bottleneck, encoded)
    block = session.config.supervision_block
    return resized(decoded.features[block][0].double(), session.state.frame.grid)


def test_distances_are_those_of_a_dense_computation(session: DragSession) -> None:
    first, frame = dense_feature(session, 0), session.state.frame
    starts = frame.to_grid(torch.tensor([d.anchor for d in DRAGS]).double())
    initial = [at(first, float(x), float(y)) for x, y in starts]
    for k in (0, 1, 3):
        dense, maps = dense_feature(session, k), measure(session, k)
        assert maps.snapshot is session.history[k]
        assert maps.distance.shape == (2, frame.grid[1], frame.grid[0])
        for i, f in enumerate(initial):
            expected = (dense - f[:, None, None]).abs().sum(0).numpy()
            np.testing.assert_allclose(maps.distance[i], expected, rtol=2e-4, atol=2e-4 * expected.max())
    assert np.abs(measure(session, 0).distance - measure(session, 3).distance).max() > 1e-2  # it is not all one map


def test_channels_are_not_lost_where_they_are_split() -> None:
    rng = torch.Generator().manual_seed(0)
    feature, initial = torch.randn(70, 5, 6, generator=rng), torch.randn(3, 70, generator=rng)
    dense = resized(feature.double(), (9, 11))
    expected = (dense[None] - initial.double()[..., None, None]).abs().sum(1)
    torch.testing.assert_close(distance_maps(feature, initial, (9, 11)).double(), expected, rtol=1e-5, atol=1e-4)


def test_tracked_is_where_the_next_iteration_begins(session: DragSession) -> None:
    for k in (1, 2):
        np.testing.assert_allclose(measure(session, k).tracked, session.history[k + 1].anchors, atol=1e-9)
    np.testing.assert_allclose(measure(session).tracked, session.anchors, atol=1e-9)


def test_the_window_is_what_is_searched(session: DragSession) -> None:
    maps = measure(session, 3)
    pixel = np.divide(maps.frame.given, maps.frame.grid)  # image pixels per grid pixel
    begun = session.history[3].anchors
    np.testing.assert_allclose(maps.windows[:, :2], begun - 2.5 * pixel, atol=1e-9)
    np.testing.assert_allclose(maps.windows[:, 2:], begun + 2.5 * pixel, atol=1e-9)
    assert (maps.tracked >= maps.windows[:, :2]).all()
    assert (maps.tracked <= maps.windows[:, 2:]).all()


def test_looking_leaves_the_session_as_it_is(small: Model) -> None:
    def edited(*, look: bool) -> torch.Tensor:
        session = DragSession(small, smooth_picture(72, 56), config=CONFIG)
        session.drags = DRAGS
        for k in range(4):
            session.step()
            if look:
                measure(session, k)
        return session.bottleneck

    assert torch.equal(edited(look=True), edited(look=False))


def test_a_branch_sees_the_same(session: DragSession) -> None:
    np.testing.assert_array_equal(measure(session.branch(2)).distance, measure(session, 2).distance)


def test_before_there_is_anything_it_says_what_to_do(small: Model) -> None:
    session = DragSession(small, smooth_picture(72, 56), config=CONFIG)
    session.drags = DRAGS
    with pytest.raises(ValueError, match="step") as caught:
        measure(session)
    assert_one_sentence(caught.value)


def test_beyond_the_history(session: DragSession) -> None:
    with pytest.raises(IndexError, match="no iteration 7"):
        measure(session, 7)


def test_plot_shows_the_maps_the_windows_and_the_points(session: DragSession) -> None:
    panels = plot_similarity(session, iteration=2)
    maps = measure(session, 2)
    assert len(panels) == 2
    for i, panel in enumerate(panels):
        (image,) = panel.images
        np.testing.assert_array_equal(image.get_array(), maps.distance[i])
        assert image.get_extent() == pytest.approx((-0.5, 71.5, 55.5, -0.5))
        (window,) = panel.patches
        assert window.get_bbox().extents == pytest.approx(maps.windows[i])
        was, found, goal = (line.get_xydata()[0] for line in panel.lines)
        np.testing.assert_allclose(was, maps.snapshot.anchors[i])
        np.testing.assert_allclose(found, maps.tracked[i])
        np.testing.assert_allclose(goal, DRAGS[i].objective)


def test_plot_shows_the_searched_window_on_a_scale_of_its_own(session: DragSession) -> None:
    maps = measure(session, 2)
    for i, panel in enumerate(plot_similarity(session, iteration=2, zoom=True)):
        left, top, right, bottom = maps.windows[i]
        across, down = (given / grid for given, grid in zip(maps.frame.given, maps.frame.grid, strict=True))
        x0, x1 = (round((x + 0.5) / across) for x in (left, right))
        y0, y1 = (round((y + 0.5) / down) for y in (top, bottom))
        seen = maps.distance[i][y0:y1, x0:x1]
        assert panel.get_xlim() == pytest.approx((left, right)) and panel.get_ylim() == pytest.approx((bottom, top))
        assert panel.images[0].get_clim() == (seen.min(), seen.max())
        assert seen.max() < maps.distance[i].max()


def test_plot_takes_maps_too(session: DragSession) -> None:
    maps: FeatureMaps = measure(session)
    panels = plot_similarity(maps)
    assert [len(panel.lines) for panel in panels] == [2, 2]  # no objectives without drags
    with pytest.raises(ValueError, match="iteration=1"):
        plot_similarity(maps, iteration=1)
    with pytest.raises(TypeError, match="measure"):
        plot_similarity(session.history)  # type: ignore[arg-type]
