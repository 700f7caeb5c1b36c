"""Commands to a session's worker: frozen dataclasses, so that they can be logged, compared and tested.

Tasks take time: each gives a stage, a generator over the session.  Calls are short: each is a function of the
session that runs between two units of work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dragnoise_widgets.runner import stages
from dragnoise_widgets.runner.stages import Options, PausedStages, Stage

if TYPE_CHECKING:
    from dragnoise import DragConfig, DragSession, Model


class Task(Protocol):
    """A command that takes time.

    ends: a pause is over when it is done.  aside: a background task such as a preview, done only while the
        worker is idle; it leaves the state unchanged, and any other command cancels it.
    """

    ends: ClassVar[bool]

    @property
    def aside(self) -> bool: ...

    def stage(self, session: DragSession, kept: PausedStages, options: Options) -> Stage: ...


class Call(Protocol):
    """A short command.  aside: it only reads the session, so a state "error" remains after it."""

    @property
    def aside(self) -> bool: ...

    def apply(self, session: DragSession) -> Any: ...


# ---- tasks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepare:
    """Fit a LoRA if its arguments are given, then invert."""

    lora: Mapping[str, Any] | None = None
    ends: ClassVar[bool] = True
    aside: ClassVar[bool] = False

    def stage(self, session: DragSession, kept: PausedStages, options: Options) -> Stage:
        return stages.prepare(session, kept, None if self.lora is None else dict(self.lora))


@dataclass(frozen=True)
class Run:
    """Finish what was paused, then iterate until every anchor has arrived or `max_iterations`."""

    ends: ClassVar[bool] = True
    aside: ClassVar[bool] = False

    def stage(self, session: DragSession, kept: PausedStages, options: Options) -> Stage:
        return stages.run(session, kept, options)


@dataclass(frozen=True)
class Step:
    """n iterations, whatever the session's status."""

    n: int = 1
    ends: ClassVar[bool] = False
    aside: ClassVar[bool] = False

    def stage(self, session: DragSession, kept: PausedStages, options: Options) -> Stage:
        return stages.step(session, kept, options, self.n)


@dataclass(frozen=True)
class Render:
    """The picture of iteration k, None for the last."""

    k: int | None = None
    aside: bool = False
    ends: ClassVar[bool] = False

    def stage(self, session: DragSession, kept: PausedStages, options: Options) -> Stage:
        return stages.render(session, kept, self.k, aside=self.aside)


# ---- calls ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Apply:
    """Any function of the session."""

    function: Callable[[DragSession], Any]
    aside: bool = False

    def apply(self, session: DragSession) -> Any:
        return self.function(session)


@dataclass(frozen=True)
class Rewind:
    """Go back to iteration k."""

    k: int
    aside: ClassVar[bool] = False

    def apply(self, session: DragSession) -> None:
        session.rewind(self.k)


@dataclass(frozen=True)
class SetConfig:
    """Change some numbers of the config."""

    changes: Mapping[str, Any]
    aside: ClassVar[bool] = False

    def apply(self, session: DragSession) -> None:
        session.config = session.config.replace(**self.changes)


@dataclass(frozen=True)
class ReplaceConfig:
    """Take another config as a whole."""

    config: DragConfig
    aside: ClassVar[bool] = False

    def apply(self, session: DragSession) -> None:
        session.config = self.config


@dataclass(frozen=True, eq=False)
class SetModel:
    """Give the session a model."""

    model: Model
    aside: ClassVar[bool] = False

    def apply(self, session: DragSession) -> None:
        session.model = self.model


@dataclass(frozen=True)
class Branch:
    """A second session from iteration k on, None for where this one stands."""

    k: int | None = None
    aside: ClassVar[bool] = True

    def apply(self, session: DragSession) -> DragSession:
        return session.branch(self.k if session.history else None)


@dataclass(frozen=True)
class Save:
    """Save the session to a file."""

    path: str | Path
    aside: ClassVar[bool] = True

    def apply(self, session: DragSession) -> Path:
        return session.save(self.path)


# ---- commands that act at once -------------------------------------------------------------------


@dataclass(frozen=True)
class Pause:
    """Pause after the unit of work under way, and drop the waiting tasks."""


@dataclass(frozen=True)
class Stop:
    """End after the unit under way; forget the tasks that wait and what was paused."""
