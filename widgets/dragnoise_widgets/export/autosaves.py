"""Autosave files of several sessions: distinct names, and files of earlier kernels renamed."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragnoise.validation import as_integer, as_path
from dragnoise_widgets.export import autosave_folder

if TYPE_CHECKING:
    from dragnoise import DragSession

KEPT = 10
"""Files of earlier edits that stay; older ones are deleted when one more is put aside."""

_open: weakref.WeakSet[Autosaves] = weakref.WeakSet()
"""All instances of this process, so that no two save to the same file."""


class Autosaves:
    """A file for each session, named after one path: the first gets "edit.drag", the next "edit 2.drag".

    path: True for the default file in the folder .dragnoise, see `autosave_folder`; None or False as long as nothing is
    saved by itself.  A file that is there already is of an edit before the
    kernel was restarted: it is renamed after its time, to "edit of 2024-06-13 12.00.00.drag", and of such files the
    `KEPT` newest stay.
    on_error: as for `DragSession.autosave`.
    """

    def __init__(
        self, path: str | Path | bool | None, every: int, *, on_error: Callable[[Exception | None], Any] | None = None
    ) -> None:
        self._by_default = path is True
        if isinstance(path, bool):
            path = autosave_folder.default_path() if path else None
        self.path = None if path is None else as_path(path)
        self._every = as_integer("every", every, 1)
        self._on_error = on_error
        self._files: dict[DragSession, Path] = {}
        self._ours: set[Path] = set()  # files that an edit of here was saved to
        _open.add(self)

    def begin(self, session: DragSession) -> None:
        """Start autosaving a session, if autosave is on; one that is autosaved already is left alone."""
        if self.path is None or session in self._files:
            return
        if self._by_default:
            self.path.parent.mkdir(exist_ok=True)
            autosave_folder.tidy(self.path.parent, in_use=self.in_use)
        taken = {path for autosaves in list(_open) for path in autosaves.in_use}
        path = next(path for path in self._names(self.path) if path not in taken)
        if path not in self._ours and path.is_file():
            path.rename(_earlier(path))
            _tidy(path)
        session.store.autosave(path, every=self._every, on_error=self._on_error)
        self._files[session] = path
        self._ours.add(path)

    def change(self, path: str | Path | None, sessions: Iterable[DragSession]) -> None:
        """Autosave these sessions to other files; None stops it.  Raises TypeError or ValueError for a wrong path."""
        self._by_default = False
        self.path = None if path is None else as_path(path)
        for session in self._files:
            session.store.autosave(None)
        self._files.clear()
        for session in sessions:
            self.begin(session)

    def end(self, session: DragSession) -> None:
        """Stop autosaving a session; its file stays."""
        if self._files.pop(session, None) is not None:
            session.store.autosave(None)

    @property
    def in_use(self) -> tuple[Path, ...]:
        """The files that sessions of here save themselves to."""
        return tuple(self._files.values())

    def close(self) -> None:
        """The files are free for others; sessions that somebody still holds go on saving themselves."""
        self._files.clear()

    def saved(self, path: str | Path) -> None:
        """Note that an edit was saved to this file by hand, so that autosaving may overwrite it."""
        self._ours.add(as_path(path))

    def newest(self) -> Path | None:
        """The newest file from before the kernel was restarted, or None."""
        if self.path is None:
            return None
        beside = self.path.parent.glob(f"{_plain(self.path.stem)}*{_plain(self.path.suffix)}")
        taken = self._ours.union(*(autosaves.in_use for autosaves in list(_open)))
        found = [path for path in beside if path.is_file() and path not in taken]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    @staticmethod
    def _names(path: Path) -> Iterable[Path]:
        return itertools.chain([path], (path.with_stem(f"{path.stem} {n}") for n in itertools.count(2)))


def _earlier(path: Path) -> Path:
    """A free name for a file, made of its own name and its modification time."""
    written = time.strftime("%Y-%m-%d %H.%M.%S", time.localtime(path.stat().st_mtime))
    named = path.with_stem(f"{path.stem} of {written}")
    others = (named.with_stem(f"{named.stem} ({n})") for n in itertools.count(2))
    return next(free for free in itertools.chain([named], others) if not free.exists())


def _tidy(path: Path) -> None:
    """Delete all but the newest files that `_earlier` has named."""
    date = r"\d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d( \(\d+\))?"
    name = re.compile(f"{re.escape(path.stem)} of {date}{re.escape(path.suffix)}")
    earlier = [each for each in path.parent.iterdir() if name.fullmatch(each.name) and each.is_file()]
    for old in sorted(earlier, key=lambda each: each.stat().st_mtime)[:-KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()


def _plain(text: str) -> str:
    """The text with the special characters of glob patterns escaped."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
