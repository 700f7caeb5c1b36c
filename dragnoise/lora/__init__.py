"""LoRA: fitting adapters to one picture (section 4.1), their files, and models with adapters."""

from dragnoise.lora.adapters import Adapter, Lora, Training, fuse
from dragnoise.lora.cache import LoraCache
from dragnoise.lora.files import load, save
from dragnoise.lora.fitting import checkpoints, fit
from dragnoise.lora.settings import LoraSettings, Subject
from dragnoise.lora.training import LoraStep

__all__ = [
    "Adapter", "Lora", "LoraCache", "LoraSettings", "LoraStep", "Subject", "Training",
    "checkpoints", "fit", "fuse", "load", "save",
]  # fmt: skip
