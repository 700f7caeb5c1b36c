"""A session of no substance: the methods of `DragSession`, held at a gate where a test wants to look."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from helpers import made_snapshot
from PIL import Image

from dragnoise import Drag, DragConfig, Snapshot
from dragnoise.lora import LoraStep
from dragnoise.sampling.ddim import DDIMState
from dragnoise.session.history import History

CONFIG = DragConfig(steps=10, edit_from=4, refine_from=0, max_iterations=8)


def snapshot(
    k: int, *, anchors: Any = ((1.0, 1.0),), distances: Any = (5.0,), loss: float | None = None, seconds: float = 0.01
) -> Snapshot:
    """Iteration k with these anchors, distances, loss and duration."""
    total = (1 / k if k else math.nan) if loss is None else loss
    variable = torch.full((1, 1, 1, 1), float(k))
    return made_snapshot(
        k, anchors=anchors, distances=distances, variable=variable, alignment=0.0, total=total, seconds=seconds
    )


class FakeSession:
    """Does nothing but count, and keeps the rules of `DragSession` about what a change forgets.

    Every unit of work is noted in `log`, as "iterate 3" is, and takes `seconds` (or `seconds(unit)`); with
    a gate it waits for `gate.release()` first.  Units named in `fails` raise.  Two at once are an error.
    """

    def __init__(
        self,
        *,
        seconds: float | Callable[[str], float] = 0.0,
        gate: threading.Semaphore | None = None,
        fails: Any = (),
    ) -> None:
        self.seconds, self.gate, self.fails = seconds, gate, set(fails)
        self.log: list[str] = []
        self.image = Image.new("RGB", (32, 32))
        self.history = History()
        self.trajectory: tuple[int, ...] = ()
        self.fitted = 0
        self._config = CONFIG
        self._drags: tuple[Drag, ...] = (Drag((1, 1), (9, 9)),)
        self._working = threading.Lock()

    @property
    def drags(self) -> tuple[Drag, ...]:
        return self._drags

    @drags.setter
    def drags(self, drags: tuple[Drag, ...]) -> None:
        self._drags, self.history = drags, History()

    @property
    def config(self) -> DragConfig:
        return self._config

    @config.setter
    def config(self, config: DragConfig) -> None:
        if config.edit_from != self._config.edit_from:
            self.trajectory, self.history = (), History()
        self._config = config

    @property
    def state(self) -> SimpleNamespace:
        return SimpleNamespace(trajectory=self.trajectory, history=self.history, inverted=self.inverted)

    @property
    def inverted(self) -> bool:
        return len(self.trajectory) == self.config.edit_from + 1

    @property
    def status(self) -> str:
        if self.history and self.history[-1].iteration >= self.config.max_iterations:
            return "max_iterations"
        return "running"

    def fit_lora(self, steps: int = 200) -> Iterator[LoraStep]:
        while self.fitted < steps:
            self._work(f"fit {self.fitted + 1}")
            self.fitted, self.trajectory, self.history = self.fitted + 1, (), History()
            yield LoraStep(self.fitted, 1.0, 1e-4, 0.01)

    def invert(self) -> Iterator[DDIMState]:
        self.trajectory, self.history = (0,), History()
        for step in range(1, self.config.edit_from + 1):
            self._work(f"invert {step}")
            assert len(self.trajectory) == step, "this inversion was overtaken"
            self.trajectory = (*self.trajectory, step)
            if self.inverted and self.drags:
                self._begin()
            yield self._state(step)

    def optimize(self) -> Iterator[Snapshot]:
        self._begin()
        while self.status == "running":
            yield self._iterate()

    def step(self) -> Snapshot:
        self._begin()
        return self._iterate()

    def rewind(self, k: int) -> None:
        self.history = self.history.upto(k)

    def branch(self, k: int | None = None) -> FakeSession:
        other = FakeSession()
        other.__dict__ |= self.__dict__
        if k is not None or self.history:
            other.history = self.history.upto(len(self.history) - 1 if k is None else k)
        return other

    def denoise(self) -> Iterator[DDIMState]:
        assert self.inverted
        for step in range(self.config.edit_from - 1, -1, -1):
            self._work(f"denoise {len(self.history) - 1}: {step}")
            yield self._state(step)

    def picture_of(self, latents: torch.Tensor, *, edited: bool = False) -> Image.Image:
        """Its upper left pixel's red tells the iteration."""
        self._work(f"decode {len(self.history) - 1}")
        return Image.new("RGB", self.image.size, (len(self.history) - 1, 0, 0))

    def _begin(self) -> None:
        if not self.drags:
            raise ValueError("there is nothing to drag yet; set session.drags.")
        assert self.inverted, "the runner inverts a step at a time, so that it can be stopped"
        if not self.history:
            self.history = History([snapshot(0)])

    def _iterate(self) -> Snapshot:
        k = len(self.history)
        started = time.perf_counter()
        self._work(f"iterate {k}")
        self.history = self.history.then(snapshot(k, seconds=time.perf_counter() - started))
        return self.history[-1]

    def _state(self, step: int) -> DDIMState:
        return DDIMState(step, 0, torch.zeros(1, 4, 2, 2), torch.zeros(1, 1, 1, 1))

    @property
    def at_work(self) -> bool:
        """Is a unit of work under way, or waiting at the gate?"""
        return self._working.locked()

    def _work(self, what: str) -> None:
        assert self._working.acquire(blocking=False), f"{what} while something else was at work"
        try:
            if self.gate is not None:
                assert self.gate.acquire(timeout=100), f"the test forgot to let through {what!r}"
            time.sleep(self.seconds(what) if callable(self.seconds) else self.seconds)
            self.log.append(what)
            if what in self.fails:
                raise FloatingPointError(f"{what} is not finite; the session stays at the last good iteration.")
        finally:
            self._working.release()
