"""The sessions of a studio, the rendered pictures of each, and the session that is compared with."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from dragnoise.session.history import History
from dragnoise_widgets.branching.rows import Listed
from dragnoise_widgets.export.picture_cache import Album

if TYPE_CHECKING:
    from dragnoise import DragSession


@dataclass(frozen=True, eq=False)
class Entry:
    """A session, the pictures known of it, and the time when it came, in seconds as `time.time()`."""

    session: DragSession
    album: Album = field(default_factory=Album)
    since: float = field(default_factory=time.time)


class Branches:
    """Sessions in the order in which they came.

    compared: the session that the one shown is compared with, or None.
    lock: held while the sessions change; to be taken too for what must change together with them.
    """

    def __init__(self) -> None:
        self.compared: DragSession | None = None
        self.lock = threading.RLock()
        self._entries: tuple[Entry, ...] = ()
        self._replaced: list[DragSession] = []  # sessions that were branched by `keep_replaced`, not by the person

    @property
    def sessions(self) -> tuple[DragSession, ...]:
        """All sessions, oldest first."""
        return tuple(entry.session for entry in self._entries)

    @property
    def names(self) -> list[str]:
        """Their names; equal ones get a number."""
        names = [session.name for session in self.sessions]
        return [n if names.index(n) == i else f"{n} ({names[:i].count(n) + 1})" for i, n in enumerate(names)]

    def listed(self) -> list[Listed]:
        """All of them, as the panel lists them."""
        return [
            Listed(
                one.session.name,
                max(len(one.session.history) - 1, 0),
                one.since,
                self.newest_picture(one.session) or one.session.image,
            )
            for one in self._entries
        ]

    def index(self, session: DragSession | None) -> int | None:
        """The number of a session, None for one that is not here."""
        return next((i for i, known in enumerate(self.sessions) if known is session), None)

    def album(self, session: DragSession) -> Album:
        """The pictures known of a session."""
        return next((entry.album for entry in self._entries if entry.session is session), Album())

    def add(self, session: DragSession, album: Album | None = None) -> Album:
        """Add a session unless it is here already; returns its album.  It is no longer the compared one."""
        with self.lock:
            if self.index(session) is None:
                self._entries = (*self._entries, Entry(session, Album() if album is None else album))
            if session is self.compared:
                self.compared = None
            return self.album(session)

    def remove(self, session: DragSession) -> None:
        """Let go of a session."""
        with self.lock:
            if self.compared is session:
                self.compared = None
            self._entries = tuple(entry for entry in self._entries if entry.session is not session)
            self._replaced = [other for other in self._replaced if other is not session]

    def keep_replaced(self, session: DragSession, before: DragSession | None, *, shown: DragSession) -> str:
        """Keep the iterations that a change of drags or mask has taken from a session, and drop those that came back.

        before: a branch made before the change, None if there were no iterations.  shown: the session on the canvas.
        Returns a sentence for the status line, empty if there is nothing to say.
        """
        said, history = "", session.history
        with self.lock:
            back = [one for one in self._replaced if holds(history, one.history)]
            self._replaced = [one for one in self._replaced if not any(one is other for other in back)]
            gone = [one for one in back if one is not shown and one is not self.compared]
            self._entries = tuple(e for e in self._entries if not any(e.session is one for one in gone))
            if back:
                said = f"iteration {len(history) - 1} of these drags is back"
            if before is not None and not holds(history, before.history):
                others = (one for one in self.sessions if one is not session)
                branch = next((one for one in others if holds(one.history, before.history)), None)
                if branch is None:
                    branch = before
                    self.add(before, self.album(shown).copy())
                    self._replaced.append(before)
                n = len(before.history) - 1
                said = f"other drags start anew; the {n} iterations so far are kept as the branch {branch.name!r}"
        return said

    @property
    def compared_history(self) -> History:
        """The history of the session that is compared with; empty if there is none."""
        return History() if (compared := self.compared) is None else compared.history

    def newest_picture(self, session: DragSession) -> Image.Image | None:
        """The newest picture known of a session."""
        found = self.album(session).nearest(session.history, len(session.history) - 1, session.state)
        return found[1] if found else None


def holds(history: History, part: History) -> bool:
    """Does a history begin with all iterations of another one?"""
    return len(part) == 0 or (len(history) >= len(part) and history[len(part) - 1].anchors is part[-1].anchors)
