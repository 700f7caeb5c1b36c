"""What is drawn, on a pen that remembers it in place of a canvas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dragnoise import Drag
from dragnoise_widgets.canvas import drawing, lens
from dragnoise_widgets.canvas.drawing import ANCHOR, OBJECTIVE, PATH, Picture, Scene
from dragnoise_widgets.sketch.sketch import Edit, Move, Pull, Sketch, Spot, Stroke
from dragnoise_widgets.sketch.view import View
from dragnoise_widgets.sketch.window import Window

SIZE = (160, 120)
VIEW = View.of(SIZE)
DRAGS = (Drag((30, 40), (70, 50)), Drag((100, 90), (120, 20)))


class Pen:
    """Anything with the canvas's methods: notes each call, with the styles that hold then."""

    def __init__(self) -> None:
        object.__setattr__(self, "styles", {})
        object.__setattr__(self, "calls", [])

    def __setattr__(self, name: str, value: Any) -> None:
        self.styles[name] = value

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.calls.append((name, given, dict(self.styles)))

    def of(self, name: str, **styles: Any) -> list[tuple[Any, ...]]:
        """What a method was given, in these styles."""
        return [given for n, given, s in self.calls if n == name and styles.items() <= s.items()]


def drawn(draw: Any, sketch: Sketch, **given: Any) -> Pen:
    pen = Pen()
    draw(pen, Scene(VIEW, sketch, **given))
    return pen


def near(given: tuple[Any, ...], point: tuple[float, float]) -> bool:
    return np.allclose(given[:2], VIEW.to_canvas(point), atol=0.5)


def test_anchor_and_objective_differ_in_colour_and_shape_and_have_a_number() -> None:
    pen = drawn(drawing.draw_drags, Sketch(SIZE, Edit(DRAGS)))
    circles, diamonds = pen.of("stroke_circle", stroke_style=ANCHOR), pen.of("stroke_polygon", stroke_style=OBJECTIVE)
    assert ANCHOR != OBJECTIVE and len(circles) == len(diamonds) == 2
    for drag, circle, (diamond,) in zip(DRAGS, circles, diamonds, strict=True):
        assert near(circle, drag.anchor)
        assert diamond.shape == (4, 2) and near(tuple(diamond.mean(0)), drag.objective)
    numbers = pen.of("fill_text")
    assert [given[0] for given in numbers] == ["0", "1"]
    for drag, (_, *place) in zip(DRAGS, numbers, strict=True):
        gap = np.linalg.norm(np.subtract(place, VIEW.to_canvas(drag.anchor)))
        assert 2 * drawing.RADIUS * 2 <= gap <= 5 * drawing.RADIUS * 2, "beside its anchor"
        assert 0 <= place[0] <= VIEW.canvas[0] and 0 <= place[1] <= VIEW.canvas[1]


def test_light_lines_have_dark_cases_so_that_they_show_on_any_picture() -> None:
    pen = drawn(drawing.draw_drags, Sketch(SIZE, Edit(DRAGS)), paths=(((30, 40), (40, 43), (52, 46)),))
    for method in ("stroke_lines", "stroke_circle"):
        styles = [s for name, _, s in pen.calls if name == method]
        dark = [s["line_width"] for s in styles if s["stroke_style"] == drawing.DARK]
        light = [s["line_width"] for s in styles if s["stroke_style"] in (drawing.LIGHT, drawing.PATH)]
        assert len(dark) == len(light) and all(a > b for a, b in zip(dark, light, strict=True))


def test_the_path_goes_through_where_the_anchor_has_been() -> None:
    path = ((30.0, 40.0), (40.0, 43.0), (52.0, 46.0))
    pen = drawn(drawing.draw_drags, Sketch(SIZE, Edit(DRAGS)), paths=(path,))
    ((line,),) = pen.of("stroke_lines", stroke_style=PATH)
    np.testing.assert_allclose(line, [VIEW.to_canvas(point) for point in path])
    assert any(near(circle, path[-1]) for circle in pen.of("fill_circle", fill_style=ANCHOR))


def test_a_lone_anchor_waits_in_a_dashed_ring_with_the_next_number() -> None:
    pen = drawn(drawing.draw_drags, Sketch(SIZE, Edit(DRAGS, pending=(60, 100))))
    dashed, rings = False, []
    for name, given, _ in pen.calls:
        if name == "set_line_dash":
            dashed = bool(given[0])
        elif name == "stroke_circle" and dashed:
            rings.append(given)
    assert rings and all(near(ring, (60, 100)) for ring in rings)
    assert [given[0] for given in pen.of("fill_text")] == ["0", "1", "2"]


def test_the_selected_pair_stands_out() -> None:
    plain = drawn(drawing.draw_drags, Sketch(SIZE, Edit(DRAGS)))
    pen = drawn(drawing.draw_drags, Sketch(SIZE, Edit(DRAGS), selected=Spot(1, "anchor")))
    assert not plain.of("stroke_circle", stroke_style=drawing.SELECTED)
    rings = pen.of("stroke_circle", stroke_style=drawing.SELECTED)
    assert len(rings) == 2 and near(rings[0], DRAGS[1].anchor) and near(rings[1], DRAGS[1].objective)


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_the_mask_is_as_opaque_as_was_asked_for(opacity: float) -> None:
    pen = drawn(drawing.draw_mask, Sketch(SIZE), overlay=Picture("mask"), opacity=opacity)
    (given,) = pen.of("draw_image", global_alpha=opacity, image_smoothing_enabled=False)
    assert given == ("mask", 0, 0, *VIEW.canvas)
    stroke = Stroke(((10, 10), (20, 20)), 8, erase=False)
    pen = drawn(drawing.draw_interaction, Sketch(SIZE, gesture=stroke), opacity=opacity, brush=8)
    ((line,),) = pen.of(
        "stroke_lines", global_alpha=opacity, stroke_style=drawing.MASK_STYLE, line_width=8 * VIEW.scale
    )
    np.testing.assert_allclose(line, [VIEW.to_canvas(point) for point in stroke.points])


def test_the_brush_has_a_ring_of_its_size_under_the_pointer() -> None:
    pen = drawn(drawing.draw_interaction, Sketch(SIZE), brush=12.0, cursor=(80, 60))
    rings = pen.of("stroke_circle")
    assert rings and all(near(ring, (80, 60)) and ring[2] == pytest.approx(6 * VIEW.scale) for ring in rings)
    assert not drawn(drawing.draw_interaction, Sketch(SIZE), brush=12.0).calls, "the pointer is elsewhere"
    assert not drawn(drawing.draw_interaction, Sketch(SIZE), cursor=(80, 60)).calls, "and not a brush"


def test_what_is_being_pulled_or_moved_is_drawn_on_the_uppermost_layer_alone() -> None:
    pen = drawn(drawing.draw_interaction, Sketch(SIZE, Edit(DRAGS), gesture=Pull((10, 10), (50, 60))))
    assert near(pen.of("fill_circle", fill_style=ANCHOR)[0], (10, 10))
    assert [given[0] for given in pen.of("fill_text")] == ["2"]
    moving = Sketch(SIZE, Edit(DRAGS), gesture=Move(Spot(0, "objective"), (70, 50), (70, 50), (75, 58)))
    below, above = drawn(drawing.draw_drags, moving), drawn(drawing.draw_interaction, moving)
    assert [given[0] for given in below.of("fill_text")] == ["1"]
    assert [given[0] for given in above.of("fill_text")] == ["0"]
    ((diamond,),) = above.of("stroke_polygon", stroke_style=OBJECTIVE)
    assert near(tuple(diamond.mean(0)), (75, 58))


def test_marks_are_open_round_the_point_that_they_mark() -> None:
    pen = drawn(drawing.draw_drags, Sketch(SIZE, Edit(DRAGS)))
    filled = pen.of("fill_circle")
    assert len(filled) == 8 and all(given[2] <= 2.5 * 2 for given in filled), "a dot at each end, and nothing larger"
    widest = max(s["line_width"] for name, _, s in pen.calls if name == "stroke_circle")
    assert drawing.RADIUS * 2 - widest / 2 > 2.5 * 2 - 1


def test_what_the_mask_s_colour_means_is_written_while_one_paints() -> None:
    for given in ({"cursor": (80, 60)}, {}):
        pen = drawn(drawing.draw_interaction, Sketch(SIZE), brush=12.0, **given)
        assert [text for text, *_ in pen.of("fill_text")] == (["painted = may change"] if given else [])


def test_a_lens_shows_what_is_under_the_pointer_of_a_small_picture() -> None:
    pull, moved = Pull((30, 40), (60, 50)), Move(Spot(0, "arrow"), (50, 45), (50, 45), (20, 10))
    for gesture in (pull, moved):
        pen = drawn(drawing.draw_interaction, Sketch(SIZE, Edit(DRAGS), gesture=gesture), picture=Picture("picture"))
        ((drawable, x, y, width, height),) = pen.of("draw_image", image_smoothing_enabled=False)
        at = VIEW.to_canvas(gesture.now)
        middle = lens.lens_middle(VIEW, at)
        assert drawable == "picture" and width == lens.LARGER * VIEW.canvas[0]
        shown = ((middle[0] - x) / width, (middle[1] - y) / height)
        np.testing.assert_allclose(shown, (at[0] / VIEW.canvas[0], at[1] / VIEW.canvas[1]))
        names = [name for name, *_ in pen.calls]
        assert names.index("clip") < names.index("draw_image") < names.index("restore")
        assert all(0 <= v <= side for v, side in zip(middle, VIEW.canvas, strict=True))
    assert not drawn(drawing.draw_interaction, Sketch(SIZE, Edit(DRAGS)), picture=Picture("picture")).of("draw_image")


def test_large_pictures_and_close_views_need_no_lens() -> None:
    assert lens.needs_lens(VIEW) and not lens.needs_lens(View.of((512, 300)))
    assert not lens.needs_lens(View.of(SIZE, Window(10, 10, 4)))
