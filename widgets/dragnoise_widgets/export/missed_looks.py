"""The command that makes the quick looks that a run has skipped, while a worker has nothing else to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from dragnoise_widgets.runner.stages import Options, PausedStages, Progress, Stage

if TYPE_CHECKING:
    from dragnoise import DragSession


class Maker(Protocol):
    """Makes the look at a session's last iteration."""

    def make(self, session: DragSession, *, skip: bool) -> None: ...


@dataclass(frozen=True, eq=False)
class MissedLooks:
    """looks: makes and keeps them.  iterations: those that have none, of the history as it is now."""

    looks: Maker
    iterations: tuple[int, ...]
    ends: ClassVar[bool] = False
    aside: ClassVar[bool] = True

    def stage(self, session: DragSession, kept: PausedStages, options: Options) -> Stage:
        history, total = session.history, len(self.iterations)
        for done, k in enumerate(self.iterations):
            yield Progress("looking", done, total)
            if session.history is not history or k >= len(history) or not history[k].is_whole:
                return ""
            self.looks.make(session.branch(k), skip=False)
        yield Progress("looking", total, total)
        return ""
