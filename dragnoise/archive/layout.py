"""What writing and reading a session's file have in common: its names, its version and its limits."""

from __future__ import annotations

FORMAT, VERSION = "dragnoise session", 1
LARGEST = {"picture": 2**27, "masks": 2**29, "session.json": 2**25}
"""Pixels of a picture and of all masks, bytes of JSON at most, so that a small hostile file cannot fill the memory."""

NUMBERS = ("loss", "alignment_loss", "mask_loss", "grad_norm", "seconds")
"""Fields of a snapshot that are a number each."""


def iteration_part(k: int) -> str:
    """Name of the part that holds iteration k's tensors."""
    return f"iterations/{k}.safetensors"
