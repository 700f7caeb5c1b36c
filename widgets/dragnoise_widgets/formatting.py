"""Exceptions as one-line messages, and numbers in few digits."""

from __future__ import annotations

import traceback


def error_message(error: BaseException) -> str:
    """The message of an error; if it is not a sentence of ours, preceded by the class name."""
    said = " ".join(str(error).split())
    return said if said.endswith(".") else f"{type(error).__name__}: {said}".rstrip(": ")


def format_number(value: float) -> str:
    """A number to four digits; from a thousand on without decimals, and up to ten million without an exponent."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


class LastError:
    """The last error that happened: its sentence, None if there was none, and its traceback."""

    def __init__(self) -> None:
        self.message: str | None = None
        self.traceback = ""

    def keep(self, error: BaseException) -> str:
        """Keep an error that is being handled, and say it in one line."""
        self.traceback = traceback.format_exc()
        self.message = error_message(error)
        return self.message
