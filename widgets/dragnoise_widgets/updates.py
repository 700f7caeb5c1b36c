"""What a runner tells those who watch it: frozen updates, a few a second, the latest wins."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from dragnoise.history import History

State = Literal["idle", "running", "paused", "stopping", "error"]
TaskName = Literal["", "lora", "inverting", "optimising", "rendering"]

INTERVAL = 0.1
"""Seconds between two updates at least, but for the state that a command leaves, which comes at once."""


@dataclass(frozen=True)
class Status:
    """Where a runner stands.

    state: "idle"; "running"; "paused" by `pause()` or a breakpoint, `run()` goes on; "stopping" until
        the step under way is done; "error", the next command works as ever.
    task: what is being done, "" if nothing.  Beside "idle" and "paused" it may be "rendering": the
        picture of where the session stands, made while there is nothing else to do.
    done, total: steps of the task; both 0 without a task.  "optimising" counts the session's
        iterations up to `max_iterations`, or those that `step(n)` was asked for.
    seconds_left: an estimate for the task; None while nothing is known.  An optimisation may end
        earlier, when the anchors arrive.
    message: one short line for people, may be empty.
    history_length: `len(session.history)`.
    """

    state: State = "idle"
    task: TaskName = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    message: str = ""
    history_length: int = 0


@dataclass(frozen=True, eq=False)
class Update:
    """Everything there is to show, immutable and complete: who missed the ones before has missed nothing.

    status: see `Status`.
    history: the session's snapshots, `history[k]` after iteration k.
    picture: the last picture made by `render()` or as a preview, None before any.
    picture_iteration: the iteration it shows; None when that is no longer in the history.
    step: what the session's generator yielded last: a LoraStep, DDIMState or Snapshot; None before any.
    """

    status: Status = Status()
    history: History = field(default_factory=History)
    picture: Image.Image | None = None
    picture_iteration: int | None = None
    step: Any = None


class Pace:
    """Estimates how long a task will go on, from its last steps."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=20)
        self._task: TaskName = ""

    def seconds_left(self, task: TaskName, done: int, total: int) -> float | None:
        """Note that `done` steps of `total` are done now."""
        if task != self._task or (self._marks and done < self._marks[-1][1]):
            self._marks.clear()
        self._task = task
        self._marks.append((time.perf_counter(), done))
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return (total - done) * (now - began) / (last - first) if last > first else None


class Publisher:
    """Delivers updates on a thread of its own, so that slow watchers do not hold up the work.

    deliver: called with one update at a time; must not raise.  changed: the condition that guards
    this object, notified when everything has been delivered.

    Of updates that come too fast only the latest is kept; one put with `last=True` is never dropped.
    """

    def __init__(self, deliver: Callable[[Update], None], changed: threading.Condition) -> None:
        self._deliver = deliver
        self._changed = changed
        self._waiting: deque[tuple[Update, bool]] = deque()
        self._thread: threading.Thread | None = None
        self._due = 0.0

    @property
    def settled(self) -> bool:
        """Has everything been delivered?"""
        return not self._waiting and self._thread is None

    @property
    def is_here(self) -> bool:
        """Is this called by a watcher, on the delivering thread?"""
        return self._thread is threading.current_thread()

    def put(self, update: Update, *, last: bool, threaded: bool) -> None:
        """Deliver soon; without a thread, at the next `flush`."""
        with self._changed:
            if self._waiting and not self._waiting[-1][1]:
                self._waiting.pop()
            self._waiting.append((update, last))
            if threaded and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dragnoise updates", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Deliver what is due, here and now."""
        while update := self._next():
            self._hand_over(update)

    def clear(self) -> None:
        """Forget what waits."""
        with self._changed:
            self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._waiting and not (self._waiting[0][1] or time.monotonic() >= self._due):
                    self._changed.wait(max(self._due - time.monotonic(), 0.001))
                if not self._waiting:
                    self._thread = None
                    self._changed.notify_all()
                    return
                update = self._waiting.popleft()[0]
            self._hand_over(update)

    def _next(self) -> Update | None:
        with self._changed:
            if self._waiting and (self._waiting[0][1] or time.monotonic() >= self._due):
                return self._waiting.popleft()[0]
            return None

    def _hand_over(self, update: Update) -> None:
        self._deliver(update)
        self._due = time.monotonic() + INTERVAL
