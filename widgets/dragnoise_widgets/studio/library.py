"""The library: the sessions that a studio holds, where they come from, and the files they are kept in."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from dragnoise import DragSession, Model, ModelInfo, load_model
from dragnoise.archive.autosave import failure
from dragnoise.session.history import History
from dragnoise_widgets.export import autosave_folder
from dragnoise_widgets.export.album import Album
from dragnoise_widgets.export.autosaves import Autosaves
from dragnoise_widgets.export.model_names import EMBEDDED, asked, can_be_loaded, how, told
from dragnoise_widgets.panels import source
from dragnoise_widgets.panels.keeping import Keeping
from dragnoise_widgets.panels.messages import Messages
from dragnoise_widgets.panels.question import Question
from dragnoise_widgets.panels.source import Source
from dragnoise_widgets.runner.commands import Branch, Save, SetModel
from dragnoise_widgets.runner.runner import Runner
from dragnoise_widgets.sentences import sentence
from dragnoise_widgets.studio.loads import Loads


class Desk(Protocol):
    """What the library needs of a studio."""

    messages: Messages
    question: Question
    session: DragSession

    @property
    def has_session(self) -> bool: ...

    @property
    def runner(self) -> Runner: ...

    @property
    def inline(self) -> bool: ...

    def refresh(self) -> None: ...

    def unfold(self, content: Any) -> None: ...


@dataclass(frozen=True, eq=False)
class Entry:
    """A session, and the pictures known of it."""

    session: DragSession
    album: Album = field(default_factory=Album)


class Library:
    """Sessions by the order in which they came, and the two panels that are about them.

    `source` is the panel that new ones come from, `keeping` the one for branches and files.
    autosave: a file, True for the default one in the folder .dragnoise, None or False for none.
    """

    def __init__(self, desk: Desk, *, autosave: str | Path | bool | None, every: int) -> None:
        self._desk = desk
        self._by_default = autosave is True
        path = autosave_folder.default_path() if autosave is True else None if autosave is False else autosave
        self._autosaves = Autosaves(path, every, on_error=self._autosave_failed)
        self._entries: tuple[Entry, ...] = ()
        self._lock = threading.RLock()  # held while the entries are replaced
        self._put_aside: list[DragSession] = []  # those of the sessions that nobody asked for
        self._compared: DragSession | None = None
        self._example: Callable[[], DragSession | None] = lambda: None
        self._loaded: dict[str, Model] = {}  # by how it was asked for

        def by_hand(action: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: desk.messages.guarded(action, *arguments)

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
        self._loads = Loads(inline=desk.inline, changed=self._loads_changed)

    # ---- going between them ------------------------------------------------------------------

    @property
    def sessions(self) -> tuple[DragSession, ...]:
        """All sessions that were shown, oldest first."""
        return tuple(entry.session for entry in self._entries)

    def adopt(self, session: DragSession) -> Album:
        """Take a session that is about to be shown, and give the pictures known of it."""
        with self._lock:
            if not any(session is known for known in self.sessions):
                self._entries = (*self._entries, Entry(session))
            if session is self._compared:
                self._compared = None
            self._begin_autosave(session)
            return self._album(session)

    def choose(self, index: int) -> None:
        """Show the session of this number."""
        self._desk.session = self.sessions[index]

    def forget(self, index: int) -> None:
        """Let go of the session of this number, which nobody can go back to then.  ValueError for the only one."""
        sessions = self.sessions
        if len(sessions) < 2:
            raise ValueError("this is the only session; upload a picture or branch before it can go.")
        gone = sessions[index]
        if self._desk.session is gone:
            self._desk.session = sessions[index - 1 if index else 1]
        with self._lock:
            if self._compared is gone:
                self._compared = None
            self._entries = tuple(entry for entry in self._entries if entry.session is not gone)
            self._put_aside = [session for session in self._put_aside if session is not gone]
            self._autosaves.end(gone)
        self._desk.refresh()

    def compare(self, index: int | None) -> None:
        """Compare the one shown with another one, None with nothing."""
        self._compared = None if index is None else self.sessions[index]
        self._desk.refresh()

    @property
    def compared_history(self) -> History:
        compared = self._compared
        return History() if compared is None else compared.history

    @property
    def compared_picture(self) -> Image.Image | None:
        """The newest picture of the session that is compared with."""
        compared = self._compared
        if compared is None:
            return None
        found = self._album(compared).nearest(compared.history, len(compared.history) - 1, compared.config)
        return found[1] if found else None

    def keep(self, session: DragSession) -> None:
        """Take a session among the branches without showing it, with the pictures of the one shown."""
        with self._lock:
            self._entries = (*self._entries, Entry(session, self._album(self._desk.session).copy()))

    def put_aside(self, session: DragSession, before: DragSession | None) -> str:
        """Keep iterations that a change of drags or mask has taken from a session, and drop those that came back.

        before: a branch made before the change, None if there were no iterations.  Returns what to tell, may be empty.
        """
        told, history = "", session.history
        with self._lock:
            back = [one for one in self._put_aside if holds(history, one.history)]
            self._put_aside = [one for one in self._put_aside if not any(one is other for other in back)]
            gone = [one for one in back if one is not self._desk.session and one is not self._compared]
            self._entries = tuple(e for e in self._entries if not any(e.session is one for one in gone))
            if back:
                told = f"iteration {len(history) - 1} of these drags is back"
            if before is not None and not holds(history, before.history):
                others = (one for one in self.sessions if one is not session)
                branch = next((one for one in others if holds(one.history, before.history)), None)
                if branch is None:
                    branch = before
                    self.keep(before)
                    self._put_aside.append(before)
                n = len(before.history) - 1
                told = f"other drags begin anew; the {n} iterations so far are kept as the branch {branch.name!r}"
        return told

    def branch(self, k: int) -> Future[DragSession]:
        """Branch the session shown at iteration k, and show the branch when it is there."""
        parent = self._desk.session

        def done(future: Future[DragSession]) -> None:
            if future.cancelled() or future.exception() is not None:
                return
            branch = future.result()
            album, history = self.adopt(branch), branch.history
            found = self._album(parent).get(parent.history, k, parent.config)
            if found is not None:
                album.put(history, k, branch.config, found)
            self._desk.messages.guarded(setattr, self._desk, "session", branch)

        future = self._desk.runner.do(Branch(k))
        future.add_done_callback(done)
        return future

    def show(self) -> None:
        """Bring both panels in line."""
        sessions = self.sessions
        if sessions and self._desk.has_session:
            session = self._desk.session
            names = _distinct([getattr(s, "name", "session") for s in sessions])
            numbers = {id(known): i for i, known in enumerate(sessions)}
            self.keeping.show(names, numbers.get(id(session), 0), numbers.get(id(self._compared)))
            self.source.show(session.prompt, session.model.name if session.model else "")

    # ---- where new ones come from ------------------------------------------------------------

    def upload(self, data: bytes) -> None:
        """A new session on an uploaded picture."""
        self.begin(source.read_picture(data))

    def begin(self, picture: Image.Image) -> None:
        """A new session on a picture; the prompt of another one does not go with it."""
        prompt = "" if self._entries else self.source.prompt.value
        self._later("reading the picture", lambda: DragSession(self._model(), picture, prompt), of=id(picture))

    def example(self) -> None:
        """A new session on a scene of the embedded world, unless the one shown is that, as it was given."""

        def make() -> DragSession | None:
            shown = self._desk.session if self._desk.has_session else None
            if shown is not None and shown is self._example() and not shown.history:
                return None
            session = source.example(self._load(EMBEDDED))
            self._example = weakref.ref(session)
            return session

        self._later("loading the embedded model", make, done="the example is shown")

    def set_prompt(self, prompt: str) -> None:
        """The same picture with another prompt, beside the one shown; without a session it is kept for the first."""
        if self._entries and prompt != self._desk.session.prompt:
            worn = self._desk.session.lora is not None
            self._desk.session = source.with_changes(self._desk.session, prompt=prompt)
            if worn:
                self._desk.messages.tell("the LoRA was of the other prompt; Prepare fits one of this")

    def set_model(self, name: str, dtype: str | None = None, memory: str = "normal") -> None:
        """The same picture with another model, beside the one shown.  dtype, memory: as `load_model` has them."""
        if not name:
            raise ValueError("there is no model named; give a hub id, a folder, a .safetensors file, or toyland.")

        def make() -> DragSession | None:
            model = self._load(name, **asked(dtype=dtype, memory=memory))
            return source.with_changes(self._desk.session, model=model) if self._entries else None

        self._later(f"loading {name}", make)

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
        """Open a saved session beside the one shown, with the model that it was made with.

        A model that is not here and that the file alone names is loaded after the person has said so.  Without a
        model a session can be looked at all the same.
        """
        opened: list[tuple[DragSession, Model | None]] = []

        def make() -> DragSession:
            session = DragSession.open(path)
            opened.append((session, self._at_hand(session.made_with)))
            return session

        def then() -> None:
            session, model = opened[0]
            if model is not None:
                self._equip(session, lambda: model)
            elif can_be_loaded(session.made_with.name):
                self._ask_for_model(session, Path(path).name)
            else:
                name = session.made_with.name
                said = f"calls its model {name!r}, which names no file and no hub id" if name else "names no model"
                self._desk.messages.tell(f"only to look at: the file {said}; set studio.session.model to go on")

        self._later(f"opening {path}", make, then=then)

    def set_autosave(self, path: str | Path | None) -> None:
        """Save the session shown there after every few iterations, others beside it; None ends it for all."""
        shown = self._desk.session
        self._by_default = False
        self._autosaves.change(path, [shown, *(session for session in self.sessions if session is not shown)])

    def look_for_autosave(self) -> None:
        """Offer the file that was saved by itself before the kernel was restarted."""
        if (path := self._autosaves.newest()) is not None:
            self.keeping.offer(str(path), lambda: self.open(path))
            self._desk.unfold(self.keeping)
            self._desk.messages.tell("an edit was saved by itself before: it is offered under Branches and files")

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
        """Make a session where loads are made, for models take their time, and show it; nothing if that is under way.

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
                self._desk.messages.failed(error)

        self._loads.begin(what, work, of=of)

    def _loads_changed(self) -> None:
        """While something is loaded, nothing else can be begun by hand."""
        for control in (*self.source.starts, self.keeping.open_button):
            control.disabled = bool(self.loading)
        self._desk.refresh()

    def _ask_for_model(self, session: DragSession, file: str) -> None:
        info = session.made_with

        def load() -> None:
            then = partial(self._equip, session, lambda: self._load(info.name, **how(info)))
            self._later(f"loading {info.name}", lambda: session, then)

        question = f"{file} names the model that it was made with: {told(info)}. Load it only if you trust it."
        self._desk.question.ask(question, [("Load this model", load), ("Only look at the edit", lambda: None)])

    def _equip(self, session: DragSession, find: Callable[[], Model]) -> None:
        """Give a session its model; where that does not work, tell why it can only be looked at."""
        try:
            model = find()
            if self._desk.has_session and self._desk.session is session:
                self._desk.runner.do(SetModel(model)).result()
            else:
                session.model = model
        except Exception as error:
            self._desk.messages.tell(f"only to look at, without its model: {sentence(error)}")

    def _model(self) -> Model:
        """The model of the session shown, else the one that is named."""
        session = self._desk.session if self._entries else None
        if session is not None and session.model is not None:
            return session.model
        return self._load(self.source.model.value.strip() or EMBEDDED)

    def _load(self, name: str, **given: Any) -> Model:
        """A model, loaded once as long as a session has it: those that none has make room for another."""
        used = [session.model for session in self.sessions if session.model is not None]
        if not given:
            for model in used:
                if model.name == name:
                    return model
        key = f"{name} {sorted(given.items())}"
        if key not in self._loaded:
            self._loaded = {k: model for k, model in self._loaded.items() if any(model is one for one in used)}
            self._loaded[key] = load_model(name, **given)
        return self._loaded[key]

    def _at_hand(self, info: ModelInfo) -> Model | None:
        """The model that a file tells of, where nothing has to be loaded that the file alone names; else None."""
        if info.fingerprint:
            for session in self.sessions:
                if session.model is not None and session.model.info.fingerprint == info.fingerprint:
                    return session.model
        if info.name == EMBEDDED and set(info.options) <= {"memory"}:
            return self._load(info.name, **how(info))
        return None

    # ---- autosave ----------------------------------------------------------------------------

    def _begin_autosave(self, session: DragSession) -> None:
        path = self._autosaves.path
        try:
            if self._by_default and path is not None:
                path.parent.mkdir(exist_ok=True)
                autosave_folder.tidy(path.parent, in_use=self._autosaves.in_use)
            self._autosaves.begin(session)
        except OSError as error:
            self._autosave_failed(error)

    def _autosave_failed(self, error: Exception | None) -> None:
        """Told by whoever saves, on any thread; None: it works again."""
        if error is not None:
            self._desk.messages.refused(failure(error))
        else:
            self._desk.messages.tell("autosave works again")

    def _album(self, session: DragSession) -> Album:
        return next((entry.album for entry in self._entries if entry.session is session), Album())


def holds(history: History, part: History) -> bool:
    """Does a history begin with all iterations of another one?"""
    return len(part) == 0 or (len(history) >= len(part) and history[len(part) - 1].anchors is part[-1].anchors)


def _distinct(names: list[str]) -> list[str]:
    """Equal names get a number."""
    return [name if names.index(name) == i else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)]
