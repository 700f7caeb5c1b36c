"""The transport: buttons that drive a session, a scrubber over its history, progress, and the status line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from dragnoise_widgets.controls import ROW, button
from dragnoise_widgets.runner.status_line import DOING, stoppable
from dragnoise_widgets.runner.status_publisher import duration
from dragnoise_widgets.runner.updates import Status

if TYPE_CHECKING:
    from dragnoise.session.history import History


class Transport(widgets.VBox):
    """Rows of controls under the pictures.

    actions: what they do, by name: prepare, step, run, pause, stop, play, show(k) for the scrubber, rewind,
    go_on, branch.  `lora` and `lora_steps` say what Prepare is to do.
    """

    def __init__(self, actions: Mapping[str, Callable[..., Any]]) -> None:
        self._actions = actions
        self._own = 0  # where the scrubber was put by `show`
        self.prepare = self._button("Prepare", "cogs", "prepare", "Fit a LoRA if ticked, then invert the picture")
        self.lora = widgets.Checkbox(
            False, description="LoRA", indent=False, layout={"width": "62px", "margin": "0 0 0 4px"}
        )
        self.lora_steps = widgets.BoundedIntText(
            value=200, min=1, max=100_000, description="steps", layout={"width": "118px", "display": "none"},
            style={"description_width": "36px"},
        )  # fmt: skip
        self.lora.observe(self._lora_toggled, "value")
        self.step = self._button("Step", "step-forward", "step", "One iteration")
        self.run = self._button("Run", "play", "run", "Iterate until every anchor has arrived", style="primary")
        self.pause = self._button("Pause", "pause", "pause", "Pause after this iteration; Run continues")
        self.stop = self._button("Stop", "stop", "stop", "End after this iteration; what is done stays")
        self.bar = widgets.FloatProgress(
            value=0, min=0, max=1, layout={"width": "calc(100% - 4px)", "height": "6px", "margin": "1px 2px"}
        ).add_class("dragnoise-bar")
        self.doing = widgets.HTML(layout={"margin": "0 2px 0 auto", "flex": "0 0 auto"})

        self.scrubber = widgets.IntSlider(
            min=0, max=0, description="iteration", continuous_update=True, style={"description_width": "initial"},
            layout={"flex": "1 1 170px", "min_width": "160px", "max_width": "640px"},
        )  # fmt: skip
        self.scrubber.observe(self._scrubbed, "value")
        self.play = self._button("", "film", "play", "Play the iterations through, or stop that", "34px")
        self.rewind = self._button("Back to here", "", "rewind", "Forget the iterations after this one", "auto")
        self.go_on = self._button("Continue from here", "", "go_on", "Go back to this one, and run", "auto")
        self.branch = self._button("Branch here", "", "branch", "A new session from here on; this one stays", "auto")
        self.line = widgets.HTML(layout={"margin": "0 2px", "flex": "1 1 auto", "min_width": "0"})
        self.line.add_class("dragnoise-line")  # two lines high, see the layout; what is longer shows under the pointer
        super().__init__(
            [
                widgets.HBox(
                    [self.prepare, self.lora, self.lora_steps, self.step, self.run, self.pause, self.stop], layout=ROW
                ),
                widgets.HBox([self.play, self.scrubber, self.rewind, self.go_on, self.branch], layout=ROW),
                self.bar,
                widgets.HBox([self.line, self.doing], layout={"align_items": "flex-start", "height": "44px"}),
            ]
        )  # fmt: skip
        self.add_class("dragnoise-transport")

    def show(
        self,
        status: Status,
        history: History,
        k: int,
        *,
        ready: bool,
        drags: int,
        busy_aside: bool = False,
        playing: bool = False,
    ) -> None:
        """Update all controls.

        k: the iteration shown.  ready: is there a session?  drags: how many it has.  busy_aside: is something else
        under way that Stop cancels, such as a GIF?  playing: are the iterations being played through?
        """
        busy = status.state in ("running", "stopping")
        at_work = busy or status.task != ""
        last = max(len(history) - 1, 0)
        self.prepare.disabled = self.lora.disabled = not ready or busy
        self.step.disabled = self.run.disabled = not ready or busy or not drags
        self.pause.disabled = not ready or status.state != "running"
        self.stop.disabled = not ready or not (busy_aside or stoppable(status))
        for verb in (self.rewind, self.go_on, self.branch):
            verb.disabled = not ready or k >= last
        self.scrubber.disabled = not history
        self.play.disabled, self.play.icon = last < 1, "pause" if playing else "film"
        self.bar.value = status.done / status.total if status.total else 0.0
        self.bar.layout.visibility = "visible" if at_work else "hidden"
        self.doing.value = _doing(status) if at_work else ""
        self._own = k
        if self.scrubber.max != last:
            self._own = min(k, last)
            if self.scrubber.value > last:
                self.scrubber.value = self._own
            self.scrubber.max = last
        if self.scrubber.value != k:
            self.scrubber.value = k

    def say(self, line: str) -> None:
        """Show the status line, HTML."""
        if line != self.line.value:
            self.line.value = line

    def _scrubbed(self, change: Any) -> None:
        if change.new != self._own:
            self._actions["show"](change.new)

    def _lora_toggled(self, change: Any) -> None:
        self.lora_steps.layout.display = "" if change.new else "none"

    def _button(
        self, label: str, icon: str, action: str, tooltip: str, width: str = "92px", style: str = ""
    ) -> widgets.Button:
        return button(label, lambda: self._actions[action](), icon=icon, tooltip=tooltip, width=width, style=style)


def _doing(status: Status) -> str:
    """ "inverting 12 of 35, 3 s left" """
    words = DOING.get(status.task, status.state)
    if status.iteration is not None:
        words = f"picture of iteration {status.iteration}:"
    if status.total:
        words += f" {status.done} of {status.total}"
    if status.seconds_left is not None:
        words += f", {duration(status.seconds_left)} left"
    return words
