"""dragnoise: watch and steer drag editing with diffusion models, one iteration at a time.

Names are imported when they are first used, so that `import dragnoise` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dragnoise.lazy_names import lazy_names

if TYPE_CHECKING:
    from dragnoise.config import DragConfig
    from dragnoise.geometry import Drag
    from dragnoise.lora import Lora, LoraCache, LoraStep
    from dragnoise.models.fingerprint import ModelInfo
    from dragnoise.models.model import Model, load_model
    from dragnoise.session.history import Snapshot
    from dragnoise.session.session import DragSession
    from dragnoise.studies.comparison import compare

__version__ = "0.2.0"

__all__ = [
    "Drag", "DragConfig", "DragSession", "Lora", "LoraCache", "LoraStep", "Model", "ModelInfo", "Snapshot",
    "compare", "load_model",
]  # fmt: skip

_MODULES = {
    "Drag": "geometry", "DragConfig": "config", "DragSession": "session.session", "Lora": "lora", "LoraCache": "lora",
    "LoraStep": "lora", "Model": "models.model", "ModelInfo": "models.fingerprint", "Snapshot": "session.history",
    "compare": "studies.comparison", "load_model": "models.model",
}  # fmt: skip
"""Public name -> the module that defines it."""

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
