"""The one worker of a session: commands come from any thread and act between two units of work."""

from __future__ import annotations

import atexit
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image

from dragnoise.history import Snapshot
from dragnoise.session import DragSession
from dragnoise_widgets import stages
from dragnoise_widgets.stages import Kept, Options, Progress, Stage
from dragnoise_widgets.updates import Pace, Publisher, Status, Update

FAREWELL = 5.0
"""Seconds that the end of the process waits for the unit of work under way."""

Outcome = Literal["done", "held", "pause", "stop", "error"]


@dataclass(frozen=True, eq=False)
class Task:
    """A long command: `work(session, kept)` makes its stage.  ends: is a pause over when it is done?"""

    work: Callable[[DragSession, Kept], Stage]
    options: Options
    ends: bool = False


class Worker:
    """Owns a session's generators; everything that changes the session passes through here.

    Its thread lives as long as there is work, and holds worker and session only then.  Get it with
    `worker_of(session)`.
    """

    def __init__(self, session: DragSession) -> None:
        self.session = session
        self.inline = False
        self.watchers: weakref.WeakSet[Any] = weakref.WeakSet()  # the runners; when all are gone, work ends
        self.changed = threading.Condition()  # guards everything below
        self.publisher = Publisher(self._deliver, self.changed)
        self.update = Update(Status(history_length=len(session.history)), session.history)
        self.error: str | None = None
        self.traceback = ""
        self._kept = Kept()
        self._tasks: deque[Task] = deque()
        self._calls: deque[tuple[Callable[[DragSession], Any], Future]] = deque()
        self._current: Task | None = None
        self._wish: Literal["", "pause", "stop"] = ""
        self._rest: Literal["idle", "paused"] = "idle"
        self._thread: threading.Thread | None = None  # who works: a thread of our own, or an inline caller's
        self._pace = Pace()
        self._picture: tuple[Image.Image, Snapshot | None] | None = None
        self._preview_wanted = False

    # ---- commands, from any thread -----------------------------------------------------------

    def put(self, task: Task) -> None:
        """Do a task when those before it are done."""
        with self.changed:
            self._tasks.append(task)
        self._start()

    def call(self, function: Callable[[DragSession], Any]) -> Future:
        """Do something short between two units of work."""
        future: Future = Future()
        with self.changed:
            self._calls.append((function, future))
        self._start()
        return future

    def pause(self) -> None:
        """Hold after the unit under way; forgets what waits."""
        with self.changed:
            waited = bool(self._tasks)
            self._tasks.clear()
            self._preview_wanted = False
            if self._current is not None and not self._wish:
                self._wish = "pause"
                self._tell(message="pausing")
            elif self._current is None and waited:
                self._rest = "paused"
                self._tell(last=True, state="paused", message="paused")
        self._flush()

    def stop(self) -> None:
        """End after the unit under way; forgets what waits and what was paused."""
        with self.changed:
            self._tasks.clear()
            self._preview_wanted = False
            if self._current is not None:
                self._wish = "stop"
                self._tell(state="stopping", message="stopping")
            else:
                self._kept.drop()
                self._rest = "idle"
                self._tell(last=True, state="idle", message="stopped")
        self._flush()

    @property
    def settled(self) -> bool:
        """Is everything done and delivered?"""
        return self._thread is None and not self._tasks and not self._calls and self.publisher.settled

    @property
    def is_here(self) -> bool:
        """Is this called by the work itself or by a watcher?"""
        return self._thread is threading.current_thread() or self.publisher.is_here

    def leave(self) -> threading.Thread | None:
        """End for good, as the process does; returns the thread to wait for."""
        self.stop()
        self.publisher.clear()
        return self._thread

    # ---- the work ----------------------------------------------------------------------------

    def _start(self) -> None:
        """See that somebody works: a thread of our own, or inline the caller."""
        with self.changed:
            mine = self._thread is None
            if mine:
                self._thread = threading.current_thread() if self.inline else self._new_thread()
            elsewhere = not mine and self.inline and not self.is_here
        if mine and self.inline:
            self._work()
        elif mine:
            assert self._thread is not None
        elif elsewhere:
            with self.changed:
                self.changed.wait_for(lambda: self.settled)

    def _new_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name="dragnoise worker", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        try:
            while True:
                self._do_calls()
                with self.changed:
                    task = self._current = self._tasks.popleft() if self._tasks else None
                    self._wish = ""
                    wanted = self._preview_wanted
                    if task is None and not self._calls and not wanted:
                        break
                if task is not None:
                    self._perform(task)
                elif wanted:
                    self._preview()
        finally:
            with self.changed:
                self._thread, self._current = None, None
                self.changed.notify_all()

    def _perform(self, task: Task) -> None:
        """One task from its start to its end, a pause or an error."""
        self._pace = Pace()
        stage = task.work(self.session, self._kept)
        self._tell(state="running", message="")
        try:
            outcome, message = self._drive(stage)
        except BaseException as error:
            outcome, message = "error", self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            stage.close()
            self._end(task, outcome, message)

    def _drive(self, stage: Stage) -> tuple[Outcome, str]:
        while True:
            try:
                progress = next(stage)
            except StopIteration as done:
                return "done", done.value
            self._note(progress)
            self._do_calls()
            if self._wish:
                return self._wish, ""
            if not self.watchers:
                return "stop", ""
            if progress.hold:
                return "held", progress.hold

    def _end(self, task: Task, outcome: Outcome, message: str) -> None:
        with self.changed:
            self._current, self._wish = None, ""
            if outcome == "stop":
                self._kept.drop()
            if outcome == "held":
                self._tasks.clear()
            if outcome in ("pause", "held"):
                self._rest = "paused"
            elif outcome == "stop" or (outcome == "done" and task.ends):
                self._rest = "idle"
            self._preview_wanted = bool(task.options.preview_every) and outcome in ("done", "held", "pause")
            self._tell(
                look=True,
                last=not self._tasks or outcome == "error",
                state="error" if outcome == "error" else self._rest,
                message=message or {"pause": "paused", "stop": "stopped"}.get(outcome, ""),
            )
        self._flush()

    def _preview(self) -> None:
        """The picture of where the session stands, while there is nothing else to do."""
        try:
            history = self.session.history
            if history and self.session.inverted and self._shown(history) != len(history) - 1:
                for progress in stages.rendering(self.session, self._kept):
                    self._note(progress)
                    self._do_calls()
                    if self._tasks or not self._preview_wanted or not self.watchers:
                        break
        except Exception as error:
            self._tell(last=True, state="error", message=self._fail(error))
        with self.changed:
            self._preview_wanted = False
            self._tell(last=True, look=True)
        self._flush()

    def _do_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            told: dict[str, Any] = {}
            try:
                result = function(self.session)
            except BaseException as error:
                told = {"message": self._fail(error)}
                if self._current is None:
                    told["state"] = "error"
                future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                future.set_result(result)
                if self.update.status.state == "error":
                    told = {"state": self._rest, "message": ""}
            self._tell(last=self._current is None or bool(told), look=True, **told)
            self._flush()

    # ---- telling -----------------------------------------------------------------------------

    def _note(self, progress: Progress) -> None:
        """Tell how far a stage has come."""
        if progress.picture is not None:
            self._picture = progress.picture, progress.snapshot
        left = self._pace.seconds_left(progress.task, progress.done, progress.total)
        self._tell(
            look=True, step=progress.step, task=progress.task, done=progress.done, total=progress.total,
            seconds_left=left,
        )  # fmt: skip
        self._flush()

    def _tell(self, *, last: bool = False, look: bool = False, step: Any = None, **changes: Any) -> None:
        """Publish the status with some changes; `look` at the session too, which only the work may do."""
        if last:
            changes = {"task": "", "done": 0, "total": 0, "seconds_left": None} | changes
        with self.changed:
            history = self.session.history if look else self.update.history
            status = replace(self.update.status, history_length=len(history), **changes)
            picture = self._picture[0] if self._picture else None
            step = self.update.step if step is None else step
            self.update = Update(status, history, picture, self._shown(history), step)
            self.publisher.put(self.update, last=last, threaded=not self.inline)

    def _flush(self) -> None:
        if self.inline:
            self.publisher.flush()

    def _shown(self, history: Any) -> int | None:
        """The iteration that the last picture shows."""
        if self._picture is None or not stages.stands(history, self._picture[1]):
            return None
        return self._picture[1].iteration if self._picture[1] else 0

    def _deliver(self, update: Update) -> None:
        for runner in list(self.watchers):
            runner.deliver(update)

    def _fail(self, error: BaseException) -> str:
        """Keep an error, and say it in one line."""
        self.traceback = traceback.format_exc()
        self.error = _sentence(error)
        return self.error


def _sentence(error: BaseException) -> str:
    """Our own errors are sentences; others need their name."""
    said = " ".join(str(error).split())
    return said if said.endswith(".") else f"{type(error).__name__}: {said}"


_workers: weakref.WeakKeyDictionary[DragSession, weakref.ref[Worker]] = weakref.WeakKeyDictionary()
_registry = threading.Lock()


def worker_of(session: DragSession) -> Worker:
    """The session's worker: one, as long as anybody holds it."""
    with _registry:
        known = _workers.get(session)
        worker = known() if known is not None else None
        if worker is None:
            worker = Worker(session)
            _workers[session] = weakref.ref(worker)
        return worker


@atexit.register
def _farewell() -> None:
    """No thread may be inside torch when the interpreter goes."""
    with _registry:
        workers = [worker for known in _workers.values() if (worker := known()) is not None]
    until = time.monotonic() + FAREWELL
    for thread in [worker.leave() for worker in workers]:
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(until - time.monotonic(), 0))
