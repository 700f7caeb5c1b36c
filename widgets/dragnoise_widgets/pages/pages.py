"""The pages of the inspector: losses, anchors, the optimised tensor, latents, features and the LoRA."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dragnoise import Drag, DragSession, plots
from dragnoise.plots import panels
from dragnoise.session.cache import same
from dragnoise.session.feature_maps import FeatureMaps, measure
from dragnoise.session.history import History
from dragnoise_widgets.pages.figures import FigureImage
from dragnoise_widgets.sentences import sentence

WIDE = 760
"""CSS pixels of a figure at most."""

SHARE = 0.05
"""Of the time while something runs, so much may go into figures at most."""


@dataclass(frozen=True, eq=False)
class Sight:
    """The session's snapshots and choices at one moment; the session may run on meanwhile.

    history: of the session.  k: the iteration shown.  drags: of the session.  picture: to draw paths
    on.  tolerance: in image pixels.  other: the history of a branch to compare with, may be empty.
    running: is there work under way?
    """

    session: DragSession
    history: History
    k: int
    drags: tuple[Drag, ...]
    picture: Image.Image
    tolerance: float
    other: History = field(default_factory=History)
    running: bool = False

    @property
    def until(self) -> Any:
        """The snapshots up to the one shown."""
        return self.history[: self.k + 1]


class Page(widgets.VBox):
    """A tab with one figure.  `key` says what it depends on: nothing is drawn twice."""

    title = ""

    def __init__(self, height: int = 300, *, above: tuple[Any, ...] = ()) -> None:
        self.plot = FigureImage(WIDE, height)
        self._drawn: tuple[Any, ...] | None = None
        self._due = 0.0
        self._drawing = threading.RLock()  # a tab is opened on one thread and brought up to date on another
        super().__init__([*above, self.plot])

    def key(self, sight: Sight) -> tuple[Any, ...]:
        """The objects and numbers that the figure shows; the same ones need no new drawing."""
        return (sight.history, sight.k, sight.drags, sight.other)

    def paint(self, figure: Figure, sight: Sight) -> Any:
        """Fill the figure; a ValueError is shown as a note."""
        raise NotImplementedError

    def show(self, sight: Sight) -> None:
        """Draw what differs; while something runs only so often that it hardly slows it down."""
        with self._drawing:
            key = self.key(sight)
            if (self._drawn is not None and same(key, self._drawn)) or (sight.running and time.monotonic() < self._due):
                return
            self._drawn = key
            self.plot.draw(lambda figure: self.paint(figure, sight))
            self._due = time.monotonic() + self.plot.seconds * (1 / SHARE - 1)


class LossPage(Page):
    """The loss that every update was computed from."""

    title = "Loss"

    def paint(self, figure: Figure, sight: Sight) -> None:
        plots.plot_loss(sight.history, ax=(ax := figure.subplots()))
        if len(sight.other) > 1:
            losses = [(s.iteration, s.loss) for s in sight.other[1:]]
            ax.plot(*zip(*losses, strict=True), color=panels.GREY, lw=1.4, ls="--", label="compared")
            ax.legend(frameon=False, fontsize="small")
        _mark(ax, sight)


class AnchorsPage(Page):
    """Distances to the objectives and the anchors' paths."""

    title = "Anchors"

    def paint(self, figure: Figure, sight: Sight) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        plots.plot_anchor_motion(sight.history, tolerance=sight.tolerance, ax=left)
        for i, far in enumerate(np.transpose([s.distances for s in sight.other]) if sight.other else ()):
            left.plot(far, color=panels.COLOURS[i % len(panels.COLOURS)], lw=1.2, ls="--")
        _mark(left, sight)
        plots.plot_trajectory(sight.until, image=sight.picture, drags=sight.drags, ax=right)


class BottleneckPage(Page):
    """The optimised tensor at iteration 0 and now, and the difference."""

    title = "Bottleneck"

    def __init__(self) -> None:
        super().__init__(470)

    def paint(self, figure: Figure, sight: Sight) -> None:
        plots.plot_bottleneck(sight.until, ax=figure.subplots(2, 3).ravel())


class LatentsPage(Page):
    """The latent's channels, at every step of the inversion."""

    title = "Latents"

    def __init__(self) -> None:
        self.step = widgets.IntSlider(
            min=0, max=0, description="inversion step", layout={"width": "400px"},
            style={"description_width": "initial"},
        )  # fmt: skip
        self._sight: Sight | None = None
        self._latents: tuple[Tensor, ...] = ()
        self.step.observe(self._chosen, "value")
        super().__init__(240, above=(self.step,))

    def show(self, sight: Sight) -> None:
        """Read the latents where they lie, without a copy; during an inversion only as often as is drawn."""
        self._sight = sight
        state = sight.session.state
        if state.inverted or not sight.running or time.monotonic() >= self._due:
            self._latents = state.trajectory
        last = max(len(self._latents) - 1, 0)
        if last != self.step.max:
            self.step.max = last
            self.step.value = last  # until one chooses, the newest
        super().show(sight)

    def key(self, sight: Sight) -> tuple[Any, ...]:
        done, k = self._latents, self.step.value
        return (k, done[k] if k < len(done) else None)

    def _chosen(self, _: Any) -> None:
        """The slider is followed at once, whatever runs."""
        if self._sight is None:
            return
        self._due = 0.0
        try:
            super().show(self._sight)
        except Exception as error:  # which ipywidgets would lose
            self.plot.say(sentence(error))

    def paint(self, figure: Figure, sight: Sight) -> None:
        done = self._latents
        if not done:
            raise ValueError("The picture has not been inverted yet; press Prepare.")
        latent = done[min(self.step.value, len(done) - 1)]
        plots.plot_latents(latent, ax=figure.subplots(1, latent.shape[1]))


class FeaturesPage(Page):
    """Similarity of every place to each anchor's initial feature, as point tracking computes it.

    call: runs a function of the session between two iterations, as `Runner.call` does.
    """

    title = "Features"

    def __init__(self, call: Callable[[Callable[[DragSession], Any]], Future[Any]]) -> None:
        self._call = call
        self._maps: FeatureMaps | str = ""
        self._asked: tuple[Any, ...] = ()
        self._asked_at = 0.0
        super().__init__(330)

    def show(self, sight: Sight) -> None:
        if len(sight.history) == 0:
            self.plot.say("Features are compared once there is an iteration; press Step.")
            self._asked, self._drawn, self._maps = (), None, ""
            return
        wanted = (sight.history[sight.k].anchors, sight.session.config, sight.drags)
        soon = sight.running and time.monotonic() < self._asked_at + 2
        if not soon and not (self._asked and same(wanted, self._asked)):
            self._asked, self._asked_at = wanted, time.monotonic()
            self._call(lambda session: self._measure(session, sight.k))
        if self._maps:
            super().show(sight)

    def key(self, sight: Sight) -> tuple[Any, ...]:
        return (self._maps, sight.drags)

    def paint(self, figure: Figure, sight: Sight) -> None:
        if isinstance(self._maps, str):
            raise ValueError(self._maps)
        m = len(self._maps.distance)
        drags = sight.drags if len(sight.drags) == m else None
        plots.plot_similarity(self._maps, drags=drags, ax=figure.subplots(1, m, squeeze=False).ravel())

    def _measure(self, session: DragSession, k: int) -> None:
        """The maps, or why there are none: that is no error of the session's."""
        try:
            self._maps = measure(session, k)
        except Exception as error:
            self._maps = str(error)


class LoraPage(Page):
    """The LoRA's training loss and its norm in every layer."""

    title = "LoRA"

    def __init__(self) -> None:
        super().__init__(330)

    def key(self, sight: Sight) -> tuple[Any, ...]:
        return (sight.session.lora,)

    def paint(self, figure: Figure, sight: Sight) -> None:
        lora = sight.session.lora
        if lora is None:
            raise ValueError("There is no LoRA; tick it beside Prepare to fit one.")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        left.set(xlabel="step", ylabel="loss" if lora.losses else "loss (the LoRA's file does not say)")
        if lora.losses:
            steps = np.arange(1, len(lora.losses) + 1)
            left.plot(steps, lora.losses, color=panels.HAIR, lw=1)
            left.plot(steps, _smooth(lora.losses), color=panels.INK, lw=1.8)
        names, norms = list(lora.norms), list(lora.norms.values())
        right.barh(range(len(norms)), norms, color=panels.COLOURS[0])
        right.invert_yaxis()
        right.set(xlabel=f"norm of the change, rank {lora.rank}, weight {lora.weight:g}")
        few = range(0, len(names), max(len(names) // 16, 1))
        right.set_yticks(list(few), [_layer(names[i]) for i in few], fontsize="x-small")
        for ax in (left, right):
            ax.spines[["top", "right"]].set_visible(False)


def _mark(ax: Any, sight: Sight) -> None:
    """A line at the iteration shown, where it is not the last."""
    if sight.k < len(sight.history) - 1:
        ax.axvline(sight.k, color=panels.COLOURS[1], lw=1.2)


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
