"""Atomic file writing: a temporary file in the target's folder, fsync, then os.replace.

Every file that dragnoise writes goes through `atomic_write`.  After a kill, a full disk or a power cut the target
is either as it was before or completely new.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from PIL import Image

from dragnoise.validation import said, shown

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows, which refuses to delete a file that is open
    fcntl = None

SUFFIX = ".dragnoise.part"
"""Temporary files are named ".<target>.<random><SUFFIX>"."""

LOCK_HELD = (errno.EAGAIN, errno.EACCES, errno.EINTR)
"""errno of flock when another process holds the lock; any other value means a file system without locks."""

ABANDONED = 24 * 3600
"""Age in seconds after which an unlocked leftover is deleted where locks cannot tell whether its writer lives."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file, readable and writable, that replaces `path` when the block ends without an error.

    Parent folders are created.  A symbolic link is followed, so the link stays and its target is replaced.  A new
    file gets the permissions that `open(path, "wb")` would give it; an existing file keeps its own, and one without
    write permission is refused.  Other hard links of an existing file keep the old content.  Leftovers of killed
    writers in the same folder are deleted.  Raises OSError.
    """
    target = _target(Path(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    file, part = _create(target)
    try:
        with file:
            _copy_permissions(target, file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # while the lock is held, so that no sweep deletes the temporary file
                part.replace(target)
        if fcntl is None:
            part.replace(target)
        _sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write `data` atomically; returns the path.  Raises OSError, in one sentence, when it cannot be written."""
    with one_sentence(path), atomic_write(path) as file:
        file.write(data)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; returns the path.  Raises OSError as `write_bytes` does."""
    return write_bytes(path, text.encode())


def write_picture(path: str | Path, picture: Image.Image) -> Path:
    """Write a picture atomically, in the format that the path's suffix names; returns the path.

    Raises ValueError for an unknown suffix and OSError as `write_bytes` does.
    """
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise ValueError(f"path={shown(str(path))} names no kind of picture; let it end in .png.")
    buffer = io.BytesIO()
    with one_sentence(path):
        picture.save(buffer, kind)
    return write_bytes(path, buffer.getvalue())


def require_writable(path: str | Path) -> None:
    """Raise OSError, in one sentence, unless `path` could be written now; creates its folder and nothing else.

    For programs that work for minutes before they write.
    """
    with one_sentence(path):
        target = _target(Path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        file, part = _create(target)
        file.close()
        part.unlink(missing_ok=True)


@contextmanager
def one_sentence(path: str | Path) -> Iterator[None]:
    """Raise any OSError of the block again as one sentence that names the path and the reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or said(error) or type(error).__name__
        told = OSError(f"{str(path)!r} cannot be written ({reason}); give another place.")
        told.errno = error.errno
        raise told from error


def sweep(path: Path) -> None:
    """Delete what killed writers left in the folder of `path`; files that are being written stay.

    A writer holds a lock on its temporary file.  On a file system without locks only files untouched for a day are
    deleted.
    """
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            if not entry.name.startswith("."):
                continue
            if entry.name.endswith(SUFFIX) or _is_legacy(entry, path.name, r"[0-9a-f]+\.part"):
                _delete_unlocked(entry)
            elif _is_legacy(entry, path.name, r"[a-z0-9_]{8}"):
                _delete_folder(entry, path.name)


def _is_legacy(entry: Path, name: str, ending: str) -> bool:
    """Is it a leftover of dragnoise 0.1's writers of `name`?"""
    return re.fullmatch(rf"\.{re.escape(name)}\.{ending}", entry.name) is not None


def _delete_unlocked(part: Path) -> None:
    with contextlib.suppress(OSError):
        if fcntl is None:
            part.unlink()
            return
        with part.open("rb+") as file:
            if _is_abandoned(file):
                part.unlink()


def _delete_folder(folder: Path, name: str) -> None:
    """A folder of dragnoise 0.1's `save_lora`, which held the file to be renamed and no lock."""
    with contextlib.suppress(OSError):
        if time.time() - folder.stat().st_mtime > ABANDONED:
            (folder / name).unlink(missing_ok=True)
            folder.rmdir()  # fails if anything else is in it


def _is_abandoned(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in LOCK_HELD and time.time() - os.fstat(file.fileno()).st_mtime > ABANDONED
    return True


def _target(path: Path) -> Path:
    """The file that a path leads to through links; raises OSError when it cannot be replaced by a file."""
    try:
        target = path.resolve()
    except RuntimeError:  # a loop of links, before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):  # os.replace would delete a device or a pipe
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return target


def _create(target: Path) -> tuple[BinaryIO, Path]:
    """A new temporary file beside the target, locked as long as it is open.

    It is not created by `tempfile`, whose files ignore the umask and the folder's default permissions.
    """
    name = target.name
    while len(os.fsencode(name)) > 200:  # names have 255 bytes at most
        name = name[:-1]
    while True:
        part = target.with_name(f".{name}.{secrets.token_hex(4)}{SUFFIX}")
        try:
            file = part.open("xb+")
        except FileExistsError:
            continue
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fcntl is None or part.exists():  # otherwise another sweep deleted it before it was locked
                return file, part
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise
        file.close()


def _copy_permissions(target: Path, file: BinaryIO) -> None:
    """Give the temporary file the owner and mode of the file that it replaces, as far as the system allows."""
    with contextlib.suppress(OSError, AttributeError):  # Windows has no fchmod before Python 3.13
        found = target.stat()
        own = os.fstat(file.fileno())
        if (found.st_uid, found.st_gid) != (own.st_uid, own.st_gid):
            with contextlib.suppress(OSError):
                os.fchown(file.fileno(), found.st_uid, found.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
