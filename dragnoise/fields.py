"""Metadata of a config's fields: meaning, unit, range, and what a change makes obsolete."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dragnoise.validation import as_integer, as_number

Forgets = Literal["inversion", "optimisation", "editor", "nothing"]
"""What a change makes obsolete: the inversion and all after it; the iterations; what the editor computed once."""


@dataclass(frozen=True)
class FieldInfo:
    """Metadata of one `DragConfig` field.

    meaning: one sentence for documentation and user interface.  group: the heading it stands under.
    unit: empty for a plain number.  low, high, above: the range; `above` excludes `low` itself.
    choices: the allowed words.  integer, optional: an int; may it be None.
    forgets: what a change makes obsolete.  editors: the editors that read it, which others refuse; empty for all.
    unread_by: the editors that pay no heed to it, and do not refuse it either.
    """

    meaning: str
    group: str
    unit: str = ""
    low: float = 0
    high: float = math.inf
    above: bool = False
    choices: tuple[str, ...] = ()
    integer: bool = False
    optional: bool = False
    forgets: Forgets = "nothing"
    editors: tuple[str, ...] = ()
    unread_by: tuple[str, ...] = ()

    def is_read_by(self, editor: str) -> bool:
        """Does an editor of this name read it?"""
        return editor in self.editors if self.editors else editor not in self.unread_by

    @property
    def range(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return ", ".join(f'"{choice}"' for choice in self.choices)
        least = f"> {self.low:g}" if self.above else f">= {self.low:g}"
        if math.isinf(self.high):
            return least
        high = "2**63 - 1" if self.high > 2**53 else f"{self.high:g}"
        return f"{least} and <= {high}" if self.above else f"{self.low:g}..{high}"


def integer(default: int | None, low: int, high: int, group: str, meaning: str, **more: Any) -> Any:
    info = FieldInfo(meaning, group, low=low, high=high, integer=True, optional=default is None, **more)
    return dataclasses.field(default=default, metadata={"info": info})


def number(default: float, high: float, group: str, meaning: str, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"info": FieldInfo(meaning, group, high=high, **more)})


def choice(default: str, allowed: Any, group: str, meaning: str, **more: Any) -> Any:
    info = FieldInfo(meaning, group, choices=get_args(allowed) or tuple(allowed), **more)
    return dataclasses.field(default=default, metadata={"info": info})


def checked(name: str, value: Any, info: FieldInfo) -> int | float:
    """The number as int or float (numpy's numbers cannot be written to a file), or ValueError."""
    if info.integer:
        return as_integer(name, value, int(info.low), int(info.high))
    return as_number(name, value, info.low, info.high, above=info.above)
