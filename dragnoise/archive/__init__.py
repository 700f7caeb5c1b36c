"""A session as one file: a zip of PNG, JSON and safetensors, that can be opened years later and by anyone."""

from dragnoise.archive.container import ArchiveError, read, write

__all__ = ["ArchiveError", "read", "write"]
