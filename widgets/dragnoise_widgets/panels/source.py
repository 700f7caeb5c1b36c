"""The panel for a new session's picture, prompt and model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from PIL import Image

import dragnoise
from dragnoise.images import pictures
from dragnoise_widgets.canvas.toolbar import uploaded
from dragnoise_widgets.controls import ROW, button, named
from dragnoise_widgets.panels import gallery
from dragnoise_widgets.panels.gallery import Gallery

if TYPE_CHECKING:
    from dragnoise import Drag, DragSession, Model

USUAL = ""
"""The value of a list's first entry: None would leave the list empty when it is chosen a second time."""


def example(model: Model) -> DragSession:
    """A scene of the embedded world with a drag on it."""
    case = gallery.EXAMPLES["sun"].case
    session = gallery.session_of(model, "sun")
    session.drags, session.mask = case.drags, case.mask
    return session


def read_picture(data: bytes) -> Image.Image:
    """The bytes of an uploaded image file -> an RGB picture; ValueError if they are not one."""
    return pictures.picture_of_file(data)


def with_changes(session: DragSession, *, model: Model | None = None, prompt: str | None = None) -> DragSession:
    """A new session on the same picture with its drags and mask; another model comes with its own numbers."""
    other = dragnoise.DragSession(
        session.model if model is None else model,
        session.image,
        session.prompt if prompt is None else prompt,
        session.config if model is None else None,
    )
    drags: tuple[Drag, ...] = session.drags
    other.drags, other.mask = drags, session.mask
    return other


class Source(widgets.VBox):
    """A gallery of examples, upload, prompt and model.  visible: is it unfolded?

    actions: what they do, by name: picture(bytes), example(kind), prompt(text), model(name, dtype, memory).
    """

    def __init__(self, actions: Mapping[str, Callable[..., Any]]) -> None:
        self._actions = actions
        self._shown = ("", "toyland")
        self.upload = widgets.FileUpload(
            accept="image/*", multiple=False, description="Upload a picture", layout={"width": "160px"}
        )
        self.upload.add_class("dragnoise-open-picture")
        self.upload.observe(self._uploaded, "value")  # where the page does not open the file itself, see access.js
        self.gallery = Gallery(lambda kind: actions["example"](kind))
        self.visible = True
        self.prompt = widgets.Text(
            description="prompt", placeholder="what the picture shows; may be empty", continuous_update=False,
            layout={"flex": "1 1 300px", "min_width": "240px"}, style={"description_width": "52px"},
        )  # fmt: skip
        self.prompt.observe(self._prompted, "value")
        self.model = widgets.Text(
            value="toyland", description="model", placeholder="hub id, folder or .safetensors file",
            continuous_update=False, layout={"flex": "1 1 220px", "min_width": "200px"},
            style={"description_width": "44px"},
        )  # fmt: skip
        self.load = button("Load", self._load, icon="folder-open-o", tooltip="Load this model", width="84px")
        precisions = [("usual precision", USUAL), *((name, name) for name in ("float32", "bfloat16", "float16"))]
        self.dtype = named(widgets.Dropdown(options=precisions, layout={"width": "140px"}), "precision")
        sparing = [("usual memory", "normal"), ("low memory, slower", "low")]
        self.memory = named(widgets.Dropdown(options=sparing, layout={"width": "150px"}), "memory")
        super().__init__(
            [
                self.gallery,
                widgets.HBox([self.upload, self.prompt], layout=ROW),
                widgets.HBox([self.model, self.dtype, self.memory, self.load], layout={**ROW, "max_width": "860px"}),
            ]
        )

    def show(self, prompt: str, model: str) -> None:
        """Show what the session has; what is being typed and not given yet stays."""
        if (prompt, model) != self._shown:
            if prompt != self._shown[0]:
                self._shown = prompt, model
                self.prompt.value = prompt
            self._shown = prompt, model
            self.model.value = model

    def unfolded(self, *, inline: bool) -> None:
        """Make the gallery's pictures as soon as the panel is seen."""
        if self.visible:
            self.gallery.show_pictures(inline=inline)

    @property
    def starts(self) -> tuple[Any, ...]:
        """The controls that make a new session; disabled while one is made."""
        return (self.upload, *self.gallery.buttons.values(), self.load)

    def _load(self) -> None:
        self._actions["model"](self.model.value.strip(), self.dtype.value or None, self.memory.value)

    def _prompted(self, change: Any) -> None:
        if change.new != self._shown[0]:
            self._actions["prompt"](change.new)

    def _uploaded(self, _: Any) -> None:
        data = uploaded(self.upload)
        if data is not None:
            self._actions["picture"](data)
