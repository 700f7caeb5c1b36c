"""The sessions that a studio holds: where they come from, going between them, keeping them in files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dragnoise import DragSession, Model, ModelInfo, load_model, loading
from dragnoise.history import History
from dragnoise_widgets import source
from dragnoise_widgets.album import Album
from dragnoise_widgets.autosaves import Autosaves
from dragnoise_widgets.keeping import Keeping
from dragnoise_widgets.sentences import sentence
from dragnoise_widgets.source import Source

if TYPE_CHECKING:
    from dragnoise_widgets.studio import DragStudio


class Library:
    """Sessions by the order in which they came, and the two panels that are about them.

    `source` is the panel that new ones come from, `keeping` the one for branches and files.
    """

    def __init__(self, studio: DragStudio, *, autosave: str | Path | None, every: int) -> None:
        self._studio = studio
        self._autosaves = Autosaves(autosave, every)
        self._sessions: list[DragSession] = []
        self._albums: list[Album] = []
        self._put_aside: list[DragSession] = []  # those of the sessions that nobody asked for
        self._compared: DragSession | None = None
        self._loaded: dict[str, Model] = {}  # by how it was asked for

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
                "choose": by_hand(self.choose), "forget": by_hand(self.forget),
                "compare": by_hand(self.compare), "save": by_hand(self.save),
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
        self._autosaves.begin(session)
        return self._albums[self._index(session)]

    def choose(self, index: int) -> None:
        """Show the session of this number."""
        self._studio.session = self._sessions[index]

    def forget(self, index: int) -> None:
        """Let go of the session of this number, which nobody can go back to then.  ValueError for the only one."""
        if len(self._sessions) < 2:
            raise ValueError("this is the only session; upload a picture or branch before it can go.")
        gone = self._sessions[index]
        if self._studio.session is gone:
            self._studio.session = self._sessions[index - 1 if index else 1]
        if self._compared is gone:
            self._compared = None
        index = self._index(gone)
        del self._sessions[index], self._albums[index]
        self._put_aside = [session for session in self._put_aside if session is not gone]
        self._autosaves.end(gone)
        self._studio.showing.refresh()

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

    def keep(self, session: DragSession) -> None:
        """Take a session among the branches without showing it, with the pictures of the one shown."""
        album = self._albums[self._index(self._studio.session)]
        self._sessions.append(session)
        self._albums.append(album.copy())

    def put_aside(self, session: DragSession, before: DragSession | None) -> str:
        """Keep iterations that a change of drags or mask has taken from a session, and drop those that came back.

        before: a branch made before the change, None if there were no iterations.  Returns what to tell, may be empty.
        """
        told, history = "", session.history
        for kept in [one for one in self._put_aside if holds(history, one.history)]:
            self._put_aside.remove(kept)
            if kept is not self._studio.session and kept is not self._compared:
                index = self._index(kept)
                del self._sessions[index], self._albums[index]
            told = f"iteration {len(history) - 1} of these drags is back"
        if before is not None and not holds(history, before.history):
            n = len(before.history) - 1
            known = next(
                (one for one in self._sessions if one is not session and holds(one.history, before.history)), None
            )
            if known is None:
                self.keep(before)
                self._put_aside.append(before)
            told = (
                f"other drags begin anew; the {n} iterations so far are kept as the branch {(known or before).name!r}"
            )
        return told

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
        self.begin(source.read_picture(data))

    def begin(self, picture: Image.Image) -> None:
        """A new session on a picture; the prompt of another one does not go with it."""
        prompt = "" if self._sessions else self.source.prompt.value
        self._later("reading the picture", lambda: DragSession(self._model(), picture, prompt))

    def example(self) -> None:
        """A new session on a scene of the embedded world."""
        self._later("loading the embedded model", lambda: source.example(self._load("toyland")))

    def set_prompt(self, prompt: str) -> None:
        """The same picture with another prompt, beside the one shown; without a session it is kept for the first."""
        if self._sessions and prompt != self._studio.session.prompt:
            worn = self._studio.session.lora is not None
            self._studio.session = source.with_changes(self._studio.session, prompt=prompt)
            if worn:
                self._studio.messages.tell("the LoRA was of the other prompt; Prepare fits one of this")

    def set_model(self, name: str, dtype: str | None = None, memory: str = "normal") -> None:
        """The same picture with another model, beside the one shown.  dtype, memory: as `load_model` has them."""
        if not name:
            raise ValueError("there is no model named; give a hub id, a folder, a .safetensors file, or toyland.")

        def make() -> DragSession | None:
            model = self._load(name, **_asked(dtype=dtype, memory=memory))
            return source.with_changes(self._studio.session, model=model) if self._sessions else None

        self._later(f"loading {name}", make)

    # ---- files -------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Future[Any]:
        """Save the session shown, between two iterations."""
        future = self._studio.runner.call(lambda session: session.save(path))

        def done(future: Future[Any]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._autosaves.saved(path)
                self._studio.messages.tell(f"saved to {path}")

        future.add_done_callback(done)
        return future

    def open(self, path: str | Path) -> None:
        """Open a saved session beside the one shown, with the model that it was made with.

        Where that is not to be had, without one: it can be looked at all the same.
        """
        missing: list[str] = []

        def make() -> DragSession:
            session = DragSession.open(path)
            try:
                session.model = self._made_with(session.made_with)
            except Exception as error:
                missing.append(f"only to look at, without its model: {sentence(error)}")
            return session

        def tell() -> None:
            for each in missing:
                self._studio.messages.tell(each)

        self._later(f"opening {path}", make, then=tell)

    def set_autosave(self, path: str | Path | None) -> None:
        """Save the session shown there after every few iterations, others beside it; None ends it for all."""
        shown = self._studio.session
        self._autosaves.change(path, [shown, *(session for session in self._sessions if session is not shown)])

    def look_for_autosave(self) -> None:
        """Offer the file that was saved by itself before the kernel was restarted."""
        if (path := self._autosaves.newest()) is not None:
            self.keeping.offer(str(path), lambda: self.open(path))
            self._studio.unfold(self.keeping)
            self._studio.messages.tell("an edit was saved by itself before: it is offered under Branches and files")

    # ---- own ---------------------------------------------------------------------------------

    def _later(self, what: str, make: Callable[[], DragSession | None], then: Callable[[], Any] = lambda: None) -> None:
        """Make a session on a thread of its own, for models take their time, and show it."""

        def work() -> None:
            try:
                session = make()
                if session is not None:
                    self._studio.session = session
                else:
                    self._studio.messages.tell(f"{what}: done")
                then()
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

    def _load(self, name: str, **how: Any) -> Model:
        """A model, loaded once as long as a session has it: those that none has make room for another."""
        if not how:
            for session in self._sessions:
                if session.model is not None and session.model.name == name:
                    return session.model
        key = f"{name} {sorted(how.items())}"
        if key not in self._loaded:
            used = [session.model for session in self._sessions]
            self._loaded = {k: model for k, model in self._loaded.items() if any(model is one for one in used)}
            self._loaded[key] = load_model(name, **how)
        return self._loaded[key]

    def _made_with(self, info: ModelInfo) -> Model:
        """The model that a file tells of: one that is here already, else loaded as it was then."""
        here = [session.model for session in self._sessions if session.model is not None]
        for model in here if info.fingerprint else []:
            if model.info.fingerprint == info.fingerprint:
                return model
        same_place = info.dtype and info.device == loading.as_device(None).type
        how = dict(info.options) | ({"dtype": info.dtype} if same_place else {})
        return self._load(info.name or self.source.model.value, **how)

    def _index(self, session: DragSession) -> int:
        return next(i for i, known in enumerate(self._sessions) if known is session)


def holds(history: History, part: History) -> bool:
    """Does a history begin with all iterations of another one?"""
    return len(part) == 0 or (len(history) >= len(part) and history[len(part) - 1].anchors is part[-1].anchors)


def _asked(*, dtype: str | None, memory: str) -> dict[str, str]:
    """Arguments of `load_model`, without those that are the usual ones."""
    return ({} if dtype is None else {"dtype": dtype}) | ({} if memory == "normal" else {"memory": memory})


def _distinct(names: list[str]) -> list[str]:
    """Equal names get a number."""
    return [name if names.index(name) == i else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)]
