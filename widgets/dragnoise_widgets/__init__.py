"""The notebook layer of dragnoise: canvas, studio, comparison and runner, each imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dragnoise.lazy_names import lazy_names

if TYPE_CHECKING:
    from dragnoise_widgets.canvas.canvas import DragCanvas
    from dragnoise_widgets.compare.view import CompareView
    from dragnoise_widgets.runner.runner import Runner
    from dragnoise_widgets.studio.studio import DragStudio

__all__ = ["CompareView", "DragCanvas", "DragStudio", "Runner"]

_MODULES = {
    "CompareView": "compare.view", "DragCanvas": "canvas.canvas", "DragStudio": "studio.studio",
    "Runner": "runner.runner",
}  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
