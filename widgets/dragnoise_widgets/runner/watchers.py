"""Watchers: a set of weakly held objects that any thread may change while others iterate over it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from dragnoise_widgets.runner.updates import Update

T = TypeVar("T")


class Watchers(Generic[T]):
    """Holds its members weakly; iterating gives those that are alive at that moment.

    The members are a tuple that is replaced as a whole under a lock, so that an iteration under way, on any thread
    or in a finaliser, never sees it change.
    """

    def __init__(self) -> None:
        self._members: tuple[weakref.ref[T], ...] = ()
        self._lock = threading.RLock()

    def add(self, member: T) -> None:
        with self._lock:
            self._members = (*self._others(member), weakref.ref(member))

    def discard(self, member: T) -> None:
        with self._lock:
            self._members = self._others(member)

    def __iter__(self) -> Iterator[T]:
        return iter([member for ref in self._members if (member := ref()) is not None])

    def __len__(self) -> int:
        return sum(ref() is not None for ref in self._members)

    def _others(self, member: T) -> tuple[weakref.ref[T], ...]:
        return tuple([ref for ref in self._members if ref() is not None and ref() is not member])


class Receiver(Protocol):
    """Receives updates; a `Runner`."""

    def deliver(self, update: Update) -> None: ...
