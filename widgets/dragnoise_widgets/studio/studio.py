"""DragStudio: all panels in one widget, with every action available by hand and as a method."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from PIL import Image

from dragnoise.images.pictures import as_picture
from dragnoise_widgets.access.access import Access
from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.compare.comparison_presenter import ComparisonPresenter
from dragnoise_widgets.compare.preview import Preview
from dragnoise_widgets.controls import all_below
from dragnoise_widgets.export.exports import Exports
from dragnoise_widgets.export.quick_looks import StudioQuickLooks
from dragnoise_widgets.pages.curves import Curves
from dragnoise_widgets.panels.advice import Advice
from dragnoise_widgets.panels.breakpoints_panel import BreakpointsPanel
from dragnoise_widgets.panels.inspector import Inspector
from dragnoise_widgets.panels.log import Log
from dragnoise_widgets.panels.messages import Messages
from dragnoise_widgets.panels.parameters import Parameters
from dragnoise_widgets.panels.question import Question
from dragnoise_widgets.panels.transport import Transport
from dragnoise_widgets.runner import breakpoints
from dragnoise_widgets.runner.commands import Apply, SetConfig
from dragnoise_widgets.runner.runner import Runner, checked_timeout
from dragnoise_widgets.studio import cell_cleanup
from dragnoise_widgets.studio.current_session import CurrentSession
from dragnoise_widgets.studio.layout import arranged
from dragnoise_widgets.studio.library import Library
from dragnoise_widgets.studio.presenter import Presenter

if TYPE_CHECKING:
    from dragnoise import DragSession, Snapshot


class DragStudio(widgets.VBox):
    """Place drags on a picture, prepare, step, run, pause; look inside, go back, change a number, go on.

    session: a `DragSession`; without one the studio begins with an upload and examples, or with `picture`.
    picture: a path, a PIL image or an array, shown at once, to be drawn on while the model is loaded.
    prompt: what it shows.  model: a name for `load_model`, default the embedded one.
    inline: do everything at once in the caller's thread, for tests and places without threads.
    autosave: a file that the session is saved to after every `every` iterations; True, the default, for one in the
        folder .dragnoise beside the notebook, None or False for none.
    preview_vae: a small VAE for the quick looks, as a hub id, a folder or an AutoencoderTiny of the model's family.

    `session`, `canvas`, `runner` and `image` (the picture shown) are there to be used; what is done to them shows, and
    what is done by hand is found in them.  `studio.runner.call(function)` changes a session that may be running.

    Whatever goes wrong is told under the buttons and in the Log tab; all of this may be called from any thread.
    """

    def __init__(
        self, session: DragSession | None = None, *, picture: Any = None, prompt: str = "", model: str = "",
        inline: bool = False, autosave: str | Path | bool | None = True, every: int = 5, preview_vae: Any = None,
    ) -> None:  # fmt: skip
        if session is not None and picture is not None:
            raise ValueError("a session has its picture; give a session, or picture= for a new one.")
        self.inline = inline
        self.journal = Log()
        self.transport = Transport(
            self._handlers("prepare", "step", "run", "pause", "stop", "play", "show", "rewind", "go_on", "branch")
        )
        self.access = Access(lambda name, data: self.messages.guarded(self.library.new_sessions.upload, data))
        self.messages = Messages(self.journal, self.transport, self.access.tell)
        self.question = Question()
        self.remarks = widgets.HTML(layout={"margin": "0 2px", "display": "none"})
        self.advice = Advice(lambda remedy: self.messages.guarded(self._current.apply_remedy, remedy))
        guarded = self.messages.guarded
        self.canvas = DragCanvas()
        self.canvas.on_error(self.messages.refused)
        self.access.follow(self.canvas)
        self.canvas.actions |= self._handlers("run_or_pause", "step_forward", "step_back")
        self.preview = Preview(lambda: self.presenter.refresh(), lambda index: guarded(self.library.compare, index))
        self.canvas.observe(lambda change: self.preview.look_at(change.new), "window")
        self.curves = Curves()
        self.looks = StudioQuickLooks(preview_vae, on_error=self.messages.failed)
        self.stage = widgets.HBox(layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        self.preview.every.observe(lambda _: guarded(self._current.set_preview), "value")
        self.parameters = Parameters(
            lambda name, value: self._current.set_number(name, value),
            lambda config: guarded(self._current.set_config, config),
        )
        self.breakpoints = BreakpointsPanel(lambda: guarded(self._current.set_breakpoints))
        self.inspector = Inspector(lambda function: self.runner.do(Apply(function, aside=True)), self.journal)
        self.access.observe(lambda change: guarded(self.inspector.set_dark, change.new), "dark")
        self.exports = Exports(self)
        self.share, self.clipboard = self.exports.panel, self.exports.clipboard
        self.library = Library(self, autosave=autosave, every=every)
        comparison = ComparisonPresenter(self.preview, self.looks, lambda: self.library.branches)
        self.presenter = Presenter(
            self, self.library, self.library.branches, comparison,
            busy_aside=lambda: self.exports.making_gif, inline=inline,
        )  # fmt: skip
        self._current: CurrentSession = CurrentSession(self)
        super().__init__(arranged(self, folded=session is not None or picture is not None))
        self.add_class("dragnoise-studio")
        if session is not None:
            self.session = session
        elif picture is not None:
            self.library.new_sessions.first(as_picture(picture), prompt, model)
        else:
            self.presenter.refresh()
        self.library.look_for_autosave()
        cell_cleanup.close_previous(self)

    # ---- the session -------------------------------------------------------------------------

    @property
    def session(self) -> DragSession:
        """The session shown; setting another one keeps this one among the branches.  RuntimeError if there is none."""
        return self.runner.session

    @session.setter
    def session(self, session: DragSession) -> None:
        self._current.show(session)

    @property
    def has_session(self) -> bool:
        """Is there a session yet?"""
        return self._current.binding is not None

    @property
    def runner(self) -> Runner:
        """The runner of the session.  Raises RuntimeError if there is no session."""
        return self._current.runner

    @property
    def image(self) -> Image.Image | None:
        """The picture shown on the right: of the iteration shown, a quick look until it has been rendered."""
        return self.preview.picture

    @property
    def iteration(self) -> int:
        """The iteration shown."""
        return self.presenter.iteration

    def refresh(self) -> None:
        """Bring everything in line with the session."""
        self.presenter.refresh()

    def unfold(self, content: widgets.Widget, *, folded: bool = False) -> None:
        """Open the panel that holds it; folded: close it instead."""
        for fold in self.children:
            if isinstance(fold, widgets.Accordion) and content in fold.children:
                fold.selected_index = None if folded else 0

    # ---- control -----------------------------------------------------------------------------

    def prepare(self, lora: dict[str, Any] | None = None) -> None:
        """Fit a LoRA if its arguments are given, or ticked by hand, then invert.  Returns at once."""
        if lora is None and self.transport.lora.value:
            lora = {"steps": self.transport.lora_steps.value}
        self.messages.clear()
        self.runner.prepare(lora=lora)

    def step(self, n: int = 1) -> None:
        """n iterations from the newest on; returns at once."""
        self.messages.clear()
        self._fit_if_ticked()
        self.runner.step(n)
        self.presenter.follow()

    def run(self) -> None:
        """Iterate until every anchor has arrived; returns at once."""
        self.messages.clear()
        self._fit_if_ticked()
        self.runner.run()
        self.presenter.follow()

    def pause(self) -> None:
        """Hold after the iteration under way; `run()` goes on."""
        self.runner.pause()

    def run_or_pause(self) -> None:
        """Pause what runs, else run."""
        (self.pause if self.runner.state == "running" else self.run)()

    def step_forward(self) -> None:
        """Show the next iteration; at the newest one, do another."""
        if self.iteration < len(self.session.history) - 1:
            self.show(self.iteration + 1)
        else:
            self.step()

    def step_back(self) -> None:
        """Show the iteration before, if there is one."""
        self.show(max(self.iteration - 1, 0))

    def stop(self) -> None:
        """End after the iteration under way; what is done stays."""
        self.exports.cancel_gif()
        self.runner.stop()

    def play(self) -> None:
        """Show one iteration after another, from the one shown or from the first; called again, stop that."""
        self.presenter.player.toggle()

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is being loaded, nothing is left to do and everything is shown; False when that took too long.

        timeout: seconds, None for ever.
        """
        began, seconds = time.monotonic(), checked_timeout(timeout)
        if not self.library.wait(seconds):
            return False
        left = None if seconds is None else max(seconds - (time.monotonic() - began), 0.0)
        return not self.has_session or self.runner.wait(left)

    def show(self, k: int | None) -> None:
        """Show iteration k, its anchors, losses and picture; None follows the newest.  Raises IndexError beyond."""
        self.presenter.choose(k)

    def rewind(self, k: int | None = None) -> Future[None]:
        """Go back to iteration k, default the one shown; what came after is forgotten.  Raises IndexError beyond."""
        k = self.iteration if k is None else k
        self.session.history.require(k)
        future = self.runner.rewind(k)
        self.presenter.follow()
        return future

    def go_on(self, k: int | None = None) -> None:
        """Go back to iteration k, default the one shown, and run from there.  Raises IndexError beyond."""
        self.rewind(k)
        self.run()

    def branch(self, k: int | None = None) -> Future[DragSession]:
        """A second session from iteration k on, default the one shown; the studio goes over to it when it is there."""
        return self.library.branch(self.iteration if k is None else k)

    def configure(self, **changes: Any) -> Future[None]:
        """Change numbers of `DragConfig`, at once if nothing runs, else at the next iteration.

        Raises ValueError for a wrong one, and changes nothing; the Future has what only the model could say.
        """
        self.session.config.replace(**changes)
        return self.runner.do(SetConfig(changes))

    def break_when(self, predicate: Callable[[Snapshot], Any]) -> Callable[[], None]:
        """Pause whenever predicate(snapshot) is true after an iteration; returns a function that removes it."""
        return self._current.add_breakpoint(breakpoints.custom(predicate))

    def close(self) -> None:
        """Leave the session, whose work ends after the iteration under way if nobody else drives it.

        Everything on the page goes with it.
        """
        if sys.is_finalizing():  # the interpreter takes everything along
            return
        if getattr(self, "library", None) is not None:
            self.library.close()
        if (shown := getattr(self, "_current", None)) is not None and shown.binding is not None:
            shown.binding.close()
        for widget in all_below(self) - {self}:
            widget.close()
        super().close()

    # ---- export ------------------------------------------------------------------------------

    def code(self, folder: str | Path = "edit") -> str:
        """The Python that repeats the edit exactly, up to the iteration shown; it needs files, saved in the folder."""
        return self.exports.code(folder).text

    def save_picture(self, path: str | Path) -> None:
        """Save the picture shown.  Raises RuntimeError if there is none, OSError where it cannot be written."""
        self.exports.save_picture(path)

    def save_drags(self, path: str | Path) -> None:
        """Save the drags as JSON."""
        self.exports.save_drags(path)

    def save_gif(self, path: str | Path, iterations: Any = None) -> None:
        """Render the trajectory as a GIF and save it, when that is done; default at most 24 of the iterations."""
        self.exports.save_gif(path, iterations)

    def render_gif(self, iterations: Any = None) -> Future[bytes]:
        """The bytes of that GIF, rendered between two iterations.  Raises IndexError for one that is not there."""
        return self.exports.render_gif(iterations)

    def _handlers(self, *names: str) -> dict[str, Callable[..., Any]]:
        def by_hand(name: str, *given: Any) -> Any:
            return self.messages.guarded(getattr(self, name), *given)

        return {name: partial(by_hand, name) for name in names}

    def _fit_if_ticked(self) -> None:
        """Before the first iteration, fit a LoRA if it is ticked and not fitted yet."""
        session, lora = self.session, self.transport.lora
        if lora.value and session.lora is None and not session.history:
            self.runner.prepare(lora={"steps": self.transport.lora_steps.value})
