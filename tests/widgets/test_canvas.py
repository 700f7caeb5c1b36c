"""DragCanvas: messages in, traits and drawing commands out."""

from __future__ import annotations

import io
import json
import threading
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np
import pytest
from helpers import assert_one_sentence, smooth_picture
from ipycanvas import MultiCanvas
from PIL import Image

from dragnoise.geometry import Drag
from dragnoise_widgets import DragCanvas
from dragnoise_widgets.canvas.toolbar import uploaded
from dragnoise_widgets.sketch.masks import mask_png

if TYPE_CHECKING:
    from dragnoise import DragSession, Model

WIDTH, HEIGHT = 128, 96  # shown 480 wide, with two canvas pixels per CSS pixel
A, B = (20.0, 30.0), (70.0, 50.0)


@pytest.fixture
def canvas() -> DragCanvas:
    return DragCanvas(smooth_picture(WIDTH, HEIGHT))


def send(canvas: DragCanvas, event: str, **content) -> None:
    """A message of the page's, by the way that it comes."""
    canvas.canvas._handle_custom_msg({"event": event, **content}, [])


def at(point, *, size=(WIDTH, HEIGHT)) -> dict[str, float]:
    """An image point in canvas pixels: 7.5 to one, and (0, 0) is the middle of the first pixel."""
    scale = 960 / max(size)
    return {"x": (point[0] + 0.5) * scale, "y": (point[1] + 0.5) * scale}


def drag(canvas: DragCanvas, *points, steps: int = 6) -> None:
    """Press, move through all points, release."""
    send(canvas, "mouse_down", **at(points[0]))
    for start, end in pairwise(points):
        for k in range(1, steps + 1):
            send(canvas, "mouse_move", **at(np.add(start, np.multiply(k / steps, np.subtract(end, start)))))
    send(canvas, "mouse_up", **at(points[-1]))


def click(canvas: DragCanvas, point) -> None:
    drag(canvas, point)


def key(
    canvas: DragCanvas, name: str, *, shift: bool = False, ctrl: bool = False, meta: bool = False, repeat: bool = False
) -> None:
    """A key, as the part of the canvas that runs in the browser sends it."""
    content = {"event": "key", "key": name, "shift": shift, "ctrl": ctrl, "meta": meta, "repeat": repeat}
    canvas.page_events._handle_custom_msg(content, [])


class Recorder:
    """Counts what is drawn on each layer, in place of ipycanvas's manager."""

    def __init__(self, canvas: DragCanvas, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layers = canvas.canvas._canvases
        self.names: list[list[int]] = [[] for _ in self.layers]
        manager = canvas.canvas._canvas_manager
        monkeypatch.setattr(type(manager), "send_draw_command", self.record)

    def record(self, canvas, name, args=(), buffers=()) -> None:
        self.names[self.layers.index(canvas)].append(name)

    @property
    def counts(self) -> list[int]:
        return [len(names) for names in self.names]


@pytest.fixture
def recorder(canvas: DragCanvas, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(canvas, monkeypatch)


@pytest.fixture
def errors(canvas: DragCanvas) -> list[str]:
    messages: list[str] = []
    canvas.on_error(messages.append)
    return messages


# ------------------------------------------------------------------------------- the picture


def test_it_is_a_multicanvas_of_four_layers_that_fits_the_picture(canvas):
    assert isinstance(canvas.canvas, MultiCanvas)
    assert len(canvas.canvas._canvases) == 4
    assert (canvas.canvas.width, canvas.canvas.height) == (960, 720)
    assert canvas.canvas.layout.width.startswith("min(480px, 100%, ")


@pytest.mark.parametrize("size, shown", [
    ((128, 128), "480px"), ((600, 500), "600px"), ((4000, 3000), "640px"), ((300, 1200), "160px"), ((1, 1), "480px"),
])  # fmt: skip
def test_small_pictures_are_shown_larger_and_large_ones_smaller(size, shown):
    canvas = DragCanvas(smooth_picture(*size))
    assert canvas.canvas.layout.width.startswith(f"min({shown}, 100%, ")
    assert canvas.canvas.layout.max_width == "100%"
    scale = canvas.canvas.width / size[0]
    canvas.pointer.down(0.5 * scale, 0.5 * scale)
    canvas.pointer.up(0.5 * scale, 0.5 * scale)
    assert canvas.pending == (0, 0)  # the middle of the first pixel


def test_the_picture_goes_to_the_page_without_loss(canvas):
    (source,) = [w for w in (canvas._layers._picture.drawable,) if w.format == "png"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(source.value))), np.asarray(canvas.image))


def test_a_picture_of_another_size_begins_anew_and_one_of_the_same_keeps_all(canvas):
    drag(canvas, A, B)
    canvas.image = smooth_picture(WIDTH, HEIGHT, seed=2)
    assert len(canvas.drags) == 1
    canvas.trajectory = [[A]]
    canvas.image = smooth_picture(64, 64)
    assert (canvas.drags, canvas.mask, canvas.selected, canvas.trajectory) == ((), None, -1, ())
    canvas.undo()
    assert canvas.drags == ()
    canvas.image = None
    drag(canvas, A, B)
    assert canvas.drags == ()
    with pytest.raises(ValueError, match="picture") as raised:
        canvas.drags = [(A, B)]
    assert_one_sentence(raised.value, "canvas.image")


# ---------------------------------------------------------------------------- mouse and touch


def test_an_arrow_by_mouse(canvas):
    seen = []
    canvas.observe(lambda change: seen.append(change.new), "drags")
    drag(canvas, A, B)
    assert canvas.drags == (Drag(A, B),)
    assert seen == [canvas.drags]
    assert canvas.selected == 0


def test_the_handlers_directly_make_the_same(canvas):
    canvas.pointer.down(*at(A).values())
    canvas.pointer.move(*at(B).values())
    canvas.pointer.up(*at(B).values())
    assert canvas.drags == (Drag(A, B),)


def test_click_and_click(canvas):
    click(canvas, A)
    assert (canvas.drags, canvas.pending) == ((), A)
    (row,) = canvas.table.rows
    assert any(
        "now its objective" in getattr(part, "value", "") for part in row.children if hasattr(part, "placeholder")
    )
    assert "click" in canvas.status.value
    click(canvas, B)
    assert (canvas.drags, canvas.pending) == ((Drag(A, B),), None)


def test_a_point_is_taken_and_moved(canvas):
    drag(canvas, A, B)
    drag(canvas, (71, 50), (81, 55))
    assert canvas.drags == (Drag(A, (80, 55)),)


def test_leaving_the_canvas_ends_the_drag_at_its_edge(canvas):
    send(canvas, "mouse_down", **at(A))
    send(canvas, "mouse_move", **at((120, 30)))
    send(canvas, "mouse_out", **at((133.3, 30)))
    assert canvas.drags == (Drag(A, (WIDTH - 1, 30)),)
    send(canvas, "mouse_move", **at(B))
    send(canvas, "mouse_up", **at(B))
    assert canvas.drags == (Drag(A, (WIDTH - 1, 30)),)


def test_touch_works_as_the_mouse_does(canvas):
    send(canvas, "touch_start", touches=[at(A)])
    send(canvas, "touch_move", touches=[at((50, 40))])
    send(canvas, "touch_move", touches=[at(B)])
    send(canvas, "touch_end", touches=[])  # which says no place
    assert canvas.drags == (Drag(A, B),)
    send(canvas, "touch_start", touches=[at((74, 52))])  # a finger's reach is longer
    send(canvas, "touch_move", touches=[at((84, 52))])
    send(canvas, "touch_end", touches=[])
    assert canvas.drags == (Drag(A, (80, 50)),)


def test_a_second_finger_or_a_cancelled_touch_means_nothing(canvas):
    for stop in ("touch_start", "touch_cancel"):
        send(canvas, "touch_start", touches=[at(A)])
        send(canvas, "touch_move", touches=[at(B)])
        send(canvas, stop, touches=[at(B), at(A)])
        send(canvas, "touch_end", touches=[])
    assert (canvas.drags, canvas.pending) == ((), None)


def test_a_page_without_a_layout_sends_no_numbers(canvas, errors):
    send(canvas, "mouse_down", x=None, y=None)
    send(canvas, "mouse_move", x=float("nan"), y=3.0)
    send(canvas, "mouse_up", x=None, y=None)
    assert (canvas.pending, errors) == (None, [])


# -------------------------------------------------------------------------------------- keys


def test_keys(canvas):
    drag(canvas, A, B)
    key(canvas, "ArrowRight")
    key(canvas, "ArrowUp", shift=True)
    assert canvas.drags == (Drag(A, (71, 40)),)
    key(canvas, "z", ctrl=True)
    key(canvas, "z", meta=True)
    assert canvas.drags == (Drag(A, B),)
    key(canvas, "Z", meta=True, shift=True)
    key(canvas, "Z", ctrl=True, shift=True)
    assert canvas.drags == (Drag(A, (71, 40)),)
    key(canvas, "Escape")
    assert canvas.selected == -1
    key(canvas, "Delete")
    assert len(canvas.drags) == 1
    canvas.selected = 0
    key(canvas, "Backspace")
    assert canvas.drags == ()
    before = canvas.brush_size
    key(canvas, "]")
    assert canvas.brush_size > before
    key(canvas, "[")
    key(canvas, "[")
    assert canvas.brush_size < before
    thin = canvas.brush_size
    key(canvas, "]", ctrl=True)  # AltGr, which such keyboards need for it
    assert canvas.brush_size > thin
    for name in ("Tab", "Enter", "q", "F5", "Shift", "x"):
        key(canvas, name)
    assert canvas.drags == ()


def test_keys_choose_the_tool_and_the_drag(canvas):
    for name, tool in (("b", "paint"), ("e", "erase"), ("d", "drag"), ("B", "paint"), ("d", "drag")):
        key(canvas, name)
        assert canvas.tool == tool
    drag(canvas, A, B)
    drag(canvas, (100, 80), (110, 80))
    for name, index in (("0", 0), ("1", 1), ("7", 1)):
        key(canvas, name)
        assert canvas.selected == index
    key(canvas, "z")
    assert len(canvas.drags) == 1
    key(canvas, "Z", shift=True)
    assert len(canvas.drags) == 2
    key(canvas, "b", ctrl=True)
    assert canvas.tool == "drag", "Ctrl+B is the page's"


def test_keys_of_others_are_passed_on_and_a_held_key_does_it_once(canvas, errors):
    done = []
    key(canvas, " ")  # nothing to run without a session
    canvas.actions |= {name: partial(done.append, name) for name in ("run_or_pause", "step_forward", "step_back")}
    canvas.view_only = True
    for name in (" ", ".", ","):
        key(canvas, name)
        key(canvas, name, repeat=True)
    assert done == ["run_or_pause", "step_forward", "step_forward", "step_back", "step_back"] and not errors


def test_a_question_mark_shows_every_key_and_hides_them_again(canvas):
    assert canvas.help.layout.display == "none"
    key(canvas, "?", shift=True)
    assert canvas.help.layout.display == ""
    told = canvas.help.value
    for name in ("D, B, E", "Space", "0 to 9", "Tab", "Shift+Z"):
        assert name in told
    key(canvas, "?", shift=True)
    assert canvas.help.layout.display == "none"


def test_no_script_is_smuggled_in_as_html(canvas):
    assert "export default" in canvas.page_events._esm
    frame = canvas.column.children[1]
    assert canvas.page_events in frame.children
    assert not any(isinstance(child, ipywidgets.HTML) for child in frame.children)


@pytest.mark.parametrize("content", [{}, {"event": "key"}, {"event": "key", "key": 3}, {"event": "a", "key": "z"}, 5])
def test_what_is_no_key_does_nothing(canvas, content, errors):
    drag(canvas, A, B)
    canvas.page_events._handle_custom_msg(content, [])
    assert len(canvas.drags) == 1 and not errors


def test_escape_keeps_the_lone_anchor_and_gives_up_the_arrow(canvas):
    click(canvas, A)
    send(canvas, "mouse_down", **at(B))
    send(canvas, "mouse_move", **at((90, 60)))
    key(canvas, "Escape")
    send(canvas, "mouse_up", **at((90, 60)))
    assert (canvas.drags, canvas.pending) == ((), A)
    key(canvas, "Delete")
    assert canvas.pending is None


def test_the_brush_stays_between_one_and_half_the_picture(canvas):
    for _ in range(60):
        key(canvas, "]")
    assert canvas.brush_size == WIDTH / 2
    for _ in range(60):
        key(canvas, "[")
    assert canvas.brush_size == 1


# -------------------------------------------------------------------------------------- mask


def test_the_mask_changes_once_per_stroke_and_is_undone(canvas):
    seen = []
    canvas.observe(lambda change: seen.append(change.new), "mask")
    canvas.tool, canvas.brush_size = "paint", 10
    drag(canvas, A, B, (70, 60), steps=20)
    assert len(seen) == 1
    assert canvas.mask.shape == (HEIGHT, WIDTH)
    assert canvas.mask[30, 20] and canvas.mask[55, 70] and canvas.mask[40, 45] and not canvas.mask[5, 5]
    painted = canvas.mask
    canvas.tool = "erase"
    drag(canvas, (45, 40))
    assert not canvas.mask[40, 45]
    canvas.undo()
    assert np.array_equal(canvas.mask, painted)
    canvas.undo()
    assert canvas.mask is None
    canvas.redo()
    assert np.array_equal(canvas.mask, painted)
    assert len(seen) == 5


def test_the_masks_buttons(canvas, errors):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 30:50] = 255
    canvas.mask = mask
    canvas.toolbar.invert.click()
    assert np.array_equal(canvas.mask, mask == 0)
    canvas.toolbar.clear.click()
    assert canvas.mask is None
    canvas.toolbar.undo.click()
    canvas.toolbar.undo.click()
    assert np.array_equal(canvas.mask, mask > 0)
    assert 'download="mask.png"' in canvas.toolbar.save.value
    assert errors == []


def png(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()


def upload(canvas: DragCanvas, content: bytes) -> None:
    """As the page does, for ipywidgets 8 and 7."""
    widget = canvas.toolbar.load
    if isinstance(widget.value, dict):
        widget.set_state(
            {"data": [memoryview(content)], "metadata": [{"name": "m.png"}], "_counter": widget._counter + 1}
        )
    else:
        file = {"name": "m.png", "type": "image/png", "size": len(content), "last_modified": 0}
        widget.set_state({"value": [file | {"content": memoryview(content)}]})


def test_a_mask_is_loaded_from_png_again_and_again(canvas, errors):
    mask = np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.3
    for _ in range(2):
        upload(canvas, png(mask.astype(np.uint8) * 200))
        assert np.array_equal(canvas.mask, mask)
        assert uploaded(canvas.toolbar.load) is None
        canvas.clear_mask()
    assert errors == []


def test_a_wrong_mask_is_told_and_changes_nothing(canvas, errors):
    canvas.mask = mask = np.eye(HEIGHT, WIDTH) > 0
    upload(canvas, png(np.full((5, 6), 255, np.uint8)))
    upload(canvas, b"no picture at all")
    upload(canvas, png(np.zeros((HEIGHT, WIDTH), np.uint8)))
    assert np.array_equal(canvas.mask, mask)
    assert len(errors) == 3
    assert "6x5" in errors[0] and "128x96" in errors[0] and "empty" in errors[2]
    assert "empty" in canvas.status.value
    for message in errors:
        assert_one_sentence(ValueError(message))
    drag(canvas, A, B)
    assert "empty" not in canvas.status.value


# ------------------------------------------------------------------------------------- drawing


def test_a_drag_of_sixty_moves_draws_on_the_interaction_layer_alone(canvas, monkeypatch):
    drag(canvas, A, B)
    for start, end, tool in (((100, 80), (30, 70), "drag"), (A, (90, 30), "drag"), ((5, 5), (60, 9), "paint")):
        canvas.tool = tool
        send(canvas, "mouse_move", **at(start))
        send(canvas, "mouse_down", **at(start))
        recorder = Recorder(canvas, monkeypatch)
        for k in range(1, 61):
            send(canvas, "mouse_move", **at(np.add(start, np.multiply(k / 60, np.subtract(end, start)))))
        *below, interaction = recorder.counts
        assert below == [0, 0, 0]
        assert 60 <= interaction <= 60 * 60
        send(canvas, "mouse_up", **at(end))


def test_moves_that_change_nothing_that_is_shown_draw_nothing(canvas, recorder):
    for x in range(30):
        send(canvas, "mouse_move", **at((x, 10)))
    assert recorder.counts == [0, 0, 0, 0]


def test_a_new_page_gets_everything_drawn_again(canvas, recorder):
    drag(canvas, A, B)
    canvas.mask = np.eye(HEIGHT, WIDTH) > 0
    before = [list(names) for names in recorder.names]
    for layer in canvas.canvas._canvases:  # every layer of a page that loads says so
        layer._handle_custom_msg({"event": "client_ready"}, [])
    drawn = [names[len(old) :] for names, old in zip(recorder.names, before, strict=True)]
    assert all(drawn[:3])
    assert len(drawn[0]) == 2  # cleared and drawn once, not for every layer


def test_a_batch_always_says_on_which_layer_it_draws(canvas, monkeypatch):
    """A page that was loaded in between does not know what layer was the last."""
    sent = []
    manager = canvas.canvas._canvas_manager
    monkeypatch.setattr(type(manager), "_send_custom", lambda self, commands, buffers=(): sent.append(commands))
    from ipycanvas.canvas import COMMANDS

    drag(canvas, A, B)
    canvas.redraw()
    assert len(sent) > 5
    assert all(batch[0][0] == COMMANDS["switchCanvas"] for batch in sent)
    json.dumps(sent)  # and it is all plain numbers


def test_a_failure_while_drawing_leaves_drawing_on(canvas, errors, monkeypatch):
    manager = canvas.canvas._canvas_manager
    with monkeypatch.context() as patch:
        patch.setattr(type(canvas.canvas[3]), "fill_circle", lambda *_: 1 / 0)
        drag(canvas, A, B)
    assert errors and not manager._caching and not manager._commands_cache
    recorder = Recorder(canvas, monkeypatch)
    canvas.redraw()
    assert all(recorder.counts)
    assert canvas.drags == (Drag(A, B),)


@pytest.mark.parametrize("points", [(A, B), ((0, 0), (1, 0)), ((0, 0), (127, 95)), ((127, 95), (127, 0))])
def test_what_is_sent_is_finite_wherever_the_points_are(canvas, recorder, points):
    canvas.drags = [points]
    canvas.trajectory = [[points[0]], [points[0]], [points[1]], np.empty((0, 2)), [points[1], (1e4, -1e4)]]
    assert recorder.counts[2] > 10
    assert canvas._layers._drawn.paths == ((*(points[:1] * 2), *(points[1:] * 2)), ((1e4, -1e4),))


# --------------------------------------------------------------------------------- the numbers


def fields(row) -> list[float]:
    return [field.value for field in row.fields.values()]


def test_the_table_shows_the_points_and_takes_typed_ones(canvas):
    drag(canvas, A, B)
    click(canvas, (100, 80))
    first, lone = canvas.table.rows
    assert (fields(first), fields(lone)) == ([*A, *B], [100, 80])
    first.fields["objective", 0].value = 33.25
    assert canvas.drags == (Drag(A, (33.25, 50)),)
    lone.fields["anchor", 1].value = 1000
    assert canvas.pending == (100, HEIGHT - 1)
    canvas.undo()
    canvas.undo()
    assert fields(first) == [*A, *B]
    first.remove.click()
    assert (canvas.drags, len(canvas.table.rows)) == ((), 1)


def test_a_drag_can_be_made_without_a_mouse(canvas):
    canvas.table.add.click()
    (row,) = canvas.table.rows
    for field, value in zip(row.fields.values(), (*A, *B), strict=True):
        field.value = value
    assert canvas.drags == (Drag(A, B),)
    row.number.click()
    assert canvas.selected == -1
    row.number.click()
    assert canvas.selected == 0


def test_what_cannot_be_typed_does_not_stay_there(canvas):
    canvas.drags = [((10, 10), (20, 10))]
    (row,) = canvas.table.rows
    row.fields["anchor", 0].value = 20
    assert canvas.drags == (Drag((10, 10), (20, 10)),)
    assert fields(row) == [10, 10, 20, 10]


# ------------------------------------------------------------------------------ traits and JSON


def test_traits_from_code_are_steps_like_any_other(canvas):
    canvas.drags = [(A, B)]
    canvas.selected = 0
    canvas.drags = [(A, B), (B, A)]
    assert (canvas.drags, canvas.selected) == ((Drag(A, B), Drag(B, A)), 0)
    canvas.selected = 1
    canvas.undo()
    assert (canvas.drags, canvas.selected) == ((Drag(A, B),), -1)
    assert DragCanvas(canvas.image, drags=canvas.drags).toolbar.undo.disabled


@pytest.mark.parametrize("name, value, named", [
    ("drags", [((0, 0), (500, 0))], "500"),
    ("drags", [((3, 3), (3, 3))], "drag 0"),
    ("drags", "abc", "abc"),
    ("mask", np.zeros((HEIGHT, WIDTH)), "empty"),
    ("mask", np.ones((2, 3)), "(2, 3)"),
    ("trajectory", [[(1, 2, 3)]], "trajectory[0]"),
    ("trajectory", [[(1, 2)], [(1, float("nan"))]], "trajectory[1]"),
    ("trajectory", 5, "5"),
    ("selected", 1, "1"),
    ("brush_size", 1e6, "1000000"),
    ("image", 17, "int"),
])  # fmt: skip
def test_wrong_values_are_named_and_change_nothing(canvas, name, value, named):
    canvas.drags, canvas.mask, canvas.trajectory = [(A, B)], np.eye(HEIGHT, WIDTH) > 0, [[A]]
    before, kept = canvas.to_json(), getattr(canvas, name)
    with pytest.raises((ValueError, TypeError)) as raised:
        setattr(canvas, name, value)
    assert_one_sentence(raised.value, named)
    assert getattr(canvas, name) is kept
    assert canvas.to_json() == before


@pytest.mark.parametrize("name, value", [
    ("tool", "hammer"), ("tool", np.zeros(2)), ("opacity", 1.5), ("opacity", None), ("view_only", 1), ("drags", None),
    ("trajectory", None), ("brush_size", 10**400), ("selected", 0.0),
])  # fmt: skip
def test_wrong_settings_are_named_and_change_nothing(canvas, name, value):
    kept = getattr(canvas, name)
    with pytest.raises((ValueError, TypeError)) as raised:
        setattr(canvas, name, value)
    assert_one_sentence(raised.value)
    assert getattr(canvas, name) == kept


def test_json_round_trip(canvas):
    canvas.drags = [(A, B), ((1.25, 2), (3, 4))]
    canvas.mask = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.5
    click(canvas, (100, 80))
    other = DragCanvas(canvas.image)
    other.from_json(canvas.to_json())
    assert (other.drags, other.pending) == (canvas.drags, (100, 80))
    assert np.array_equal(other.mask, canvas.mask)
    assert other.to_json() == canvas.to_json()
    other.undo()
    assert (other.drags, other.mask, other.pending) == ((), None, None)
    other.from_json(json.dumps({"size": [WIDTH, HEIGHT], "drags": [{"anchor": A, "objective": B}]}))
    assert other.drags == (Drag(A, B),)


@pytest.mark.parametrize("change", [
    "nonsense", "[]", "{}", {"size": [1, 1]}, {"drags": 3}, {"drags": [{"anchor": [1, 2]}]}, {"mask": "%%%"},
    {"drags": [{"anchor": [1, 2], "objective": [999, 2]}]}, {"pending": [-1, 0]}, {"pending": "x"}, {"mask": "AAAA"},
])  # fmt: skip
def test_json_that_does_not_fit_is_refused(canvas, change):
    canvas.drags = [(A, B)]
    before = canvas.to_json()
    text = change if isinstance(change, str) else json.dumps(json.loads(before) | change)
    with pytest.raises((ValueError, TypeError)) as raised:
        canvas.from_json(text)
    assert_one_sentence(raised.value)
    assert canvas.to_json() == before


# ----------------------------------------------------------------------- hands off, and errors


def test_view_only_takes_the_hands_off_and_code_may_go_on(canvas):
    drag(canvas, A, B)
    send(canvas, "mouse_down", **at((100, 80)))
    canvas.view_only = True
    send(canvas, "mouse_up", **at((110, 80)))
    drag(canvas, (100, 80), (10, 80))
    canvas.selected = 0
    for name in ("Delete", "ArrowUp"):
        key(canvas, name)
    key(canvas, "z", ctrl=True)
    assert (canvas.drags, canvas.pending) == ((Drag(A, B),), None)
    bar, (row,) = canvas.toolbar, canvas.table.rows
    widgets = [bar.tool, bar.undo, bar.delete, bar.load, row.remove, canvas.table.add, *row.fields.values()]
    assert all(widget.disabled for widget in widgets)
    canvas.drags = [(B, A)]
    canvas.trajectory = [[B], [A]]
    assert canvas.drags == (Drag(B, A),)
    canvas.view_only = False
    assert not any(widget.disabled for widget in widgets)


@pytest.mark.parametrize("over", [
    lambda canvas: drag(canvas, (100, 80), (110, 80)),
    lambda canvas: send(canvas, "mouse_down", **at((100, 80))),
    lambda canvas: setattr(canvas, "selected", 0),
    lambda canvas: setattr(canvas, "tool", "paint"),
    lambda canvas: setattr(canvas, "opacity", 0.3),
    lambda canvas: setattr(canvas, "image", smooth_picture(WIDTH, HEIGHT, seed=5)),
    lambda canvas: canvas.toolbar.redo.click(),
    lambda canvas: key(canvas, "Escape"),
    lambda canvas: canvas.by_hand(canvas.load_mask, mask_png(canvas.mask)),
])  # fmt: skip
def test_an_error_goes_with_the_next_thing_that_is_done_even_if_it_changes_nothing(canvas, over):
    canvas.drags = [(A, B)]
    canvas.mask = np.ones((HEIGHT, WIDTH), bool)
    canvas.toolbar.invert.click()
    assert "covers everything" in canvas.status.value
    send(canvas, "mouse_move", **at((60, 60)))
    assert "covers everything" in canvas.status.value, "the pointer did nothing yet"
    over(canvas)
    assert "covers everything" not in canvas.status.value


def test_handlers_never_raise(canvas, errors):
    def refuse(change):
        raise RuntimeError("the observer is unwell.")

    canvas.observe(refuse, "drags")
    canvas.on_error(lambda message: 1 / 0)  # nor does it matter what those do who are told
    drag(canvas, A, B)
    canvas.table.add.click()
    assert errors == ["the observer is unwell."] * 2
    assert "the observer is unwell." in canvas.status.value
    canvas.unobserve(refuse, "drags")
    drag(canvas, (100, 80), (110, 80))
    assert len(canvas.drags) == 3
    assert canvas.drags == canvas.sketch.edit.drags


def test_an_observer_may_set_what_it_watches(canvas):
    canvas.observe(lambda change: setattr(canvas, "drags", change.new[:1]), "drags")
    drag(canvas, A, B)
    drag(canvas, (100, 80), (110, 80))
    assert canvas.drags == canvas.sketch.edit.drags == (Drag(A, B),)


def test_two_threads_do_not_lose_a_change(canvas, errors):
    """Mouse in one, a trajectory and the selection in another: the traits end as the sketch does."""

    def watch():
        for k in range(100):
            canvas.trajectory = [[(k, k)]]
            canvas.selected = -1

    thread = threading.Thread(target=watch)
    thread.start()
    for k in range(25):
        drag(canvas, (5 + 4 * k, 10), (8 + 4 * k, 80), steps=2)
        if k % 5 == 4:
            canvas.undo()
    thread.join(60)
    assert not thread.is_alive()
    assert errors == []
    assert len(canvas.drags) == 20
    assert canvas.drags == canvas.sketch.edit.drags
    assert canvas._layers._drawn.sketch.edit == canvas.sketch.edit


# ------------------------------------------------------------------------------------ sessions


class FakeSession:
    """As much of a session as a link needs."""

    def __init__(self, drags=(), mask=None):
        self.image, self.drags, self.mask = smooth_picture(WIDTH, HEIGHT, seed=4), tuple(drags), mask
        self.callbacks = []
        self.history = ()

    @property
    def state(self):
        return SimpleNamespace(drags=self.drags, mask=self.mask, history=(), trajectory=(), lora=None)

    @property
    def store(self):
        return SimpleNamespace(watch=self._watch)

    def _watch(self, callback):
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


def test_a_link_takes_what_the_session_has_and_gives_what_it_lacks():
    mask = np.eye(HEIGHT, WIDTH) > 0
    canvas, session = DragCanvas(), FakeSession([Drag(A, B)], mask)
    canvas.link(session)
    assert canvas.image == session.image
    assert canvas.drags == session.drags
    assert np.array_equal(canvas.mask, mask)

    canvas, session = DragCanvas(smooth_picture(WIDTH, HEIGHT), drags=[(A, B)], mask=mask), FakeSession()
    shown = canvas.image
    canvas.link(session)
    assert canvas.image is shown
    assert session.drags == (Drag(A, B),)
    assert np.array_equal(session.mask, mask)


def test_a_linked_session_is_changed_when_it_may_be_and_gets_the_latest(canvas):
    waiting, session = [], FakeSession()
    unlink = canvas.link(session, call=waiting.append)
    waiting.clear()
    drag(canvas, A, B)
    drag(canvas, (100, 80), (110, 80))
    assert session.drags == ()
    waiting.pop(0)(session)
    assert session.drags == canvas.drags
    assert len(session.drags) == 2
    unlink()
    unlink()
    waiting.clear()
    canvas.undo()
    assert waiting == [] and session.callbacks == []


@pytest.fixture
def session(small: Model) -> DragSession:
    from dragnoise import DragSession

    return DragSession(small, smooth_picture(WIDTH, HEIGHT))


def test_a_real_session_and_a_canvas_are_kept_alike(session, errors, canvas):
    unlink = canvas.link(session)
    drag(canvas, A, B)
    assert session.drags == (Drag(A, B),)
    canvas.tool = "paint"
    drag(canvas, A, B)
    assert np.array_equal(session.mask, canvas.mask)
    session.drags = [(B, A)]
    assert canvas.drags == (Drag(B, A),)
    canvas.undo()
    assert session.drags == (Drag(A, B),)
    session.mask = None
    assert canvas.mask is None
    canvas.delete(0)
    assert session.drags == ()
    assert errors == []
    unlink()
    canvas.drags = [(A, B)]
    session.drags = [(B, A)]
    assert (canvas.drags, session.drags) == ((Drag(A, B),), (Drag(B, A),))


@pytest.mark.parametrize("first", ["drags", "mask"])
def test_both_are_told_when_both_change_before_the_session_may_be_changed(session, errors, canvas, first):
    waiting = []
    canvas.link(session, call=waiting.append)
    mask = np.eye(HEIGHT, WIDTH) > 0

    def change(name):
        if name == "drags":
            canvas.drags = [(A, B)]
        else:
            canvas.mask = mask

    waiting.pop()(session)
    change(first)
    change("mask" if first == "drags" else "drags")
    while waiting:
        waiting.pop(0)(session)
    assert session.drags == canvas.drags == (Drag(A, B),)
    assert np.array_equal(session.mask, mask) and np.array_equal(canvas.mask, mask)
    canvas.drags = [(B, A)]
    session.mask = None  # by somebody else, before the session has heard of the drags
    assert canvas.drags == (Drag(B, A),) and canvas.mask is None
    waiting.pop(0)(session)
    assert session.drags == (Drag(B, A),) and session.mask is None
    assert errors == []


def test_a_picture_of_another_size_on_the_canvas_is_none_of_the_sessions_business(session, errors, canvas):
    session.drags = [(A, B)]
    canvas.link(session)
    canvas.image = smooth_picture(20, 30)
    canvas.drags = [((1, 2), (3, 4))]
    assert session.drags == (Drag(A, B),)
    session.drags = [(B, A)]
    assert canvas.drags == (Drag((1.0, 2.0), (3.0, 4.0)),)
    assert errors == []


def test_a_new_beginning_cannot_be_undone(canvas):
    drag(canvas, A, B)
    click(canvas, (100, 80))
    canvas.begin(canvas.image, [(B, A)])
    assert canvas.pending is None and canvas.drags == (Drag(B, A),)
    canvas.undo()
    assert canvas.drags == (Drag(B, A),)
    canvas.begin(smooth_picture(20, 30), mask=np.ones((30, 20)))
    assert canvas.drags == () and canvas.mask.all()


def test_a_mask_of_everything_is_not_inverted_to_none(canvas, errors):
    canvas.mask = np.ones((HEIGHT, WIDTH), bool)
    with pytest.raises(ValueError, match="nothing might change"):
        canvas.invert_mask()
    canvas.toolbar.invert.click()
    assert canvas.mask.all() and "nothing might change" in errors[-1]


def test_linking_keeps_the_history_of_an_optimisation(session, canvas):
    session.drags = [(A, B)]
    session.config = session.config.replace(steps=4, edit_from=2, refine_from=0)
    session.step()
    canvas.link(session)
    assert len(session.history) == 2
    canvas.selected = 0
    assert len(session.history) == 2
    key(canvas, "ArrowLeft")
    assert len(session.history) == 2  # an objective alone keeps the iterations
    session.drags = [((A[0] + 1, A[1]), B)]
    assert len(session.history) == 0
