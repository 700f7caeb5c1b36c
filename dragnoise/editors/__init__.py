"""Editors: the methods.  One short file each, most of them combinations of the parts beside them."""

from __future__ import annotations

import importlib

from dragnoise.config import EDITORS
from dragnoise.editors.base import Editor, EditState, Report, Status, Task

__all__ = ["EditState", "Editor", "Report", "Status", "Task", "make_editor"]


def make_editor(task: Task) -> Editor:
    """The editor that `task.config.editor` names, from the table `dragnoise.config.EDITORS`."""
    editor: Editor = importlib.import_module(EDITORS[task.config.editor]).make(task)
    return editor
