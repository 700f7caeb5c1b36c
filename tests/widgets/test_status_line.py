"""The status line: one state word first, and nothing that outlives its cause."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dragnoise import DragSession
from dragnoise.session.state import SessionState
from dragnoise_widgets.runner.status_line import StatusInputs, as_html, state_word, stoppable
from dragnoise_widgets.runner.updates import Status
from dragnoise_widgets.studio.studio import DragStudio

DONE = StatusInputs(iterations=4, max_iterations=9, status=Status(history_length=5))


def ended(how: Any, *, state: Any = "idle", **more: Any) -> Status:
    return Status(state, history_length=5, ended=how, **more)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (StatusInputs(has_session=False), "No picture: Upload a picture"),
        (StatusInputs(has_session=False, loading="loading toyland"), "Loading: loading toyland"),
        (StatusInputs(has_drags=False), "No drags: Pull an arrow"),
        (StatusInputs(), "Ready: press Run"),
        (StatusInputs(has_model=False), "View only"),
        (StatusInputs(status=Status("running", "inverting")), "Running: inverting"),
        (StatusInputs(status=Status("running", pausing=True)), "Pausing"),
        (StatusInputs(status=Status("stopping", "optimising")), "Stopping"),
        (replace(DONE, error="out of luck."), "Failed: out of luck."),
        (replace(DONE, error="out of luck.", status=Status("running")), "Running"),
        (replace(DONE, verdict="reached"), "Finished: every anchor"),
        (replace(DONE, verdict="reached", iterations=0), "Finished: every anchor has reached its objective already"),
        (replace(DONE, verdict="reached", too_short=True), "Short of the goal: a drag is too short"),
        (replace(DONE, verdict="max_iterations"), "Short of the goal: all 9 iterations"),
        (replace(DONE, verdict="stalled"), "Short of the goal: the anchors have stopped moving"),
        (replace(DONE, verdict="denoised"), "Finished: the edit is denoised"),
        (replace(DONE, status=ended("breakpoint", state="paused", message="it jumped")), "Paused by a breakpoint: it"),
        (replace(DONE, status=ended("pause", state="paused")), "Paused by hand"),
        (replace(DONE, status=ended("stop")), "Stopped"),
        (replace(DONE, iterations=2, status=ended("stop")), "Ready"),
        (replace(DONE, iterations=2, status=ended("breakpoint", message="it jumped")), "Ready"),
        (replace(DONE, status=ended("done", message="ready")), "Ready"),
    ],
)  # fmt: skip
def test_the_word_follows_from_the_state(now: StatusInputs, said: str) -> None:
    assert str(state_word(now)).startswith(said)


@pytest.mark.parametrize(
    ("status", "can"),
    [
        (Status(), False), (Status("running"), True), (Status("stopping", "optimising"), False),
        (Status("paused"), True), (Status("error"), False), (Status("idle", "rendering"), True),
    ],
)  # fmt: skip
def test_stop_is_on_when_there_is_something_to_stop(status: Status, can: bool) -> None:
    assert stoppable(status) is can


def test_whatever_is_said_is_escaped() -> None:
    word = state_word(StatusInputs(error="<b>bold</b> & so on."))
    line = as_html(word, ["<script>", "", "<script>"], error="")
    assert "<script>" not in line and line.count("&lt;script&gt;") == 1 and "&lt;b&gt;bold" in line


def line(studio: DragStudio) -> str:
    return html.unescape(re.sub("<[^>]+>", "", studio.transport.line.value))


def test_the_line_through_an_edit(studio: DragStudio, session: DragSession) -> None:
    assert line(studio).startswith("Ready: press Run") and studio.transport.stop.disabled
    stop_no_more = studio.break_when(lambda snapshot: snapshot.iteration == 3)
    studio.run()
    assert line(studio).startswith("Paused by a breakpoint") and "iteration 3: loss" in line(studio)
    assert not studio.transport.stop.disabled
    studio.show(1)
    assert line(studio).startswith("Paused by a breakpoint") and "iteration 1: loss" in line(studio)
    studio.rewind(1)
    assert line(studio).startswith("Ready · iteration 1") and "breakpoint" not in line(studio)
    assert studio.transport.stop.disabled
    stop_no_more()
    studio.run()
    assert line(studio).startswith("Short of the goal: all 9 iterations are done · iteration 9")
    assert studio.transport.stop.disabled
    studio.rewind(0)
    assert line(studio).startswith("Ready · iteration 0") or line(studio).startswith("Ready: press Run")
    assert "max_iterations" not in line(studio) and "goal" not in line(studio)
    studio.run()
    studio.configure(max_iterations=20)
    assert line(studio).startswith("Ready · iteration 9")
    studio.canvas.drags = ()
    assert line(studio).startswith("No drags")
    studio.journal.text.clear()


def test_anchors_that_arrive_with_the_last_iteration_have_arrived(studio: DragStudio, session: DragSession) -> None:
    session.drags = [((20.0, 30.0), (44.0, 34.0))]
    studio.configure(max_iterations=50, lr=0.1)
    studio.run()
    last = len(session.history) - 1
    assert session.status == "reached" and 1 < last < 50
    studio.rewind(0)
    studio.configure(max_iterations=last)  # the update after which they were found there is the last one now
    studio.run()
    assert session.status == "max_iterations" and len(session.history) - 1 == last
    assert line(studio).startswith("Finished: every anchor has reached its objective · iteration")
    assert not studio.advice.findings


def test_a_schedule_of_fewer_iterations_ends_short_too(studio: DragStudio, session: DragSession) -> None:
    studio.configure(schedule="alternate", drag_steps=2, step_iterations=2)
    studio.run()
    assert line(studio).startswith("Short of the goal: all 4 iterations are done · iteration 4")
    assert session.status == "max_iterations" and session.config.max_iterations == 9
    studio.configure(step_iterations=3)
    assert line(studio).startswith("Ready")


def test_no_message_outlives_its_cause(studio: DragStudio, session: DragSession, tmp_path: Path) -> None:
    studio.step(2)
    studio.library.save(tmp_path / "a <b>.drag")
    assert "saved to" in line(studio) and "a <b>.drag" in line(studio) and "<b>.drag" not in studio.transport.line.value
    studio.transport.step.click()
    assert "saved" not in line(studio)
    studio.runner.call(lambda _: 1 / 0)
    assert line(studio).startswith("Failed: ZeroDivisionError")
    studio.rewind(1)
    assert line(studio).startswith("Ready · iteration 1")
    studio.journal.text.clear()


def test_remarks_are_shown_under_the_line(studio: DragStudio, session: DragSession, monkeypatch: Any) -> None:
    monkeypatch.setattr(SessionState, "remarks", property(lambda state: ["The mask <holds> it."] * bool(state.drags)))
    studio.refresh()
    assert "The mask &lt;holds&gt; it." in studio.remarks.value and studio.remarks.layout.display == ""
    studio.canvas.drags = ()
    assert studio.remarks.value == "" and studio.remarks.layout.display == "none"
