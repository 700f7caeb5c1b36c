"""Stages: generators over a session that do one unit of work between two yields.

Between two yields anything may happen to the session: other drags, other numbers, a rewind; and a cell may set them
while a unit is computed.  A stage whose inputs have changed goes on with the new ones.
"""

from __future__ import annotations

import contextlib
import logging
import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from dragnoise.geometry import short_drags
from dragnoise.session.history import History, OvertakenError
from dragnoise_widgets.runner.updates import TaskName

if TYPE_CHECKING:
    from dragnoise.session.history import Snapshot
    from dragnoise.session.session import DragSession
    from dragnoise.session.state import SessionState

Breakpoint = Callable[[History], Any]
PreviewEvery = int | Literal["auto", "end"]

log = logging.getLogger(__name__)

PREVIEW_SHARE = 0.25
"""Largest share of the time that previews take with `preview_every="auto"`."""

LORA_STEPS = 200
"""Expected LoRA steps if the number is not given: the default of `session.fit_lora`."""


@dataclass(frozen=True, eq=False)
class Progress:
    """One unit of work done.

    task, done, total: see `Status`.  step: what the session yielded, if it did.  hold: a breakpoint's
    reason to pause, "" for none.  picture: a picture that is ready, of `snapshot` (None: of before
    any iteration), and the session's state that it was rendered from.  iteration: the one that is being rendered.
    """

    task: TaskName
    done: int
    total: int
    step: Any = None
    hold: str = ""
    picture: Image.Image | None = None
    snapshot: Snapshot | None = None
    rendered_from: SessionState | None = None
    iteration: int | None = None


Stage = Generator[Progress, None, str]
"""Yields after every unit of work, and returns one line for people, may be empty."""


@dataclass
class Options:
    """Settings of one runner; may change while its commands run.  look: called with the session after an iteration."""

    breakpoints: list[Breakpoint] = field(default_factory=list)
    preview_every: PreviewEvery = 0
    look: Callable[[DragSession], Any] | None = None


@dataclass
class PausedStages:
    """State that outlives a command: paused stages, and the measured cost of a picture.

    The next command that needs a paused stage continues it.
    """

    stages: dict[Any, Iterator[Progress]] = field(default_factory=dict)
    seconds_a_step: float | None = None
    since_preview: int = 0

    def resumable(self, key: Any, make: Callable[[], Iterator[Progress]]) -> Iterator[Progress]:
        """Continue the paused stage of this key, or start a new one; it is kept when left unfinished."""
        steps = self.stages.pop(key, None) or make()
        try:
            for progress in steps:  # noqa: UP028 - `yield from` would close them with this
                yield progress
        except GeneratorExit:
            self.stages[key] = steps
            raise

    def drop(self, kind: str = "") -> None:
        """Forget the paused stages of a kind, by default all."""
        for key in [key for key in self.stages if kind in ("", key[0])]:
            self.stages.pop(key).close()  # type: ignore[attr-defined]


def prepare(session: DragSession, kept: PausedStages, lora: dict[str, Any] | None = None) -> Stage:
    """Fit a LoRA if asked or if one was paused, then invert unless that is done."""
    if lora is not None:
        key = ("lora", repr(sorted(lora.items())))
        for other in [k for k in kept.stages if k[0] == "lora" and k != key]:
            del kept.stages[other]
        yield from kept.resumable(key, lambda: fitting(session, lora))
    for key in [k for k in kept.stages if k[0] == "lora"]:
        yield from kept.resumable(key, lambda: iter(()))
    if session.state.inverted and lora is None:
        return "the picture is inverted already"
    yield from kept.resumable(("inverting",), lambda: inverting(session))
    return "ready"


def run(session: DragSession, kept: PausedStages, options: Options) -> Stage:
    """Finish what was paused, then iterate until every anchor has arrived or `max_iterations`."""
    for key in [k for k in kept.stages if k[0] == "rendering"]:
        yield from kept.resumable(key, lambda: iter(()))
    _require_drags(session)
    while session.drags:
        yield from prepare(session, kept)
        try:
            snapshot = next(session.optimize(), None)
        except (OvertakenError, IndexError) as error:
            _require_overtaken(session, error)
            yield Progress("optimising", 0, session.config.most_iterations)
            continue
        if snapshot is None:
            break
        done = _iterated(session, snapshot, snapshot.iteration, session.config.most_iterations, options)
        yield done
        yield from _preview_if_due(session, kept, options, done)
    if not session.drags:
        return "there is nothing left to drag"
    if session.status == "reached":
        short = short_drags(session.drags, session.state.frame, session.config)
        return " ".join(short) or "every anchor has reached its objective"
    if session.status == "denoised":
        return "the edit is denoised to the end"
    if session.status == "stalled":
        return "the anchors have stopped moving"
    most = session.config.most_iterations
    if most < session.config.max_iterations:
        return f"stopped after the {most} iterations of the schedule"
    return f"stopped at max_iterations={most}"


def step(session: DragSession, kept: PausedStages, options: Options, n: int) -> Stage:
    """n iterations, whatever the status."""
    i = 0
    while i < n:
        _require_drags(session)
        yield from prepare(session, kept)
        try:
            snapshot = session.step()
        except (OvertakenError, IndexError) as error:
            _require_overtaken(session, error)
            yield Progress("optimising", i, n)
            continue
        i += 1
        done = _iterated(session, snapshot, i, n, options)
        yield done
        if i < n:
            yield from _preview_if_due(session, kept, options, done)
    return ""


def render(session: DragSession, kept: PausedStages, k: int | None = None, *, aside: bool = False) -> Stage:
    """The picture of iteration k, default the last.  aside: no error if it is gone."""
    kept.stages = {key: steps for key, steps in kept.stages.items() if key[0] != "rendering"}
    yield from prepare(session, kept)
    yield from kept.resumable(("rendering",), lambda: rendering(session, kept, k, aside=aside))
    return ""


# ---- the stages themselves ---------------------------------------------------------------------


def fitting(session: DragSession, arguments: dict[str, Any]) -> Iterator[Progress]:
    """`session.fit_lora(**arguments)`; ends when another LoRA has been set meanwhile."""
    total = arguments.get("steps", LORA_STEPS)
    yield Progress("lora", 0, total)
    with contextlib.suppress(OvertakenError):
        for state in session.fit_lora(**arguments):
            yield Progress("lora", state.step, total, state)


def inverting(session: DragSession) -> Iterator[Progress]:
    """Invert, and start over when a change of numbers has overtaken it."""
    while not session.state.inverted:
        yield Progress("inverting", 0, session.config.edit_from)
        with contextlib.suppress(OvertakenError):
            for state in session.invert():
                yield Progress("inverting", state.step, session.config.edit_from, state)
                if len(session.state.trajectory) != state.step + 1:
                    break


def rendering(
    session: DragSession, kept: PausedStages, k: int | None = None, *, aside: bool = False
) -> Iterator[Progress]:
    """Render iteration k on a branch, which shares model and inversion and leaves the session alone.

    Ends without a picture when that iteration has gone from the history meanwhile; aside, also when it had before.
    """
    if aside and k and k >= len(session.history):
        return
    branch, started = session.branch(k), time.perf_counter()
    snapshot = branch.history[-1] if branch.history else None
    shown = snapshot.iteration if snapshot else 0
    steps, total, state = branch.config.edit_from, branch.config.edit_from + 1, None  # the last makes pixels
    yield Progress("rendering", 0, total, iteration=shown)
    for state in branch.denoise():
        yield Progress("rendering", steps - state.step, total, state, iteration=shown)
        if not stands(session.history, snapshot):
            return
    if state is not None:
        picture = branch.picture_of(state.latents, edited=True)
        kept.seconds_a_step, kept.since_preview = (time.perf_counter() - started) / steps, 0
        yield Progress(
            "rendering", total, total, picture=picture, snapshot=snapshot, iteration=shown, rendered_from=branch.state
        )


def stands(history: History, snapshot: Snapshot | None) -> bool:
    """Is the snapshot (None: the state before any) still part of the history?"""
    if snapshot is None:
        return len(history) <= 1
    k = snapshot.iteration
    return k < len(history) and history[k].anchors is snapshot.anchors  # a long history lets go of bottlenecks


# ---- previews and breakpoints ------------------------------------------------------------------


def preview_interval(every: PreviewEvery, history: History, kept: PausedStages, steps: int) -> int:
    """Iterations between two previews; 0 for none.

    "end" is none, as a picture is made where a command ends.  "auto" compares the measured seconds of the last
    iterations and of the last picture, of `steps` steps; before any picture a step is taken to cost what an iteration
    does.
    """
    if every == "end":
        return 0
    if every != "auto":
        return every
    an_iteration = statistics.median([s.seconds for s in history[-10:] if s.iteration] or [0.0])
    if not an_iteration:
        return 0
    a_picture = steps * (kept.seconds_a_step or an_iteration)
    return max(math.ceil(a_picture * (1 / PREVIEW_SHARE - 1) / an_iteration), 1)


def _preview_if_due(session: DragSession, kept: PausedStages, options: Options, after: Progress) -> Iterator[Progress]:
    """Render a preview between two iterations if it is due; the optimisation's progress does not change."""
    kept.since_preview += 1
    interval = preview_interval(options.preview_every, session.history, kept, session.config.edit_from)
    if interval and kept.since_preview >= interval and session.history:
        for progress in rendering(session, kept):
            made = {name: getattr(progress, name) for name in ("picture", "snapshot", "rendered_from")}
            yield replace(after, hold="", **made)


def _iterated(session: DragSession, snapshot: Snapshot, done: int, total: int, options: Options) -> Progress:
    if options.look is not None:
        try:
            options.look(session)
        except Exception:  # the iteration is done, whether it can be looked at or not
            log.exception("the look at iteration %d failed", snapshot.iteration)
    return Progress("optimising", done, total, snapshot, hold=_reason(options.breakpoints, session.history))


def _require_overtaken(session: DragSession, error: Exception) -> None:
    """Raise the error again unless a change from elsewhere explains it, such as a history that was emptied."""
    if not isinstance(error, OvertakenError) and session.history:
        raise error


def _require_drags(session: DragSession) -> None:
    """Raise the engine's own ValueError before the inversion, which takes long."""
    if not session.drags:
        next(session.optimize())


def _reason(breakpoints: list[Breakpoint], history: History) -> str:
    """Why to pause here: the reasons of all breakpoints that say so."""
    reasons = []
    for breakpoint_ in list(breakpoints):
        name = getattr(breakpoint_, "__name__", repr(breakpoint_))
        try:
            said = breakpoint_(history)
        except Exception as error:
            raise RuntimeError(
                f"the breakpoint {name} failed ({type(error).__name__}: {error}); take it out of runner.breakpoints."
            ) from error
        if said:
            reasons.append(said if isinstance(said, str) else name)
    return "; ".join(reasons)
