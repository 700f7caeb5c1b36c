"""Former attribute names of `DragSession`, which still work, and errors with suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from dragnoise.config import FIELDS
from dragnoise.session import stages
from dragnoise.validation import shown


def _watch(session: Any, callback: Any) -> Callable[[], None]:
    if not callable(callback):
        raise TypeError(f"watch() takes a function of the session, not {shown(callback)}.")
    return session.store.watch(partial(callback, session))


FORMER: dict[str, Callable[[Any], Any]] = {
    "engine": lambda s: s.store.engine,
    "frame": lambda s: s.state.frame,
    "inverted": lambda s: s.state.inverted,
    "origin": lambda s: s.state.origin,
    "history_limit": lambda s: s.state.history_limit,
    "trajectory": lambda s: tuple(latents.cpu() for latents in s.state.trajectory),
    "latents": lambda s: stages.latents(s.store),
    "bottleneck": lambda s: stages.bottleneck(s.store),
    "made_with": lambda s: s.store.made_with,
    "parent": lambda s: s.branches.parent,
    "children": lambda s: s.branches.children,
    "restore": lambda s: s.store.restore,
    "autosave": lambda s: s.store.autosave,
    "watch": lambda s: partial(_watch, s),
    "lora_weight": lambda s: 0.0 if s.lora is None else s.lora.weight,
    "load_lora": lambda s: partial(stages.load_lora, s.store),
    "save_lora": lambda s: stages.require_lora(s.state).save,
}
"""Former name -> function of the session that returns its value."""

SET: dict[str, Callable[[Any, Any], None]] = {
    "history_limit": lambda s, limit: s.store.limit_history(limit),
    "lora_weight": lambda s, weight: stages.wear(s.store, stages.require_lora(s.state).at(weight)),
}
"""Former names that can be set -> function of the session and the new value."""


OWN = ("store", "branches")
"""Attributes that a session itself has."""


def get(session: Any, name: str) -> Any:
    """The value of a former attribute; raises AttributeError for any other name."""
    if name not in FORMER:
        raise AttributeError(f"a session has no {name!r}{_meant(session, name)}.")
    return FORMER[name](session)


def require_known(session: Any, name: str, *, new: bool) -> None:
    """Raise AttributeError if this cannot be set on a session: a read-only former name, or one that is not there.

    new: names that are not there are allowed, as in subclasses.
    """
    if name in FORMER and name not in SET:
        raise AttributeError(f"session.{name} cannot be set.")
    known = new or name.startswith("_") or name in (*OWN, *SET) or hasattr(type(session), name)
    if not known:
        raise AttributeError(f"a session has no {name!r} to set{_meant(session, name)}.")


def _meant(session: Any, name: str) -> str:
    """What a name that is not there may stand for, as the end of a sentence."""
    if name.startswith("_"):
        return ""
    if name in FIELDS:
        return f"; a number belongs to the config: session.config = session.config.replace({name}=...)"
    known = [known for known in (*dir(type(session)), *FORMER, *OWN) if not known.startswith("_")]
    near = difflib.get_close_matches(name, known, 1)
    return f"; is session.{near[0]} meant?" if near else ""
