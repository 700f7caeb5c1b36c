"""The panel for a new session's picture, prompt and model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
from PIL import Image

from dragnoise import Drag, DragSession, Model
from dragnoise.images import pictures
from dragnoise.toyland import caption, drag_cases, render
from dragnoise_widgets.canvas.toolbar import uploaded
from dragnoise_widgets.controls import ROW, button, named

USUAL = ""
"""The value of a list's first entry: None would leave the list empty when it is chosen a second time."""


def example(model: Model) -> DragSession:
    """A scene of the embedded world with a drag on it."""
    case = drag_cases("sun", 8, seed=20_000_000)[7]
    session = DragSession(model, render(case.scene), prompt=caption(case.scene))
    session.drags = case.drags
    session.mask = case.mask
    return session


def read_picture(data: bytes) -> Image.Image:
    """The bytes of an uploaded image file -> an RGB picture; ValueError if they are not one."""
    return pictures.picture_of_file(data)


def with_changes(session: DragSession, *, model: Model | None = None, prompt: str | None = None) -> DragSession:
    """A new session on the same picture with its drags and mask; another model comes with its own numbers."""
    other = DragSession(
        session.model if model is None else model,
        session.image,
        session.prompt if prompt is None else prompt,
        session.config if model is None else None,
    )
    drags: tuple[Drag, ...] = session.drags
    other.drags, other.mask = drags, session.mask
    return other


class Source(widgets.VBox):
    """Upload, example, prompt and model.

    actions: what they do, by name: picture(bytes), example(), prompt(text), model(name, dtype, memory).
    """

    def __init__(self, actions: Mapping[str, Callable[..., Any]]) -> None:
        self._actions = actions
        self._shown = ("", "toyland")
        self.upload = widgets.FileUpload(
            accept="image/*", multiple=False, description="Upload a picture", layout={"width": "160px"}
        )
        self.upload.observe(self._uploaded, "value")
        self.example = button(
            "Example", lambda: actions["example"](), icon="picture-o", tooltip="A scene of the embedded world",
            width="110px",
        )  # fmt: skip
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
                widgets.HBox([self.upload, self.example, self.prompt], layout=ROW),
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

    @property
    def starts(self) -> tuple[Any, ...]:
        """The controls that make a new session; disabled while one is made."""
        return (self.upload, self.example, self.load)

    def _load(self) -> None:
        self._actions["model"](self.model.value.strip(), self.dtype.value or None, self.memory.value)

    def _prompted(self, change: Any) -> None:
        if change.new != self._shown[0]:
            self._actions["prompt"](change.new)

    def _uploaded(self, _: Any) -> None:
        data = uploaded(self.upload)
        if data is not None:
            self._actions["picture"](data)
