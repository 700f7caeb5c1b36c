"""Typed reading of JSON: parsed values into frozen dataclasses, strictly by the dataclasses' type hints."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from dragnoise.validation import as_float

T = TypeVar("T")


class Broken(ValueError):
    """A file's content is invalid; the message is a clause for use within a sentence."""


@dataclass(frozen=True)
class Range:
    """Lowest and highest allowed value, for `Annotated[int, Range(0)]`."""

    low: float = -math.inf
    high: float = math.inf


def loads(text: bytes, what: str) -> Any:
    """Parsed JSON without NaN and infinities; `what` is its name in errors.  Raises Broken or another ValueError."""
    try:
        return json.loads(text, parse_constant=functools.partial(_refuse_constant, what))
    except RecursionError:
        raise Broken(f"its {what} is nested too deeply") from None


def _refuse_constant(what: str, name: str) -> None:
    raise Broken(f"its {what} holds {name}")


def read(kind: type[T], value: Any, what: str) -> T:
    """An instance of a dataclass from a parsed JSON object; raises Broken, naming the field, for anything else.

    Fields may be str, bool, int, float, Any, Literal, Optional, fixed and variable tuples, Mapping[str, ...],
    dataclasses, and Annotated with a `Range`.  A field without a default must be there; an unknown one is refused.
    A ValueError or TypeError of the dataclass itself becomes Broken.
    """
    given = expect(dict, value, what)
    hints = _hints(cast(Any, kind))
    arguments = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in given:
            arguments[field.name] = _read(hints[field.name], given[field.name], f"{field.name} of {what}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Broken(f"{what} has no {field.name}")
    if unknown := sorted(set(given) - set(hints)):
        raise Broken(f"{what} has an unknown field {unknown[0]!r:.40}")
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise Broken(f"{what} cannot be ({error})") from None


def expect(kind: Any, value: Any, what: str) -> Any:
    """The value, if it is an instance of `kind`, and a bool only where one is asked for; otherwise raises Broken."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Broken(f"{what} is {value!r:.40}, which is no {getattr(kind, '__name__', 'number')}")
    return value


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _read(hint: Any, value: Any, what: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if hint is float:
        return _within(as_float(expect((int, float), value, what)), what)
    if hint in (str, bool, int):
        return expect(hint, value, what)
    if origin is Annotated:
        return _within(_read(args[0], value, what), what, args[1])
    if origin in (Union, UnionType):
        (inner,) = (arg for arg in args if arg is not NoneType)  # Optional is the only union that is read
        return None if value is None else _read(inner, value, what)
    if origin is Literal:
        if not isinstance(value, str | int) or value not in args:
            raise Broken(f"{what} is {value!r:.40}, not {' or '.join(map(repr, args))}")
        return value
    if origin is tuple:
        items = expect(list, value, what)
        inner = args[:1] * len(items) if args[1:] == (...,) else args
        if len(items) != len(inner):
            raise Broken(f"{what} has {len(items)} parts, not {len(inner)}")
        return tuple(_read(each, item, what) for each, item in zip(inner, items, strict=True))
    if origin is Mapping:
        return {key: _read(args[1], x, f"{key[:40]} of {what}") for key, x in expect(dict, value, what).items()}
    if dataclasses.is_dataclass(hint):
        return read(hint, value, what)  # type: ignore[arg-type]
    raise TypeError(f"no JSON is read as {hint!r}")


def _within(value: Any, what: str, limits: Range = Range()) -> Any:
    if value is not None and not (limits.low <= value <= limits.high and math.isfinite(as_float(value) or 0)):
        raise Broken(f"{what} is {value!r:.40}, which cannot be")
    return value
