"""The sessions that a studio holds: where they come from, going between them, keeping them in files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dragnoise import DragSession, Model, load_model
from dragnoise.history import History
from dragnoise_widgets import source
from dragnoise_widgets.album import Album
from dragnoise_widgets.keeping import Keeping
from dragnoise_widgets.source import Source

if TYPE_CHECKING:
    from dragnoise_widgets.studio import DragStudio


class Library:
    """Sessions by the order in which they came, and the two panels that are about them.

    `source` is the panel that new ones come from, `keeping` the one for branches and files.
    """

    def __init__(self, studio: DragStudio, *, autosave: str | Path | None, every: int) -> None:
        self._studio = studio
        self._autosave, self._every = autosave, every
        self._sessions: list[DragSession] = []
        self._albums: list[Album] = []
        self._compared: DragSession | None = None
        self._models: dict[str, Model] = {}

        def by_hand(action: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: studio.messages.guarded(action, *arguments)

        self.source = Source(
            {
                "picture": by_hand(self.upload), "example": by_hand(self.example), "prompt": by_hand(self.set_prompt),
                "model": by_hand(self.set_model),
            }
        )  # fmt: skip
        self.keeping = Keeping(
            {
                "choose": by_hand(self.choose), "compare": by_hand(self.compare), "save": by_hand(self.save),
                "open": by_hand(self.open), "autosave": by_hand(self.set_autosave),
            }
        )  # fmt: skip

    # ---- going between them ------------------------------------------------------------------

    @property
    def sessions(self) -> tuple[DragSession, ...]:
        """All sessions that were shown, oldest first."""
        return tuple(self._sessions)

    def adopt(self, session: DragSession) -> Album:
        """Take a session that is about to be shown, and give the pictures known of it."""
        if not any(session is known for known in self._sessions):
            self._sessions.append(session)
            self._albums.append(Album())
        if session is self._compared:
            self._compared = None
        if self._autosave is not None:
            session.autosave(self._autosave, every=self._every)  # type: ignore[attr-defined]
        return self._albums[self._index(session)]

    def choose(self, index: int) -> None:
        """Show the session of this number."""
        self._studio.session = self._sessions[index]

    def compare(self, index: int | None) -> None:
        """Compare the one shown with another one, None with nothing."""
        self._compared = None if index is None else self._sessions[index]
        self._studio.showing.refresh()

    @property
    def compared_history(self) -> History:
        return History() if self._compared is None else self._compared.history

    @property
    def compared_picture(self) -> Image.Image | None:
        """The newest picture of the session that is compared with."""
        if self._compared is None:
            return None
        history = self._compared.history
        found = self._albums[self._index(self._compared)].nearest(history, len(history) - 1, self._compared.config)
        return found[1] if found else None

    def branch(self, k: int) -> Future[DragSession]:
        """Branch the session shown at iteration k, and show the branch when it is there."""
        studio, parent = self._studio, self._studio.session

        def done(future: Future[DragSession]) -> None:
            if future.exception() is None:
                branch = future.result()
                album, history = self.adopt(branch), branch.history
                found = self._albums[self._index(parent)].get(parent.history, k, parent.config)
                if found is not None:
                    album.put(history, k, branch.config, found)
                self._show(branch)

        future = studio.runner.call(lambda session: session.branch(k if session.history else None))
        future.add_done_callback(done)
        return future

    def show(self) -> None:
        """Bring both panels in line."""
        if self._sessions and self._studio.has_session:
            session = self._studio.session
            names = _distinct([getattr(s, "name", "session") for s in self._sessions])
            other = None if self._compared is None else self._index(self._compared)
            self.keeping.show(names, self._index(session), other)
            self.source.show(session.prompt, session.model.name if session.model else "")

    # ---- where new ones come from ------------------------------------------------------------

    def upload(self, data: bytes) -> None:
        """A new session on an uploaded picture."""
        picture = source.read_picture(data)

        def make() -> DragSession:
            model, prompt = self._model(), self.source.prompt.value
            return DragSession(model, picture, prompt)

        self._later("reading the picture", make)

    def example(self) -> None:
        """A new session on a scene of the embedded world."""
        self._later("loading the embedded model", lambda: source.example(self._load("toyland")))

    def set_prompt(self, prompt: str) -> None:
        """The same picture with another prompt, beside the one shown; without a session it is kept for the first."""
        if self._sessions and prompt != self._studio.session.prompt:
            self._studio.session = source.with_changes(self._studio.session, prompt=prompt)

    def set_model(self, name: str) -> None:
        """The same picture with another model, beside the one shown."""
        if not name:
            raise ValueError("there is no model named; give a hub id, a folder, a .safetensors file, or toyland.")

        def make() -> DragSession | None:
            model = self._load(name)
            return source.with_changes(self._studio.session, model=model) if self._sessions else None

        self._later(f"loading {name}", make)

    # ---- files -------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Future[Any]:
        """Save the session shown, between two iterations."""
        future = self._studio.runner.call(lambda session: session.save(path))  # type: ignore[attr-defined]
        future.add_done_callback(lambda f: None if f.exception() else self._studio.messages.tell(f"saved to {path}"))
        return future

    def open(self, path: str | Path) -> None:
        """Open a saved session beside the one shown, with the model that it was made with."""

        def make() -> DragSession:
            session = DragSession.open(path)  # type: ignore[attr-defined]
            name = session.made_with.name or self.source.model.value
            session.model = self._load(name)
            return session

        self._later(f"opening {path}", make)

    def set_autosave(self, path: str | Path | None) -> None:
        """Save the session shown there after every few iterations; None ends it."""
        self._autosave = path
        session = self._studio.session
        self._studio.runner.call(lambda _: session.autosave(path, every=self._every))  # type: ignore[attr-defined]

    def look_for_autosave(self) -> None:
        """Offer the file that was saved by itself before the kernel was restarted."""
        if self._autosave is not None and Path(self._autosave).is_file():
            path = self._autosave
            self.keeping.offer(str(path), lambda: self.open(path))

    # ---- own ---------------------------------------------------------------------------------

    def _later(self, what: str, make: Callable[[], DragSession | None]) -> None:
        """Make a session on a thread of its own, for models take their time, and show it."""

        def work() -> None:
            try:
                session = make()
                if session is not None:
                    self._studio.session = session
                else:
                    self._studio.messages.tell(f"{what}: done")
            except Exception as error:
                self._studio.messages.failed(error)

        self._studio.messages.tell(f"{what} …")
        if self._studio._inline:
            work()
        else:
            threading.Thread(target=work, name="dragnoise library", daemon=True).start()

    def _show(self, session: DragSession) -> None:
        """Show a session from the worker's own thread, which must not wait for itself."""
        if self._studio._inline:
            self._studio.session = session
        else:
            self._later("branching", lambda: session)

    def _model(self) -> Model:
        """The model of the session shown, else the one that is named."""
        session = self._studio.session if self._sessions else None
        if session is not None and session.model is not None:
            return session.model
        return self._load(self.source.model.value.strip() or "toyland")

    def _load(self, name: str) -> Model:
        """A model by name, each loaded once."""
        for session in self._sessions:
            if session.model is not None and session.model.name == name:
                return session.model
        if name not in self._models:
            self._models[name] = load_model(name)
        return self._models[name]

    def _index(self, session: DragSession) -> int:
        return next(i for i, known in enumerate(self._sessions) if known is session)


def _distinct(names: list[str]) -> list[str]:
    """Equal names get a number."""
    return [name if names.index(name) == i else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)]
