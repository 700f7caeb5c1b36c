"""Training state that survives a kill: checkpoints replaced atomically, a log of progress, averaged weights."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from dragnoise.atomic_write import atomic_write

SAVE_EVERY = 120.0
"""Seconds between two checkpoints."""


class Checkpoint:
    """One training's state and its log, `<folder>/<name>.pt` and `<folder>/<name>.jsonl`.

    Everything drawn at random in an update is drawn from the number of that update, so that a training
    which goes on from any checkpoint ends with the weights that it would have had without the stop.
    """

    def __init__(self, folder: Path, name: str, **parts: Any) -> None:
        self.path, self.log_path = folder / f"{name}.pt", folder / f"{name}.jsonl"
        self.parts = parts
        self._saved = time.monotonic()
        self._losses: list[torch.Tensor] = []

    def resume(self) -> int:
        """Load every part; the number of updates done, 0 when there is no checkpoint."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        return int(state["step"])

    def after(self, step: int, batch: int, loss: torch.Tensor, *, last: bool) -> None:
        """Note the loss of update `step` (counted from 1); save and log when it is time to, or `last`."""
        self._losses.append(loss.detach())
        seconds = time.monotonic() - self._saved
        if last or seconds >= SAVE_EVERY:
            self.save(step)
            rate = len(self._losses) * batch / seconds * 60
            mean = float(torch.stack(self._losses).mean())
            self.log(step=step, samples=step * batch, loss=mean, seconds=seconds, samples_per_minute=rate)
            self._saved, self._losses = time.monotonic(), []

    def save(self, step: int) -> None:
        """Replace the checkpoint; a kill or a power cut leaves the former one or the new one."""
        with atomic_write(self.path) as file:
            torch.save({"step": step, "parts": {name: part.state_dict() for name, part in self.parts.items()}}, file)

    def log(self, **numbers: Any) -> None:
        """Add a line of JSON to the log."""
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in numbers.items()}
        with self.log_path.open("a") as file:
            file.write(json.dumps(rounded | {"time": time.strftime("%Y-%m-%d %H:%M:%S")}) + "\n")


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
        for name, weight in state["weights"].items():
            self.weights[name].copy_(weight)  # on the module's device
        self.seen = state["seen"]
