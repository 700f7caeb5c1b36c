"""Runner: puts commands for a session, which its worker thread carries out while the notebook stays free."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from dragnoise.validation import as_float, as_integer, is_one_of, shown
from dragnoise_widgets.runner.commands import Apply, Call, Prepare, Render, Rewind, Run, Step, Task
from dragnoise_widgets.runner.registry import worker_of
from dragnoise_widgets.runner.stages import Breakpoint, Options, PreviewEvery
from dragnoise_widgets.runner.updates import State, Status, Update

if TYPE_CHECKING:
    from dragnoise.session.session import DragSession

__all__ = ["Runner", "State", "Status", "Update"]

log = logging.getLogger(__name__)


class Runner:
    """Puts commands for a session; one worker thread carries them out and tells how it goes.

    session: a `DragSession`; change it through `call` from now on.  inline: carry every command out at
    once in the caller's thread, for tests and places without threads.

    `prepare`, `step`, `run` and `render` return at once and are done one after the other; `pause`,
    `stop`, `call` and `rewind` act as soon as the iteration (inversion step, denoising step) under way
    is done.  None of them raises for what happens in the work: that is told in `status` and `error`,
    and the next command works as ever.

    Several runners of one session share one worker, and all of them hear of everything; the newest says
    whether it is inline.  When the last one is closed or forgotten, the work ends after the iteration
    under way: keep the runner as long as you want it to run.
    """

    def __init__(self, session: DragSession, *, inline: bool = False) -> None:
        if not hasattr(type(session), "optimize"):
            raise TypeError(f"a runner drives a DragSession, not {shown(session)}.")
        self.session = session
        self._options = Options()
        self._callbacks: list[Callable[[Update], None]] = []
        self._closed = False
        self._worker = worker_of(session)
        self._worker.publisher.inline = inline
        self._worker.watchers.add(self)

    def __repr__(self) -> str:
        return f"Runner({self.session!r}, {self.state})"

    # ---- commands ------------------------------------------------------------------------------

    def prepare(self, *, lora: Mapping[str, Any] | None = None) -> None:
        """Fit a LoRA if its arguments are given ({} for the defaults of `session.fit_lora`), then invert."""
        if lora is not None and not (isinstance(lora, Mapping) and all(isinstance(name, str) for name in lora)):
            raise TypeError(f"lora must be arguments of session.fit_lora by name, or None, not {shown(lora)}.")
        self._put(Prepare(None if lora is None else dict(lora)), self._options)

    def step(self, n: int = 1) -> None:
        """n >= 1 iterations, whatever the session's status; inverts first if needed."""
        self._put(Step(as_integer("n", n, 1)), self._options)

    def run(self) -> None:
        """Go on with what was paused, then iterate until every anchor has arrived or `max_iterations`."""
        self._put(Run(), self._options)

    def render(self, k: int | None = None, *, aside: bool = False) -> None:
        """The picture of iteration k, default where the session stands; it comes in `Update.picture`.

        aside: a background task, which changes no state and is cancelled by any other command.
        """
        self._put(Render(k, aside), Options())

    def aside(self, task: Task) -> None:
        """Do a background task: only while there is nothing else to do, and cancelled by any other command."""
        self._put(task, Options())

    def pause(self) -> None:
        """Hold after the iteration under way, and forget the commands that wait; `run()` goes on."""
        self._worker.pause()

    def stop(self) -> None:
        """End after the iteration under way, and forget what waits or was paused.

        The iterations done stay; an unfinished inversion is given up.
        """
        self._worker.stop()

    def rewind(self, k: int) -> Future[None]:
        """Go back to iteration k; a run under way goes on from there."""
        return self.do(Rewind(k))

    def call(self, function: Callable[[DragSession], Any], *, aside: bool = False) -> Future[Any]:
        """`function(session)` on the worker, between two iterations; the Future has what it returned or raised.

        This is how drags, mask and config are changed: `runner.call(lambda s: setattr(s, "drags", drags))`.
        A run under way goes on with the change.  aside: it only reads, so a state "error" remains.
        """
        if not callable(function):
            raise TypeError(f"call() takes a function of the session, not {shown(function)}.")
        return self.do(Apply(function, aside))

    def do(self, call: Call) -> Future[Any]:
        """One of the calls in `dragnoise_widgets.runner.commands`, such as `SetConfig({"lr": 0.02})`; as `call`."""
        self._require_open()
        return self._worker.call(call)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all work is done and all observers have been notified; False after the timeout.

        timeout: seconds, None for ever.  Interrupting the notebook's cell pauses the run.
        """
        worker, seconds = self._worker, checked_timeout(timeout)
        if worker.is_here:
            raise RuntimeError("wait() was called by the work it would wait for; call it from the notebook.")
        try:
            with worker.changed:
                return worker.changed.wait_for(lambda: worker.settled, seconds)
        except KeyboardInterrupt:
            self.pause()
            raise

    def close(self) -> None:
        """Leave the session; with its last runner gone, work ends after the iteration under way."""
        self._closed = True
        self._callbacks.clear()
        self._worker.watchers.discard(self)
        if not self._worker.watchers:
            self._worker.stop()

    # ---- where it stands -----------------------------------------------------------------------

    @property
    def state(self) -> State:
        """ "idle", "running", "paused", "stopping" or "error"."""
        return self.status.state

    @property
    def status(self) -> Status:
        """The state with its details, see `Status`."""
        return self._worker.publisher.update.status

    @property
    def latest(self) -> Update:
        """The newest update, delivered or not."""
        return self._worker.publisher.update

    @property
    def commands(self) -> tuple[Any, ...]:
        """The last commands that were put for this session, the newest last; see `runner.commands`."""
        return tuple(self._worker.queue.recent)

    @property
    def error(self) -> str | None:
        """The last error in one line, None if there was none; see also `traceback`."""
        return self._worker.failed.message

    @property
    def traceback(self) -> str:
        """The last error's traceback, "" if there was none."""
        return self._worker.failed.traceback

    def observe(self, callback: Callable[[Update], None]) -> Callable[[], None]:
        """Call `callback(update)` at most 10 times a second, and with the state that each command leaves.

        It is called on a thread of its own (inline: the caller's), one update at a time, and may put
        commands, but not `wait`.  Returns a function that ends it.
        """
        self._require_open()
        if not callable(callback):
            raise TypeError(f"observe() takes a function of an update, not {shown(callback)}.")
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    @property
    def breakpoints(self) -> list[Breakpoint]:
        """Asked after every iteration of this runner's `run` and `step`; see `dragnoise_widgets.runner.breakpoints`.

        Each is called with the history, and pauses by returning a reason (or just True).
        """
        return self._options.breakpoints

    @breakpoints.setter
    def breakpoints(self, breakpoints: list[Breakpoint]) -> None:
        self._options.breakpoints = list(breakpoints)

    @property
    def preview_every(self) -> PreviewEvery:
        """Render every N iterations of this runner's `run` and `step`, into `Update.picture`.

        0 is off; "auto" chooses N so that at most a quarter of the time goes into pictures; "end" renders none on the
        way.  Unless off, where a command ends is pictured too, once there is nothing else to do.
        """
        return self._options.preview_every

    @preview_every.setter
    def preview_every(self, every: PreviewEvery) -> None:
        number = isinstance(every, int) and not isinstance(every, bool) and every >= 0
        if not number and not is_one_of(every, ("auto", "end")):
            raise ValueError(
                f'preview_every={shown(every)} must be a number of iterations, 0 for none, "auto" or "end".'
            )
        self._options.preview_every = every

    @property
    def look(self) -> Callable[[DragSession], Any] | None:
        """Called with the session after every iteration of this runner's `run` and `step`, on the worker.

        An error in it is logged, and the run goes on.  See `dragnoise_widgets.export.quick_looks`.
        """
        return self._options.look

    @look.setter
    def look(self, look: Callable[[DragSession], Any] | None) -> None:
        if look is not None and not callable(look):
            raise TypeError(f"look must be a function of the session or None, not {shown(look)}.")
        self._options.look = look

    # ---- own -----------------------------------------------------------------------------------

    def deliver(self, update: Update) -> None:
        """Called by the worker: hand an update to the watchers, whose errors stay theirs."""
        for callback in list(self._callbacks):
            try:
                callback(update)
            except Exception:
                log.exception("%r failed on an update", callback)

    def _put(self, task: Task, options: Options) -> None:
        self._require_open()
        self._worker.put(task, options)

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this runner is closed; make a new one with Runner(session).")


def checked_timeout(timeout: Any) -> float | None:
    """Seconds to wait, None for ever; raises ValueError for anything else."""
    seconds = None if timeout is None else as_float(timeout)
    if timeout is not None and (seconds is None or not 0 <= seconds <= threading.TIMEOUT_MAX):
        raise ValueError(f"timeout={shown(timeout)} must be a number of seconds, or None to wait for ever.")
    return seconds
