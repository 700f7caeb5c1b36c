"""The status and the updates that a runner gives to its observers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from dragnoise.session.history import History

if TYPE_CHECKING:
    from dragnoise.session.state import SessionState

State = Literal["idle", "running", "paused", "stopping", "error"]
TaskName = Literal["", "lora", "inverting", "optimising", "rendering", "looking"]
Ended = Literal["", "done", "breakpoint", "pause", "stop", "error"]


@dataclass(frozen=True)
class Status:
    """Where a runner stands.

    state: "idle"; "running"; "paused" by `pause()` or a breakpoint, `run()` goes on; "stopping" until
        the step under way is done; "error", the next command works as ever.
    task: what is being done, "" if nothing.  Beside "idle" and "paused" it may be "rendering" or "looking":
        pictures that are made while there is nothing else to do, and given up for whatever there is.
    done, total: steps of the task; both 0 without a task.  "optimising" counts the session's
        iterations up to `max_iterations`, or those that `step(n)` was asked for.
    seconds_left: an estimate for the task; None while nothing is known.  An optimisation may end
        earlier, when the anchors arrive.
    message: one short line for people, may be empty; of a breakpoint its reason, of an error its sentence.
    history_length: `len(session.history)`.
    ended: how the last command ended; "" while one is under way, and as soon as the history is another one.
    pausing: will the run pause after the iteration under way?
    iteration: the one that is being rendered, None while nothing is.
    """

    state: State = "idle"
    task: TaskName = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    message: str = ""
    history_length: int = 0
    ended: Ended = ""
    pausing: bool = False
    iteration: int | None = None


@dataclass(frozen=True, eq=False)
class Update:
    """Everything there is to show, immutable and complete, so that earlier updates need not be seen.

    status: see `Status`.
    history: the session's snapshots, `history[k]` after iteration k.
    picture: the last picture made by `render()` or as a preview, None before any.
    picture_iteration: the iteration it shows; None when that is no longer in the history.
    picture_state: the session's state that it was rendered from.
    step: what the session's generator yielded last: a LoraStep, DDIMState or Snapshot; None before any.
    """

    status: Status = Status()
    history: History = field(default_factory=History)
    picture: Image.Image | None = None
    picture_iteration: int | None = None
    picture_state: SessionState | None = None
    step: Any = None
