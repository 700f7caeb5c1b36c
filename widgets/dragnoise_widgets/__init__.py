"""The notebook layer of dragnoise: canvas, studio, inspector and runner."""

from dragnoise_widgets.canvas import DragCanvas

__all__ = ["DragCanvas"]
