"""Autosave: a session's file kept up to date in the background, at little cost and without stopping the edit."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dragnoise.archive import container
from dragnoise.archive.encoding import Part, encode
from dragnoise.interrupts import is_out_of_memory
from dragnoise.session.history import History
from dragnoise.session.state import SessionState
from dragnoise.validation import as_integer, as_path

PATIENCE = 0.5
"""Longest time in seconds that `due` waits for the write it started; a longer write continues in the background."""


SMALL = 2**18
"""Unused bytes that are tolerated in a file of any size before it is rewritten."""


def has_ended(history: History) -> bool:
    """Whether the last snapshot ended the run: its status is not "running", and that of the one before is."""
    return len(history) > 1 and history[-1].status != "running" and history[-2].status == "running"


def failure(error: Exception) -> str:
    """The one-sentence message about a failed save."""
    reason = "the memory is used up." if is_out_of_memory(error) else error
    return f"autosave did not work, and the edit goes on: {reason}"


class Autosave:
    """Saves immutable states to one file, each in the background, and the newest one when several wait.

    path: the file.  every: iterations, or steps of a LoRA's fit, between two saves.
    on_error: called with the exception whenever a save fails, and with None when one has worked again; in the
        thread that writes.

    A failure is also kept as `error`, and told by a RuntimeWarning in the thread that calls `due`, `flush` or `close`.
    Interpreter exit waits for a save under way.  Raises TypeError or ValueError if it is not a path and for `every`
    below 1.
    """

    def __init__(
        self, path: str | Path, every: int = 10, *, on_error: Callable[[Exception | None], Any] | None = None
    ) -> None:
        self.every = as_integer("every", every, 1)
        self.path = as_path(path)
        self.on_error = on_error
        self.error: Exception | None = None
        self._file = IncrementalFile(self.path)
        self._pending: SessionState | None = None
        self._untold: Exception | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"Autosave({str(self.path)!r}, every={self.every})"

    @property
    def bytes_written(self) -> int:
        """Bytes written by all saves so far."""
        return self._file.bytes_written

    @property
    def saves(self) -> int:
        """Number of successful saves so far."""
        return self._file.saves

    def due(self, state: Callable[[], SessionState], done: int, *, last: bool = False) -> bool:
        """Save what `state()` gives if `done` iterations or steps are a multiple of `every`, or were the `last` ones.

        After an iteration `last` is `has_ended` of the history.  Returns whether it was due.
        """
        if not (last or done % self.every == 0):
            return False
        self.save(state())
        return True

    def save(self, state: SessionState) -> None:
        """Save a state, which takes the place of one that waits; waits `PATIENCE` seconds at most."""
        with self._changed:
            self._pending = state
            if self._thread is None:
                self._start()
        self.flush(PATIENCE)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to write; False when that took longer than `timeout` seconds."""
        if threading.current_thread() is self._thread:  # asked by on_error
            return False
        with self._changed:
            done = self._changed.wait_for(lambda: self._thread is None, timeout)
            error, self._untold = self._untold, None
        if error is not None:
            warnings.warn(failure(error), RuntimeWarning, stacklevel=4)
        return done

    def close(self) -> None:
        """Wait until all is written, and forget the file."""
        self.flush()
        self._file = IncrementalFile(self.path)

    def _start(self) -> None:
        # not a daemon, so that the interpreter waits for it before it exits
        self._thread = thread = threading.Thread(target=self._write_all, name="dragnoise autosave")
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter exits
            self._write_all()
        finally:
            if thread.ident is None:
                self._thread = None

    def _write_all(self) -> None:
        """Runs in the thread; ends when nothing is pending."""
        while True:
            with self._changed:
                state, self._pending = self._pending, None
                if state is None:
                    self._thread = None
                    self._changed.notify_all()
                    return
            error: Exception | None = None
            try:
                self._file.write(state)
            except BaseException as caught:  # any error: the edit goes on, and no caller waits for a dead thread
                error = caught if isinstance(caught, Exception) else RuntimeError(repr(caught))
            del state
            self._report(error)

    def _report(self, error: Exception | None) -> None:
        tell = error is not None or self.error is not None
        self.error = error
        if error is not None:
            self._untold = error
        if tell and self.on_error is not None:
            try:
                self.on_error(error)
            except Exception as caught:
                self._untold = caught


class IncrementalFile:
    """A session's file to which only what has changed since the last write is appended.

    It is written anew, atomically, when somebody else has changed it, when more than half of it would be unused,
    and for the first time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_written = self.saves = 0
        self._signature: tuple[int, ...] = ()
        self._sizes: dict[str, int] = {}
        self._held: dict[str, tuple[weakref.ref[Any], ...]] = {}  # sources of each part as it is in the file

    def write(self, state: SessionState) -> None:
        """Bring the file to this state.  Raises as `container.write` does, and then leaves the file as it was."""
        with container.saving(self.path):
            parts = encode(state)
            changed = [part for part in parts if not self._holds(part)]
            before = self._signature
            self._signature = ()  # stays empty if the write fails
            if not self._append(parts, changed, before):
                container.write_parts(parts, self.path)
            with self.path.open("rb") as file:
                self._signature = container.signature_of(file)
                self._sizes = container.Parts(file).sizes
        grown = self._signature[2] - before[2] if before and before[:2] == self._signature[:2] else self._signature[2]
        self.bytes_written += grown
        self.saves += 1
        self._held = {part.name: tuple(map(weakref.ref, part.sources)) for part in parts}

    def _append(self, parts: list[Part], changed: list[Part], signature: tuple[int, ...]) -> bool:
        if not signature or not self.path.is_file():
            return False
        used = sum(self._sizes[part.name] for part in parts if part not in changed)
        if signature[2] > 2 * used + SMALL:
            return False
        return container.append_parts(parts, changed, self.path, signature=signature)

    def _holds(self, part: Part) -> bool:
        refs = self._held.get(part.name, ())
        return (
            bool(refs)
            and len(refs) == len(part.sources)
            and all(ref() is source for ref, source in zip(refs, part.sources, strict=True))
        )
