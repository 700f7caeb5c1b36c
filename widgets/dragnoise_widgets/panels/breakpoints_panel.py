"""The breakpoints panel: a row for each condition on which a run pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from dragnoise_widgets.controls import named
from dragnoise_widgets.runner import breakpoints
from dragnoise_widgets.runner.breakpoints import Breakpoint, supervision_pixel
from dragnoise_widgets.runner.runner import Runner

if TYPE_CHECKING:
    from dragnoise import DragSession
    from dragnoise.session.history import History

Make = Callable[["DragSession", int], Breakpoint]

KINDS: dict[str, tuple[str, str, int, Make]] = {
    "reached": (
        "an anchor reaches its objective", "", 0,
        lambda session, _: breakpoints.reached(session=session),
    ),
    "jumped": (
        "an anchor jumps further than r2 in an iteration", "", 0,
        lambda session, _: breakpoints.jumped(session.config.r2 * supervision_pixel(session)),
    ),
    "stuck": (
        "an anchor has stood still for", "iterations", 5,
        lambda session, n: breakpoints.stuck(n, session=session),
    ),
    "rising": ("the loss has risen", "times in a row", 3, lambda _, n: breakpoints.rising(n)),
    "at": ("iteration", "is done", 10, lambda _, n: breakpoints.at(n)),
}  # fmt: skip
"""By name: the words before and after the number, its default (0: there is none), and what makes the breakpoint."""


class BreakpointsPanel(widgets.VBox):
    """Ticked rows are breakpoints; `chosen(session)` gives them, changed() is called when the ticks change."""

    def __init__(self, changed: Callable[[], Any]) -> None:
        self.ticks: dict[str, widgets.Checkbox] = {}
        self.numbers: dict[str, widgets.BoundedIntText] = {}
        rows = [widgets.HTML("Pause when", layout={"margin": "0 2px"})]
        for name, (words, after, default, _) in KINDS.items():
            tick = self.ticks[name] = widgets.Checkbox(False, description=words, indent=False, layout={"width": "auto"})
            tick.observe(lambda _: changed(), "value")
            row = [tick]
            if default:
                number = self.numbers[name] = named(
                    widgets.BoundedIntText(value=default, min=1, max=100_000, layout={"width": "70px"}),
                    f"{words}, {after}",
                )
                number.observe(lambda _: changed(), "value")
                row += [number, widgets.HTML(after, layout={"margin": "0 4px"})]
            rows.append(widgets.HBox(row, layout={"align_items": "center"}))
        super().__init__(rows)

    def chosen(self, session: DragSession) -> list[Breakpoint]:
        """The breakpoints that are ticked; those that depend on the session's numbers follow them."""
        return [
            _lazy(KINDS[name][3], session, self.numbers[name].value if name in self.numbers else 0)
            for name, tick in self.ticks.items()
            if tick.value
        ]


def _lazy(make: Make, session: DragSession, n: int) -> Breakpoint:
    def stop(history: History) -> str:
        return make(session, n)(history)

    return stop


class BreakpointSync:
    """Sets the breakpoints of a runner that come from the studio: the ticked ones, and `own`."""

    def __init__(self, stops: BreakpointsPanel) -> None:
        self.own: list[Breakpoint] = []
        self._stops = stops
        self._set: list[Breakpoint] = []  # the ones last set by `apply`

    def apply(self, runner: Runner, session: DragSession) -> None:
        """Update the breakpoints of a runner; those set by others stay."""
        others = [stop for stop in runner.breakpoints if stop not in self._set]
        self._set = [*self._stops.chosen(session), *self.own]
        runner.breakpoints = [*others, *self._set]
