"""Fields of JSON, believed only when they are of the type that is asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dragnoise.given import as_float


class Broken(ValueError):
    """What is wrong with a file, as a part of a sentence."""


class Fields:
    """A JSON object whose fields are asked for by type; raises Broken, naming object and field, for any other."""

    def __init__(self, given: Any, what: str) -> None:
        self.given, self.what = of_kind(dict, given, what), what

    def any(self, name: str) -> Any:
        if name not in self.given:
            raise Broken(f"{self.what} has no {name}")
        return self.given[name]

    def text(self, name: str) -> str:
        return of_kind(str, self.any(name), f"{name} of {self.what}")

    def flag(self, name: str) -> bool:
        return of_kind(bool, self.any(name), f"{name} of {self.what}")

    def many(self, name: str) -> Any:
        return of_kind(list, self.any(name), f"{name} of {self.what}")

    def fields(self, name: str) -> Fields:
        return Fields(self.any(name), f"{name} of {self.what}")

    def number(self, name: str, low: float = -math.inf) -> float:
        return float(self._within(name, of_kind((int, float), self.any(name), f"{name} of {self.what}"), low, math.inf))

    def integer(self, name: str, low: float = -math.inf, high: float = math.inf) -> int:
        return self._within(name, of_kind(int, self.any(name), f"{name} of {self.what}"), low, high)

    def chosen(self, name: str, things: list[Any]) -> Any:
        return things[self.integer(name, 0, len(things) - 1)]

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Finite float64 of this shape, read-only."""
        try:
            array = np.array(self.many(name), np.float64).reshape(-1, *shape[1:])
        except (ValueError, TypeError, OverflowError):
            raise Broken(f"{name} of {self.what} is no array of shape {shape}") from None
        if array.shape != shape or not np.isfinite(array).all():
            raise Broken(f"{name} of {self.what} is no finite array of shape {shape}")
        array.flags.writeable = False
        return array

    def _within(self, name: str, value: Any, low: float, high: float) -> Any:
        if not (low <= value <= high and math.isfinite(as_float(value) or 0)):
            raise Broken(f"{name} of {self.what} is {value!r:.40}, which cannot be")
        return value


def of_kind(kind: Any, value: Any, what: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Broken(f"{what} is {value!r:.40}, which is no {getattr(kind, '__name__', 'number')}")
    return value
