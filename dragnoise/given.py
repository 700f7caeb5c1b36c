"""What is given by a caller, whatever it is: how errors show it, and the checks that several entries share."""

from __future__ import annotations

import math
import os
from numbers import Integral, Real
from pathlib import Path

LONGEST = 2**14
"""Sides of pictures in pixels at most, so that a slip of the finger is not a computer without memory."""


def shown(value: object) -> str:
    """A value on one line of at most 80 characters, also one that cannot be shown, for the sentence of an error."""
    try:
        text = repr(value)
    except Exception:  # integers of thousands of digits, and whatever a class of somebody's does
        text = f"a {type(value).__name__}"
    return " ".join(line.strip() for line in text.splitlines())[:80]


def said(error: BaseException) -> str:
    """What somebody else's error says, on one line of at most 200 characters, to stand in brackets in a sentence.

    Its kind where it says nothing, as a MemoryError does.
    """
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def as_float(value: object) -> float | None:
    """A real number as a float, infinite beyond what one can hold; None for what is no real number."""
    if isinstance(value, bool) or not isinstance(value, Real):  # numpy's bool is none
        return None
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf


def as_number(name: str, value: object, low: float = 0, high: float = math.inf, *, above: bool = False) -> float:
    """The finite real number `value` as a float; raises ValueError, naming it, outside low..high.

    above: may it not be `low` itself either?
    """
    number = as_float(value)
    if number is None or not math.isfinite(number) or not low <= number <= high or (above and number == low):
        least = "" if math.isinf(low) else f" above {low:g}" if above else f" of at least {low:g}"
        most = "" if math.isinf(high) else f" and at most {high:g}"
        raise ValueError(f"{name}={shown(value)} must be a finite number{least}{most}.")
    return number


def as_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """The whole number `value`, numpy's too, as an int; raises ValueError, naming it, outside low..high."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name}={shown(value)} must be an integer of at least {low}.")
    if high is not None and int(value) > high:
        raise ValueError(f"{name}={shown(value)} must be an integer of at most {high}.")
    return int(value)


def as_text(what: str, value: object) -> str:
    """A str; raises TypeError, naming what it ought to be, such as "the prompt"."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, not {shown(value)}.")
    return value


def is_one_of(value: object, allowed: tuple[str, ...]) -> bool:
    """Is it one of these words?  Asks nothing of a value that compares in its own way, such as an array."""
    return isinstance(value, str) and value in allowed


def as_path(path: object, *, name: str = "path", what: str = "a file, such as 'edit.drag'") -> Path:
    """A path that the system can look for, "~" expanded.

    name, what: of the argument, and what it is the path of, for the sentence.  Raises TypeError or
    ValueError for what is no path, OSError for one that cannot even be looked for.
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
