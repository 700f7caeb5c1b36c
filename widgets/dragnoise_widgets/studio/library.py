"""The library: a studio's sessions, and the files they are kept in."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dragnoise_widgets.branching.branches import Branches
from dragnoise_widgets.branching.branches_panel import BranchesPanel
from dragnoise_widgets.export.autosaves import Autosaves
from dragnoise_widgets.export.picture_cache import Album
from dragnoise_widgets.runner.commands import Branch, Save
from dragnoise_widgets.studio.file_opener import FileOpener
from dragnoise_widgets.studio.load_queue import LoadQueue
from dragnoise_widgets.studio.models import Models
from dragnoise_widgets.studio.new_sessions import NewSessions
from dragnoise_widgets.studio.protocol import StudioProtocol

if TYPE_CHECKING:
    from dragnoise import DragSession


class Library:
    """The sessions in the order in which they were added, and the two panels that manage them.

    `beginning` makes new ones; `source` is its panel, and `keeping` the one for branches and files.
    expected: the picture of the first session while that is being made, else None.
    autosave: a file, True for the default one in the folder .dragnoise, None or False for none.
    """

    def __init__(self, desk: StudioProtocol, *, autosave: str | Path | bool | None, every: int) -> None:
        self._desk = desk
        self._autosaves = Autosaves(autosave, every, on_error=self._autosave_failed)
        self.branches = Branches()
        self.expected: Image.Image | None = None
        models = Models(lambda: self.sessions)

        def by_hand(action: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: desk.messages.guarded(action, *arguments)

        self.new_sessions = NewSessions(desk, models, self._later, self.expect, by_hand)
        self.source = self.new_sessions.source
        self.branches_panel = BranchesPanel(
            {
                "choose": by_hand(self.choose), "forget": by_hand(self.forget), "rename": by_hand(self.rename),
                "compare": by_hand(self.compare), "save": by_hand(self.save),
                "open": by_hand(self.open), "autosave": by_hand(self.set_autosave),
            }
        )  # fmt: skip
        self._opener = FileOpener(desk, models, self._later)
        self._loads = LoadQueue(inline=desk.inline, changed=self._loads_changed)

    # ---- going between them ------------------------------------------------------------------

    @property
    def sessions(self) -> tuple[DragSession, ...]:
        """All sessions that were shown, oldest first."""
        return self.branches.sessions

    def adopt(self, session: DragSession) -> Album:
        """Add a session that is about to be shown; returns its album."""
        with self.branches.lock:
            self.expected = None
            album = self.branches.add(session)
            self._begin_autosave(session)
            return album

    def choose(self, index: int) -> None:
        """Show the session of this number."""
        self._desk.session = self.sessions[index]

    def forget(self, index: int) -> None:
        """Remove the session of this number from the studio.  Raises ValueError if it is the only one."""
        sessions = self.sessions
        if len(sessions) < 2:
            raise ValueError("this is the only session; upload a picture or branch before you delete it.")
        gone = sessions[index]
        if self._desk.session is gone:
            self._desk.session = sessions[index - 1 if index else 1]
        with self.branches.lock:
            self.branches.remove(gone)
            self._autosaves.end(gone)
        self._desk.refresh()

    def rename(self, index: int, name: str) -> None:
        """Give the session of this number another name."""
        try:
            self.sessions[index].name = name
        finally:
            self._desk.refresh()

    def compare(self, index: int | None) -> None:
        """Compare the one shown with another one, None with nothing."""
        self.branches.compared = None if index is None else self.sessions[index]
        self._desk.refresh()

    def branch(self, k: int) -> Future[DragSession]:
        """Branch the session shown at iteration k, and show the branch when it is there."""
        parent = self._desk.session

        def done(future: Future[DragSession]) -> None:
            if future.cancelled() or future.exception() is not None:
                return
            branch = future.result()
            album, history = self.adopt(branch), branch.history
            found = self.branches.album(parent).get(parent.history, k, parent.state)
            if found is not None:
                album.put(history, k, branch.state, found)
            self._desk.messages.guarded(setattr, self._desk, "session", branch)

        future = self._desk.runner.do(Branch(k))
        future.add_done_callback(done)
        return future

    def show(self) -> None:
        """Bring both panels in line."""
        self.source.unfolded(inline=self._desk.inline)
        if self.sessions and self._desk.has_session:
            session, branches = self._desk.session, self.branches
            chosen, compared = branches.index(session) or 0, branches.index(branches.compared)
            self.branches_panel.show(branches.listed, branches.names, chosen, compared)
            self.source.show(session.prompt, session.model.name if session.model else "")

    def expect(self, picture: Image.Image | None) -> None:
        """Before there is a session, show the picture of one that is being made, to be drawn on; None if it failed."""
        if not self._desk.has_session and (picture is not None or self.expected is not None):
            self.expected = picture
            self._desk.canvas.begin(picture)

    # ---- files -------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Future[Any]:
        """Save the session shown, between two iterations."""
        future = self._desk.runner.do(Save(path))

        def done(future: Future[Any]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._autosaves.saved(path)
                self._desk.messages.tell(f"saved to {path}")

        future.add_done_callback(done)
        return future

    def open(self, path: str | Path) -> None:
        """Open a saved session beside the one shown, with the model that it was made with; see `FileOpener`."""
        self._opener.open(path)

    def set_autosave(self, path: str | Path | None) -> None:
        """Save the session shown there after every few iterations, others beside it; None ends it for all."""
        first = self._desk.session
        self._autosaves.change(path, [first, *(session for session in self.sessions if session is not first)])

    def look_for_autosave(self) -> None:
        """Offer the file that was autosaved before the kernel was restarted."""
        if (path := self._autosaves.newest()) is not None:
            self.branches_panel.offer(str(path), lambda: self.open(path))
            self._desk.unfold(self.branches_panel)
            self._desk.messages.tell("an autosaved edit is offered under Branches and files")

    # ---- loading -----------------------------------------------------------------------------

    @property
    def loading(self) -> str:
        """What is being loaded, "" for nothing."""
        return self._loads.under_way

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is being loaded; False when that took longer than `timeout` seconds."""
        return self._loads.wait(timeout)

    def close(self) -> None:
        """Begin nothing more."""
        self._loads.close()
        self._autosaves.close()

    def _later(
        self,
        what: str,
        make: Callable[[], DragSession | None],
        then: Callable[[], Any] = lambda: None,
        done: str = "",
        of: Any = None,
    ) -> None:
        """Make a session on the loading thread, since models take long, and show it; ignored if that is under way.

        done: what to say when there is no new session.  of: what tells this from another load called `what`.
        """

        def work() -> None:
            self._desk.messages.note_in_log(f"{what} …")
            try:
                session = make()
                if self._loads.closed:
                    return
                if session is not None:
                    self._desk.session = session
                else:
                    self._desk.messages.tell(done or f"{what}: done")
                then()
            except Exception as error:
                self.expect(None)
                self._desk.messages.failed(error)

        self._loads.begin(what, work, of=of)

    def _loads_changed(self) -> None:
        """While something is loaded, nothing else can be begun by hand."""
        for control in (*self.source.starts, self.branches_panel.open_button):
            control.disabled = bool(self.loading)
        self._desk.refresh()

    # ---- autosave ----------------------------------------------------------------------------

    def _begin_autosave(self, session: DragSession) -> None:
        try:
            self._autosaves.begin(session)
        except OSError as error:
            self._autosave_failed(error)

    def _autosave_failed(self, error: Exception | None) -> None:
        """Show an error of autosaving, or with None that it works again; called on any thread."""
        if error is not None:
            from dragnoise.archive.autosave import failure

            self._desk.messages.refused(failure(error))
        else:
            self._desk.messages.tell("autosave works again")
