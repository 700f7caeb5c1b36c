"""Remarks on an edit before it runs: masks and drags that are probably not meant so."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from dragnoise import DragSession

SOURCES: tuple[tuple[str, str, Callable[[DragSession], tuple[Any, ...]]], ...] = (
    ("dragnoise.images.masks", "mask_remarks", lambda session: (session.mask, session.drags)),
    ("dragnoise.geometry", "short_drags", lambda session: (session.drags, session.frame, session.config)),
)
"""Functions of the engine that give sentences: module, name, and their arguments."""


def remarks(session: DragSession) -> list[str]:
    """The engine's sentences on this session's mask and drags; none if all is well."""
    return [sentence for module, name, given in SOURCES for sentence in _function(module, name)(*given(session))]


def _function(module: str, name: str) -> Callable[..., list[str]]:
    try:
        return getattr(importlib.import_module(module), name, _nothing)
    except ImportError:
        return _nothing


def _nothing(*_: Any) -> list[str]:
    return []
