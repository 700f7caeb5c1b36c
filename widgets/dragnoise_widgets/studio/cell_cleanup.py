"""Closing of the studios that an earlier run of the same notebook cell made."""

from __future__ import annotations

import weakref
from typing import Protocol


class Closable(Protocol):
    """A studio."""

    def close(self) -> None: ...


_studios: weakref.WeakKeyDictionary[Closable, tuple[str, str]] = weakref.WeakKeyDictionary()
"""Studio -> id of the notebook cell that made it, and id of that run of the cell."""


def close_previous(studio: Closable) -> None:
    """Close studios from earlier runs of this cell, which are not visible but would keep working."""
    cell, run = _here()
    if cell:
        for other in [other for other, (c, r) in _studios.items() if c == cell and r != run]:
            del _studios[other]
            other.close()
        _studios[studio] = cell, run


def _here() -> tuple[str, str]:
    """Id of the cell being run and id of this run, "" where the notebook does not say."""
    try:
        from IPython import get_ipython

        parent = get_ipython().kernel.get_parent("shell")
        return str(parent["metadata"].get("cellId", "")), str(parent["header"]["msg_id"])
    except (ImportError, AttributeError, KeyError, TypeError, LookupError):  # no notebook, or an old kernel
        return "", ""
