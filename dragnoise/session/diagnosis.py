"""Diagnosis: why an edit did not get there, from its snapshots, drags, mask and numbers, and what helps, as data.

    for finding in session.diagnose():
        print(finding.sentence, finding.remedy.label if finding.remedy else "")
    finding.remedy.apply(session)              # what the button does; then go on with session.optimize()

Distances are pixels of the given picture; thresholds are in grid steps, in which anchors move, see the constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from dragnoise.config import FIELDS, DragConfig
from dragnoise.geometry import Drag, around, arrived, longer_side, short_drags
from dragnoise.images.masks import frees
from dragnoise.session.drag_relations import half_turned, in_words, opposed, pixels, turn_of
from dragnoise.session.history import History
from dragnoise.session.state import SessionState

What = Literal["short", "mask", "lost", "drifted", "turned", "opposed", "stalled", "iterations"]
"""A drag that is too short; an end held by the mask; an anchor that tracking lost at once, or bit by bit; drags that
ask for a turn; two that pull against each other; drags that come no nearer; too few iterations."""

JUMP = 2.5
"""An anchor that moves farther than this at once, in grid steps along x or y, is lost, unless it came half as much
nearer: on the miniature, anchors that are well go one step at a time, and lost ones 3, the end of their window."""

DRIFT = 2.0
"""An anchor this much farther from its objective than it has been, in grid steps, has drifted away."""

NEARER = 0.5
"""Coming nearer by less than this, in grid steps, is none: tracking moves by whole steps, mostly one."""

PATIENCE = 15
"""Anchors may rest: half of the iterations, and at least this many, without coming nearer count as stalled.  On the
miniature, anchors that arrive in the end rest for up to 13."""

FALLING = 0.97
"""The loss still falls when its median over the last quarter is below this share of that of the quarter before."""

BRUSH = 0.04
"""Radius to paint with, in shares of the longer side, at least 3 grid steps."""


@dataclass(frozen=True)
class Remedy:
    """What to change, in this order, and then to go on.

    label: of a button, such as "40 more".  rewind: iteration to go back to.  config: changes of numbers by name.
    paint: drags to free in the mask, ends and path, with a brush of `radius` image pixels.  drags: to have instead.
    """

    label: str
    rewind: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    paint: tuple[Drag, ...] = ()
    radius: float = 0.0
    drags: tuple[Drag, ...] = ()

    @property
    def redraws(self) -> bool:
        """Does it change mask or drags?"""
        return bool(self.paint or self.drags)

    def apply(self, session: Any) -> None:
        """Make these changes in a `DragSession`; raises as `rewind` and the setters of its properties do."""
        config = session.config.replace(**self.config)  # before anything is lost
        if self.rewind is not None:
            session.rewind(self.rewind)
        if self.config:
            session.config = config
        if self.paint and (mask := session.mask) is not None:
            ends = torch.tensor([(d.anchor, d.objective) for d in self.paint], dtype=torch.float64)
            session.mask = mask | around(ends[:, 0], ends[:, 1], self.radius, session.image.size)
        if self.drags:
            session.drags = self.drags


@dataclass(frozen=True)
class Finding:
    """One reason.  what: its kind; drags: which it is about; iteration: where it began, if it has a beginning.

    sentence: for people.  remedy: what helps, None where no change of a number does and the sentence says what may.
    """

    what: What
    sentence: str
    drags: tuple[int, ...]
    remedy: Remedy | None = None
    iteration: int | None = None


def diagnose(state: SessionState, *, anchors: np.ndarray | None = None) -> list[Finding]:
    """The reasons, the first to mend first; none for an edit without drags, one that has arrived, or is on its way.

    anchors: (m, 2) image pixels, where they are after the last update, default as far as the state knows.
    """
    drags, config, frame = state.drags, state.config, state.frame
    if not drags:
        return []
    radius = max(BRUSH * max(frame.given), 3 * frame.grid_step)
    found = [*too_short(state), *held_by_mask(drags, state.mask, config, radius)]
    path = anchor_path(state.history, state.anchors if anchors is None else anchors)
    if len(path) < 2:
        return found
    objectives = np.array([drag.objective for drag in drags])
    away = np.linalg.norm(path - objectives, axis=-1)
    short = ~np.asarray(arrived(frame.gaps(path[-1], objectives), config))
    lost = [
        finding
        for i in np.flatnonzero(short)
        if (finding := lost_anchor(int(i), path[:, i], away[:, i], config, frame.grid_step)) is not None
    ]
    told = {i for finding in (*found, *lost) for i in finding.drags}
    resting = [i for i in np.flatnonzero(short).tolist() if i not in told and rests(away[:, i], frame.grid_step)]
    found += sorted(lost, key=lambda finding: finding.iteration or 0)
    found += stalled(resting, away, state)
    if state.status == "max_iterations" and short.any():
        told = {i for finding in found for i in finding.drags}
        which = np.flatnonzero(short).tolist()
        found.append(out_of_iterations(which, [i for i in which if i not in told], away, config))
    return found


def anchor_path(history: History, anchors: np.ndarray | None) -> np.ndarray:
    """Where the anchors were after 0, 1, .. updates, (n + 1, m, 2); a snapshot has them from before its update."""
    if not history:
        return np.zeros((0, 0, 2))
    after = [snapshot.anchors for snapshot in history[2:]]
    if len(history) > 1 and anchors is not None:
        after.append(anchors)
    return np.array([history[0].anchors, *after])


def too_short(state: SessionState) -> list[Finding]:
    """Drags that count as arrived before anything is done, and the longer side that lets them count."""
    drags, frame, config = state.drags, state.frame, state.config
    gaps = frame.gaps([d.anchor for d in drags], [d.objective for d in drags])
    which = np.flatnonzero(arrived(gaps, config)).tolist()
    findings = []
    for i, sentence in zip(which, short_drags(drags, frame, config), strict=True):
        side = longer_side(float(gaps[i]), frame, config)
        remedy = None if side is None else Remedy(f"look at it with {side} pixels", config={"side": side})
        findings.append(Finding("short", sentence, (i,), remedy))
    return findings


def held_by_mask(drags: Sequence[Drag], mask: np.ndarray | None, config: DragConfig, radius: float) -> list[Finding]:
    """Drags with an end that the mask holds; none where the mask has no weight and nothing is put back."""
    if mask is None or (config.mask_weight == 0 and config.hold == "nothing"):
        return []
    findings = []
    for i, drag in enumerate(drags):
        anchor, objective = (not frees(mask, point) for point in (drag.anchor, drag.objective))
        if not (anchor or objective):
            continue
        if anchor and objective:
            sentence = f"the mask holds both ends of drag {i}, so nothing there can move."
        elif anchor:
            sentence = f"the mask holds drag {i}'s anchor, so what is there cannot leave it."
        else:
            sentence = f"the mask holds drag {i}'s objective, so nothing can come there."
        findings.append(Finding("mask", sentence, (i,), Remedy("paint it", paint=(drag,), radius=radius)))
    return findings


def lost_anchor(i: int, path: np.ndarray, away: np.ndarray, config: DragConfig, step: float) -> Finding | None:
    """Where the anchor of drag i was lost: path (n + 1, 2) and away (n + 1,), image pixels; step: of the grid.

    A jump is mended by looking farther from the iteration before it, a drift by smaller updates from the nearest one.
    """
    moves = np.diff(path, axis=0)
    far = np.abs(moves).max(-1) > JUMP * step
    nearer = -np.diff(away)
    jumps = np.flatnonzero(far & (nearer < np.linalg.norm(moves, axis=-1) / 2))
    if len(jumps) and away[-1] > away[jumps[0]] - NEARER * step:  # it never made up for the first one
        k = int(jumps[0]) + 1
        r2 = min(2 * config.r2, int(FIELDS["r2"].high))
        return Finding(
            "lost",
            f"the anchor of drag {i} was lost at iteration {k} (jumped {pixels(np.linalg.norm(moves[k - 1]))}).",
            (i,),
            again_with(config, "r2", r2, k - 1),
            k,
        )
    best = int(away.argmin())
    if away[-1] - away[best] < DRIFT * step:
        return None
    came = f"came within {pixels(away[best])} at iteration {best}"
    if not best:
        came = f"started {pixels(away[0])} from its objective"
    return Finding(
        "drifted",
        f"the anchor of drag {i} {came} and has gone {pixels(away[-1])} away since.",
        (i,),
        again_with(config, "lr", config.lr / 2, best),
        best,
    )


def again_with(config: DragConfig, name: str, value: float, k: int) -> Remedy | None:
    """Go back to iteration k and on with another number; None where the editor does not read it, or has it already."""
    if not FIELDS[name].is_read_by(config.editor) or value == getattr(config, name):
        return None
    return Remedy(f"go back to {k} with {name} = {value:g}", rewind=k, config={name: value})


def rests(away: np.ndarray, step: float) -> bool:
    """Has an anchor, `away` (n + 1,) image pixels from its objective, not come nearer for long?  See `PATIENCE`."""
    return iterations_at_rest(away, step) >= max(PATIENCE, (len(away) - 1) // 2)


def iterations_at_rest(away: np.ndarray, step: float) -> int:
    """For how many iterations an anchor has not come nearer to its objective by `NEARER`, all of them together."""
    return len(away) - 1 - int((away <= away.min() + NEARER * step).argmax())


def stalled(which: Sequence[int], away: np.ndarray, state: SessionState) -> list[Finding]:
    """Of drags that come no nearer: a turn, those that pull against each other, and the rest.

    away: (n + 1, m).  The rest is offered larger updates, from where it began to rest.
    """
    if not which:
        return []
    drags, size, config = state.drags, state.frame.given, state.config
    falls = "" if still_falls([snapshot.loss for snapshot in state.history]) else "the loss stopped falling: "
    if degrees := turn_of(drags):
        them = in_words(range(len(drags)), "asks", "ask")
        sentence = (
            f"{falls}{them} for a turn by {abs(degrees):.0f} degrees, and each is pulled along a straight line; turn "
            "half as far, then again from there."
        )
        half = Remedy("turn half as far", rewind=0, drags=half_turned(drags, size))
        return [Finding("turned", sentence, tuple(range(len(drags))), half)]
    findings: list[Finding] = []
    paired: set[int] = set()
    for a, i in enumerate(which):
        for j in range(len(drags)):
            if j != i and j not in which[:a] and opposed(drags[i], drags[j], max(size)):
                one, other = sorted((i, j))
                both = f"drags {one} and {other} pull against each other"
                sentence = f"{falls}{both}; take one away, or point both alike."
                left = tuple(drag for n, drag in enumerate(drags) if n != other)
                remedy = Remedy(f"take drag {other} away", drags=left)
                findings.append(Finding("opposed", sentence, (one, other), remedy))
                paired |= {i, j}
    rest = [i for i in which if i not in paired]
    if rest:
        them = in_words(rest, "has", "have")
        far = ("" if len(rest) == 1 else "up to ") + pixels(away[-1, rest].max())
        lr = "a larger lr, " if FIELDS["lr"].is_read_by(config.editor) else ""
        sentence = (
            f"{falls}{them} not come nearer for {PATIENCE} iterations or more, with {far} to go; {lr}a nearer "
            "objective, or a mask that frees more may help."
        )
        since = min(len(away) - 1 - iterations_at_rest(away[:, i], state.frame.grid_step) for i in rest)
        again = again_with(config, "lr", min(2 * config.lr, FIELDS["lr"].high), since)
        findings.append(Finding("stalled", sentence, tuple(rest), again, since))
    return findings


def still_falls(losses: Sequence[float]) -> bool:
    """Is the median of the last quarter of the losses, NaN where there is none, below that before?  See `FALLING`."""
    known = np.array([loss for loss in losses if math.isfinite(loss)])
    quarter = len(known) // 4
    if quarter < 2:
        return True
    before, last = known[-2 * quarter : -quarter], known[-quarter:]
    return bool(np.median(last) < FALLING * np.median(before))


def out_of_iterations(which: Sequence[int], coming: Sequence[int], away: np.ndarray, config: DragConfig) -> Finding:
    """Drags that are short at the last iteration, and how many more would bring those that still come nearer.

    away: (n + 1, m).  The number is what they need at the rate of the last half, in tens, at most as many again.
    """
    n = len(away) - 1
    far = ("" if len(which) == 1 else "up to ") + pixels(away[-1, list(which)].max())
    sentence = f"{in_words(which, 'is', 'are')} {far} short after {n} iterations."
    rates = [(away[n // 2, i] - away[-1, i]) / (n - n // 2) for i in coming]
    needed = [away[-1, i] / rate for i, rate in zip(coming, rates, strict=True) if rate > 0]
    if not needed:
        return Finding("iterations", sentence, tuple(which), iteration=n)
    more = int(min(math.ceil(max(needed) / 10) * 10, max(math.ceil(n / 10) * 10, 10)))
    longer = config.replace(max_iterations=n + more)
    if longer.most_iterations > n:
        remedy = Remedy(f"{more} more", config={"max_iterations": n + more})
    else:
        each = math.ceil((n + more) / config.most_drag_steps)
        changes = {"max_iterations": max(n + more, config.max_iterations), "step_iterations": each}
        remedy = Remedy(f"again with {each} at each step", config=changes)
    return Finding("iterations", sentence, tuple(which), remedy, n)
