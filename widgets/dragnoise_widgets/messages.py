"""What a studio says: a short line by the buttons, the whole story in the log, and the studio goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dragnoise_widgets.log import Log
from dragnoise_widgets.sentences import sentence
from dragnoise_widgets.transport import Transport


class Messages:
    """Tells in the log and under the buttons what was done and what went wrong.

    error: what a handler ran into last, note: what was done last; both "" as soon as something else is done.
    """

    def __init__(self, journal: Log, transport: Transport) -> None:
        self.error = self.note = ""
        self._journal, self._transport = journal, transport
        self._reported = self._seen = "", ""  # the worker's last error and its traceback, and the last one done with

    def guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it; what it raises is told and not passed on, for ipywidgets would lose it."""
        self.clear()
        try:
            return function(*arguments)
        except Exception as error:
            return self.failed(error)

    def clear(self) -> None:
        """What was said last is over."""
        self.error = self.note = ""
        self._seen = self._reported

    def tell(self, message: str) -> None:
        """Tell what was done."""
        self.note = message
        self._journal.note(message)
        self._transport.say(message)

    def failed(self, error: BaseException) -> None:
        """Tell of an error, with its traceback in the log."""
        self.error = sentence(error)
        self._journal.error(self.error, error)
        self._transport.say(self.error, error=True)

    def refused(self, message: str) -> None:
        """Tell of something wrong that has its sentence already; of one that is no sentence, all there is to know."""
        self.error, error = message, sys.exc_info()[1]
        if error is None or message.endswith("."):
            self._journal.note(message)
        else:
            self._journal.error(message, error)
        self._transport.say(message, error=True)

    def failed_at_work(self, message: str, traceback: str) -> None:
        """Write an error of the worker's into the log, once, however often it is told."""
        told = self._reported
        if traceback and (told[0] != message or told[1] is not traceback):  # the same may happen again
            self._reported = message, traceback
            self._journal.error(message, traceback)

    def begin(self, message: str, traceback: str) -> None:
        """Another session is shown from now on; what went wrong there last is no news."""
        self._reported = message, traceback
        self.clear()

    def stand(self, *parts: str, error: str = "") -> None:
        """Show the worker's error or a handler's, else where things stand, in parts that may be empty."""
        error = "" if self._seen is self._reported else error
        if error or self.error:
            self._transport.say(error or self.error, error=True)
        else:
            self._transport.say(" · ".join(part for part in dict.fromkeys([*parts, self.note]) if part))
