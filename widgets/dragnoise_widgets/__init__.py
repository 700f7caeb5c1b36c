"""The notebook layer of dragnoise: canvas, studio, inspector and runner."""

from dragnoise_widgets.canvas import DragCanvas
from dragnoise_widgets.runner import Runner
from dragnoise_widgets.studio import DragStudio

__all__ = ["DragCanvas", "DragStudio", "Runner"]
