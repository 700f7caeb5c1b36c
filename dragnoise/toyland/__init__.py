"""The embedded miniature: a rendered world with known ground truth and a small Stable Diffusion trained on it."""

from dragnoise.toyland.cases import DragCase, drag_cases
from dragnoise.toyland.judge import judge
from dragnoise.toyland.scenes import Scene, caption, landmarks, render, sample_scene

__all__ = ["DragCase", "Scene", "caption", "drag_cases", "judge", "landmarks", "render", "sample_scene"]
