"""The worker thread of a session: carries out the commands of its queue, one unit of work at a time."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from dragnoise_widgets.formatting import LastError
from dragnoise_widgets.runner import stages
from dragnoise_widgets.runner.commands import Call, Pause, Stop, Task
from dragnoise_widgets.runner.openmp import release_idle_threads
from dragnoise_widgets.runner.queue import CommandQueue, Queued
from dragnoise_widgets.runner.stages import Options, PausedStages, Progress, Stage
from dragnoise_widgets.runner.status_publisher import StatusPublisher
from dragnoise_widgets.runner.updates import Ended, Update
from dragnoise_widgets.runner.watchers import Receiver, Watchers

if TYPE_CHECKING:
    from dragnoise.session.history import History
    from dragnoise.session.session import DragSession

log = logging.getLogger(__name__)


class Worker:
    """Owns a session's generators; everything that changes the session passes through here.

    Its thread lives as long as there is work, and holds worker and session only then.  Get it with
    `worker_of(session)`.
    """

    def __init__(self, session: DragSession) -> None:
        self.session = session
        self.watchers: Watchers[Receiver] = Watchers()  # when all are gone, work ends
        self.changed = threading.Condition()  # guards everything below
        self.queue = CommandQueue()
        self.publisher = StatusPublisher(session.history, self._deliver, self.changed)
        self.failed = LastError()
        self._kept = PausedStages()
        self._current: Queued | None = None
        self._wish: Literal["", "pause", "stop"] = ""
        self._rest: Literal["idle", "paused"] = "idle"
        self._thread: threading.Thread | None = None  # that works: our own, or an inline caller's
        self._preview_wanted = False

    def put(self, task: Task, options: Options) -> None:
        """Do a task when those before it are done."""
        with self.changed:
            self.queue.note(self.session, task)
            self.queue.put(task, options)
        self._start()

    def call(self, call: Call) -> Future:
        """Do something short between two units of work."""
        with self.changed:
            self.queue.note(self.session, call)
            future = self.queue.call(call)
        self._start()
        return future

    def pause(self) -> None:
        """Pause after the unit of work under way; drops the waiting tasks."""
        with self.changed:
            self.queue.note(self.session, Pause())
            waited = bool(self.queue.tasks)
            self.queue.tasks.clear()
            self._preview_wanted = False
            if self._current is not None and not self._wish:
                self._wish = "pause"
                self.publisher.tell(message="pausing", pausing=True)
            elif self._current is None and waited:
                self._rest = "paused"
                self.publisher.tell(keep=True, state="paused", message="paused", ended="pause")
        self.publisher.flush()

    def stop(self) -> None:
        """End after the unit of work under way; drops waiting tasks and what was paused."""
        with self.changed:
            self.queue.note(self.session, Stop())
            self.queue.tasks.clear()
            self._preview_wanted = False
            if self._current is not None:
                self._wish = "stop"
                self.publisher.tell(state="stopping", message="stopping", pausing=False)
            else:
                self._kept.drop()
                self._rest = "idle"
                self.publisher.tell(keep=True, state="idle", message="stopped", ended="stop")
        self.publisher.flush()

    @property
    def settled(self) -> bool:
        """Is everything done and delivered?"""
        return self._thread is None and not self.queue and self.publisher.updates.settled

    @property
    def is_here(self) -> bool:
        """Is this called by the work itself or by a watcher?"""
        return self._thread is threading.current_thread() or self.publisher.updates.is_here

    def leave(self) -> threading.Thread | None:
        """Stop for good without updates, at the end of the process; returns the thread to join, or None."""
        with self.changed:
            self.publisher.updates.close()
            self.stop()
            return self._thread

    # ---- the work ----------------------------------------------------------------------------

    def _start(self) -> None:
        """Make sure that the work is being done: by the worker thread, or inline by the caller."""
        with self.changed:
            if self._thread is not None:  # the working thread will find the new command
                if self.publisher.inline and not self.is_here:
                    self.changed.wait_for(lambda: self.settled)
                return
            if not self.publisher.inline:
                release_idle_threads()  # this thread's computations are done, and its idle threads slow the worker's
                self._thread = threading.Thread(target=self._work, name="dragnoise worker", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the system gives no more threads
                    self._give_up()
                    raise
                return
            self._thread = threading.current_thread()
        self._work()

    def _work(self) -> None:
        """Work until nothing is left.  However this ends, no caller is left waiting for work that is not done."""
        try:
            while self._next_thing_or_log():
                pass
        finally:
            with self.changed:
                if self._thread is threading.current_thread():  # an error came through
                    self._give_up()

    def _give_up(self) -> None:
        """Drop all waiting commands, as no thread works any more."""
        with self.changed:
            self._thread = self._current = None
            self.queue.give_up()
            self._preview_wanted = False
            self.changed.notify_all()

    def _next_thing_or_log(self) -> bool:
        """On a thread of our own an error that nothing else has caught is logged, and the work goes on."""
        try:
            return self._next_thing()
        except BaseException as error:
            if self.publisher.inline:  # the caller's interrupt
                raise
            log.exception("the worker of %r failed", self.session)
            with self.changed:
                self._current, self._wish, self._preview_wanted = None, "", False
                self.publisher.tell(keep=True, state="error", task="", message=self.failed.keep(error), ended="error")
            return True

    def _next_thing(self) -> bool:
        """Do calls first, then a task, then a preview; False, and the work ends, when there is none."""
        self._do_calls()
        with self.changed:
            if self.queue.calls_first:
                return True
            queued = self._current = self.queue.next_task()
            preview = self._preview_wanted
            if queued is None and not preview and not self.queue.calls:
                self._thread = None  # under the same lock as the look at the queues, so that no command is missed
                self.changed.notify_all()
                return False
        if queued is not None:
            self._perform(queued)
        elif preview:
            self._preview()
        return True

    def _perform(self, queued: Queued) -> None:
        """One task from its start to its end, a pause or an error."""
        task = queued.task
        stage = task.stage(self.session, self._kept, queued.options)
        self.publisher.begin(state=self._rest if task.aside else "running", aside=task.aside)
        ended: Ended = "error"
        message = ""
        try:
            ended, message = self._drive(stage, task)
        except Exception as error:
            message = self.failed.keep(error)
        except BaseException as error:  # inline, the caller's interrupt
            ended, message = "pause", self.failed.keep(error)
            raise
        finally:
            stage.close()
            self._end(queued, ended, message)

    def _drive(self, stage: Stage, task: Task) -> tuple[Ended, str]:
        while True:
            try:
                progress = next(stage)
            except StopIteration as done:
                return "done", done.value
            self._between(progress)
            if self._wish:
                return self._wish, ""
            if not self.watchers:
                return "stop", ""
            if task.aside and self.queue.tasks:
                return "done", ""
            if progress.hold:
                return "breakpoint", progress.hold

    def _end(self, queued: Queued, ended: Ended, message: str) -> None:
        task = queued.task
        with self.changed:
            self._current, self._wish = None, ""
            if ended == "stop":
                self._kept.drop()
            if task.aside:
                self._kept.drop("rendering")  # of something else, whoever comes next
            if ended in ("pause", "breakpoint") and not task.aside:
                self._rest = "paused"
            elif ended == "stop" or (ended == "done" and task.ends):
                self._rest = "idle"
            if ended == "breakpoint" or not self.watchers:
                self.queue.tasks.clear()
            self._preview_wanted = bool(queued.options.preview_every) and ended in ("done", "breakpoint", "pause")
            message = message or {"pause": "paused", "stop": "stopped"}.get(ended, "")
            looked = task.aside and ended in ("done", "pause")  # a background task keeps the last command's outcome
            self.publisher.rest(
                self.session.history,
                keep=not self.queue.tasks or ended == "error",
                state="error" if ended == "error" else self._rest,
                **({} if task.aside and not message else {"message": message}),
                **({} if looked else {"ended": ended}),
            )
        self.publisher.flush()

    def _preview(self) -> None:
        """The picture of where the session stands, while there is nothing else to do."""
        session, failed = self.session, dict[str, Any]()
        try:
            if session.state.inverted and self.publisher.shown(session.history) != len(session.history) - 1:
                for progress in stages.rendering(session, self._kept):
                    self._between(progress)
                    if self.queue.tasks or not self._preview_wanted or not self.watchers:
                        break
        except Exception as error:
            failed = {"state": "error", "message": self.failed.keep(error), "ended": "error"}
        with self.changed:
            self._preview_wanted = False
            self.publisher.rest(session.history, **failed)
        self.publisher.flush()

    def _between(self, progress: Progress) -> None:
        """Between two units of work: publish the progress and do the waiting calls."""
        self.publisher.note(progress, self.session.history)
        self.publisher.flush()
        self._do_calls()

    def _do_calls(self) -> None:
        for _ in range(self.queue.calls):  # calls that arrive meanwhile wait for the next round, so that work goes on
            call, future = self.queue.next_call()
            if not future.set_running_or_notify_cancel():
                continue
            before = self.session.history
            try:
                result = call.apply(self.session)
            except BaseException as error:
                failed = {} if self._current else {"state": "error", "ended": "error"}
                self._called({"message": self.failed.keep(error), **failed})
                future.set_exception(error)
                if not isinstance(error, Exception) and self.publisher.inline:
                    raise
            else:
                self._called(self._mended(call, before))
                future.set_result(result)

    def _mended(self, call: Call, before: History) -> dict[str, Any]:
        """Status changes after a call: an error is over, and so is a message about another history."""
        status, history = self.publisher.update.status, self.session.history
        if self._current is not None:
            return {}
        another = len(history) != len(before) or not stages.stands(history, before[-1] if before else None)
        if another and self._rest == "paused" and not self._kept.stages:
            self._rest = "idle"  # the paused stage is gone
        if another or (status.state == "error" and not call.aside):
            state = "error" if status.state == "error" and call.aside else self._rest
            return {"message": "", "state": state, "ended": ""}
        return {}

    def _called(self, changes: dict[str, Any]) -> None:
        """Publish what a call has changed."""
        self.publisher.tell(self.session.history, keep=self._current is None or bool(changes), **changes)
        self.publisher.flush()

    def _deliver(self, update: Update) -> None:
        for runner in self.watchers:
            runner.deliver(update)
