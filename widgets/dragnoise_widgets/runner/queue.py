"""The commands that wait for a session's worker: tasks in their order, and calls, which come between units of work."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from dragnoise_widgets.runner.commands import Call, Task
from dragnoise_widgets.runner.stages import Options

log = logging.getLogger(__name__)

RECENT = 100
"""Commands that are remembered."""


@dataclass(frozen=True, eq=False)
class Queued:
    """A task that waits.  calls: how many calls were made before it."""

    task: Task
    options: Options
    calls: int


class CommandQueue:
    """Guarded by the lock of the worker whose it is.

    tasks: those that wait; a task begins after the calls that were made before it.  recent: all commands, those that
    act at once too, the newest last.
    """

    def __init__(self) -> None:
        self.tasks: deque[Queued] = deque()
        self.recent: deque[Any] = deque(maxlen=RECENT)
        self._calls: deque[tuple[Call, Future]] = deque()
        self._made = self._taken = 0

    def __bool__(self) -> bool:
        return bool(self.tasks or self._calls)

    @property
    def calls(self) -> int:
        """How many calls wait."""
        return len(self._calls)

    @property
    def calls_first(self) -> bool:
        """Does the next task wait for a call made before it?"""
        return bool(self.tasks) and self.tasks[0].calls > self._taken

    def note(self, session: object, command: Any) -> None:
        """Remember a command that is put for a session, and log it."""
        self.recent.append(command)
        log.debug("%r: %r", session, command)

    def put(self, task: Task, options: Options) -> None:
        self.tasks.append(Queued(task, options, self._made))

    def call(self, call: Call) -> Future:
        future: Future = Future()
        self._calls.append((call, future))
        self._made += 1
        return future

    def next_task(self) -> Queued | None:
        """Take the next task out, None if there is none."""
        return self.tasks.popleft() if self.tasks else None

    def next_call(self) -> tuple[Call, Future]:
        """Take the next call out; IndexError if there is none."""
        taken = self._calls.popleft()
        self._taken += 1
        return taken

    def give_up(self) -> None:
        """Drop all tasks and cancel all calls, when the worker has ended."""
        self.tasks.clear()
        while self._calls:
            self.next_call()[1].cancel()
