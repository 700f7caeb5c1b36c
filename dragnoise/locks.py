"""The lock around every library call that patches torch for the whole process."""

from __future__ import annotations

import threading

PATCHING = threading.RLock()
"""Held while a model is loaded, and while a LoRA is attached, fused or taken off.

diffusers, transformers, accelerate and peft replace `nn.Module.register_parameter`, the default dtype, warning filters
and verbosity for the whole process while they build modules, so two threads may not do it at once.  Re-entrant.
"""
