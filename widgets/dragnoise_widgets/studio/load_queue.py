"""Model loads, one at a time in a single thread of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_EXECUTOR = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dragnoise library")


class LoadQueue:
    """The loads of one studio, done one after the other; one that is under way already is not begun again.

    inline: do each at once in the caller's thread.  changed: called when one begins and when one has ended.
    """

    def __init__(self, *, inline: bool, changed: Callable[[], Any]) -> None:
        self._inline, self._changed = inline, changed
        self._jobs: tuple[tuple[str, Any], ...] = ()  # name and distinguishing key of each load
        self._idle = threading.Condition()
        self._ending = 0  # finished jobs for which `changed` has not returned yet
        self.closed = False

    @property
    def under_way(self) -> str:
        """What is being loaded, "" for nothing."""
        jobs = self._jobs
        return jobs[0][0] if jobs else ""

    def begin(self, name: str, work: Callable[[], Any], *, of: Any = None) -> bool:
        """Do the work, which must not raise; returns False and does nothing if the same is under way.

        name: what is loaded, in words.  of: what tells it from other work of this name.
        """
        job = name, of
        with self._idle:
            if self.closed or job in self._jobs:
                return False
            self._jobs = (*self._jobs, job)
        self._changed()
        if self._inline:
            self._do(job, work)
        else:
            _EXECUTOR.submit(self._do, job, work)
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is being loaded and that is shown; False when that took longer than `timeout` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._jobs and not self._ending, timeout)

    def close(self) -> None:
        """Accept no more loads, and drop those that wait."""
        self.closed = True

    def _do(self, job: tuple[str, Any], work: Callable[[], Any]) -> None:
        try:
            if not self.closed:
                work()
        finally:
            with self._idle:
                self._jobs = tuple(other for other in self._jobs if other != job)
                self._ending += 1
            try:
                if not self.closed:
                    self._changed()
            finally:
                with self._idle:
                    self._ending -= 1
                    self._idle.notify_all()
