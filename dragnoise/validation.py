"""Argument validation, and short texts of values and errors for messages."""

from __future__ import annotations

import math
import os
import re
from numbers import Integral, Real
from pathlib import Path
from typing import Any

LONGEST = 2**14
"""Largest side of a picture in pixels, so that a mistyped number does not use up the memory."""


def shown(value: object) -> str:
    """The repr of a value on one line of at most 80 characters, without addresses in memory, for error messages."""
    try:
        text = repr(value)
    except Exception:  # integers of thousands of digits, and classes whose __repr__ fails
        text = f"a {type(value).__name__}"
    return _without_addresses(" ".join(line.strip() for line in text.splitlines()))[:80]


def said(error: BaseException) -> str:
    """The message of another library's error on one line of at most 200 characters, to be quoted in brackets.

    The name of the error's class when the message is empty.
    """
    text = _without_addresses(" ".join(str(error).split()))[:200].rstrip(".")
    return text or type(error).__name__


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def as_float(value: object) -> float | None:
    """A real number as a float, infinite where a float overflows; None if `value` is not a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):  # numpy's bool is not a Real
        return None
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf


def as_number(name: str, value: object, low: float = 0, high: float = math.inf, *, above: bool = False) -> float:
    """The finite real number `value` as a float.

    above: exclude `low` itself.  Raises ValueError with the argument's name outside low..high.
    """
    number = as_float(value)
    if number is None or not math.isfinite(number) or not low <= number <= high or (above and number == low):
        least = "" if math.isinf(low) else f" above {low:g}" if above else f" of at least {low:g}"
        most = "" if math.isinf(high) else f" and at most {high:g}"
        raise ValueError(f"{name}={shown(value)} must be a finite number{least}{most}.")
    return number


def as_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """The integer `value`, of Python or numpy, as an int; raises ValueError with its name outside low..high."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name}={shown(value)} must be an integer of at least {low}.")
    if high is not None and int(value) > high:
        raise ValueError(f"{name}={shown(value)} must be an integer of at most {high}.")
    return int(value)


def as_text(what: str, value: object) -> str:
    """`value` if it is a str; raises TypeError that begins with `what`, such as "the prompt"."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, not {shown(value)}.")
    return value


def is_one_of(value: object, allowed: tuple[str, ...]) -> bool:
    """Is it one of these words?  False for anything but a str, also for arrays, whose == is not a bool."""
    return isinstance(value, str) and value in allowed


def as_path(path: object, *, name: str = "path", what: str = "a file, such as 'edit.drag'") -> Path:
    """A str or Path as a Path with "~" expanded; it need not exist.

    name, what: the argument's name and what the path leads to, for the error message.  Raises TypeError
    if `path` is not a str or Path, ValueError if it is empty or cannot be a path, and OSError if the
    system refuses to look for it, such as for a name that is too long.
    """
    if not isinstance(path, str | Path):
        raise TypeError(f"{name} must be the path of {what}, not {shown(path)}.")
    if not str(path).strip() or "\0" in str(path):
        raise ValueError(f"{name} must be the path of {what}, not {shown(str(path))}.")
    try:
        os.fsencode(path)
        found = Path(path).expanduser()
        found.exists()
    except (UnicodeError, RuntimeError):
        raise ValueError(f"{name}={shown(str(path))} names no place here; give the path of {what}.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OSError(f"{name}={shown(str(path))} cannot be used ({reason}); give the path of {what}.") from error
    return found


def as_pair(value: Any) -> tuple[Any, Any]:
    """The two items of an ordered pair; raises TypeError or ValueError if it is not one, such as a set or a dict."""
    if isinstance(value, set | frozenset | dict | str | bytes):
        raise TypeError(f"{shown(value)} is not a pair.")
    first, second = value
    return first, second
