"""Firm: DragNoise's bottleneck begun at a carried latent and alternating with denoising; numbers alone, ours."""

from __future__ import annotations

from typing import Any

PRESET: dict[str, Any] = {
    "editor": "dragnoise",
    "start": "carried",
    "target": "direct",
    "schedule": "alternate", "drag_steps": 8, "step_iterations": 3,
    "propagation": "delta",
    "hold": "latents",
    "keep": "pixels",
    "r1": 4,
    "reach": 0.13,
}  # fmt: skip
"""What was dragged is carried there first, and the bottleneck then corrects it: see the model card for its ablation.

Chosen on the embedded model; `lr`, `eps` and `edit_from` are the paper's and have not been tried on Stable Diffusion.
"""
