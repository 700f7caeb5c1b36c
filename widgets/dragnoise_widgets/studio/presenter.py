"""The presenter: updates a studio's widgets from its session."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets as widgets
import numpy as np
from PIL import Image

from dragnoise.geometry import short_drags
from dragnoise.identity import same
from dragnoise.session.history import History, Snapshot, require_iteration
from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.compare.comparison_presenter import ComparisonPresenter
from dragnoise_widgets.compare.preview import Preview
from dragnoise_widgets.export import pictures
from dragnoise_widgets.export.export_panel import ExportPanel
from dragnoise_widgets.export.picture_cache import Album
from dragnoise_widgets.export.quick_looks import StudioQuickLooks
from dragnoise_widgets.formatting import format_number
from dragnoise_widgets.pages.curves import Curves
from dragnoise_widgets.pages.view_state import ViewState
from dragnoise_widgets.panels.advice import Advice
from dragnoise_widgets.panels.inspector import Inspector
from dragnoise_widgets.panels.messages import Messages
from dragnoise_widgets.panels.parameters import Parameters
from dragnoise_widgets.panels.player import Player
from dragnoise_widgets.panels.transport import Transport
from dragnoise_widgets.runner.breakpoints import supervision_pixel
from dragnoise_widgets.runner.commands import Apply
from dragnoise_widgets.runner.status_line import COLOURS, StatusInputs, verdict_of
from dragnoise_widgets.runner.updates import Status, Update
from dragnoise_widgets.studio.binding import Binding

if TYPE_CHECKING:
    from dragnoise import DragSession


class Parts(Protocol):
    """The widgets that are brought in line."""

    transport: Transport
    looks: StudioQuickLooks
    stage: widgets.Box
    canvas: DragCanvas
    preview: Preview
    curves: Curves
    parameters: Parameters
    inspector: Inspector
    share: ExportPanel
    remarks: widgets.HTML
    advice: Advice
    messages: Messages


class LibraryProtocol(Protocol):
    """The panels of the other sessions."""

    expected: Image.Image | None

    @property
    def loading(self) -> str: ...

    def show(self) -> None: ...


class Comparison(Protocol):
    """The compared session's history."""

    @property
    def compared_history(self) -> History: ...


class Presenter:
    """Holds the newest update and the iteration that is looked at; `refresh` brings every widget in line.

    busy_aside: is something being made that Stop ends, beside the worker's tasks?  player: plays the iterations.
    """

    def __init__(
        self, parts: Parts, shelf: LibraryProtocol, comparison: Comparison, comparing: ComparisonPresenter, *,
        busy_aside: Callable[[], bool], inline: bool,
    ) -> None:  # fmt: skip
        self._parts, self._shelf, self._comparison, self._busy_aside = parts, shelf, comparison, busy_aside
        self._comparison_presenter = comparing
        self.player = Player(lambda: len(self._update.history), lambda: self.iteration, self.choose, inline=inline)
        self._gate = threading.RLock()  # one thread at a time brings the widgets up to date
        self._binding: Binding | None = None
        self._update = Update()
        self._shown: int | None = None  # the iteration that the scrubber holds; None is the newest
        self._album = Album()
        self._now: tuple[Snapshot, np.ndarray] | None = None  # a snapshot, and where its anchors have come to
        self._asked: tuple[Any, ...] = ()  # the last request, so that it is not repeated
        self._taken: Image.Image | None = None  # the last picture that an update brought

    @property
    def iteration(self) -> int:
        """The iteration shown."""
        return max(len(self._update.history) - 1, 0) if self._shown is None else self._shown

    def known(self) -> Callable[[int], Image.Image | None]:
        """A function of an iteration of the session shown: its picture or quick look, None if there is neither."""
        binding, history = self._binding, self._update.history
        if binding is None:
            return lambda k: None
        session = binding.session
        return pictures.for_film(self._album, self._parts.looks, history, session.state)

    def begin(self, binding: Binding, album: Album) -> None:
        """Switch to another session, with the album of its pictures."""
        with self._gate:
            self.player.stop()
            self._binding, self._album, self._update = binding, album, binding.runner.latest
            self._shown, self._now, self._asked = None, None, ()
            self._parts.share.clear()

    def choose(self, k: int | None) -> None:
        """Show iteration k; None follows the newest.  Raises IndexError beyond."""
        count = max(len(self._update.history), 1)  # before any iteration 0 is what is shown
        if k is not None:
            require_iteration(k, count)
        self._shown = None if k is None or k == count - 1 else k
        self.refresh()

    def follow(self) -> None:
        """Show the newest iteration from the next update on."""
        self._shown = None

    def updated(self, binding: Binding, update: Update) -> None:
        """Take an update of a runner, on the runner's thread; ignored if its session is not shown any more."""
        with self._gate:
            if binding is not self._binding:
                return
            self._update = update
            fresh = update.picture is not None and update.picture is not self._taken  # later updates carry it again
            k, state = update.picture_iteration, update.picture_state
            if fresh and update.picture is not None and state is not None and k is not None:
                self._taken = update.picture
                self._album.put(update.history, k, state, update.picture)
            self.refresh()

    def refresh(self) -> None:
        """Update every widget from the newest update."""
        with self._gate:
            try:
                self._bring_up_to_date()
            except Exception as error:
                self._parts.messages.failed(error)

    def _bring_up_to_date(self) -> None:
        parts, status, history = self._parts, self._update.status, self._update.history
        if self._shown is not None and self._shown >= len(history) - 1:
            self._shown = None
        k, session = self.iteration, None if self._binding is None else self._binding.session
        drags, ready = () if session is None else session.drags, session is not None
        aside, playing = self._busy_aside(), self.player.playing
        parts.transport.show(status, history, k, ready=ready, drags=len(drags), busy_aside=aside, playing=playing)
        self._shelf.show()
        for part in (parts.stage, parts.canvas.table):
            part.layout.display = "none" if session is None and self._shelf.expected is None else ""
        if session is None:
            parts.preview.show(self._shelf.expected, "given" if self._shelf.expected else "")
            self._say(None, status, history, k)
            return

        settled = status.state in ("idle", "paused", "error") and status.task == ""
        self._show_anchors(history, k)
        self._comparison_presenter.show(session, history, k, self._album)
        parts.parameters.show(session.config, None if session.model is None else session.model.default_config)
        tolerance = session.config.tolerance * supervision_pixel(session)
        to_go = self._to_go(session, self._anchors_after(history, len(history) - 1) if history else None)
        parts.curves.show(history, to_go, k, tolerance=tolerance)
        others = self._comparison.compared_history
        parts.inspector.show(ViewState(session, history, k, drags, session.image, tolerance, others, not settled))
        self._say(session, status, history, k)
        if settled:
            parts.share.show(None if parts.preview.quick else parts.preview.picture, drags, session.image.size)
            if not self.player.playing:
                self._want(session, history, k, failed=status.state == "error")

    def _anchors_after(self, history: History, k: int) -> np.ndarray | None:
        """The anchors after update k, which are those that update k + 1 was computed from; None if unknown."""
        if k + 1 < len(history):
            return history[k + 1].anchors
        return self._now[1] if self._now is not None and self._now[0] is history[-1] else None

    def _to_go(self, session: DragSession, anchors: np.ndarray | None) -> np.ndarray | None:
        """(m,) distances of anchors (m, 2) to the session's objectives; None where there are others."""
        objectives = [drag.objective for drag in session.drags]
        if anchors is None or len(anchors) != len(objectives):
            return None
        return np.linalg.norm(anchors - objectives, axis=-1)

    def _show_anchors(self, history: History, k: int) -> None:
        canvas, path = self._parts.canvas, [snapshot.anchors for snapshot in history[: k + 1]]
        if k and (after := self._anchors_after(history, k)) is not None:
            path.append(after)
        fits = all(len(anchors) == len(canvas.drags) for anchors in path)
        shown = tuple(path) if fits and len(path) > 1 else ()
        if len(shown) != len(canvas.trajectory) or any(
            not np.array_equal(a, b) for a, b in zip(shown, canvas.trajectory, strict=True)
        ):
            canvas.trajectory = shown

    def _want(self, session: DragSession, history: History, k: int, *, failed: bool) -> None:
        """While idle, request what the view needs and is missing, each once.

        After an error only what is asked for, as rendering would clear it from the status line.
        """
        if not session.state.inverted or session.model is None or self._binding is None:
            return
        if not history:
            self._want_more(session, failed)
            return
        state = session.state
        asked = (history[k], k, state.rendering)
        wanted = self._album.get(history, k, state) is None and (
            k < len(history) - 1 or (self._parts.preview.every.value != 0 and not failed)
        )
        if len(history) > 1 and (self._now is None or self._now[0] is not history[-1]):
            self._now = history[-1], history[-1].anchors
            self._binding.runner.do(Apply(self._find_anchors, aside=True))
        elif wanted and not (self._asked and same(asked, self._asked)):
            self._asked = asked
            self._binding.runner.render(k, aside=True)
        elif not wanted:
            self._want_more(session, failed)

    def _want_more(self, session: DragSession, failed: bool) -> None:
        """The reconstruction, and the quick looks that have not been made."""
        if self._parts.preview.every.value == 0 or failed or self._binding is None:
            return
        command = self._comparison_presenter.wanted(session) or self._parts.looks.missed(session)
        if command is not None:
            self._binding.runner.aside(command)

    def _find_anchors(self, session: DragSession) -> None:
        """Locate the anchors after the last update, which no snapshot holds yet."""
        state = session.state
        if not (state.history and state.inverted):
            return
        try:
            anchors = session.anchors
        except IndexError:  # the history has gone meanwhile
            return
        if session.state.history is state.history:
            self._now = state.history[-1], anchors

    def _say(self, session: DragSession | None, status: Status, history: History, k: int) -> None:
        """Update the status line, and the remarks while nothing runs."""
        messages, shelf = self._parts.messages, self._shelf
        if session is None or self._binding is None:
            messages.stand(StatusInputs(has_session=False, loading=shelf.loading))
            self._remark(())
            self._parts.advice.show(())
            return
        runner, failed = self._binding.runner, status.state == "error"
        after = self._anchors_after(history, len(history) - 1) if history else None
        objectives, known = [drag.objective for drag in session.drags], self._to_go(session, after) is not None
        gaps = session.state.frame.gaps(after, objectives) if known else None
        messages.failed_at_work(status.message if failed else runner.error or "", runner.traceback)
        now = StatusInputs(
            has_model=session.model is not None,
            has_drags=bool(session.drags),
            loading=shelf.loading,
            status=status,
            verdict=verdict_of(history, session.config, gaps),
            iterations=max(len(history) - 1, 0),
            max_iterations=session.config.most_iterations,
            too_short=bool(short_drags(session.drags, session.state.frame, session.config)),
            error=status.message if failed else "",
        )
        prepared = status.message if status.ended == "done" and not history else ""
        messages.stand(now, self._position(session, history, k), prepared)
        if status.state != "running":  # a run changes neither mask nor drags
            limit = self._comparison_presenter.sentence
            self._remark((*session.state.remarks, *([limit] if limit else [])))
        settled = status.state in ("idle", "paused") and k == max(len(history) - 1, 0)
        told = settled and (after is not None or len(history) < 2)
        self._parts.advice.examine(session.state if told else None, after)

    def _position(self, session: DragSession, history: History, k: int) -> str:
        """ "iteration 12: loss 3.4, 5.1 px to go" """
        if not history:
            return ""
        snapshot, after = history[k], self._to_go(session, self._anchors_after(history, k))
        far = ", ".join(f"{distance:.1f}" for distance in (snapshot.distances if after is None else after))
        loss = f"loss {format_number(snapshot.loss)}, " if k else ""
        return f"iteration {k}: {loss}{far} px to go"

    def _remark(self, sentences: Sequence[str]) -> None:
        """The one place where remarks on masks and drags are shown."""
        said = "".join(f'<div style="color: {COLOURS["held"]}">{html.escape(each)}</div>' for each in sentences)
        if said != self._parts.remarks.value:
            self._parts.remarks.value = said
            self._parts.remarks.layout.display = "" if said else "none"
