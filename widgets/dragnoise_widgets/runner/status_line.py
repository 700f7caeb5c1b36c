"""The studio's status line: one state word, derived from the state of session and worker, and what goes with it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dragnoise.geometry import arrived
from dragnoise_widgets.runner.updates import Status

Kind = Literal["idle", "busy", "held", "good", "short", "bad"]

COLOURS: dict[Kind, str] = {
    "idle": "var(--jp-ui-font-color1, #333)",
    "busy": "var(--jp-brand-color1, #1976d2)",
    "held": "var(--jp-warn-color0, #b45f06)",
    "good": "var(--jp-success-color0, #2e7d32)",
    "short": "var(--jp-warn-color0, #b45f06)",
    "bad": "var(--jp-error-color1, #d32f2f)",
}

DOING = {
    "lora": "fitting the LoRA", "inverting": "inverting", "optimising": "dragging", "rendering": "rendering",
    "looking": "quick looks",
}  # fmt: skip


@dataclass(frozen=True)
class StatusInputs:
    """Everything that the state word depends on.

    loading: what the library is loading, "" for nothing.  status: of the worker.  verdict: of the newest iteration
    with today's numbers, see `editors.base.Status`.  iterations: done so far.  error: the sentence of an error
    that has not been answered by another action.  too_short: does a drag count as arrived from the start?
    """

    has_session: bool = True
    has_model: bool = True
    has_drags: bool = True
    loading: str = ""
    status: Status = field(default_factory=Status)
    verdict: str = "running"
    iterations: int = 0
    max_iterations: int = 0
    too_short: bool = False
    error: str = ""


@dataclass(frozen=True)
class StateLabel:
    """word: the state, such as "Paused".  why: what is said right after it, may be empty."""

    word: str
    why: str = ""
    kind: Kind = "idle"

    def __str__(self) -> str:
        return f"{self.word}{self.why}"


def state_word(now: StatusInputs) -> StateLabel:
    """The state in one word, with its reason.  The first line that applies is the state."""
    status = now.status
    holds = status.ended if status.history_length == _length(now) else ""  # of another history nothing is said
    if status.state == "stopping":
        return StateLabel("Stopping", " after this iteration", "busy")
    if status.state == "running":
        if status.pausing:
            return StateLabel("Pausing", " after this iteration", "busy")
        return StateLabel("Running", f": {DOING[status.task]}" if status.task else "", "busy")
    if now.error:
        return StateLabel("Failed", f": {now.error}", "bad")
    if now.loading:
        return StateLabel("Loading", f": {now.loading}", "busy")
    if not now.has_session:
        return StateLabel("No picture", ": Upload a picture, drop one here, or take an example")
    if not now.has_model:
        return StateLabel("View only", ": the session has no model", "held")
    if status.state == "paused" and holds == "breakpoint":
        return StateLabel("Paused", f" by a breakpoint: {status.message}", "held")
    if not now.has_drags:
        return StateLabel("No drags", ": Pull an arrow on the picture, from what should move to where it should be")
    if now.verdict == "reached":
        if now.too_short:
            return StateLabel("Short of the goal", ": a drag is too short to move anything, see below", "short")
        none = "" if now.iterations else " already, so nothing was done"
        return StateLabel("Finished", f": every anchor has reached its objective{none}", "good")
    if now.verdict == "denoised":
        return StateLabel("Finished", ": the edit is denoised to the end", "good")
    if now.verdict == "stalled":
        return StateLabel("Short of the goal", ": the anchors have stopped moving", "short")
    if now.verdict == "max_iterations":
        return StateLabel("Short of the goal", f": all {now.max_iterations} iterations are done", "short")
    if status.state == "paused":
        return StateLabel("Paused", " by hand; Run goes on", "held")
    if holds == "stop":
        return StateLabel("Stopped", " by hand; what is done stays", "held")
    return StateLabel("Ready", "" if now.iterations else ": press Run, or Step through it")


def stoppable(status: Status) -> bool:
    """Is there anything that Stop would end?"""
    if status.state == "stopping":
        return False
    return status.state in ("running", "paused") or status.task != ""


def as_html(word: StateLabel, parts: Sequence[str], *, error: str = "") -> str:
    """The line: the state word in its colour, why, then the parts that are not empty, each once.

    error: an error that goes first, when the state word is not that error's.
    """
    said = "".join(f" · {html.escape(part)}" for part in dict.fromkeys(parts) if part)
    bad = ""
    if error:
        bad = f'<span style="color: {COLOURS["bad"]}">{html.escape(error)}</span> · '
    head = f'<b style="color: {COLOURS[word.kind]}">{html.escape(word.word)}</b>'
    rest = f'{html.escape(word.why)}<span style="opacity: 0.75">{said}</span>'
    return f'<span style="line-height: 1.4">{bad}{head}{rest}</span>'


def verdict_of(history: Any, config: Any, gaps: Any = None) -> str:
    """The status of the newest snapshot, as long as the numbers that it depends on are still the session's.

    gaps: (m,) grid pixels to go after the last update, None if not known: a run that has used up its iterations does
    not look where the last one led.
    """
    last = history[-1] if history else None
    if last is None:
        return "running"
    if last.status == "max_iterations" and gaps is not None and len(gaps) and bool(arrived(gaps, config).all()):
        return "reached"
    if last.status == "max_iterations" and last.iteration < config.most_iterations:
        return "running"
    if last.status == "reached" and last.config is not None and last.config.tolerance != config.tolerance:
        return "running"
    return str(last.status)


def _length(now: StatusInputs) -> int:
    return now.iterations + 1 if now.status.history_length else 0
