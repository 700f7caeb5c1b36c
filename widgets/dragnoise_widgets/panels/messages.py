"""The studio's messages: the status line under the buttons, and the log with every traceback."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from dragnoise_widgets.formatting import error_message
from dragnoise_widgets.panels.log import Log
from dragnoise_widgets.runner.status_line import StatusInputs, as_html, state_word


class Line(Protocol):
    """Shows the status line."""

    def say(self, line: str) -> None: ...


class Messages:
    """The status line and the log.

    announce: called with the state and what was done last, or an error, for screen readers; and with the latter two
        alone, for the place where something was pressed.
    error: what a handler ran into last.  note: what was done last.  Both are "" as soon as something else is done.
    """

    def __init__(
        self, journal: Log, line: Line, announce: Callable[[str, str], Any] = lambda said, answer: None
    ) -> None:
        self._announce = announce
        self.error = self.note = ""
        self._journal, self._line = journal, line
        self._reported = self._seen = "", ""  # the worker's last error and its traceback, and the last one done with
        self._now = StatusInputs(has_session=False)
        self._parts: tuple[str, ...] = ()
        self._lock = threading.RLock()

    def guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it; what it raises is told and not passed on, for ipywidgets would lose it."""
        self.clear()
        try:
            return function(*arguments)
        except Exception as error:
            return self.failed(error)

    def clear(self) -> None:
        """Clear the last error and note, when another action begins."""
        with self._lock:
            said = self.error or self.note or self._seen is not self._reported
            self.error = self.note = ""
            self._seen = self._reported
            if said:
                self._show()

    def tell(self, message: str) -> None:
        """Tell what was done."""
        self._journal.note(message)
        with self._lock:
            self.note = message
            self._show()

    def note_in_log(self, message: str) -> None:
        """Write a line into the log alone."""
        self._journal.note(message)

    def failed(self, error: BaseException) -> None:
        """Tell of an error, with its traceback in the log."""
        message = error_message(error)
        self._journal.error(message, error)
        self._failed(message)

    def refused(self, message: str) -> None:
        """Show an error message; if it is not one of dragnoise's own sentences, its traceback goes into the log too."""
        error = sys.exc_info()[1]
        if error is None or message.endswith("."):
            self._journal.note(message)
        else:
            self._journal.error(message, error)
        self._failed(message)

    def failed_at_work(self, message: str, traceback: str) -> None:
        """Write an error of the worker into the log, once per occurrence."""
        with self._lock:
            told = self._reported
            fresh = bool(traceback) and (told[0] != message or told[1] is not traceback)  # the same may happen again
            if fresh:
                self._reported = message, traceback
        if fresh:
            self._journal.error(message, traceback)

    def begin(self, message: str, traceback: str) -> None:
        """Start with another session, whose last error counts as reported already."""
        with self._lock:
            self._reported = message, traceback
            self.clear()

    def stand(self, now: StatusInputs, *parts: str) -> None:
        """Show the state.  now.error: the worker's error.  parts: texts after the state, may be empty."""
        with self._lock:
            self._now, self._parts = now, parts
            self._show()

    def _failed(self, message: str) -> None:
        with self._lock:
            self.error = message
            self._show()

    def _show(self) -> None:
        at_work = "" if self._seen is self._reported else self._now.error
        error = at_work or self.error
        word = state_word(replace(self._now, error=error))
        self._announce(error or ". ".join(part for part in (str(word), self.note) if part), error or self.note)
        self._line.say(as_html(word, [*self._parts, self.note], error="" if word.kind == "bad" else error))
