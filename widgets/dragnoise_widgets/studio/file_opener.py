"""Opening of saved sessions, and of the models that they were made with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dragnoise
from dragnoise_widgets.export.model_names import can_be_loaded, how
from dragnoise_widgets.formatting import error_message
from dragnoise_widgets.runner.commands import SetModel
from dragnoise_widgets.studio.models import Models
from dragnoise_widgets.studio.protocol import StudioProtocol

if TYPE_CHECKING:
    from dragnoise import DragSession, Model


class FileOpener:
    """later: makes a session where loads are made and shows it, see `Library`: later(words, make, then)."""

    def __init__(self, desk: StudioProtocol, models: Models, later: Callable[..., Any]) -> None:
        self._desk, self._models, self._later = desk, models, later

    def open(self, path: str | Path) -> None:
        """Open a saved session beside the one shown, with the model that it was made with.

        A model that is not here and that the file alone names is loaded after the person has said so.  Without a
        model a session can be looked at all the same.
        """
        opened: list[tuple[DragSession, Model | None]] = []

        def make() -> DragSession:
            session = dragnoise.DragSession.open(path)
            opened.append((session, self._models.at_hand(session.store.made_with)))
            return session

        def then() -> None:
            session, model = opened[0]
            if model is not None:
                self._equip(session, lambda: model)
            elif can_be_loaded(session.store.made_with.name):
                self._ask_for_model(session, Path(path).name)
            else:
                name = session.store.made_with.name
                said = f"calls its model {name!r}, which names no file and no hub id" if name else "names no model"
                self._desk.messages.tell(f"only for viewing: the file {said}; set studio.session.model to continue")

        self._later(f"opening {path}", make, then=then)

    def _ask_for_model(self, session: DragSession, file: str) -> None:
        """Ask by what the file says alone: nothing is imported, loaded or looked for before the answer."""
        info = session.store.made_with

        def load() -> None:
            then = partial(self._equip, session, lambda: self._models.load(info.name, **how(info)))
            self._later(f"loading {info.name}", lambda: session, then)

        self._desk.question.ask(info.question(file), [("Load this model", load), ("Only view the edit", lambda: None)])

    def _equip(self, session: DragSession, find: Callable[[], Model]) -> None:
        """Give a session its model; where that does not work, tell why it can only be looked at."""
        try:
            model = find()
            if self._desk.has_session and self._desk.session is session:
                self._desk.runner.do(SetModel(model)).result()
            else:
                session.model = model
        except Exception as error:
            self._desk.messages.tell(f"only for viewing, without its model: {error_message(error)}")
