"""DragStudio: the whole workplace in one widget; all that is done by hand can be done from code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from PIL import Image

from dragnoise import DragConfig, DragSession
from dragnoise.history import History, Snapshot
from dragnoise_widgets import breakpoints, downloads
from dragnoise_widgets.album import Album
from dragnoise_widgets.breakpoints import Breakpoint, supervision_pixel
from dragnoise_widgets.canvas import DragCanvas
from dragnoise_widgets.code import as_code
from dragnoise_widgets.frontend import enable_custom_widget_manager
from dragnoise_widgets.inspector import Inspector, Sight
from dragnoise_widgets.library import Library
from dragnoise_widgets.log import Log
from dragnoise_widgets.parameters import Parameters
from dragnoise_widgets.preview import Preview
from dragnoise_widgets.runner import Runner, Status, Update
from dragnoise_widgets.share import Share
from dragnoise_widgets.stops import Stops
from dragnoise_widgets.transport import Transport

STYLE = """<style>
.dragnoise-studio .widget-button, .dragnoise-studio .jupyter-button { border-radius: 4px }
.dragnoise-studio .widget-html-content, .dragnoise-studio .widget-html > div { line-height: 1.5 }
.dragnoise-studio .lm-TabPanel-tabContents, .dragnoise-studio .widget-tab-contents { padding: 8px 6px }
</style>"""


class DragStudio(widgets.VBox):
    """Place drags on a picture, prepare, step, run, pause; look inside, go back, change a number, go on.

    session: a `DragSession`; without one the studio begins with an upload and an example.
    inline: do everything at once in the caller's thread, for tests and places without threads.
    autosave: a file that the session is saved to after every `every` iterations.

    `session`, `canvas`, `runner` and `image` (the picture shown) are there to be used; what is done to
    them shows, and what is done by hand is found in them.  Use `studio.runner.call(function)` to change
    a session that may be running.

    Whatever goes wrong is written to the Log tab and, in short, under the buttons, and the studio works on.
    """

    def __init__(
        self, session: DragSession | None = None, *, inline: bool = False, autosave: str | Path | None = None,
        every: int = 5,
    ) -> None:  # fmt: skip
        enable_custom_widget_manager()
        self._inline = inline
        self._gate = threading.RLock()  # one thread at a time brings the widgets up to date
        self._runner: Runner | None = None
        self._ends: list[Callable[[], Any]] = []  # what ends the ties to the session
        self._update = Update()
        self._shown: int | None = None  # the iteration that the scrubber holds; None is the newest
        self._album = Album()
        self._now: tuple[Snapshot, np.ndarray] | None = None  # a snapshot, and where its anchors have come to
        self._asked: tuple[Any, ...] = ()  # what was asked for once need not be asked for again
        self._trouble = ""
        self._reported = ""
        self._own_stops: list[Breakpoint] = []

        self.journal = Log()
        self.canvas = DragCanvas()
        self.canvas.on_error(self._canvas_failed)
        self.preview = Preview()
        self.preview.every.observe(lambda _: self._guarded(self._set_preview), "value")
        self.transport = Transport(
            self._handlers("prepare", "step", "run", "pause", "stop", "show", "rewind", "go_on", "branch")
        )
        self.parameters = Parameters(self._typed, lambda config: self._guarded(self._preset, config))
        self.stops = Stops(lambda: self._guarded(self._set_stops))
        self.inspector = Inspector(self._call, self.journal)
        self.share = Share(
            {"gif": partial(self._guarded, self._make_gif), "code": partial(self._guarded, self._show_code)}
        )
        self.library = Library(self, autosave=autosave, every=every)
        super().__init__(self._layout(folded=session is not None))
        self.add_class("dragnoise-studio")
        if session is not None:
            self.session = session
        else:
            self._refresh()
        self.library.look_for_autosave()

    # ---- the session -------------------------------------------------------------------------

    @property
    def session(self) -> DragSession:
        """The session shown; setting another one keeps this one among the branches.

        Raises RuntimeError as long as there is none.
        """
        return self.runner.session

    @session.setter
    def session(self, session: DragSession) -> None:
        if not isinstance(session, DragSession):
            raise TypeError(f"a studio shows a DragSession, not {session!r:.80}.")
        runner = Runner(session, inline=self._inline)
        self._leave()
        with self._gate:
            self._runner, self._shown, self._now, self._asked = runner, None, None, ()
            self._album = self.library.adopt(session)
            self._set_preview()
            self._set_stops()
        self.canvas.image, self.canvas.trajectory = session.image, ()
        if session.drags or session.mask is not None or self.canvas.drags or self.canvas.mask is not None:
            self.canvas.drags, self.canvas.mask = session.drags, session.mask
        self._ends = [self.canvas.link(session, call=self._call), runner.observe(self._updated)]
        self._updated(runner.latest)

    @property
    def runner(self) -> Runner:
        """What drives the session; raises RuntimeError as long as there is none."""
        if self._runner is None:
            raise RuntimeError("there is no picture yet; upload one, press Example, or set studio.session.")
        return self._runner

    @property
    def image(self) -> Image.Image | None:
        """The picture shown on the right: of the iteration shown, as soon as it has been rendered."""
        return self.preview.picture

    @property
    def iteration(self) -> int:
        """The iteration shown."""
        return max(len(self._update.history) - 1, 0) if self._shown is None else self._shown

    # ---- driving it --------------------------------------------------------------------------

    def prepare(self, lora: dict[str, Any] | None = None) -> None:
        """Fit a LoRA if its arguments are given, or ticked by hand, then invert.  Returns at once."""
        if lora is None and self.transport.lora.value:
            lora = {"steps": self.transport.lora_steps.value}
        self.runner.prepare(lora=lora)

    def step(self, n: int = 1) -> None:
        """n iterations from the newest on; returns at once."""
        self.runner.step(n)
        self.show(None)

    def run(self) -> None:
        """Iterate until every anchor has arrived; returns at once."""
        self.runner.run()
        self.show(None)

    def pause(self) -> None:
        """Hold after the iteration under way; `run()` goes on."""
        self.runner.pause()

    def stop(self) -> None:
        """End after the iteration under way; what is done stays."""
        self.runner.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is left to do and everything is shown; False when that took too long."""
        return self.runner.wait(timeout)

    def show(self, k: int | None) -> None:
        """Show iteration k, its anchors, losses and picture; None follows the newest.  Raises IndexError beyond."""
        last = len(self._update.history) - 1
        if k is not None and not 0 <= k <= max(last, 0):
            raise IndexError(f"there is no iteration {k} to show; choose 0..{max(last, 0)}.")
        self._shown = None if k is None or k >= last else k
        self._refresh()

    def rewind(self, k: int | None = None) -> Future[None]:
        """Go back to iteration k, default the one shown; what came after is forgotten."""
        future = self.runner.rewind(self.iteration if k is None else k)
        self.show(None)
        return future

    def go_on(self, k: int | None = None) -> None:
        """Go back to iteration k, default the one shown, and run from there."""
        self.rewind(k)
        self.run()

    def branch(self, k: int | None = None) -> Future[DragSession]:
        """A second session from iteration k on, default the one shown; the studio goes over to it when it is there."""
        return self.library.branch(self.iteration if k is None else k)

    def configure(self, **changes: Any) -> None:
        """Change numbers of `DragConfig`, at once if nothing runs, else at the next iteration.

        Raises ValueError for a wrong one, and changes nothing.
        """
        self.session.config.replace(**changes)
        self.runner.call(lambda session: setattr(session, "config", session.config.replace(**changes)))

    def break_when(self, predicate: Callable[[Snapshot], Any]) -> Callable[[], None]:
        """Pause whenever predicate(snapshot) is true after an iteration; returns what takes it back."""
        stop = breakpoints.custom(predicate)
        self._own_stops.append(stop)
        self._set_stops()

        def remove() -> None:
            if stop in self._own_stops:
                self._own_stops.remove(stop)
                self._set_stops()

        return remove

    def close(self) -> None:
        """Leave the session, whose work ends after the iteration under way if nobody else drives it."""
        if getattr(self, "_ends", None):
            self._leave()
        super().close()

    # ---- taking it home ----------------------------------------------------------------------

    def code(self, folder: str | Path = "edit") -> str:
        """The Python that repeats this edit exactly; pictures that it needs are saved in the folder."""
        return as_code(self.session, folder)

    def save_picture(self, path: str | Path) -> None:
        """Save the picture shown.  Raises RuntimeError if there is none."""
        if self.image is None:
            raise RuntimeError("there is no picture yet; run some iterations first.")
        self.image.save(path)

    def save_drags(self, path: str | Path) -> None:
        """Save the drags as JSON."""
        Path(path).write_text(downloads.drags_json(self.session.drags, self.session.image.size), encoding="utf-8")

    def save_gif(self, path: str | Path, iterations: Any = None) -> None:
        """Render the trajectory as a GIF and save it, when that is done; default at most 24 of the iterations."""
        Path(path).write_bytes(self.render_gif(iterations).result())

    def render_gif(self, iterations: Any = None) -> Future[bytes]:
        """The bytes of that GIF, rendered between two iterations."""
        history, drags = self.session.history, self.session.drags
        chosen = downloads.chosen_iterations(len(history)) if iterations is None else tuple(iterations)
        return downloads.render_gif(self.runner.call, chosen, drags, self.share.say)

    # ---- showing what is ---------------------------------------------------------------------

    def _updated(self, update: Update) -> None:
        """What the runner tells, on a thread of its own."""
        with self._gate:
            if update.picture is not None and update.picture_iteration is not None:
                self._album.put(update.history, update.picture_iteration, self.session.config, update.picture)
            self._update = update
        self._refresh()

    def _refresh(self) -> None:
        """Bring every widget in line with the newest update."""
        with self._gate:
            try:
                self._bring_up_to_date()
            except Exception as error:
                self._failed(error)

    def _bring_up_to_date(self) -> None:
        status, history = self._update.status, self._update.history
        if self._shown is not None and self._shown >= len(history) - 1:
            self._shown = None
        k, session = self.iteration, self._runner.session if self._runner else None
        self.transport.show(status, history, k, ready=session is not None, drags=len(session.drags) if session else 0)
        self.library.show()
        if session is None:
            self._say(status)
            return
        settled = status.state in ("idle", "paused", "error") and status.task == ""
        self._show_anchors(session, history, k, settled)
        self._show_picture(session, history, k)
        self.parameters.show(session.config)
        running = not settled
        sight = Sight(
            session, history, k, session.drags, session.image, session.config.tolerance * supervision_pixel(session),
            self.library.compared_history, running,
        )  # fmt: skip
        self.inspector.show(sight)
        self._say(status)
        if settled:
            self.share.show(self.image, session.drags, session.image.size)
            self._want(session, history, k)

    def _show_anchors(self, session: DragSession, history: History, k: int, settled: bool) -> None:
        path = [snapshot.anchors for snapshot in history[: k + 1]]
        newest = bool(history) and k == len(history) - 1
        if newest and settled and self._now is not None and self._now[0] is history[-1]:
            path.append(self._now[1])
        fits = all(len(anchors) == len(self.canvas.drags) for anchors in path)
        shown = tuple(path) if fits and len(path) > 1 else ()
        if len(shown) != len(self.canvas.trajectory) or any(
            not np.array_equal(a, b) for a, b in zip(shown, self.canvas.trajectory, strict=True)
        ):
            self.canvas.trajectory = shown

    def _show_picture(self, session: DragSession, history: History, k: int) -> None:
        """The picture of iteration k, or the nearest one there is, or as it was given."""
        near = self._album.nearest(history, k, session.config)
        self.preview.before = self.library.compared_picture or session.image
        if near is None:
            self.preview.show(session.image, "the picture as it was given")
        elif near[0] == k:
            self.preview.show(near[1], f"iteration {k}" if k else "before any iteration")
        else:
            self.preview.show(near[1], f"iteration {near[0]}, the nearest to {k} that has been rendered")

    def _want(self, session: DragSession, history: History, k: int) -> None:
        """With nothing else to do: have what is shown computed, each once."""
        if not history or not session.inverted:
            return
        asked = (history[k], k, session.config)
        wanted = self._album.get(history, k, session.config) is None and (
            k < len(history) - 1 or self.preview.every.value != 0
        )
        if len(history) > 1 and (self._now is None or self._now[0] is not history[-1]):
            self._now = history[-1], history[-1].anchors
            self._call(self._find_anchors)
        elif wanted and not _same(asked, self._asked):
            self._asked = asked
            self.runner.render(k)

    def _find_anchors(self, session: DragSession) -> None:
        """Where the anchors have come to by the last update, which no snapshot tells yet."""
        if session.history and session.inverted:
            self._now = session.history[-1], session.anchors

    def _say(self, status: Status) -> None:
        """The line under the buttons: what went wrong, or where things stand."""
        if status.state == "error" and self._runner is not None:
            told = self._runner.traceback
            if told != self._reported:
                self._reported = told
                self.journal.error(status.message, told)
            self.transport.say(status.message, error=True)
        elif self._trouble:
            self.transport.say(self._trouble, error=True)
        else:
            self.transport.say(" · ".join(filter(None, [self._standing(), status.message])))

    def _standing(self) -> str:
        """ "iteration 12: loss 3.4, 5.1 px to go" """
        if self._runner is None:
            return "Upload a picture, or take the example."
        history, k = self._update.history, self.iteration
        if not history:
            if not self._runner.session.drags:
                return "Pull an arrow on the picture: from what should move to where it should be."
            return "Ready: press Run, or Step through it."
        snapshot = history[k]
        far = ", ".join(f"{distance:.1f}" for distance in snapshot.distances)
        loss = f"loss {snapshot.loss:.4g}, " if k else ""
        return f"iteration {k}: {loss}{far} px to go"

    # ---- what buttons and fields do ----------------------------------------------------------

    def _handlers(self, *names: str) -> dict[str, Callable[..., Any]]:
        return {name: partial(self._guarded, getattr(self, name)) for name in names}

    def _guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it; what it raises is told and not passed on, for ipywidgets would lose it."""
        self._trouble = ""
        try:
            return function(*arguments)
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: BaseException) -> None:
        message = " ".join(str(error).split()) or type(error).__name__
        self._trouble = message
        self.journal.error(message, error)
        self.transport.say(message, error=True)

    def tell(self, message: str) -> None:
        """A line under the buttons, and in the log."""
        self.journal.note(message)
        self.transport.say(message)

    def _canvas_failed(self, message: str) -> None:
        self._trouble = message
        self.journal.note(message)
        self.transport.say(message, error=True)

    def _call(self, function: Callable[[DragSession], Any]) -> Future[Any]:
        return self.runner.call(function)

    def _typed(self, name: str, value: Any) -> None:
        self._trouble = ""
        self.configure(**{name: value})

    def _preset(self, config: DragConfig | None) -> None:
        config = config or getattr(self.session.model, "default_config", None)
        if config is not None:
            self.runner.call(lambda session: setattr(session, "config", config))

    def _set_preview(self) -> None:
        if self._runner is not None:
            self._runner.preview_every = self.preview.every.value

    def _set_stops(self) -> None:
        if self._runner is not None:
            self._runner.breakpoints = [*self.stops.chosen(self._runner.session), *self._own_stops]

    def _make_gif(self) -> None:
        def done(future: Future[bytes]) -> None:
            error = future.exception()
            if error is not None:
                self.share.say("")
                self._failed(error)
            else:
                self.share.show_gif(future.result())

        self.render_gif().add_done_callback(done)

    def _show_code(self) -> None:
        self.share.show_code(self.code())

    def _leave(self) -> None:
        """Let go of the session shown; its work ends unless another studio drives it."""
        for end in self._ends:
            end()
        self._ends = []
        if self._runner is not None:
            self._runner.close()

    # ---- how it looks ------------------------------------------------------------------------

    def _layout(self, *, folded: bool) -> list[widgets.Widget]:
        column = {"flex": "1 1 330px", "min_width": "0", "max_width": "540px", "overflow": "hidden"}
        self.canvas.children = [self.canvas.column]  # its table goes below the transport, which is used more often
        stage = widgets.HBox(
            [widgets.VBox([self.canvas], layout=column), widgets.VBox([self.preview], layout=column)],
            layout={"flex_flow": "row wrap", "align_items": "flex-start"},
        )
        looking = _fold("Inspector", self.inspector)
        looking.observe(self._unfolded, "selected_index")
        self.inspector.visible = False
        return [
            widgets.HTML(STYLE, layout={"display": "none"}),
            _fold("Picture, prompt, model", self.library.source, folded=folded),
            stage,
            self.transport,
            self.canvas.table,
            looking,
            _fold("Parameters", self.parameters),
            _fold("Breakpoints", self.stops),
            _fold("Download and code", self.share),
            _fold("Branches and files", self.library.keeping),
        ]

    def _unfolded(self, change: Any) -> None:
        self.inspector.visible = change.new is not None
        self._guarded(self._refresh)


def _fold(title: str, content: widgets.Widget, *, folded: bool = True) -> widgets.Accordion:
    fold = widgets.Accordion([content], layout={"margin": "2px 0"})
    fold.set_title(0, title)
    fold.selected_index = None if folded else 0
    return fold


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(
        a is b or (isinstance(a, int) and a == b) for a, b in zip(one, other, strict=True)
    )
