"""The zip around a session's parts."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from dragnoise.archive.aside import aside
from dragnoise.archive.decoding import decode
from dragnoise.archive.encoding import encode
from dragnoise.archive.fields import Broken
from dragnoise.given import as_path, said, shown
from dragnoise.rescue import is_out_of_memory, rescue
from dragnoise.session.state import SessionState


class ArchiveError(ValueError):
    """A file is no session, or is broken, or is of another version; the message says which."""


def write(state: SessionState, path: str | Path) -> Path:
    """Write a session to one file; returns its path.

    It is written aside and renamed: a kill or a full disk at any moment leaves what was there before.
    The same state gives the same bytes.  Raises OSError when it cannot be written, TypeError or
    ValueError for a path that is none, and ValueError for what is too large (`layout.LARGEST`).
    """
    path = as_path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file in it, such as 'edit.drag'.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in encode(state):
                archive.writestr(zipfile.ZipInfo(name), data)  # stored as it is: tensors do not compress
    except OSError as error:
        raise OSError(
            f"the session cannot be saved to {str(path)!r} ({error.strerror or said(error)}); what was there before is "
            "still there, so make room or give another place."
        ) from error
    return path


def read(path: str | Path) -> SessionState:
    """Read what `write` wrote, every tensor on the CPU; nothing in a file can make it run code.

    Raises ArchiveError, a ValueError, for a file that is no session or a broken one, FileNotFoundError
    and other OSErrors when it cannot be read, TypeError or ValueError for a path that is none, and `OutOfMemory`.
    """
    path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no session at {str(path)!r}; give a file that session.save() wrote.")
    if not path.is_file():
        raise ArchiveError(f"{str(path)!r} is no file, so no session can be read from it.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise OSError(f"the session at {str(path)!r} cannot be read ({error.strerror or said(error)}).") from error
    with file, rescue(lambda: _advice(path)):
        try:
            return decode(Parts(file))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ArchiveError(f"{str(path)!r} cannot be opened as a session: {_problem(error)}.") from error


class Parts(Mapping[str, bytes]):
    """The entries of a zip.  They are stored plainly, so that none can be larger than the file is."""

    def __init__(self, file: IO[bytes]) -> None:
        size = file.seek(0, os.SEEK_END)
        self._archive = zipfile.ZipFile(file)
        entries = self._archive.infolist()
        self._entries = {entry.filename: entry for entry in entries}
        for entry in entries:
            if self._entries[entry.filename] is not entry:
                raise Broken(f"it holds {shown(entry.filename)} twice")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise Broken(f"{shown(entry.filename)} is compressed, which no part of a session is")
        if sum(entry.file_size for entry in entries) > size:
            raise Broken(f"its parts claim to be larger than the file, which has {size} bytes")

    def __getitem__(self, name: str) -> bytes:
        return self._archive.read(self._entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _advice(path: Path) -> str:
    return (
        f"the memory is used up by opening the session at {str(path)!r}, which may be sound: let go of other sessions "
        "and models first, or restart."
    )


def _problem(error: Exception) -> str:
    if isinstance(error, Broken):
        return str(error)
    kind, why = type(error).__name__, said(error)
    return f"it is broken ({kind}: {why})" if why else f"it is broken ({kind})"
