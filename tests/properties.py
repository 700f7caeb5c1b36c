"""Hypothesis with the settings of this suite: the same examples every time, however long one takes.

Tests import `given`, `settings` and `st` from here, so that those without properties start without hypothesis.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

__all__ = ["given", "settings", "st"]

settings.register_profile("same-every-time", derandomize=True, database=None, deadline=None, max_examples=40)
settings.load_profile("same-every-time")
