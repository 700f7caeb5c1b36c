"""Files that are written aside and renamed, so that there is never half a file."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows, which does not let anyone delete a file that is being written
    fcntl = None

PREFIX, SUFFIX = ".", ".part"
LOCKED = (errno.EAGAIN, errno.EACCES, errno.EINTR)
"""What a lock that somebody else holds says; anything else comes from a file system that has none."""

ABANDONED = 24 * 3600
"""Seconds after which a file that nobody has written to belongs to a killed writer, where there are no locks."""


@contextmanager
def aside(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends, and vanishes when it fails.

    Whatever happens, a kill or a power cut too, `path` is either what it was before or all of the new
    file.  What a killed writer left behind in the folder is swept away here.  Raises OSError.
    """
    path = path.resolve()  # through links, so that they stay
    sweep(path)
    file, part = _create(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # still open, so still locked: nobody sweeps it away
                part.replace(path)
        if fcntl is None:
            part.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def sweep(path: Path) -> None:
    """Delete what killed writers of `path` left in its folder; those that still write keep their files.

    They hold a lock on them.  On a file system without locks, such as some mounted drives, only files
    that nobody has written to for a day are deleted.
    """
    for part in path.parent.glob(f"{PREFIX}{_escaped(path.name)}.*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if fcntl is None:
                part.unlink()
                continue
            with part.open("rb+") as file:
                if _is_abandoned(file):
                    part.unlink()


def _is_abandoned(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in LOCKED and time.time() - os.fstat(file.fileno()).st_mtime > ABANDONED
    return True


def _create(path: Path) -> tuple[BinaryIO, Path]:
    """A new file beside `path`, locked as long as it is open."""
    while True:
        part = path.with_name(f"{PREFIX}{path.name}.{secrets.token_hex(6)}{SUFFIX}")
        file = part.open("xb+")
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fcntl is None or part.exists():  # else swept away between the two lines
                return file, part
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise
        file.close()


def _sync_folder(folder: Path) -> None:
    """Make the new name itself last, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "[*?" else c for c in name)
