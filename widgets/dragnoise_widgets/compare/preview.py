"""The preview: the picture of an iteration, and a slider that uncovers another one from the left."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from PIL import Image

from dragnoise_widgets.compare.choice import Choice
from dragnoise_widgets.png import png, png_within
from dragnoise_widgets.sketch.view import SMALLEST, View
from dragnoise_widgets.sketch.window import WHOLE, Window

CHOICES = [
    ("quick looks", "end"), ("nothing", 0), ("rendered, every 1", 1), ("rendered, every 5", 5),
    ("rendered, every 10", 10), ("rendered, auto", "auto"),
]  # fmt: skip
"""What a run shows, and the `Runner.preview_every` that it stands for; with all but "nothing" there are quick looks."""

QUICK = "quick look"

WARPED = "dragnoise-warped"
"""The class of what is shown while a drag is pulled."""

STYLE = """<style>
.dragnoise-before { border-right: 2px solid white; box-shadow: 1px 0 3px rgba(0, 0, 0, 0.6); z-index: 1 }
.dragnoise-before, .dragnoise-before img, .dragnoise-overlay img { margin: 0 !important; padding: 0 !important }
.dragnoise-quick { align-self: start; justify-self: end; z-index: 2; pointer-events: none; padding: 0 6px;
  background: rgba(0, 0, 0, 0.55); color: white; border-radius: 0 2px 0 4px; line-height: 20px; font-size: 12px }
.dragnoise-warped { background: #7a4db0 }
.dragnoise-half-left, .dragnoise-half-right { align-self: end; z-index: 2; pointer-events: none; padding: 0 6px;
  background: rgba(0, 0, 0, 0.55); color: white; line-height: 20px; font-size: 12px }
.dragnoise-half-left { justify-self: start }
.dragnoise-half-right { justify-self: end }
.dragnoise-caption .widget-html-content { white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.dragnoise-overlay { border-radius: 2px; background: var(--jp-layout-color2, #eee) }
</style>"""


class Preview(widgets.VBox):
    """Two pictures, one over the other: the slider uncovers the one before from the left.

    `picture` is of the iteration shown, as a PIL image; None shows nothing.  `quick`: is it a quick look?
    choice: of the two that are compared; it calls `changed()` and `compare(index or None)`.
    window: the part that is shown of all of them.
    """

    def __init__(
        self, changed: Callable[[], Any] = lambda: None, compare: Callable[[int | None], Any] = lambda index: None
    ) -> None:
        self.choice = Choice(changed, compare)
        self.window = WHOLE
        self._instead: Image.Image | None = None
        self._sent: tuple[Any, ...] = (None, None, WHOLE)
        self.picture: Image.Image | None = None
        self.quick = False
        self._before: Image.Image | None = None
        cell = {"grid_area": "1 / 1", "margin": "0"}
        self.after_image = widgets.Image(format="png", layout={**cell, "width": "100%", "height": "auto"})
        self.before_image = widgets.Image(format="png", layout={"width": "100%", "max_width": "none", "height": "auto"})
        self.curtain = widgets.Box([self.before_image], layout={**cell, "overflow": "hidden", "display": "none"})
        self.curtain.add_class("dragnoise-before")
        self.badge = widgets.HTML(QUICK, layout={**cell, "display": "none"}).add_class("dragnoise-quick")
        self.names = tuple(
            widgets.HTML(layout={**cell, "display": "none"}).add_class(f"dragnoise-half-{side}")
            for side in ("left", "right")
        )
        self.stage = widgets.Box(
            [self.after_image, self.curtain, self.badge, *self.names],
            layout={"display": "grid", "width": f"{SMALLEST}px", "max_width": "100%", "overflow": "hidden"},
        )
        self.stage.add_class("dragnoise-overlay")
        self.caption = widgets.HTML(layout={"margin": "0 2px", "flex": "1 1 0", "min_width": "0"})
        self.caption.add_class("dragnoise-caption")
        self.slider = widgets.IntSlider(
            value=0, min=0, max=100, readout=False, description="compare",
            style={"description_width": "initial"},
            layout={"width": "auto", "max_width": "330px"},
        )  # fmt: skip
        self.every = widgets.Dropdown(
            options=CHOICES, value="end", description="show", layout={"width": "172px", "flex": "0 0 auto"},
            style={"description_width": "initial"},
        )  # fmt: skip
        self.slider.observe(self._slid, "value")
        controls = widgets.HBox([self.caption, self.every], layout={"align_items": "center"})
        controls.layout.max_width = f"{SMALLEST}px"
        style = widgets.HTML(STYLE, layout={"display": "none"})
        super().__init__(
            [self.slider, self.stage, controls, self.choice, style], layout={"width": "auto", "overflow": "hidden"}
        )
        self.add_class("dragnoise-preview")
        self.layout.margin = "0 12px 0 0"  # as the canvas has, so that both are as wide

    @property
    def before(self) -> Image.Image | None:
        """The picture that the slider uncovers: the given one, or that of the compared branch."""
        return self._before

    @before.setter
    def before(self, picture: Image.Image | None) -> None:
        if picture is not self._before:
            self._before = picture
            self._send_pictures()

    def show(self, picture: Image.Image | None, caption: str = "", *, quick: bool = False, mark: str = QUICK) -> None:
        """Show a picture as the one now.  caption: plain text.  quick: it is a quick look, and is marked so.

        mark: another word for what no model has made, in another tint.
        """
        self.quick = quick and picture is not None
        self.badge.value = mark
        (self.badge.remove_class if mark == QUICK else self.badge.add_class)(WARPED)
        (self.stage.remove_class if mark == QUICK or picture is None else self.stage.add_class)(WARPED)
        self.badge.layout.display = "" if self.quick else "none"
        if picture is not self.picture:
            self.picture = picture
            self._send_pictures()
            if picture is not None and not self.quick:
                self.stage.layout.width = View.of(picture.size).width  # as wide as on the canvas
        self._caption(caption)

    def replace(self, picture: Image.Image | None, caption: str = "") -> None:
        """Show another picture in place of the iteration's; None restores that.  caption: in place of its caption."""
        self._instead = picture
        if picture is not None:
            self.badge.layout.display = "none"
        self._send_pictures()
        if caption:
            self._caption(caption)

    def _caption(self, caption: str) -> None:
        """Plain text; what there is no room for is in the tooltip."""
        if html.escape(caption) != self.caption.value:
            self.caption.value = html.escape(caption)
            if self.caption.has_trait("tooltip"):  # not in ipywidgets 7
                self.caption.tooltip = caption

    def name_halves(self, left: str, right: str) -> None:
        """Write the names of both on them, while they are compared."""
        for label, name in zip(self.names, (left, right), strict=True):
            if label.value != html.escape(name):
                label.value = html.escape(name)
        self._show_names()

    def look_at(self, window: Window) -> None:
        """Show this part of the pictures."""
        self.window = window
        self._send_pictures()

    def _send_pictures(self) -> None:
        """Send the pictures that the page has not got, of the part that is shown."""
        after, before = self.picture if self._instead is None else self._instead, self._before
        was_after, was_before, window = self._sent
        self._sent = after, before, self.window
        for image, picture, was in ((self.after_image, after, was_after), (self.before_image, before, was_before)):
            if picture is not was or window != self.window:
                image.value = b"" if picture is None else _seen(picture, self.window)
        self._show_names()

    def _show_names(self) -> None:
        left, right = self.names
        share = self.slider.value
        for label, seen in ((left, share > 0), (right, (0 < share < 100) or self._instead is not None)):
            wanted = "" if seen else "none"
            if label.layout.display != wanted:
                label.layout.display = wanted

    def _slid(self, change: Any) -> None:
        share = change.new
        self.curtain.layout.display = "" if share else "none"
        if share:
            self.curtain.layout.width = f"{share}%"
            self.before_image.layout.width = f"{10000 / share:.2f}%"
        self._show_names()


def _seen(picture: Image.Image, window: Window) -> bytes:
    """As PNG, no larger than anybody sees it here."""
    view = View.of(picture.size)
    if window == WHOLE:
        return png_within(picture, view.canvas)
    return png(picture.resize(view.css, Image.Resampling.BICUBIC, box=window.box(picture.size)), level=1)
