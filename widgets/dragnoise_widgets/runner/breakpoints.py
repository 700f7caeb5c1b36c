"""Breakpoints: functions of the history that return the reason to pause, or "".

A breakpoint is called with the session's history after every iteration.  It returns the reason in a
few words, or "" to go on.  Each tells of what has just happened, so that going on is not stopped
by the same thing again.  Distances are image pixels; `supervision_pixel` converts the config's.

Anchors are counted from 0, as on the canvas and in `session.drags`.  As everywhere, `history[k]`
holds the anchors that update k was computed from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dragnoise import geometry
from dragnoise.session.history import History
from dragnoise.validation import as_integer, as_number, shown

if TYPE_CHECKING:
    from dragnoise.session.history import Snapshot
    from dragnoise.session.session import DragSession

Breakpoint = Callable[[History], str]

STILL = 1e-6
"""An anchor that moved less than this has not moved, in image pixels."""


def reached(within: float | None = None, *, session: DragSession | None = None) -> Breakpoint:
    """An anchor has come within this distance of its objective, > 0 image pixels.

    within: default the engine's own rule for the session, `dragnoise.geometry.arrived`.
    session: whose history it is; it knows where the anchors have come to by the last update, so that
        this tells of an arrival at once.  From the history alone it is known one iteration later.
    """
    if within is None and session is None:
        raise ValueError("reached() needs a distance in image pixels, or session= to take the session's own tolerance.")
    if within is not None:
        as_number("within", within, above=True)

    def reached(history: History) -> str:
        if not history:
            return ""
        if within is not None:
            near = [snapshot.distances <= within for snapshot in history[-2:]]
            if session is not None:
                near.append(to_go(session) <= within)
        elif session is not None:
            near = [arrived(session, anchors) for anchors in (*(s.anchors for s in history[-2:]), session.anchors)]
        now, before = near[-1], near[-2] if len(near) > 1 else np.zeros(len(near[-1]), bool)
        return _of_anchors(now & ~before, "has", "have", "reached the objective")

    return reached


def jumped(r2: float) -> Breakpoint:
    """An anchor moved further than this in one iteration, > 0 image pixels.

    The tracker's reach is `session.config.r2 * supervision_pixel(session)` along x and along y, so
    with that number this tells of moves into the corners of its window.
    """
    as_number("r2", r2, above=True)

    def jumped(history: History) -> str:
        if len(history) < 2:
            return ""
        moved = _moved(history, -1)
        (far,) = np.nonzero(moved > r2 + STILL)
        return "; ".join(f"anchor {i} jumped {moved[i]:.1f} px" for i in far)

    return jumped


def stuck(n: int, *, within: float = 0.0, session: DragSession | None = None) -> Breakpoint:
    """An anchor has not moved for n >= 1 iterations, and again after every n more.

    within: anchors this near to their objective may stand still, image pixels.
    session: anchors that have arrived by its tolerance may stand still too.
    """
    n = as_integer("n", n, 1)

    def stuck(history: History) -> str:
        if len(history) < 3:  # iteration 1 never moves an anchor
            return ""
        still = np.zeros(len(history[-1].anchors), int)
        standing = history[-1].distances > within
        if session is not None:
            standing &= ~arrived(session, history[-1].anchors)
        for k in range(len(history) - 1, 1, -1):
            standing = standing & (_moved(history, k) <= STILL)
            if not standing.any():
                break
            still += standing
        told = (still > 0) & (still % n == 0)
        counts = ", ".join(map(str, dict.fromkeys(still[told])))
        return _of_anchors(told, "has", "have", f"not moved for {counts} iteration{'' if counts == '1' else 's'}")

    return stuck


def rising(n: int) -> Breakpoint:
    """The loss has risen n >= 1 times in a row, and again after every n more."""
    n = as_integer("n", n, 1)

    def rising(history: History) -> str:
        losses = [snapshot.loss for snapshot in history]
        rises = 0
        while rises + 1 < len(losses) and losses[-1 - rises] > losses[-2 - rises]:
            rises += 1
        return f"the loss has risen {rises} times in a row" if rises and rises % n == 0 else ""

    return rising


def at(iteration: int) -> Breakpoint:
    """An iteration is done, counted from 1."""
    iteration = as_integer("iteration", iteration, 1)

    def at(history: History) -> str:
        return f"iteration {iteration} is done" if history and history[-1].iteration == iteration else ""

    return at


def custom(predicate: Callable[[Snapshot], Any]) -> Breakpoint:
    """Any predicate of the newest snapshot; a text that it returns is the reason."""
    if not callable(predicate):
        raise TypeError(f"a breakpoint is a function of a snapshot, not {shown(predicate)}.")

    def custom(history: History) -> str:
        said = predicate(history[-1]) if history else ""
        if not said:
            return ""
        return said if isinstance(said, str) else f"{getattr(predicate, '__name__', predicate)!s:.60} was true"

    return custom


def supervision_pixel(session: DragSession) -> float:
    """Image pixels per supervision pixel, in which `DragConfig` counts r1, r2 and tolerance: `Frame.grid_step`."""
    return session.state.frame.grid_step


def arrived(session: DragSession, anchors: np.ndarray) -> np.ndarray:
    """(m, 2) image pixels -> (m,) bool: has each of the session's anchors arrived there, by the engine's own rule?"""
    gaps = session.state.frame.gaps(anchors, [drag.objective for drag in session.drags])
    return np.asarray(geometry.arrived(gaps, session.config))


def to_go(session: DragSession) -> np.ndarray:
    """(m,) how far the anchors are from their objectives by now, after the last update, image pixels."""
    return np.linalg.norm(session.anchors - [drag.objective for drag in session.drags], axis=-1)


def _moved(history: History, k: int) -> np.ndarray:
    """(m,) how far the anchors came from iteration k - 1 to k, image pixels."""
    return np.linalg.norm(history[k].anchors - history[k - 1].anchors, axis=1)


def _of_anchors(which: np.ndarray, one: str, many: str, what: str) -> str:
    """ "anchor 2 has reached the objective", "anchors 1, 3 have ..."; "" for none."""
    numbers = [str(i) for i in np.flatnonzero(which)]
    if not numbers:
        return ""
    return f"anchor{'s' if len(numbers) > 1 else ''} {', '.join(numbers)} {many if len(numbers) > 1 else one} {what}"
