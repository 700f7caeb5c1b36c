"""The studio: what is done by hand and by code is one thing, and nothing that goes wrong ends it."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence, complaints, smooth_picture
from PIL import Image

from dragnoise import Drag, DragSession, Model, Snapshot
from dragnoise.session.history import History
from dragnoise_widgets.sketch import edits
from dragnoise_widgets.sketch.sketch import Spot
from dragnoise_widgets.studio.studio import DragStudio

WAIT = 60.0


@pytest.fixture
def troubled(session: DragSession) -> Iterator[DragStudio]:
    """A studio in which something will go wrong, so that its log need not stay empty."""
    studio = DragStudio(session, inline=True)
    yield studio
    studio.close()


@pytest.fixture
def threaded(session: DragSession) -> Iterator[DragStudio]:
    studio = DragStudio(session)
    yield studio
    studio.stop()
    assert studio.wait(WAIT)
    studio.close()


def until(condition: Callable[[], Any], seconds: float = WAIT) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def pixels(picture: Image.Image | None) -> np.ndarray:
    assert picture is not None
    return np.asarray(picture)


# ---- the same by hand and from code ---------------------------------------------------------------


def test_it_begins_with_the_picture_as_it_was_given(studio: DragStudio, session: DragSession) -> None:
    assert studio.session is session
    assert studio.canvas.drags == session.drags
    np.testing.assert_array_equal(pixels(studio.canvas.image), pixels(session.image))
    assert studio.image is session.image
    assert not session.state.inverted
    assert studio.transport.pause.disabled
    assert not studio.transport.run.disabled


@pytest.mark.parametrize("by_hand", [True, False])
def test_step_makes_the_iteration_that_the_bare_session_makes(
    studio: DragStudio, session: DragSession, by_hand: bool
) -> None:
    bare = DragSession(session.model, session.image, session.prompt, session.config)
    bare.drags = session.drags
    for _ in range(3):
        if by_hand:
            studio.transport.step.click()
        else:
            studio.step()
        bare.step()
    assert len(session.history) == 4
    assert (session.bottleneck == bare.bottleneck).all()
    np.testing.assert_array_equal(pixels(studio.image), pixels(bare.render()))
    assert studio.iteration == studio.transport.scrubber.value == studio.transport.scrubber.max == 3
    assert "iteration 3" in studio.preview.caption.value
    assert f"loss {session.history[3].loss:.4g}" in studio.transport.line.value


def test_step_n(studio: DragStudio, session: DragSession) -> None:
    studio.step(4)
    assert len(session.history) == 5


def test_run_goes_to_the_end(studio: DragStudio, session: DragSession) -> None:
    studio.transport.run.click()
    assert session.status == "max_iterations"
    assert studio.iteration == session.config.max_iterations
    assert studio.transport.bar.layout.visibility == "hidden"


def test_prepare_inverts_and_iterates_not(studio: DragStudio, session: DragSession) -> None:
    studio.transport.prepare.click()
    assert session.state.inverted
    assert len(session.history) <= 1


def test_prepare_fits_a_lora_when_it_is_ticked(studio: DragStudio, session: DragSession) -> None:
    studio.transport.lora.value = True
    studio.transport.lora_steps.value = 2
    studio.transport.prepare.click()
    assert session.state.inverted
    assert session.lora is not None
    assert session.lora.steps == 2


def test_the_canvas_and_the_session_are_one(studio: DragStudio, session: DragSession) -> None:
    session.drags = [((20, 20), (40, 20))]
    assert studio.canvas.drags == session.drags
    studio.canvas.drags = [((8, 9), (30, 31)), ((50, 20), (40, 20))]
    assert session.drags == (Drag((8.0, 9.0), (30.0, 31.0)), Drag((50.0, 20.0), (40.0, 20.0)))
    mask = np.zeros((56, 72), bool)
    mask[10:30, 10:50] = True
    studio.canvas.mask = mask
    np.testing.assert_array_equal(session.mask, mask)


def test_the_path_on_the_canvas_is_the_history_and_where_the_anchors_are_now(
    studio: DragStudio, session: DragSession
) -> None:
    studio.step(3)
    expected = [*(s.anchors for s in session.history), session.anchors]
    np.testing.assert_allclose(np.stack(studio.canvas.trajectory), np.stack(expected))


def test_other_drags_clear_the_path(studio: DragStudio, session: DragSession) -> None:
    studio.step(2)
    studio.canvas.drags = [((8, 9), (30, 31))]
    assert studio.canvas.trajectory == ()
    assert studio.transport.scrubber.max == 0
    assert "reconstruction" in studio.preview.caption.value
    studio.step()
    assert len(session.history) == 2


# ---- through the history --------------------------------------------------------------------------


def test_the_scrubber_shows_an_iteration_and_changes_nothing(studio: DragStudio, session: DragSession) -> None:
    studio.step(4)
    newest = pixels(studio.image)
    studio.transport.scrubber.value = 1
    assert studio.iteration == 1
    assert len(session.history) == 5
    path = [s.anchors for s in session.history[:3]]  # the last is where update 1 has brought them
    np.testing.assert_array_equal(np.stack(studio.canvas.trajectory), path)
    np.testing.assert_array_equal(pixels(studio.image), pixels(session.branch(1).render()))
    assert (pixels(studio.image) != newest).any()
    assert f"loss {session.history[1].loss:.4g}" in studio.transport.line.value
    assert ", ".join(f"{far:.1f}" for far in session.history[2].distances) in studio.transport.line.value
    studio.show(None)
    np.testing.assert_array_equal(pixels(studio.image), newest)
    assert studio.transport.scrubber.value == 4


def test_no_such_iteration_to_go_on_from(troubled: DragStudio, session: DragSession) -> None:
    troubled.step(2)
    for go in (troubled.go_on, troubled.rewind):
        with pytest.raises(IndexError, match="99"):
            go(99)
    assert len(session.history) == 3


def test_a_look_back_gives_way_to_work(threaded: DragStudio, session: DragSession, monkeypatch: Any) -> None:
    threaded.step(3)
    assert threaded.wait(WAIT)
    gate, denoise = threading.Event(), DragSession.denoise

    def slow(self: DragSession) -> Any:
        for state in denoise(self):
            yield state
            gate.wait(WAIT)

    monkeypatch.setattr(DragSession, "denoise", slow)
    threaded.show(1)
    assert until(lambda: threaded.runner.status.task == "rendering")
    threaded.presenter.refresh()
    assert threaded.runner.state == "idle" and not threaded.transport.run.disabled
    threaded.step()
    gate.set()
    assert threaded.wait(WAIT)
    assert len(session.history) == 5 and threaded.iteration == 4


def test_a_picture_is_rendered_once(studio: DragStudio) -> None:
    studio.step(2)
    studio.show(1)
    first = studio.image
    studio.show(None)
    studio.show(1)
    assert studio.image is first


def test_back_to_here_and_the_same_bits_again(studio: DragStudio, session: DragSession) -> None:
    studio.step(4)
    last = session.history[4]
    studio.show(2)
    studio.transport.rewind.click()
    assert len(session.history) == 3
    assert studio.iteration == 2
    assert studio.transport.go_on.disabled  # there is nothing after it any more
    studio.step(2)
    assert (session.history[4].bottleneck == last.bottleneck).all()
    assert session.history[4] is not last


def test_go_on_from_here(studio: DragStudio, session: DragSession) -> None:
    studio.step(5)
    fifth = session.history[5]
    studio.transport.scrubber.value = 2
    studio.configure(lr=0.05)
    studio.transport.go_on.click()
    assert session.status == "max_iterations"
    assert (session.history[5].bottleneck != fifth.bottleneck).any()  # the change counts from there on
    assert studio.iteration == session.config.max_iterations


def test_show_beyond(studio: DragStudio) -> None:
    studio.step(2)
    with pytest.raises(IndexError, match="no iteration 7") as caught:
        studio.show(7)
    assert_one_sentence(caught.value)
    assert studio.iteration == 2


@pytest.mark.parametrize("k", [np.array([0, 1]), "0", False, 0.0], ids=repr)
def test_show_what_is_no_iteration_before_there_is_one(k: Any) -> None:
    studio = DragStudio(inline=True)
    studio.show(0)
    with pytest.raises(TypeError) as caught:
        studio.show(k)
    assert_one_sentence(caught.value, "whole number")


def test_branch(studio: DragStudio, session: DragSession) -> None:
    studio.step(4)
    studio.show(2)
    studio.transport.branch.click()
    branch = studio.session
    assert branch is not session
    assert len(branch.history) == 3
    assert len(session.history) == 5
    studio.configure(lr=0.01)
    studio.step()
    assert session.config.lr == 0.2
    assert studio.library.sessions == (session, branch)
    show_branches(studio)
    rows = studio.library.branches_panel.branches.rows
    assert [row.about.value.split(" · ")[0] for row in rows] == ["4 iterations", "3 iterations"]
    assert rows[0].thumbnail.value and rows[1].choose.disabled and not rows[0].choose.disabled
    rows[0].choose.click()
    assert studio.session is session
    assert studio.iteration == 4


def show_branches(studio: DragStudio) -> None:
    """Unfold the panel that lists them."""
    studio.unfold(studio.library.branches_panel)


def test_a_branch_is_renamed(studio: DragStudio, session: DragSession) -> None:
    show_branches(studio)
    row = studio.library.branches_panel.branches.rows[0]
    row.name.value = "the first"
    assert session.name == "the first" and studio.library.branches.names == ["the first"]


def test_compared_branches_are_before_and_after(studio: DragStudio, session: DragSession) -> None:
    studio.step(3)
    mine = studio.image
    studio.branch(0)
    assert studio.preview.before is session.image
    studio.library.branches_panel.other.value = 0
    assert studio.preview.before is mine
    assert studio.presenter._comparison.compared_history is session.history


# ---- pausing --------------------------------------------------------------------------------------


def test_breakpoints_set_on_the_runner_stay_when_others_are_ticked(studio: DragStudio) -> None:
    def own(history: History) -> str:
        return "mine" if history[-1].iteration == 2 else ""

    studio.runner.breakpoints = [own]
    studio.breakpoints.ticks["rising"].value = True
    remove = studio.break_when(lambda snapshot: False)
    assert studio.runner.breakpoints[0] is own and len(studio.runner.breakpoints) == 3
    remove()
    studio.breakpoints.ticks["rising"].value = False
    assert studio.runner.breakpoints == [own]


def test_break_when(studio: DragStudio, session: DragSession) -> None:
    def third(snapshot: Snapshot) -> bool:
        return snapshot.iteration == 3

    remove = studio.break_when(third)
    studio.run()
    assert studio.runner.state == "paused"
    assert len(session.history) == 4
    assert "third was true" in studio.transport.line.value
    remove()
    studio.run()
    assert session.status == "max_iterations"


def test_breakpoints_by_hand(studio: DragStudio, session: DragSession) -> None:
    studio.breakpoints.numbers["at"].value = 2
    studio.breakpoints.ticks["at"].value = True
    studio.run()
    assert len(session.history) == 3
    assert "iteration 2 is done" in studio.transport.line.value
    studio.breakpoints.ticks["at"].value = False
    studio.run()
    assert session.status == "max_iterations"


@pytest.mark.parametrize("name", ["reached", "jumped", "stuck", "rising"])
def test_every_row_is_its_breakpoint(studio: DragStudio, session: DragSession, name: str) -> None:
    from dragnoise_widgets.runner import breakpoints
    from dragnoise_widgets.runner.breakpoints import supervision_pixel

    pixel = supervision_pixel(session)
    made = {
        "reached": breakpoints.reached(session.config.tolerance * pixel),
        "jumped": breakpoints.jumped(session.config.r2 * pixel),
        "stuck": breakpoints.stuck(2, within=session.config.tolerance * pixel),
        "rising": breakpoints.rising(2),
    }[name]
    if name in studio.breakpoints.numbers:
        studio.breakpoints.numbers[name].value = 2
    for _ in range(6):
        session.step()
    studio.breakpoints.ticks[name].value = True
    (chosen,) = studio.runner.breakpoints
    histories = [session.history.upto(k) for k in range(len(session.history))]
    assert [chosen(h) for h in histories] == [made(h) for h in histories]


# ---- what goes wrong --------------------------------------------------------------------------------


def test_an_error_in_the_work_is_told_and_the_next_step_works(troubled: DragStudio, session: DragSession) -> None:
    troubled.runner.call(lambda _: 1 / 0)
    assert "division by zero" in troubled.transport.line.value
    assert any("ZeroDivisionError" in entry and "Traceback" in entry for entry in troubled.journal.text)
    troubled.step()
    assert len(session.history) == 2
    assert "division" not in troubled.transport.line.value


def test_an_error_stays_in_sight_until_something_else_is_done(troubled: DragStudio, session: DragSession) -> None:
    fold = next(c for c in troubled.children if troubled.inspector in getattr(c, "children", ()))
    fold.selected_index, troubled.inspector.selected_index = 0, 4  # which measures features when there is time
    troubled.step(2)
    troubled.break_when(lambda snapshot: 1 / 0)
    troubled.run()
    assert troubled.runner.state == "error"
    assert "ZeroDivisionError" in troubled.transport.line.value
    assert len(troubled.journal.text) == 1
    troubled.transport.scrubber.value = 1
    assert f"loss {session.history[1].loss:.4g}" in troubled.transport.line.value
    np.testing.assert_array_equal(pixels(troubled.image), pixels(session.branch(1).render()))


def test_an_error_in_a_call_while_it_runs_is_in_the_log(threaded: DragStudio, session: DragSession) -> None:
    threaded.configure(max_iterations=2000)
    threaded.run()
    assert until(lambda: threaded.iteration >= 1)
    threaded.runner.call(lambda _: 1 / 0)
    assert until(lambda: any("ZeroDivisionError" in told for told in threaded.journal.text))
    assert threaded.runner.state == "running"


def test_what_was_done_is_said_until_something_else_is_done(studio: DragStudio, tmp_path: Path) -> None:
    studio.step()
    studio.library.save(tmp_path / "edit.drag")
    studio.show(0)
    assert "saved to" in studio.transport.line.value
    studio.transport.scrubber.value = 1
    assert "saved to" not in studio.transport.line.value
    studio.journal.text.clear()


def test_an_error_of_a_button_is_told(troubled: DragStudio, session: DragSession) -> None:
    troubled.canvas.drags = ()
    assert troubled.transport.run.disabled
    troubled.transport._actions["step"]()  # as if the page had not heard yet
    assert "nothing to drag" in troubled.transport.line.value
    troubled.canvas.drags = [((8, 9), (30, 31))]
    troubled.transport.step.click()
    assert len(session.history) == 2


def test_an_error_of_the_canvas_is_told(troubled: DragStudio) -> None:
    troubled.canvas.report("the mask must be a PNG.")
    assert "the mask must be a PNG." in troubled.transport.line.value
    assert any("the mask must be a PNG." in entry for entry in troubled.journal.text)


def test_without_a_model_one_can_look(troubled: DragStudio, session: DragSession, tmp_path: Path) -> None:
    troubled.step(2)
    session.save(tmp_path / "edit.drag")
    opened = DragSession.open(tmp_path / "edit.drag")
    troubled.session = opened
    assert troubled.transport.scrubber.max == 2
    troubled.show(1)
    assert len(troubled.canvas.trajectory) == 3
    troubled.transport.step.click()
    assert "model" in troubled.transport.line.value
    assert len(opened.history) == 3


def test_a_lora_that_is_ticked_is_fitted_before_the_first_iteration(studio: DragStudio, session: DragSession) -> None:
    studio.transport.lora.value = True
    studio.transport.lora_steps.value = 2
    studio.step(1)
    assert session.lora is not None and len(session.lora.losses) == 2 and len(session.history) == 2
    lora = session.lora
    studio.step(1)
    assert session.lora is lora and len(session.history) == 3
    studio.library.new_sessions.set_prompt("another")
    assert "the LoRA was of the other prompt" in studio.transport.line.value
    assert studio.session.lora is None
    studio.journal.text.clear()


def test_wrong_session() -> None:
    with pytest.raises(TypeError, match="DragSession") as caught:
        DragStudio("picture.png", inline=True)  # type: ignore[arg-type]
    assert_one_sentence(caught.value)


# ---- between sessions -------------------------------------------------------------------------------


def test_undo_does_not_reach_another_session(studio: DragStudio, session: DragSession) -> None:
    studio.step(3)
    studio.branch().result(WAIT)
    branch = studio.session
    studio.canvas.drags = [((8, 9), (30, 31))]
    studio.library.choose(0)
    assert studio.session is session
    studio.canvas.undo()
    assert len(session.history) == 4 and studio.canvas.drags == session.drags
    assert branch.drags == (Drag((8.0, 9.0), (30.0, 31.0)),)


def move_anchor(studio: DragStudio) -> None:
    """The first drag's anchor a pixel to the right, as with the mouse."""
    spot = Spot(0, "anchor")
    studio.canvas.change(partial(edits.select, spot=spot))
    studio.canvas.nudge(1, 0)


OTHER_DRAG = ((8.0, 9.0), (30.0, 31.0))


@pytest.mark.parametrize("change", [
    move_anchor,
    lambda studio: setattr(studio.canvas, "drags", [*studio.canvas.drags, OTHER_DRAG]),
    lambda studio: studio.canvas.delete(1),
    lambda studio: (studio.canvas.clear_mask(), move_anchor(studio)),
])  # fmt: skip
def test_undo_brings_the_iterations_back_and_redo_those_that_came_after(
    studio: DragStudio, session: DragSession, change: Any
) -> None:
    mask = np.zeros((56, 72), np.bool_)
    mask[10:50, 10:60] = True
    session.mask = mask
    studio.step(3)
    first, drags, picture = session.history, session.drags, pixels(studio.image)
    steps = len(studio.canvas.sketch.past)
    change(studio)
    steps = len(studio.canvas.sketch.past) - steps
    studio.step(2)
    second, others = session.history, session.drags
    assert len(second) == 3
    for _ in range(3):
        for _ in range(steps):
            studio.canvas.undo()
        assert session.drags == drags == studio.canvas.drags and (session.mask == mask).all()
        assert [a is b for a, b in zip(session.history, first, strict=True)] == [True] * 4
        assert studio.iteration == 3
        np.testing.assert_array_equal(pixels(studio.image), picture)
        for _ in range(steps):
            studio.canvas.redo()
        assert session.drags == others and len(session.history) == 3 and session.history[-1] is second[-1]
    assert len(studio.library.sessions) == 2, "branches do not pile up"
    for _ in range(steps):
        studio.canvas.undo()
    again = DragSession(session.model, session.image, session.prompt, session.config)
    again.drags, again.mask = drags, mask
    for _ in range(5):
        again.step()
    studio.step(2)
    assert (session.bottleneck == again.bottleneck).all(), "it goes on as if nothing had been"


def test_the_same_drags_drawn_again_get_their_iterations_back(studio: DragStudio, session: DragSession) -> None:
    studio.step(3)
    history = session.history
    studio.canvas.drags = [*studio.canvas.drags, OTHER_DRAG]
    assert len(session.history) == 0 and len(studio.library.sessions) == 2
    studio.canvas.delete(2)
    assert session.history[-1] is history[-1] and studio.library.sessions == (session,)
    assert "is back" in studio.transport.line.value and "kept" not in studio.transport.line.value
    studio.canvas.drags = studio.canvas.drags
    assert session.history[-1] is history[-1] and studio.library.sessions == (session,)


def test_iterations_outlast_a_lone_anchor_that_is_put_down_and_undone(studio: DragStudio, session: DragSession) -> None:
    studio.step(2)
    canvas, history = studio.canvas, session.history
    for point in ((50.0, 20.0), (60.0, 30.0)):  # two clicks make a drag
        canvas.change(lambda sketch, point=point: edits.release(edits.press(sketch, point)))
    assert len(session.drags) == 3 and len(session.history) == 0
    canvas.undo()
    assert len(session.drags) == 2 and session.history[-1] is history[-1]
    canvas.undo()
    assert session.history[-1] is history[-1] and canvas.pending is None


def test_undo_keeps_today_s_numbers_and_brings_back_no_iterations_of_another_inversion(
    studio: DragStudio, session: DragSession
) -> None:
    studio.step(2)
    move_anchor(studio)
    studio.configure(lr=0.1)
    studio.canvas.undo()
    assert len(session.history) == 3 and session.config.lr == 0.1
    studio.canvas.redo()
    studio.configure(steps=5)
    studio.canvas.undo()
    assert len(session.history) == 0 and session.config.steps == 5
    studio.step(1)
    assert len(session.history) == 2


def test_iterations_that_other_drags_put_an_end_to_are_kept(studio: DragStudio, session: DragSession) -> None:
    studio.step(3)
    bottleneck = session.bottleneck
    move_anchor(studio)
    assert len(session.history) == 0 and studio.session is session
    assert "the 3 iterations so far are kept as the branch" in studio.transport.line.value
    _, kept = studio.library.sessions
    assert len(kept.history) == 4 and (kept.bottleneck == bottleneck).all() and kept.drags != session.drags
    move_anchor(studio)
    assert len(studio.library.sessions) == 2, "there was nothing to keep"
    studio.library.choose(1)
    assert studio.canvas.drags == kept.drags and studio.iteration == 3
    np.testing.assert_array_equal(pixels(studio.image), pixels(kept.render()))


def test_a_picture_put_on_the_canvas_is_a_session_of_its_own(studio: DragStudio, session: DragSession) -> None:
    for picture in (smooth_picture(40, 64), smooth_picture(72, 56, seed=3)):
        studio.session = session
        studio.step(1)
        done = len(session.history)
        studio.canvas.image = picture
        assert studio.session is not session and studio.session.prompt == ""
        np.testing.assert_array_equal(pixels(studio.session.image), pixels(picture))
        assert studio.canvas.drags == () and len(session.history) == done
    studio.journal.text.clear()


def test_a_run_that_is_left_is_told_of(threaded: DragStudio, session: DragSession) -> None:
    threaded.configure(max_iterations=2000)
    threaded.run()
    assert until(lambda: threaded.iteration >= 2)
    other = DragSession(session.model, session.image)
    threaded.session = other
    assert "the run of 'main' was ended" in threaded.messages.note
    done = len(session.history)
    threaded.session = session
    threaded.step()
    assert threaded.wait(WAIT)
    assert done <= len(session.history) - 1 <= done + 1
    assert not complaints(threaded)


# ---- from nothing -----------------------------------------------------------------------------------


def png(picture: Image.Image) -> bytes:
    import io

    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def empty(small: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[DragStudio]:
    monkeypatch.setattr("dragnoise.load_model", lambda name: small)
    studio = DragStudio(inline=True)
    yield studio
    studio.close()


def test_without_a_session_it_says_how_to_begin(empty: DragStudio) -> None:
    assert "Upload" in empty.transport.line.value
    assert all(button.disabled for button in (empty.transport.run, empty.transport.step, empty.transport.prepare))
    with pytest.raises(RuntimeError, match="example") as caught:
        empty.step()
    assert_one_sentence(caught.value)


def test_example(empty: DragStudio) -> None:
    empty.library.source.gallery.buttons["ear"].click()
    assert empty.session.image.size == (128, 128)
    assert len(empty.canvas.drags) == 1
    assert empty.session.prompt == empty.library.source.prompt.value != ""


def test_there_is_nothing_to_draw_on_before_there_is_a_picture(empty: DragStudio) -> None:
    parts = (empty.stage, empty.canvas.table)
    assert [part.layout.display for part in parts] == ["none", "none"]
    assert "Upload a picture" in empty.transport.line.value
    empty.library.new_sessions.example()
    assert [part.layout.display for part in parts] == ["", ""]


def test_upload(empty: DragStudio) -> None:
    empty.library.source.prompt.value = "a red fox"
    picture = smooth_picture(90, 64)
    empty.library.new_sessions.upload(png(picture))
    assert empty.session.prompt == "a red fox"
    np.testing.assert_array_equal(pixels(empty.session.image), pixels(picture))
    np.testing.assert_array_equal(pixels(empty.canvas.image), pixels(empty.session.image))


def test_upload_of_no_picture(empty: DragStudio) -> None:
    empty.library.source._actions["picture"](b"no picture at all")
    assert "cannot be read as a picture" in empty.transport.line.value
    with pytest.raises(RuntimeError):
        _ = empty.session


def test_another_prompt_keeps_the_drags_and_loses_nothing(studio: DragStudio, session: DragSession) -> None:
    studio.step(2)
    studio.library.source.prompt.value = "a green creature"
    assert studio.session is not session
    assert studio.session.prompt == "a green creature"
    assert studio.session.drags == session.drags
    assert studio.session.config == session.config
    assert len(session.history) == 3
    assert session in studio.library.sessions


def test_another_model(studio: DragStudio, session: DragSession, small: Model, monkeypatch: Any) -> None:
    other = Model(small.pipeline, name="another")
    monkeypatch.setattr("dragnoise.load_model", lambda name, **how: {"another": other}[name])
    studio.library.source.model.value = "another"
    studio.library.source.load.click()
    assert studio.session.model is other
    assert studio.session.drags == session.drags
    assert "another" in studio.journal.text.popleft()
    assert "loading" not in studio.transport.line.value


def test_a_model_is_loaded_as_it_was_asked_for_and_goes_with_its_last_session(
    studio: DragStudio, session: DragSession, small: Model, monkeypatch: Any
) -> None:
    asked: list[dict[str, Any]] = []

    def load(name: str, **how: Any) -> Model:
        asked.append(how)
        return Model(small.pipeline, name=name)

    monkeypatch.setattr("dragnoise.load_model", load)
    source = studio.library.source
    source.model.value, source.dtype.value, source.memory.value = "another", "bfloat16", "low"
    source.load.click()
    assert asked == [{"dtype": "bfloat16", "memory": "low"}]
    source.load.click()
    assert len(asked) == 1, "it is there already"
    gone = weakref.ref(studio.session.model)
    studio.library.choose(0)
    studio.library.forget(2)
    studio.library.forget(1)
    source.model.value = "a third"
    source.load.click()
    gc.collect()
    assert len(asked) == 2 and gone() is None
    studio.journal.text.clear()


def test_a_branch_can_be_let_go(troubled: DragStudio, session: DragSession, tmp_path: Path) -> None:
    keeping = troubled.library.branches_panel
    show_branches(troubled)
    assert keeping.branches.rows[0].forget.disabled
    with pytest.raises(ValueError, match="the only session"):
        troubled.library.forget(0)
    troubled.library.set_autosave(tmp_path / "auto.drag")
    troubled.step(2)
    troubled.branch().result(WAIT)
    branch = weakref.ref(troubled.session)
    keeping.branches.rows[1].forget.click()
    assert troubled.session is session and troubled.library.sessions == (session,)
    assert keeping.branches.rows[0].forget.disabled
    gc.collect()
    assert branch() is None and len(session.history) == 3


def test_a_model_that_cannot_be_loaded(troubled: DragStudio, session: DragSession, monkeypatch: Any) -> None:
    def fail(name: str, **how: Any) -> Model:
        raise OSError(f"there is no model {name!r}.")

    monkeypatch.setattr("dragnoise.load_model", fail)
    troubled.library.source.model.value = "nowhere"
    troubled.library.source.load.click()
    assert "there is no model 'nowhere'." in troubled.transport.line.value.replace("&#x27;", "'")
    assert troubled.session is session


# ---- files ------------------------------------------------------------------------------------------


def test_save_and_open(
    studio: DragStudio, session: DragSession, tmp_path: Path, small: Model, monkeypatch: Any
) -> None:
    monkeypatch.setattr("dragnoise.load_model", lambda name: small)
    studio.step(2)
    keeping = studio.library.branches_panel
    keeping.path.value = str(tmp_path / "edit.drag")
    keeping.save_button.click()
    assert (tmp_path / "edit.drag").is_file()
    keeping.open_button.click()
    assert studio.session is not session
    assert len(studio.session.history) == 3
    studio.step()
    session.step()
    assert (studio.session.bottleneck == session.bottleneck).all()
    studio.journal.text.clear()


def test_a_file_of_a_model_made_of_a_pipeline_can_be_looked_at(
    troubled: DragStudio, session: DragSession, sd15: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    troubled.step(2)
    session.save(tmp_path / "edit.drag")
    monkeypatch.setattr("dragnoise.load_model", None)
    other = DragStudio(DragSession(Model(sd15), session.image), inline=True)
    other.library.open(tmp_path / "edit.drag")
    assert other.session.model is None and len(other.session.history) == 3
    assert "only for viewing" in other.transport.line.value and session.model.name in other.transport.line.value
    assert other.question.layout.display == "none"
    other.show(1)
    assert len(other.canvas.trajectory) == 3
    other.close()


def test_a_model_that_was_not_loaded_by_name_is_found_again(
    studio: DragStudio, session: DragSession, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("dragnoise.load_model", None)
    session.save(tmp_path / "edit.drag")
    studio.library.open(tmp_path / "edit.drag")
    assert studio.session is not session and studio.session.model is session.model
    studio.journal.text.clear()


def test_autosave_is_found_after_a_restart(
    session: DragSession, tmp_path: Path, small: Model, monkeypatch: Any
) -> None:
    monkeypatch.setattr("dragnoise.load_model", lambda name: small)
    path = tmp_path / "auto.drag"
    first = DragStudio(session, inline=True, autosave=path, every=1)
    assert first.library.branches_panel.found.layout.display == "none"
    first.step(3)
    assert path.is_file()
    first.close()
    fresh = DragSession(small, session.image, session.prompt, session.config)
    second = DragStudio(fresh, inline=True, autosave=path, every=1)
    assert second.library.branches_panel.found.layout.display == ""
    _, button = second.library.branches_panel.found.children
    button.click()
    assert len(second.session.history) == 4
    assert second.library.branches_panel.found.layout.display == "none"
    second.close()


# ---- with threads -----------------------------------------------------------------------------------


def test_threads_run_pause_scrub_go_on(threaded: DragStudio, session: DragSession) -> None:
    threaded.configure(max_iterations=2000)
    threaded.run()
    assert until(lambda: threaded.iteration >= 3)
    threaded.pause()
    assert threaded.wait(WAIT)
    assert threaded.runner.state == "paused"
    reached = len(session.history)
    assert threaded.transport.scrubber.max == reached - 1
    threaded.show(1)
    assert threaded.wait(WAIT)
    assert until(lambda: "iteration 1" in threaded.preview.caption.value)
    np.testing.assert_array_equal(pixels(threaded.image), pixels(session.branch(1).render()))
    threaded.configure(max_iterations=4)
    threaded.go_on()
    assert threaded.wait(WAIT)
    assert len(session.history) == 5
    assert not complaints(threaded)


def test_deleting_a_point_while_it_runs(threaded: DragStudio, session: DragSession) -> None:
    threaded.configure(max_iterations=2000)
    threaded.run()
    assert until(lambda: threaded.iteration >= 2)
    threaded.canvas.delete(0)
    assert until(lambda: len(session.drags) == 1 and threaded.iteration >= 2)
    threaded.stop()
    assert threaded.wait(WAIT)
    assert session.drags == threaded.canvas.drags
    assert len(session.history[-1].anchors) == 1
    assert not complaints(threaded)


def test_two_clicks_at_once(threaded: DragStudio, session: DragSession) -> None:
    """Callbacks come on two threads where each comm has its own."""
    together = threading.Barrier(2)

    def click(button: Any) -> None:
        together.wait()
        button.click()

    step = threaded.transport.step
    clicks = [threading.Thread(target=click, args=(step,)) for _ in range(2)]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    assert until(lambda: len(session.history) == 3)
    threaded.configure(max_iterations=2000)
    clicks = [threading.Thread(target=click, args=(b,)) for b in (threaded.transport.run, threaded.transport.stop)]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    threaded.stop()
    assert threaded.wait(WAIT)
    assert threaded.runner.state == "idle"
    done = len(session.history)
    threaded.step()
    assert until(lambda: len(session.history) == done + 1)
    assert not complaints(threaded)


def test_closing_it_in_the_middle_of_a_run_ends_the_work_and_leaves_the_session_usable(session: DragSession) -> None:
    studio = DragStudio(session)
    studio.configure(max_iterations=2000)
    studio.run()
    assert until(lambda: studio.iteration >= 2)
    runner = studio.runner
    studio.close()
    assert runner.wait(WAIT)
    done = len(session.history)
    time.sleep(0.3)
    assert len(session.history) == done
    assert session.step().iteration == done
    again = DragStudio(session)
    again.step()
    assert until(lambda: len(session.history) == done + 2)
    assert again.wait(WAIT)
    assert again.iteration == done + 1
    again.close()


def test_stop_in_the_middle_leaves_everything_usable(threaded: DragStudio, session: DragSession) -> None:
    threaded.configure(max_iterations=2000)
    threaded.run()
    assert until(lambda: threaded.iteration >= 2)
    threaded.transport.stop.click()
    assert threaded.wait(WAIT)
    assert threaded.runner.state == "idle"
    assert not threaded.transport.run.disabled and threaded.transport.stop.disabled
    done = len(session.history)
    threaded.step()
    assert until(lambda: len(session.history) == done + 1)
    assert threaded.wait(WAIT)
    assert not complaints(threaded)


def test_two_studios_on_one_session(threaded: DragStudio, session: DragSession) -> None:
    second = DragStudio(session)
    threading.Thread(target=threaded.step, args=(3,)).start()
    second.step(3)
    assert until(lambda: len(session.history) == 7)
    assert threaded.wait(WAIT)
    assert second.wait(WAIT)
    assert threaded.iteration == second.iteration == 6
    second.canvas.drags = [((8, 9), (30, 31))]
    assert until(lambda: threaded.canvas.drags == second.canvas.drags == session.drags)
    assert not [*complaints(threaded), *complaints(second)]
    second.close()
    threaded.step()
    assert until(lambda: len(session.history) == 2)


def test_the_studio_adds_nothing_to_the_bits(threaded: DragStudio, session: DragSession) -> None:
    threaded.inspector.visible = True
    threaded.inspector.selected_index = 4
    threaded.preview.every.value = 1
    threaded.step(5)
    assert threaded.wait(WAIT)
    bare = DragSession(session.model, session.image, session.prompt, session.config)
    bare.drags = session.drags
    for _ in range(5):
        bare.step()
    assert (bare.bottleneck == session.bottleneck).all()
