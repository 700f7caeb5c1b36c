"""Branches: the sessions that a session was branched from and that were branched from it."""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Generic, TypeVar

S = TypeVar("S", bound=Any)


class Branches(Generic[S]):
    """The parent and children of a session in the tree of branches, as weak references."""

    def __init__(self, parent: S | None = None) -> None:
        self._parent: weakref.ref[S] | None = None if parent is None else weakref.ref(parent)
        self._children: tuple[weakref.ref[S], ...] = ()

    @property
    def parent(self) -> S | None:
        """The session that this one was branched from, as long as somebody holds it."""
        return self._parent() if self._parent else None

    @property
    def children(self) -> tuple[S, ...]:
        """The sessions branched from this one that somebody still holds, oldest first."""
        return tuple(child for ref in self._children if (child := ref()) is not None)

    def add(self, child: S) -> None:
        """Take up a new branch."""
        self._children = (*(ref for ref in self._children if ref()), weakref.ref(child))

    def free_name(self, name: str) -> str:
        """A name for the next branch that no child has: "main.1" of "main"."""
        taken = {child.name for child in self.children}
        return next(free for i in itertools.count(1) if (free := f"{name}.{i}") not in taken)
