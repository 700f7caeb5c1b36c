"""Creation of new sessions: from a picture or an example, with another prompt or another model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

import dragnoise
from dragnoise.validation import is_one_of, shown
from dragnoise_widgets.export.model_names import EMBEDDED, asked
from dragnoise_widgets.panels import gallery, source
from dragnoise_widgets.panels.source import Source
from dragnoise_widgets.studio.models import Models
from dragnoise_widgets.studio.protocol import StudioProtocol

if TYPE_CHECKING:
    from dragnoise import DragSession, Model


class NewSessions:
    """Creates sessions.  source: the panel with the controls for that.

    later: makes a session where loads are made and shows it, see `Library`: later(words, make, then, done, of).
    expect: shows the picture of a first session, to be drawn on.  by_hand: gives an action in the form that controls
    call.
    """

    def __init__(
        self, desk: StudioProtocol, models: Models, later: Callable[..., Any], expect: Callable[[Image.Image], None],
        by_hand: Callable[..., Any],
    ) -> None:  # fmt: skip
        self._desk, self._models, self._later, self._expect = desk, models, later, expect
        self._example: tuple[str, Callable[[], DragSession | None]] = "", lambda: None
        self.source = Source(
            {
                "picture": by_hand(self.upload), "example": by_hand(self.example), "prompt": by_hand(self.set_prompt),
                "model": by_hand(self.set_model),
            }
        )  # fmt: skip

    def first(self, picture: Image.Image, prompt: str, model: str) -> None:
        """The first session of a studio, on a picture; model: its name, "" for the embedded one."""
        self.source.prompt.value, self.source.model.value = prompt, model or EMBEDDED
        self.picture(picture)

    def upload(self, data: bytes) -> None:
        """A new session on an uploaded picture."""
        self.picture(source.read_picture(data))

    def picture(self, picture: Image.Image) -> None:
        """A new session on a picture; the prompt of another one does not go with it.

        The first picture can be drawn on while the model is loaded.
        """
        here = self._here()
        model = here.model if here is not None else None
        name = self.source.model.value.strip() or EMBEDDED
        prompt = self.source.prompt.value if here is None else ""

        def make() -> DragSession:
            used: Model = self._models.load(name) if model is None else model
            return dragnoise.DragSession(used, picture, prompt)

        self._expect(picture)
        words = f"loading {_worded(name)}" if model is None else "reading the picture"
        self._later(words, make, of=id(picture))

    def example(self, kind: str = "sun") -> None:
        """A new session on an example, unless the one shown is that, as it was given; the gallery folds away."""
        if not is_one_of(kind, tuple(gallery.EXAMPLES)):
            raise ValueError(f"kind={shown(kind)} must be one of {', '.join(gallery.EXAMPLES)}.")

        def make() -> DragSession | None:
            here = self._here()
            if here is not None and self._example[0] == kind and self._example[1]() is here and not here.history:
                return None
            session = gallery.session_of(self._models.load(EMBEDDED), kind)
            self._example = kind, weakref.ref(session)
            return session

        def then() -> None:
            self._desk.messages.tell(hint)
            self._desk.unfold(self.source, folded=True)  # leaves the screen to the pictures

        hint = gallery.EXAMPLES[kind].hint
        self._later("loading the embedded model", make, then, hint, of=kind)

    def set_prompt(self, prompt: str) -> None:
        """The same picture with another prompt, beside the one shown; without a session it is kept for the first."""
        here = self._here()
        if here is not None and prompt != here.prompt:
            worn = here.lora is not None
            self._desk.session = source.with_changes(here, prompt=prompt)
            if worn:
                self._desk.messages.tell("the LoRA was of the other prompt; Prepare fits one of this")

    def set_model(self, name: str, dtype: str | None = None, memory: str = "normal") -> None:
        """The same picture with another model, beside the one shown.  dtype, memory: as `load_model` has them."""
        if not name:
            raise ValueError("there is no model named; give a hub id, a folder, a .safetensors file, or toyland.")

        def make() -> DragSession | None:
            model, here = self._models.load(name, **asked(dtype=dtype, memory=memory)), self._here()
            return None if here is None else source.with_changes(here, model=model)

        self._later(f"loading {name}", make)

    def _here(self) -> DragSession | None:
        return self._desk.session if self._desk.has_session else None


def _worded(name: str) -> str:
    return "the embedded model" if name == EMBEDDED else name
