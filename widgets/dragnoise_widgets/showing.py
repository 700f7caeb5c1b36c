"""What brings a studio's widgets in line with what its session has come to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from dragnoise import DragSession
from dragnoise.session.history import History, Snapshot, require_iteration
from dragnoise_widgets.album import Album
from dragnoise_widgets.breakpoints import supervision_pixel
from dragnoise_widgets.inspector import Sight
from dragnoise_widgets.updates import Status, Update

if TYPE_CHECKING:
    from dragnoise_widgets.studio import DragStudio


class Showing:
    """Holds the newest update and the iteration that is looked at; `refresh` brings every widget in line."""

    def __init__(self, studio: DragStudio) -> None:
        self._studio = studio
        self._gate = threading.RLock()  # one thread at a time brings the widgets up to date
        self._update = Update()
        self._shown: int | None = None  # the iteration that the scrubber holds; None is the newest
        self._album = Album()
        self._now: tuple[Snapshot, np.ndarray] | None = None  # a snapshot, and where its anchors have come to
        self._asked: tuple[Any, ...] = ()  # what was asked for once need not be asked for again

    @property
    def iteration(self) -> int:
        """The iteration shown."""
        return max(len(self._update.history) - 1, 0) if self._shown is None else self._shown

    def begin(self, album: Album) -> None:
        """Another session is shown from now on, of which these pictures are known."""
        with self._gate:
            self._shown, self._now, self._asked = None, None, ()
            self._album = album
        self._studio.share.clear()

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

    def updated(self, update: Update) -> None:
        """What the runner tells, on a thread of its own."""
        with self._gate:
            if update.picture is not None and update.picture_iteration is not None:
                config = self._studio.session.config
                self._album.put(update.history, update.picture_iteration, config, update.picture)
            self._update = update
        self.refresh()

    def refresh(self) -> None:
        """Bring every widget in line with the newest update."""
        with self._gate:
            try:
                self._bring_up_to_date()
            except Exception as error:
                self._studio.messages.failed(error)

    # ---- part by part ------------------------------------------------------------------------

    def _bring_up_to_date(self) -> None:
        studio, status, history = self._studio, self._update.status, self._update.history
        if self._shown is not None and self._shown >= len(history) - 1:
            self._shown = None
        k, session = self.iteration, studio.session if studio.has_session else None
        drags = () if session is None else session.drags
        studio.transport.show(status, history, k, ready=session is not None, drags=len(drags))
        studio.library.show()
        for part in (studio.stage, studio.canvas.table):
            part.layout.display = "none" if session is None else ""
        if session is None:
            self._say(status)
            return
        settled = status.state in ("idle", "paused", "error") and status.task == ""
        self._show_anchors(history, k)
        self._show_picture(session, history, k)
        studio.parameters.show(session.config)
        tolerance = session.config.tolerance * supervision_pixel(session)
        others = studio.library.compared_history
        studio.inspector.show(Sight(session, history, k, drags, session.image, tolerance, others, not settled))
        self._say(status)
        if settled:
            studio.share.show(studio.image, drags, session.image.size)
            self._want(session, history, k, failed=status.state == "error")

    def _anchors_after(self, history: History, k: int) -> np.ndarray | None:
        """Where update k has brought the anchors: the next one was computed from there; None if it is not known."""
        if k + 1 < len(history):
            return history[k + 1].anchors
        return self._now[1] if self._now is not None and self._now[0] is history[-1] else None

    def _show_anchors(self, history: History, k: int) -> None:
        canvas, path = self._studio.canvas, [snapshot.anchors for snapshot in history[: k + 1]]
        if k and (after := self._anchors_after(history, k)) is not None:
            path.append(after)
        fits = all(len(anchors) == len(canvas.drags) for anchors in path)
        shown = tuple(path) if fits and len(path) > 1 else ()
        if len(shown) != len(canvas.trajectory) or any(
            not np.array_equal(a, b) for a, b in zip(shown, canvas.trajectory, strict=True)
        ):
            canvas.trajectory = shown

    def _show_picture(self, session: DragSession, history: History, k: int) -> None:
        """The picture of iteration k, or the nearest one there is, or as it was given."""
        preview, near = self._studio.preview, self._album.nearest(history, k, session.config)
        preview.before = self._studio.library.compared_picture or session.image
        if near is None:
            preview.show(session.image, "the picture as it was given")
        elif near[0] == k:
            preview.show(near[1], f"iteration {k}" if k else "before any iteration")
        else:
            preview.show(near[1], f"iteration {near[0]}, the nearest to {k} that has been rendered")

    def _want(self, session: DragSession, history: History, k: int, *, failed: bool) -> None:
        """With nothing else to do: have what is shown computed, each once.

        After an error only what is asked for, as rendering takes it from the line under the buttons.
        """
        if not history or not session.inverted:
            return
        asked = (history[k], k, session.config)
        wanted = self._album.get(history, k, session.config) is None and (
            k < len(history) - 1 or (self._studio.preview.every.value != 0 and not failed)
        )
        if len(history) > 1 and (self._now is None or self._now[0] is not history[-1]):
            self._now = history[-1], history[-1].anchors
            self._studio.runner.call(self._find_anchors, aside=True)
        elif wanted and not _same(asked, self._asked):
            self._asked = asked
            self._studio.runner.render(k, aside=True)

    def _find_anchors(self, session: DragSession) -> None:
        """Where the anchors have come to by the last update, which no snapshot tells yet."""
        if session.history and session.inverted:
            self._now = session.history[-1], session.anchors

    # ---- the line under the buttons ----------------------------------------------------------

    def _say(self, status: Status) -> None:
        """What went wrong, or where things stand."""
        studio, failed = self._studio, status.state == "error"
        if studio.has_session:
            runner = studio.runner
            studio.messages.failed_at_work(status.message if failed else runner.error or "", runner.traceback)
        said, error = ("", status.message) if failed else (status.message, "")
        studio.messages.stand(self._standing(), said, error=error)

    def _standing(self) -> str:
        """ "iteration 12: loss 3.4, 5.1 px to go" """
        if not self._studio.has_session:
            return "Upload a picture, or take the example."
        history, k = self._update.history, self.iteration
        if not history:
            if not self._studio.session.drags:
                return "Pull an arrow on the picture: from what should move to where it should be."
            return "Ready: press Run, or Step through it."
        snapshot, after = history[k], self._anchors_after(history, k)
        distances, objectives = snapshot.distances, [drag.objective for drag in self._studio.session.drags]
        if after is not None and len(after) == len(objectives):
            distances = np.linalg.norm(after - objectives, axis=-1)
        far = ", ".join(f"{distance:.1f}" for distance in distances)
        loss = f"loss {snapshot.loss:.4g}, " if k else ""
        return f"iteration {k}: {loss}{far} px to go"


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(
        a is b or (isinstance(a, int) and a == b) for a, b in zip(one, other, strict=True)
    )
