"""The ipycanvas layers of a `DragCanvas`: redraws only the layers that differ from what is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ipywidgets as widgets
from ipycanvas import MultiCanvas
from PIL import Image

from dragnoise_widgets.canvas import drawing
from dragnoise_widgets.canvas.batch import batch
from dragnoise_widgets.canvas.drawing import Picture, Scene
from dragnoise_widgets.png import png_within
from dragnoise_widgets.sketch.masks import Mask, overlay_png
from dragnoise_widgets.sketch.sketch import Sketch
from dragnoise_widgets.sketch.view import View


class CanvasLayers:
    """To be used under the lock.  canvas: one layer each for picture, mask, drags, and what is being drawn.

    Pictures go to the page as PNG in an `ipywidgets.Image` of which only the pixels are changed ever
    after: to draw one that is closed would stop all drawing.
    """

    def __init__(self) -> None:
        self.canvas = MultiCanvas(len(drawing.LAYERS))
        self._picture, self._overlay = (Picture(widgets.Image(format="png")) for _ in range(2))
        self._has_picture = False
        self._mask: Mask | None = None  # of which the overlay is
        self._drawn: Scene | None = None

    @property
    def pictures(self) -> tuple[widgets.Image, widgets.Image]:
        """The images that the picture and the mask are drawn from."""
        return self._picture.drawable, self._overlay.drawable

    def show_picture(self, picture: Image.Image | None, view: View) -> None:
        """Set the picture, or none, and the canvas's size for it."""
        if (self.canvas.width, self.canvas.height) != view.canvas or self._drawn is None:
            self.canvas.width, self.canvas.height = view.canvas
            self.canvas.layout = widgets.Layout(
                width=view.width, max_width="100%", height="auto", min_width="0", align_self="flex-start"
            )
        self._has_picture = picture is not None
        if picture is not None:
            self._picture = _another(self._picture, png_within(picture, view.canvas))

    def draw(self, view: View, sketch: Sketch, **shown: Any) -> None:
        """Draw the layers that this changes.  shown: the other fields of `Scene`."""
        mask = sketch.edit.mask
        if mask != self._mask:
            self._mask = mask
            if mask is not None:
                self._overlay = _another(self._overlay, overlay_png(mask.array, drawing.MASK, view.canvas))
        picture = self._picture if self._has_picture else None
        overlay = self._overlay if mask is not None else None
        scene = Scene(view, sketch, picture=picture, overlay=overlay, **shown)
        with batch(self.canvas):
            drawing.redraw(self.canvas._canvases, scene, self._drawn)
        self._drawn = scene

    def forget(self) -> None:
        """Make the next `draw` draw all layers, for a page that shows nothing."""
        self._drawn = None


def _another(picture: Picture, png: bytes) -> Picture:
    picture.drawable.value = png
    return replace(picture, version=picture.version + 1)
