"""Delivery of a worker's updates to its watchers: at most ten a second, the latest wins."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dragnoise_widgets.runner.stages import Progress, stands
from dragnoise_widgets.runner.updates import State, Status, TaskName, Update

if TYPE_CHECKING:
    from dragnoise.session.history import History

INTERVAL = 0.1
"""Seconds between two updates at least, but for the state that a command leaves, which comes at once."""


NOTHING_DONE: dict[str, Any] = {"task": "", "done": 0, "total": 0, "seconds_left": None, "iteration": None}
"""The fields of a status without a task."""

log = logging.getLogger(__name__)


class StatusPublisher:
    """Holds the newest update, and publishes it whenever it changes.

    deliver: called with one update at a time; must not raise.  changed: guards this object.
    inline: deliver in the caller's thread, when it calls `flush`.
    """

    def __init__(self, history: History, deliver: Callable[[Update], None], changed: threading.Condition) -> None:
        self.inline = False
        self.update = Update(Status(history_length=len(history)), history)
        self.updates = UpdateThread(deliver, changed)
        self._changed = changed
        self._pace = TimeEstimate()
        self._pictured: Progress | None = None  # the last one with a picture

    def begin(self, *, state: State = "running", aside: bool = False) -> None:
        """Publish that a task begins.  aside: the last command's message stays, unless it was an error."""
        self._pace = TimeEstimate()
        status = self.update.status
        told: dict[str, Any] = {"message": "", "ended": ""}
        if aside and status.state != "error":
            told = {"message": status.message, "ended": status.ended}
        self.tell(state=state, pausing=False, **NOTHING_DONE, **told)

    def note(self, progress: Progress, history: History) -> None:
        """Publish the progress of a stage."""
        if progress.picture is not None:
            self._pictured = progress
        task, done, total = progress.task, progress.done, progress.total
        left = self._pace.seconds_left(task, done, total)
        shown = progress.iteration
        self.tell(history, step=progress.step, task=task, done=done, total=total, seconds_left=left, iteration=shown)

    def tell(self, history: History | None = None, *, keep: bool = False, step: Any = None, **changes: Any) -> None:
        """Publish the status with some changes.

        history: the current one; None keeps the last known, for callers that must not access the session.
        keep: never drop this update.
        """
        with self._changed:
            before = self.update
            history = before.history if history is None else history
            status = replace(before.status, history_length=len(history), **changes)
            picture, state = (None, None) if (of := self._pictured) is None else (of.picture, of.rendered_from)
            step = before.step if step is None else step
            self.update = Update(status, history, picture, self.shown(history), state, step)
            self.updates.put(self.update, keep=keep, threaded=not self.inline)

    def rest(self, history: History, *, keep: bool = True, **changes: Any) -> None:
        """Publish that nothing is being done."""
        self.tell(history, keep=keep, pausing=False, **NOTHING_DONE, **changes)

    def flush(self) -> None:
        """Inline, deliver what is due; call it without holding the lock."""
        if self.inline:
            self.updates.flush()

    def shown(self, history: History) -> int | None:
        """The iteration that the last picture shows."""
        if self._pictured is None or not stands(history, self._pictured.snapshot):
            return None
        return self._pictured.snapshot.iteration if self._pictured.snapshot else 0


class TimeEstimate:
    """Estimates how long a task will go on, from its last steps."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=20)
        self._task: TaskName = ""

    def seconds_left(self, task: TaskName, done: int, total: int) -> float | None:
        """Record that `done` of `total` steps are done; returns the estimate in seconds, None if unknown."""
        if task != self._task or (self._marks and done < self._marks[-1][1]):
            self._marks.clear()
        self._task, now = task, time.perf_counter()
        if not self._marks or done > self._marks[-1][1]:
            self._marks.append((now, done))
        (began, first), (then, last) = self._marks[0], self._marks[-1]
        if last == first:
            return None
        return max((total - done) * (then - began) / (last - first) - (now - then), 0.0)


def duration(seconds: float) -> str:
    """Seconds for people: "3 s", "2 min 5 s", "1 h 10 min"."""
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class UpdateThread:
    """Delivers updates on a thread of its own, so that slow watchers do not hold up the work.

    deliver: an error that it raises is logged, and the next update is delivered all the same.
    changed: guards this object; notified when everything has been delivered.

    Of updates that come too fast only the latest is kept; one put with `keep=True` is never dropped.
    """

    def __init__(self, deliver: Callable[[Update], None], changed: threading.Condition) -> None:
        self._deliver = deliver
        self._changed = changed
        self._waiting: deque[tuple[Update, bool]] = deque()
        self._thread: threading.Thread | None = None
        self._due = 0.0
        self._closed = False

    @property
    def settled(self) -> bool:
        """Has everything been delivered?"""
        return not self._waiting and self._thread is None

    @property
    def is_here(self) -> bool:
        """Is this called by a watcher, on the delivering thread?"""
        return self._thread is threading.current_thread()

    def put(self, update: Update, *, keep: bool, threaded: bool) -> None:
        """Deliver soon; without a thread, at the next `flush`."""
        with self._changed:
            if self._closed:
                return
            if self._waiting and not self._waiting[-1][1]:
                self._waiting.pop()
            self._waiting.append((update, keep))
            if threaded and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dragnoise updates", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the system gives no more threads
                    self._end()
                    log.exception("an update could not be delivered")

    def flush(self) -> None:
        """Deliver what is due, here and now."""
        while update := self._next():
            self._hand_over(update)

    def close(self) -> None:
        """Deliver nothing any more."""
        with self._changed:
            self._waiting.clear()
            self._closed = True

    def _work(self) -> None:
        try:
            while (update := self._await()) is not None:
                try:
                    self._hand_over(update)
                except BaseException:
                    log.exception("an update could not be delivered")
        finally:
            with self._changed:
                if self._thread is threading.current_thread():  # an error came through
                    self._end()

    def _await(self) -> Update | None:
        """Wait for the next update to be due and return it; without one, end the thread and return None."""
        with self._changed:
            while self._waiting and not (self._waiting[0][1] or time.monotonic() >= self._due):
                self._changed.wait(max(self._due - time.monotonic(), 0.001))
            if not self._waiting:
                self._end()
                return None
            return self._waiting.popleft()[0]

    def _end(self) -> None:
        """Note the end of the thread; updates not delivered yet are dropped."""
        self._waiting.clear()
        self._thread = None
        self._changed.notify_all()

    def _next(self) -> Update | None:
        with self._changed:
            if self._waiting and (self._waiting[0][1] or time.monotonic() >= self._due):
                return self._waiting.popleft()[0]
            return None

    def _hand_over(self, update: Update) -> None:
        try:
            self._deliver(update)
        finally:
            self._due = time.monotonic() + INTERVAL
