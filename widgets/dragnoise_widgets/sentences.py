"""Exceptions as one-line messages."""

from __future__ import annotations


def sentence(error: BaseException) -> str:
    """Our own errors are sentences; others need their name."""
    said = " ".join(str(error).split())
    return said if said.endswith(".") else f"{type(error).__name__}: {said}".rstrip(": ")
