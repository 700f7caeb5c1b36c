"""Training state that survives a kill: written atomically."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from dragnoise.atomic_write import atomic_write


class Checkpoint:
    """One training's state and its loss log, `<folder>/<name>.pt` and `<folder>/<name>.jsonl`."""

    def __init__(self, folder: Path, name: str, **parts: Any) -> None:
        self.path, self.log_path = folder / f"{name}.pt", folder / f"{name}.jsonl"
        self.parts = parts
        self.started = time.time()

    def resume(self) -> dict[str, Any]:
        """Load every part and return the numbers saved beside them ({} when there is no checkpoint)."""
        if not self.path.exists():
            return {}
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        return state["numbers"]

    def save(self, **numbers: Any) -> None:
        state = {"numbers": numbers, "parts": {name: part.state_dict() for name, part in self.parts.items()}}
        with atomic_write(self.path) as file:
            torch.save(state, file)

    def log(self, **numbers: float) -> None:
        with self.log_path.open("a") as file:
            file.write(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in numbers.items()}) + "\n")


class Average:
    """Exponential moving average of a module's weights, in float32."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay, self.seen = decay, 0
        self.weights = {k: v.detach().clone() for k, v in module.state_dict().items() if v.dtype.is_floating_point}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        self.seen += 1
        decay = min(self.decay, (1 + self.seen) / (10 + self.seen))
        current = module.state_dict()
        names = list(self.weights)
        torch._foreach_lerp_([self.weights[k] for k in names], [current[k] for k in names], 1 - decay)

    def copy_to(self, module: torch.nn.Module) -> None:
        module.load_state_dict(self.weights, strict=False)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights, self.seen = state["weights"], state["seen"]
