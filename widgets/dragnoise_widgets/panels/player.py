"""Player: shows one iteration after another, as a film."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

INTERVAL = 0.12
"""Seconds between two iterations."""


class Player:
    """count: how many iterations there are.  at: the one shown.  show(k): shows another, None the newest.

    inline: show them all at once in the caller's thread, without a wait.
    """

    def __init__(
        self, count: Callable[[], int], at: Callable[[], int], show: Callable[[int | None], Any], *, inline: bool
    ) -> None:
        self._count, self._at, self._show, self._inline = count, at, show, inline
        self._stop = threading.Event()
        self._stop.set()

    @property
    def playing(self) -> bool:
        """Is it?"""
        return not self._stop.is_set()

    def toggle(self) -> None:
        """Play from the iteration shown, from the first at the end; or stop."""
        if self.playing:
            self.stop()
            return
        if self._count() < 2:
            return
        self._stop = stop = threading.Event()
        first = 0 if self._at() >= self._count() - 1 else self._at()
        if self._inline:
            self._play(first, stop)
        else:
            threading.Thread(target=self._play, args=(first, stop), name="dragnoise player", daemon=True).start()

    def stop(self) -> None:
        """Stay at the iteration shown."""
        self._stop.set()

    def _play(self, k: int, stop: threading.Event) -> None:
        try:
            while not stop.is_set() and k < self._count() - 1:
                self._show(k)
                k += 1
                if not self._inline:
                    stop.wait(INTERVAL)
        finally:
            done = not stop.is_set()
            stop.set()
            self._show(None if done else self._at())
