"""Editing methods: what is optimised, and how it becomes a picture."""

from dragnoise.editors.dragnoise import DragNoise, Losses
from dragnoise.editors.task import Task

__all__ = ["DragNoise", "Losses", "Task"]
