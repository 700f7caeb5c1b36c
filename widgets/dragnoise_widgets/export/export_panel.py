"""The export panel: download links, the GIF, the code that repeats the edit, and the sample of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from PIL import Image

from dragnoise_widgets.controls import ROW, button, named
from dragnoise_widgets.export import downloads
from dragnoise_widgets.png import png

if TYPE_CHECKING:
    from dragnoise import Drag

GIF, NO_GIF = "Make a GIF", "Stop the GIF"


class ExportPanel(widgets.VBox):
    """Links to picture, drags and GIF, a box of code, and the folder of a sample.

    actions: what the buttons do, by name: gif(), code(), sample(folder).
    visible: is the panel unfolded?  While it is not, no links are made.
    """

    def __init__(self, actions: Mapping[str, Callable[..., Any]]) -> None:
        self.visible = True
        self._shown: tuple[Any, ...] = ()
        self.picture = widgets.HTML(layout={"margin": "2px"})
        self.drags = widgets.HTML(layout={"margin": "2px"})
        self.make_gif = button(
            GIF, actions["gif"], icon="film", tooltip="Render the drag as a moving picture", width="118px"
        )
        self.gif = widgets.HTML(layout={"margin": "2px"})
        self.make_code = button(
            "Copy as code", actions["code"], icon="code", tooltip="The Python that repeats this edit exactly",
            width="132px",
        )  # fmt: skip
        code = widgets.Textarea(layout={"width": "100%", "height": "220px", "display": "none"})
        self.code = named(code, "code that repeats this edit")
        self.folder = widgets.Text(
            value="samples/mine/1", description="folder", style={"description_width": "42px"},
            layout={"flex": "0 1 260px", "min_width": "160px"},
        )  # fmt: skip
        self.make_sample = button(
            "Save as a sample", lambda: actions["sample"](self.folder.value), icon="database", width="150px",
            tooltip="Picture, drags, prompt and mask in this folder, as python -m dragnoise.bench reads them",
        )  # fmt: skip
        super().__init__(
            [
                widgets.HBox([self.picture, self.drags, self.make_gif, self.gif, self.make_code], layout=ROW),
                self.code,
                widgets.HBox([self.folder, self.make_sample], layout=ROW),
            ]
        )

    def show(self, picture: Image.Image | None, drags: Sequence[Drag], size: tuple[int, int]) -> None:
        """Let the links save this picture and these drags."""
        shown = (picture, tuple(drags), size)
        if self._shown and shown[0] is self._shown[0] and shown[1:] == self._shown[1:]:
            return
        if self._shown and shown[1:] != self._shown[1:]:
            self.clear()
        if not self.visible:
            return
        self._shown = shown
        self.picture.value = "" if picture is None else downloads.link(png(picture, level=1), "edited.png", "Picture")
        text = downloads.drags_json(drags, size)
        self.drags.value = downloads.link(text.encode(), "drags.json", "Drags")

    def clear(self) -> None:
        """Remove GIF and code, which belong to a session no longer shown."""
        self.gif.value = self.code.value = ""
        self.code.layout.display = "none"

    def show_gif(self, data: bytes) -> None:
        """Let a link save this GIF."""
        self.say("")
        self.gif.value = downloads.link(data, "drag.gif", f"GIF ({max(len(data) // 1000, 1)} kB)")

    def say(self, message: str) -> None:
        """Show the progress of the GIF; "" if none is being made."""
        self.gif.value = message
        self.make_gif.description = NO_GIF if message else GIF

    def show_code(self, text: str) -> None:
        """Show code, to be selected and copied."""
        self.code.value = text
        self.code.layout.display = ""
