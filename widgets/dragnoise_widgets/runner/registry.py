"""Registry of the sessions' workers, and their shutdown at the end of the process."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from typing import TYPE_CHECKING

from dragnoise_widgets.runner.openmp import limit_threads
from dragnoise_widgets.runner.worker import Worker

if TYPE_CHECKING:
    from dragnoise.session.session import DragSession

SHUTDOWN_TIMEOUT = 5.0
"""Longest time in seconds that process exit waits for units of work under way."""

_workers: weakref.WeakKeyDictionary[DragSession, weakref.ref[Worker]] = weakref.WeakKeyDictionary()
_registry = threading.Lock()


def worker_of(session: DragSession) -> Worker:
    """The session's worker, shared by all who ask for it as long as one of them holds it."""
    with _registry:
        known = _workers.get(session)
        worker = known() if known is not None else None
        if worker is None:
            limit_threads()
            worker = Worker(session)
            _workers[session] = weakref.ref(worker)
        return worker


@atexit.register
def _shutdown() -> None:
    """Stop all workers: no thread may be inside torch when the interpreter exits."""
    with _registry:
        workers = [worker for known in _workers.values() if (worker := known()) is not None]
    until = time.monotonic() + SHUTDOWN_TIMEOUT
    for thread in [worker.leave() for worker in workers]:
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(until - time.monotonic(), 0))
