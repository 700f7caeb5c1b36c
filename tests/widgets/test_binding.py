"""The tie between a studio and its session: from however many threads it is set, one session is shown and linked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import complaints, smooth_picture

from dragnoise import Drag, DragSession, Model
from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.studio.studio import DragStudio

WAIT = 60.0


def new_session(model: Model, x: float) -> DragSession:
    session = DragSession(model, smooth_picture(40, 32, seed=int(x)))
    session.drags = [((x, 5), (x, 20))]
    return session


@pytest.fixture
def several(small: Model) -> list[DragSession]:
    return [new_session(small, float(x)) for x in range(2, 8)]


@pytest.fixture
def threaded() -> Iterator[DragStudio]:
    studio = DragStudio(autosave=None)
    yield studio
    studio.close()


def at_once(*functions: Callable[[], Any]) -> None:
    """Each on a thread of its own, all beginning together."""
    together, failed = threading.Barrier(len(functions)), list[BaseException]()

    def work(function: Callable[[], Any]) -> None:
        together.wait()
        try:
            function()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert not failed


def test_many_threads_set_the_session_and_one_is_linked(threaded: DragStudio, several: list[DragSession]) -> None:
    given = [session.drags for session in several]

    def show(i: int) -> None:
        for session in (several[i], several[-1 - i], several[i]):
            threaded.session = session

    at_once(*(lambda i=i: show(i) for i in range(len(several))))
    assert threaded.wait(WAIT)
    shown = threaded.session
    assert [len(session.store._watchers) for session in several] == [int(session is shown) for session in several]
    assert threaded.canvas.drags == shown.drags
    assert threaded.canvas.image is not None and threaded.canvas.image.tobytes() == shown.image.tobytes()
    assert [session.drags for session in several] == given, "no session's drags went to another one"
    assert {id(session) for session in threaded.library.sessions} == set(map(id, several))
    for session in several:
        if session is not shown:
            session.drags = [((12, 12), (20, 25))]
    assert threaded.wait(WAIT)
    assert threaded.canvas.drags == shown.drags == given[several.index(shown)]
    threaded.canvas.drags = [((1, 1), (2, 9))]
    assert threaded.wait(WAIT)
    assert shown.drags == (Drag((1.0, 1.0), (2.0, 9.0)),)
    assert not complaints(threaded)


def test_a_session_is_read_while_it_is_set(threaded: DragStudio, several: list[DragSession]) -> None:
    threaded.session = several[0]
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            assert threaded.session in several
            threaded.refresh()

    def write() -> None:
        try:
            for session in several * 2:
                threaded.session = session
        finally:
            done.set()

    at_once(read, write)
    assert threaded.session is several[-1] and not complaints(threaded)


def test_an_update_of_a_session_that_is_shown_no_more_is_not_heard(
    threaded: DragStudio, several: list[DragSession]
) -> None:
    threaded.session = several[0]
    binding, update = threaded._current.binding, threaded.runner.latest
    threaded.session = several[1]
    assert binding is not None
    threaded.presenter.updated(binding, update)
    assert threaded.presenter._update is not update


def test_what_was_drawn_before_another_session_is_shown_reaches_its_own(several: list[DragSession]) -> None:
    """However late the session takes it."""
    canvas, waiting = DragCanvas(), list[Callable[[DragSession], Any]]()
    mine, other = several[:2]
    canvas.begin(mine.image, mine.drags)
    end = canvas.link(mine, call=waiting.append)
    canvas.drags = [((3, 3), (9, 9))]
    end()
    canvas.begin(other.image, other.drags)
    for push in waiting:
        push(mine)
    assert mine.drags == (Drag((3.0, 3.0), (9.0, 9.0)),)
    mine.drags = [((4, 4), (8, 8))]
    assert canvas.drags == other.drags


def test_an_observer_that_shows_another_session_does_not_lock_up(
    threaded: DragStudio, several: list[DragSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragnoise_widgets.canvas.link.PATIENCE", 0.2)
    mine, other = several[:2]
    threaded.session = mine
    assert threaded.wait(WAIT)
    threaded.canvas.observe(lambda change: setattr(threaded, "session", other), "drags")
    runner = threaded.runner
    runner.call(lambda session: setattr(session, "drags", [((5, 5), (6, 20))]))
    at_once(lambda: setattr(threaded, "session", other))
    end = time.monotonic() + WAIT
    while threaded.session is not other and time.monotonic() < end:
        time.sleep(0.01)
    assert threaded.session is other
