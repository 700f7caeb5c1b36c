"""dragnoise: watch and steer drag editing with diffusion models, one iteration at a time."""

from dragnoise.config import DragConfig
from dragnoise.geometry import Drag
from dragnoise.identity import ModelInfo
from dragnoise.lora import Lora, LoraCache, LoraStep
from dragnoise.model import Model, load_model
from dragnoise.session import DragSession
from dragnoise.session.history import Snapshot

__version__ = "0.1.0"

__all__ = [
    "Drag",
    "DragConfig",
    "DragSession",
    "Lora",
    "LoraCache",
    "LoraStep",
    "Model",
    "ModelInfo",
    "Snapshot",
    "load_model",
]
