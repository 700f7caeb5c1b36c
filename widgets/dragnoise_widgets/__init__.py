"""The notebook layer of dragnoise: canvas, studio, comparison and runner, each imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
