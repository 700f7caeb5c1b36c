"""Keys made of objects: equality by identity where comparing contents would be slow or impossible."""

from __future__ import annotations

from typing import Any


class Identity:
    """An object as part of a key: equal to itself alone, and kept alive, so that its id is not used again."""

    def __init__(self, thing: object) -> None:
        self._thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other._thing is self._thing

    def __hash__(self) -> int:
        return id(self._thing)


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Are two keys the same: each part the very same object, or an equal number, text or tuple of them?"""
    return all(a is b or (isinstance(a, str | int | tuple) and type(a) is type(b) and a == b)
               for a, b in zip(one, other, strict=True))  # fmt: skip
