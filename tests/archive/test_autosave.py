"""Autosave: what is due, how much is written, that it never stops or delays the edit, and that errors are told."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_same_snapshots, quick_session

from dragnoise import DragSession, Model
from dragnoise.archive import ArchiveError, autosave, container
from dragnoise.archive.autosave import Autosave, has_ended


def iterations(path: Path) -> int:
    return len(DragSession.open(path).history) - 1


def count_saves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The iterations that were saved, in the order of the saves."""
    saved: list[int] = []
    write = autosave.IncrementalFile.write

    def counted(self: autosave.IncrementalFile, state: Any) -> None:
        write(self, state)
        saved.append(len(state.history) - 1)

    monkeypatch.setattr(autosave.IncrementalFile, "write", counted)
    return saved


def test_what_is_due_is_saved_and_the_last_iteration_once(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = count_saves(monkeypatch)
    session = quick_session(small)
    session.config = session.config.replace(max_iterations=7)
    list(session.invert())
    session.autosave(tmp_path / "edit.drag", every=5)
    for _ in range(12):  # goes on after the seventh, which is the last
        session.step()
    assert saved == [5, 7, 10]


def test_much_less_is_written_than_by_writing_all_each_time(small: Model, tmp_path: Path) -> None:
    session = quick_session(small)
    session.config = session.config.replace(max_iterations=100)
    list(session.invert())
    session.autosave(tmp_path / "edit.drag", every=1)
    for _ in range(20):
        session.step()
    auto = session.store.autosaved
    assert auto is not None and auto.saves == 20 and auto.error is None
    size = (tmp_path / "edit.drag").stat().st_size
    assert auto.bytes_written < 2.5 * size  # instead of 10 times as many
    whole = session.save(tmp_path / "whole.drag")
    assert size < 2.2 * whole.stat().st_size + autosave.SMALL
    one, other = (DragSession.open(tmp_path / name) for name in ("edit.drag", "whole.drag"))
    assert_same_snapshots(one.history, other.history)


def test_a_file_that_was_appended_to_holds_the_state_and_no_more(small: Model, tmp_path: Path) -> None:
    """Changes of every kind between two saves, each compared with a file that was written at once."""
    path, session = tmp_path / "edit.drag", quick_session(small)
    auto = Autosave(path)
    mask = np.zeros((40, 50), bool)
    mask[:20] = True
    changes: list[Any] = [
        lambda: list(session.invert()), session.step, session.step, lambda: setattr(session, "mask", mask),
        session.step, lambda: setattr(session, "config", session.config.replace(lr=0.1)), session.step,
        lambda: session.rewind(1), session.step, lambda: setattr(session, "history_limit", 1), session.step,
        lambda: list(session.fit_lora(1, rank=1, batch_size=1)), lambda: setattr(session, "prompt", "a bear"),
        lambda: list(session.invert()), session.step, lambda: setattr(session, "drags", [((5, 5), (9, 9))]),
    ]  # fmt: skip
    for change in changes:
        change()
        auto.save(session.state)
        assert auto.flush() and auto.error is None
        container.write(session.state, tmp_path / "whole.drag")
        with path.open("rb") as one, (tmp_path / "whole.drag").open("rb") as other:
            assert dict(container.Parts(one)) == dict(container.Parts(other))
        assert len(DragSession.open(path).history) == len(session.history)


def test_a_file_that_somebody_else_wrote_is_written_anew(small: Model, tmp_path: Path) -> None:
    path, session = tmp_path / "edit.drag", quick_session(small, 1)
    auto = Autosave(path)
    auto.save(session.state)
    session.step()
    for disturb in (
        lambda: quick_session(small).save(path), lambda: path.write_bytes(b"no session"), path.unlink,
        lambda: path.rename(tmp_path / "moved.drag"), lambda: os.link(path, tmp_path / "link.drag"),
    ):  # fmt: skip
        disturb()
        auto.save(session.state)
        assert auto.flush() and auto.error is None and iterations(path) == 2
    assert iterations(tmp_path / "link.drag") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a child process")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_while_appending_loses_nothing_that_was_saved(small: Model, tmp_path: Path) -> None:
    path, session = tmp_path / "edit.drag", quick_session(small, 6)
    states = [dataclasses.replace(session.state, history=session.history.upto(k), anchors=None) for k in range(7)]
    rng = np.random.default_rng(3)
    for _ in range(12):
        path.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            try:
                file = autosave.IncrementalFile(path)
                for state in states:
                    file.write(state)
            finally:
                os._exit(0)
        while not path.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert 0 <= iterations(path) <= 6


def test_a_file_cut_off_anywhere_while_it_was_appended_to_is_as_it_was_before(small: Model, tmp_path: Path) -> None:
    path, session = tmp_path / "edit.drag", quick_session(small, 2)
    file = autosave.IncrementalFile(path)
    file.write(dataclasses.replace(session.state, history=session.history.upto(1), anchors=None))
    before = path.stat().st_size
    file.write(session.state)
    content = path.read_bytes()
    for cut in (0, 1, 21, 22, 500, 5000, (len(content) - before) // 2, len(content) - before - 1):
        for tail in (b"", b"\1" * 70_000):  # more than a zip's comment can be
            path.write_bytes(content[: before + cut] + tail)
            assert iterations(path) == 1
    path.write_bytes(content[: before - 1])
    with pytest.raises(ArchiveError):
        DragSession.open(path)


def test_a_failing_append_leaves_the_file_as_it_was(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, session = tmp_path / "edit.drag", quick_session(small, 2)
    file = autosave.IncrementalFile(path)
    file.write(dataclasses.replace(session.state, history=session.history.upto(1), anchors=None))
    content, calls = path.read_bytes(), []
    for fails_at in (1, 2):

        def full(_: int, fails_at: int = fails_at) -> None:
            calls.append(1)
            if len(calls) == fails_at:
                raise OSError(28, "No space left on device")

        calls.clear()
        with monkeypatch.context() as patch, pytest.raises(OSError, match="still there"):
            patch.setattr(os, "fsync", full)
            file.write(session.state)
        assert path.read_bytes() == content
        file.write(dataclasses.replace(session.state, history=session.history.upto(1), anchors=None))
    file.write(session.state)
    assert iterations(path) == 2


def test_a_long_write_does_not_hold_up_the_run_and_the_newest_state_wins(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, free, write = count_saves(monkeypatch), threading.Event(), container.write_parts
    monkeypatch.setattr(autosave, "PATIENCE", 0.01)
    monkeypatch.setattr(container, "write_parts", lambda *given: (free.wait(20), write(*given)))
    session = quick_session(small, 5)
    auto = Autosave(tmp_path / "edit.drag", every=1)
    started = time.perf_counter()
    for k in range(6):
        auto.due(lambda k=k: dataclasses.replace(session.state, history=session.history.upto(k), anchors=None), k)
    assert time.perf_counter() - started < 2 and not saved
    free.set()
    assert auto.flush(20)
    assert saved == [0, 5] and iterations(tmp_path / "edit.drag") == 5
    assert auto._thread is None, "the thread has ended"


def test_closing_waits_for_what_is_being_written(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = container.write_parts
    monkeypatch.setattr(autosave, "PATIENCE", 0)
    monkeypatch.setattr(container, "write_parts", lambda *given: (time.sleep(0.2), write(*given)))
    session = quick_session(small, autosave=tmp_path / "edit.drag", every=1)
    session.step()
    session.autosave(None)
    assert iterations(tmp_path / "edit.drag") == 1


def test_a_failing_save_is_told_and_so_is_that_it_works_again(small: Model, tmp_path: Path) -> None:
    told: list[Exception | None] = []
    path = tmp_path / "folder"
    path.mkdir()
    auto = Autosave(path, on_error=told.append)
    state = quick_session(small, 1).state
    with pytest.warns(RuntimeWarning, match=r"the edit goes on.*folder"):
        auto.save(state)
        auto.flush()
    assert auto.error is not None and told == [auto.error] and auto.saves == 0
    path.rmdir()
    auto.save(state)
    auto.save(state)
    assert auto.flush() and auto.error is None and told[1:] == [None] and iterations(path) == 1


def test_a_callback_that_fails_or_asks_again_does_no_harm(small: Model, tmp_path: Path) -> None:
    def bad(_: Exception | None) -> None:
        auto.flush()
        raise KeyError("of the callback")

    auto = Autosave(tmp_path, on_error=bad)
    with pytest.warns(RuntimeWarning, match="of the callback"):
        auto.save(quick_session(small, 1).state)
        assert auto.flush(20)


def test_no_state_that_cannot_be_opened_replaces_a_file(small: Model, tmp_path: Path) -> None:
    """Such as one whose drags were set by another thread while it iterated."""
    session, path = quick_session(small, 2), tmp_path / "edit.drag"
    state = session.state
    old = session.save(path).read_bytes()
    history, wrong = state.history, {}
    nan = history[2].bottleneck.clone()
    nan.view(-1)[0] = float("nan")
    tensors = {**history[2].state.tensors, "bottleneck": nan}
    broken = dataclasses.replace(history[2], state=dataclasses.replace(history[2].state, tensors=tensors))
    late = dataclasses.replace(history[2], iteration=7)
    wrong = {
        "other drags": dataclasses.replace(state, drags=state.drags[:1]),
        "no drags": dataclasses.replace(state, drags=()),
        "no latents": dataclasses.replace(state, trajectory=()),
        "latents of other numbers": dataclasses.replace(state, config=state.config.replace(edit_from=3)),
        "another picture": dataclasses.replace(state, image=state.image.resize((51, 40))),
        "another frame": dataclasses.replace(state, frame=dataclasses.replace(state.frame, grid=(1, 1))),
        "a mask of another size": dataclasses.replace(state, mask=np.ones((3, 3), bool)),
        "an empty mask": dataclasses.replace(state, mask=np.zeros((40, 50), bool)),
        "not finite": dataclasses.replace(state, history=type(history)([*history[:2], broken])),
        "out of order": dataclasses.replace(state, history=type(history)([*history[:2], late])),
        "the last one thinned": dataclasses.replace(state, history=type(history)([*history[:2], history[2].thin()])),
        "anchors of other drags": dataclasses.replace(state, anchors=np.zeros((1, 2))),
    }
    for name, bad in wrong.items():
        for write in (
            lambda bad=bad: container.write(bad, path),
            lambda bad=bad: autosave.IncrementalFile(path).write(bad),
        ):
            with pytest.raises(ValueError, match="still there"):
                write()
            assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path], name
    container.write(state, path)


def test_the_end_of_a_run_is_the_change_of_its_status(small: Model) -> None:
    session = quick_session(small, 6)  # all that there are
    session.step()
    ended = [has_ended(session.history.upto(k)) for k in range(8)]
    assert ended == [k == 6 for k in range(8)]
