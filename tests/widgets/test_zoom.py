"""Zoom and pan of a canvas, by wheel, pinch, keys and code; coordinates stay image pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import smooth_picture

from dragnoise.geometry import Drag
from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.sketch.view import View
from dragnoise_widgets.sketch.window import CLOSEST, WHOLE, Window, panned, zoomed

SIZE = (120, 80)


@pytest.fixture
def canvas() -> DragCanvas:
    return DragCanvas(smooth_picture(*SIZE))


def pull(canvas: DragCanvas, start: tuple[float, float], end: tuple[float, float]) -> None:
    """With the mouse, at the places where these image points are shown."""
    canvas.pointer.down(*canvas.view.to_canvas(start))
    canvas.pointer.move(*canvas.view.to_canvas(end))
    canvas.pointer.up(*canvas.view.to_canvas(end))


def test_the_point_under_the_pointer_stays(canvas: DragCanvas) -> None:
    at = canvas.view.to_canvas((30.0, 50.0))
    canvas.page_events._handle_custom_msg({"event": "wheel", "x": at[0], "y": at[1], "delta": -100}, [])
    assert canvas.window.zoom == pytest.approx(2)
    assert canvas.view.to_image(at) == pytest.approx((30.0, 50.0), abs=0.1)
    canvas.pointer.zoom.wheel(*at, 1000)
    assert canvas.window == WHOLE


def test_a_drag_pulled_while_zoomed_has_image_pixels(canvas: DragCanvas) -> None:
    canvas.window = Window(40, 30, 4)
    pull(canvas, (45.0, 35.0), (60.0, 42.0))
    assert canvas.drags == (Drag((45.0, 35.0), (60.0, 42.0)),)
    canvas.window = WHOLE
    assert canvas.drags == (Drag((45.0, 35.0), (60.0, 42.0)),)


def test_a_pull_of_the_picture_goes_no_farther_than_its_edge(canvas: DragCanvas) -> None:
    canvas.window = Window(30, 20, 2)
    pixels = canvas.view.scale * 10
    canvas.page_events._handle_custom_msg({"event": "pan", "dx": pixels, "dy": -pixels}, [])
    assert (canvas.window.left, canvas.window.top) == pytest.approx((20, 30))
    canvas.pointer.zoom.pan(1e6, -1e6)
    assert canvas.window.box(SIZE) == pytest.approx((0, 40, 60, 80))


def test_two_fingers_zoom_and_draw_nothing(canvas: DragCanvas) -> None:
    def fingers(*points: tuple[float, float]) -> list[Any]:
        return [view.to_canvas(point) for point in points]

    view = canvas.view
    canvas.pointer.touch_start(fingers((50.0, 40.0)))
    canvas.pointer.touch_start(fingers((50.0, 40.0), (70.0, 40.0)))
    canvas.pointer.touch_move(fingers((40.0, 40.0), (80.0, 40.0)))
    canvas.pointer.touch_end(fingers((40.0, 40.0)))
    canvas.pointer.touch_move(fingers((10.0, 10.0)))
    canvas.pointer.touch_end([])
    assert canvas.window.zoom == pytest.approx(2, rel=0.02)
    assert not canvas.drags and canvas.pending is None
    canvas.pointer.touch_start(fingers((50.0, 40.0), (70.0, 40.0)))  # later fingers begin anew
    assert canvas.window.zoom == pytest.approx(2, rel=0.02)


def test_keys_zoom_also_where_hands_are_off(canvas: DragCanvas) -> None:
    canvas.view_only = True
    canvas.pointer.key("+", False, False, False)
    assert canvas.window.zoom == 1.5 and not canvas.toolbar.fit.disabled
    canvas.pointer.key("f", False, False, False)
    assert canvas.window == WHOLE and canvas.toolbar.fit.disabled


def test_another_picture_is_shown_whole(canvas: DragCanvas) -> None:
    canvas.window = Window(30, 20, 2)
    canvas.image = smooth_picture(64, 64)
    assert canvas.window == WHOLE


@pytest.mark.parametrize("wrong", [None, (0, 0, 2), Window(0, 0, 0.5), Window(0, 0, 1e9), Window(np.nan, 0, 2)])
def test_a_wrong_window_is_refused(canvas: DragCanvas, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="window"):
        canvas.window = wrong
    assert canvas.window == WHOLE


@pytest.mark.parametrize(
    "content", [{"event": "wheel"}, {"event": "pan", "dx": "1", "dy": 2}, {"event": "pan", "dx": np.nan, "dy": 0}]
)
def test_what_is_no_number_does_nothing(canvas: DragCanvas, content: dict[str, Any]) -> None:
    canvas.window = Window(30, 20, 2)
    canvas.page_events._handle_custom_msg(content, [])
    assert canvas.window == Window(30, 20, 2)


def test_no_zoom_leaves_the_picture() -> None:
    rng = np.random.default_rng(0)
    window = WHOLE
    for _ in range(200):
        window = zoomed(window, SIZE, float(2 ** rng.normal()), tuple(rng.uniform(0, 80, 2)))
        window = panned(window, SIZE, *rng.normal(0, 30, 2))
        left, top, right, bottom = window.box(SIZE)
        assert 1 <= window.zoom <= CLOSEST
        assert left >= 0 and top >= 0 and right <= SIZE[0] + 1e-9 and bottom <= SIZE[1] + 1e-9


def test_a_drag_is_made_by_keys_alone(canvas: DragCanvas) -> None:
    canvas.pointer.key("a", False, False, False)
    drag = canvas.drags[0]
    canvas.pointer.key("ArrowDown", True, False, False)
    canvas.pointer.key("Enter", False, False, False)
    canvas.pointer.key("ArrowLeft", False, False, False)
    anchor, objective = drag.anchor, drag.objective
    assert canvas.drags == (Drag((anchor[0] - 1, anchor[1]), (objective[0], objective[1] + 10)),)


def test_the_pointer_gives_whole_pixels_where_it_goes_by_whole_pixels() -> None:
    for size, window, whole in (((512, 512), WHOLE, True), ((1600, 900), WHOLE, True), ((128, 128), WHOLE, False),
                                ((512, 512), Window(10, 20, 4), False)):  # fmt: skip
        view = View.of(size, window)
        points = [view.to_image((2.0 * x + 1, 2.0 * y + 1)) for x, y in ((10, 20), (101, 77), (333, 200))]
        assert all(value == int(value) for point in points for value in point) is whole, size
        for point in points:  # the pixel that is under the pointer
            assert view.to_image(view.to_canvas(point)) == pytest.approx(point, abs=0.051)


def test_marks_are_as_large_on_a_narrow_page_and_points_where_they_are() -> None:
    for size in ((120, 80), (300, 900)):
        canvas = DragCanvas(smooth_picture(*size), drags=[((20, 30), (60, 50))])
        wide = canvas.view
        canvas.page_events.seen = 240.0
        assert (canvas.canvas.width, canvas.canvas.height) == canvas.view.canvas
        assert canvas.view.canvas == pytest.approx((480, 480 * size[1] / size[0]), abs=3)
        assert canvas.view.width == wide.width, "what the page has room for does not follow from what it had"
        assert canvas.view.length(1) == pytest.approx(size[0] / 240, rel=0.01)
        pull(canvas, (40.0, 60.0), (80.0, 60.0))
        np.testing.assert_allclose(canvas.drags[1].objective, (80.0, 60.0), atol=1)
