"""The pages of the inspector: losses, anchors, the optimised tensor, latents, features and the LoRA."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from dragnoise import DragSession, plots
from dragnoise.identity import same
from dragnoise.inspection.feature_maps import FeatureMaps, measure
from dragnoise.plots.colours import COLOURS, GREY, HAIR, INK
from dragnoise_widgets.formatting import error_message
from dragnoise_widgets.pages.page import Page
from dragnoise_widgets.pages.view_state import ViewState


def loss_page() -> Page:
    return Page(paint_loss)


def paint_loss(figure: Figure, view: ViewState) -> None:
    """The loss that every update was computed from."""
    plots.plot_loss(view.history, ax=(ax := figure.subplots()))
    if len(view.other) > 1:
        losses = [(s.iteration, s.loss) for s in view.other[1:]]
        ax.plot(*zip(*losses, strict=True), color=GREY, lw=1.4, ls="--", label="compared")
        ax.legend(frameon=False, fontsize="small")
    mark(ax, view)


def anchors_page() -> Page:
    return Page(paint_anchors)


def paint_anchors(figure: Figure, view: ViewState) -> None:
    """Distances to the objectives and the anchors' paths."""
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    plots.plot_anchor_motion(view.history, tolerance=view.tolerance, ax=left)
    for i, far in enumerate(np.transpose([s.distances for s in view.other]) if view.other else ()):
        left.plot(far, color=COLOURS[i % len(COLOURS)], lw=1.2, ls="--")
    mark(left, view)
    plots.plot_trajectory(view.until, image=view.picture, drags=view.drags, ax=right)


def bottleneck_page() -> Page:
    return Page(paint_bottleneck, height=470)


def paint_bottleneck(figure: Figure, view: ViewState) -> None:
    """The optimised tensor at iteration 0 and now, and the difference."""
    plots.plot_bottleneck(view.until, ax=figure.subplots(2, 3).ravel())


class LatentsPage(Page):
    """The latent's channels, at every step of the inversion."""

    def __init__(self) -> None:
        self.step = widgets.IntSlider(
            min=0, max=0, description="inversion step", layout={"width": "400px"},
            style={"description_width": "initial"},
        )  # fmt: skip
        self._view: ViewState | None = None
        self._latents: tuple[Tensor, ...] = ()
        self.step.observe(self._chosen, "value")
        super().__init__(self._paint, key=self._key, height=240, above=(self.step,))

    def show(self, view: ViewState) -> None:
        """Read the latents without copying them; during an inversion only when the figure is due to be drawn."""
        self._view = view
        state = view.session.state
        if state.inverted or not view.running or time.monotonic() >= self.due:
            self._latents = state.trajectory
        last = max(len(self._latents) - 1, 0)
        if last != self.step.max:
            self.step.max = last
            self.step.value = last  # until one chooses, the newest
        super().show(view)

    def _key(self, view: ViewState) -> tuple[Any, ...]:
        done, k = self._latents, self.step.value
        return (k, done[k] if k < len(done) else None)

    def _chosen(self, _: Any) -> None:
        """Draw at once when the slider is moved, even while something runs."""
        if self._view is None:
            return
        self.due = 0.0
        try:
            super().show(self._view)
        except Exception as error:  # ipywidgets would lose it
            self.plot.say(error_message(error))

    def _paint(self, figure: Figure, view: ViewState) -> None:
        done = self._latents
        if not done:
            raise ValueError("The picture has not been inverted yet; press Prepare.")
        latent = done[min(self.step.value, len(done) - 1)]
        plots.plot_latents(latent, ax=figure.subplots(1, latent.shape[1]))


class FeaturesPage(Page):
    """Similarity of every place to each anchor's initial feature, as point tracking computes it.

    call: runs a function of the session between two iterations, as `Runner.call` does.
    """

    def __init__(self, call: Callable[[Callable[[DragSession], Any]], Future[Any]]) -> None:
        self._call = call
        self._maps: FeatureMaps | str = ""
        self._asked: tuple[Any, ...] = ()
        self._asked_at = 0.0
        super().__init__(self._paint, key=self._key, height=330)

    def show(self, view: ViewState) -> None:
        if len(view.history) == 0:
            self.plot.say("Features are compared once there is an iteration; press Step.")
            self._asked, self._maps = (), ""
            self.forget()
            return
        wanted = (view.history[view.k].anchors, view.session.config, view.drags)
        soon = view.running and time.monotonic() < self._asked_at + 2
        if not soon and not (self._asked and same(wanted, self._asked)):
            self._asked, self._asked_at = wanted, time.monotonic()
            self._call(lambda session: self._measure(session, view.k))
        if self._maps:
            super().show(view)

    def _key(self, view: ViewState) -> tuple[Any, ...]:
        return (self._maps, view.drags)

    def _paint(self, figure: Figure, view: ViewState) -> None:
        if isinstance(self._maps, str):
            raise ValueError(self._maps)
        m = len(self._maps.distance)
        drags = view.drags if len(view.drags) == m else None
        side_by_side = m <= 2
        panels = figure.subplots(*((1, 2 * m) if side_by_side else (2, m)), squeeze=False).ravel()
        whole, windows = (panels[::2], panels[1::2]) if side_by_side else (panels[:m], panels[m:])
        plots.plot_similarity(self._maps, drags=drags, ax=whole)
        plots.plot_similarity(self._maps, drags=drags, zoom=True, ax=windows)

    def _measure(self, session: DragSession, k: int) -> None:
        """Compute the maps, or note why there are none, without an error in the session's status."""
        try:
            self._maps = measure(session, k)
        except Exception as error:
            self._maps = str(error)


def lora_page() -> Page:
    return Page(paint_lora, key=lambda view: (view.session.lora,), height=330)


def paint_lora(figure: Figure, view: ViewState) -> None:
    """The LoRA's training loss and its norm in every layer."""
    lora = view.session.lora
    if lora is None:
        raise ValueError("There is no LoRA; tick it beside Prepare to fit one.")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    left.set(xlabel="step", ylabel="loss" if lora.losses else "loss (the LoRA's file does not say)")
    if lora.losses:
        steps = np.arange(1, len(lora.losses) + 1)
        left.plot(steps, lora.losses, color=HAIR, lw=1)
        left.plot(steps, _smooth(lora.losses), color=INK, lw=1.8)
    names, norms = list(lora.norms), list(lora.norms.values())
    right.barh(range(len(norms)), norms, color=COLOURS[0])
    right.invert_yaxis()
    right.set(xlabel=f"norm of the change, rank {lora.rank}, weight {lora.weight:g}")
    few = range(0, len(names), max(len(names) // 16, 1))
    right.set_yticks(list(few), [_layer(names[i]) for i in few], fontsize="x-small")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)


def mark(ax: Any, view: ViewState) -> None:
    """A line at the iteration shown, where it is not the last."""
    if view.k < len(view.history) - 1:
        ax.axvline(view.k, color=COLOURS[1], lw=1.2)


def _smooth(losses: Any, window: int = 9) -> np.ndarray:
    """A running mean, as long as what it is of; the window is cut off at the ends."""
    values = np.asarray(losses, np.float64)
    ones = np.ones(min(window, max(len(values), 1)))
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


def _layer(name: str) -> str:
    """A layer's name, short enough for a plot."""
    for long, short in (("_blocks", ""), ("attentions.", ""), ("transformer", "t"), ("to_out.0", "to_out")):
        name = name.replace(long, short)
    return name
