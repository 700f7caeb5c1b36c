"""The embedded miniature: a rendered world with known ground truth and a small Stable Diffusion trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dragnoise.lazy_names import lazy_names

if TYPE_CHECKING:
    from dragnoise.toyland.balloon import balloon_photo
    from dragnoise.toyland.cases import DragCase, drag_cases
    from dragnoise.toyland.detector import judge
    from dragnoise.toyland.scenes import Scene, caption, landmarks, render, sample_scene

__all__ = [
    "DragCase", "Scene", "balloon_photo", "caption", "drag_cases", "judge", "landmarks", "render", "sample_scene",
]  # fmt: skip

_MODULES = {
    "DragCase": "cases", "Scene": "scenes", "balloon_photo": "balloon", "caption": "scenes", "drag_cases": "cases",
    "judge": "detector", "landmarks": "scenes", "render": "scenes", "sample_scene": "scenes",
}  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
