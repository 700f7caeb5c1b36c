"""The zip file around a session's parts: written atomically, checked before it replaces anything, read safely."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dragnoise.archive.decoding import decode
from dragnoise.archive.encoding import Part, encode
from dragnoise.archive.typed_json import Broken
from dragnoise.atomic_write import atomic_write
from dragnoise.interrupts import is_out_of_memory, memory_guard
from dragnoise.session.state import SessionState
from dragnoise.validation import as_path, said, shown


class ArchiveError(ValueError):
    """A file is not a session, is damaged, or has an unsupported version; the message says which."""


def write(state: SessionState, path: str | Path) -> Path:
    """Write a session to one file; returns its path.

    It is written atomically: a kill or a full disk at any moment leaves what was there before, and so does a state
    that `read` would refuse.  The same state gives the same bytes.  Raises OSError when it cannot be written,
    TypeError or ValueError if it is not a path, and ValueError for such a state and for what is too large.
    """
    path = as_path(path)
    with saving(path):
        write_parts(encode(state), path)
    return path


def write_parts(parts: Sequence[Part], path: Path) -> None:
    """Write these parts to a new file, and verify it with a reader before it replaces the old one."""
    with atomic_write(path) as file:
        with zipfile.ZipFile(file, "w") as archive:
            for part in parts:
                add(archive, part)
        require_parts(file, parts)


def add(archive: zipfile.ZipFile, part: Part) -> None:
    """Write one part, uncompressed since tensors hardly compress, and without the time, so that bytes repeat."""
    archive.writestr(zipfile.ZipInfo(part.name), part.encode())


def require_parts(file: IO[bytes], parts: Sequence[Part]) -> None:
    """Raise Broken unless a reader of the file finds exactly these parts."""
    if sorted(Parts(file)) != sorted(part.name for part in parts):
        raise Broken("the file that was written does not hold what it should")


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Context manager: turn errors of writing a session into OSError or ValueError with a one-sentence message."""
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file in it, such as 'edit.drag'.")
    try:
        yield
    except OSError as error:
        raise OSError(
            f"the session cannot be saved to {str(path)!r} ({error.strerror or said(error)}); what was there before is "
            "still there, so make room or give another place."
        ) from error
    except Broken as error:
        raise ValueError(
            f"the session cannot be saved to {str(path)!r}, as it could not be opened again: {error}; what was there "
            "before is still there."
        ) from error


def read(path: str | Path) -> SessionState:
    """Read what `write` wrote, every tensor on the CPU; nothing in a file can make it run code.

    Raises ArchiveError, a ValueError, for a file that is no session or a broken one, FileNotFoundError
    and other OSErrors when it cannot be read, TypeError or ValueError if it is not a path, and `OutOfMemory`.
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
    with file, memory_guard(lambda: _advice(path)):
        try:
            return decode(Parts(file))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ArchiveError(f"{str(path)!r} cannot be opened as a session: {_problem(error)}.") from error


class Parts(Mapping[str, bytes]):
    """The entries of a zip file.  They are stored uncompressed, so that none can be larger than the file is.

    A file whose last append was interrupted is read as it was before that append.
    """

    def __init__(self, file: IO[bytes]) -> None:
        size = file.seek(0, os.SEEK_END)
        try:
            self._archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile:
            if (end := last_end(file)) is None:
                raise
            file.seek(0)
            self._archive, size = zipfile.ZipFile(io.BytesIO(file.read(end))), end
        entries = self._archive.infolist()
        self._entries = {entry.filename: entry for entry in entries}
        for entry in entries:
            if self._entries[entry.filename] is not entry:
                raise Broken(f"it holds {shown(entry.filename)} twice")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise Broken(f"{shown(entry.filename)} is compressed, which no part of a session is")
        if sum(entry.file_size for entry in entries) > size:
            raise Broken(f"its parts claim to be larger than the file, which has {size} bytes")

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each entry."""
        return {name: entry.file_size for name, entry in self._entries.items()}

    def __getitem__(self, name: str) -> bytes:
        return self._archive.read(self._entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


# ------------------------------------------------------------------------------------- appending

_END, _DIRECTORY, _END_SIZE = b"PK\5\6", b"PK\1\2", 22
"""How a zip file's end record and an entry of its directory begin, and the size of the former."""

APPENDABLE = 2**31
"""Size in bytes up to which a file is appended to; beyond it a zip's end record is another one."""


def append_parts(parts: Sequence[Part], changed: Sequence[Part], path: Path, *, signature: tuple[int, ...]) -> bool:
    """Append the `changed` ones of all `parts` to the file that has this `signature`; False if it is another one.

    Nothing that is in the file is overwritten: the new entries and a new directory, which leaves out what is no
    longer a part, come after the old end record.  If that is interrupted, `Parts` finds the old end record.
    """
    with path.open("rb+") as file:
        if signature_of(file) != signature or (size := file.seek(0, os.SEEK_END)) > APPENDABLE:
            return False
        try:
            with zipfile.ZipFile(file, "a") as archive:
                kept = {part.name for part in parts} - {part.name for part in changed}
                archive.filelist = [entry for entry in archive.filelist if entry.filename in kept]
                archive.NameToInfo = {entry.filename: entry for entry in archive.filelist}
                archive.start_dir = size  # where the next entry goes
                for part in changed:
                    add(archive, part)
                file.flush()
                os.fsync(file.fileno())  # before the directory that points to the entries
            file.flush()
            os.fsync(file.fileno())
            require_parts(file, parts)
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise
    return True


def signature_of(file: IO[bytes]) -> tuple[int, ...]:
    """Identity and size of an open file; changes when the file is written or replaced."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_nlink


def last_end(file: IO[bytes]) -> int | None:
    """End offset of the last complete zip archive that is followed by other bytes; None if there is none.

    Only end records are looked at that follow their directory at once, as `zipfile` writes them, without a comment.
    """
    chunk, overlap = 2**20, _END_SIZE - 1
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(end - chunk, 0)
        file.seek(start)
        data = file.read(end - start + overlap)
        where = len(data)
        while (where := data.rfind(_END, 0, where)) >= 0:
            record = data[where : where + _END_SIZE]
            size, offset = (int.from_bytes(record[i : i + 4], "little") for i in (12, 16))
            if len(record) == _END_SIZE and record[20:] == b"\0\0" and offset + size == start + where and size:
                file.seek(offset)
                if file.read(4) == _DIRECTORY:
                    return start + where + _END_SIZE
        end = start
    return None


def _advice(path: Path) -> str:
    return (
        f"the memory is used up by opening the session at {str(path)!r}, whose file may be intact: delete other "
        "sessions and models first, or restart the kernel."
    )


def _problem(error: Exception) -> str:
    if isinstance(error, Broken):
        return str(error)
    kind, why = type(error).__name__, said(error)
    return f"it is broken ({kind}: {why})" if why else f"it is broken ({kind})"
