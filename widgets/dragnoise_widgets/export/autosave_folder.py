"""The default autosave folder .dragnoise: its path, its file names, removal of old files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

FOLDER = ".dragnoise"
"""Beside the notebook, which is a kernel's current folder."""

KEPT = 10
"""Files kept by `tidy`, the newest ones."""

AT_WORK = 600.0
"""A file written within this many seconds is assumed to belong to another running kernel."""


def default_path() -> Path:
    """ ".dragnoise/<notebook>.drag" in the current folder; "edit.drag" where the notebook's name is not known."""
    name = Path(os.environ.get("JPY_SESSION_NAME", "")).stem  # set by Jupyter servers since 2.0
    plain = re.sub(r"[^\w .()+-]", "_", name).strip(". ")
    return Path.cwd() / FOLDER / f"{plain or 'edit'}.drag"


def tidy(folder: Path, *, in_use: Container[Path] = (), keep: int = KEPT) -> None:
    """Remove the oldest files beyond `keep`, but for those in use; what cannot be removed stays."""
    with suppress(OSError):
        files = [(path.stat().st_mtime, path) for path in folder.glob("*.drag") if path.is_file()]
        for written, path in sorted(files, reverse=True)[keep:]:
            if path not in in_use and written < time.time() - AT_WORK:
                with suppress(OSError):
                    path.unlink()
