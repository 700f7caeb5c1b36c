"""Phases of an edit as functions, the engine's and the plain implementation's, ready to be timed or counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.plain import Plain, PlainFit
from benchmarks.shapes import SHAPES, make_model, paper_config
from dragnoise import DragConfig, DragSession, Model
from dragnoise.inspection.quick_look import QuickLooks
from dragnoise.toyland import render, sample_scene

Work = Callable[[], object]

OURS, PLAIN, FROZEN = "ours", "plain", "plain, weights frozen"
AUTHORS, AUTHORS_FROZEN = "plain, the released losses", "plain, the released losses, weights frozen"
ALL = (PLAIN, FROZEN, AUTHORS, AUTHORS_FROZEN)

ITERATIONS = ("iteration", "iteration with a mask", "iteration, released", "iteration, released, with a mask")


class Bench:
    """A model and an edit of it.

    steps: of the inversion; the schedule has the paper's shares, 35 of 50 steps and 10 of them to refine.
    """

    def __init__(self, name: str, *, side: int | None = None, steps: int = 7, model: Model | None = None, **given: Any):
        self.name, self.side = name, SHAPES[name].side if side is None else side
        self.model = make_model(name, **given) if model is None else model
        self.numbers: dict[str, Any] = {
            "steps": math.ceil(steps * 50 / 35), "edit_from": steps, "refine_from": steps * 10 // 35, "side": self.side,
        }  # fmt: skip

    def config(self, *, released: bool = False, **changes: Any) -> DragConfig:
        """The numbers of an edit that never arrives; of the released program those that a comparison can share."""
        numbers = self.numbers | {"max_iterations": 100_000, "tolerance": 1e-3, "reach": 0.0} | changes
        if released:
            numbers |= {"supervision_block": SHAPES[self.name].block, "inversion": "source", "resize": "longer"}
            return DragConfig.released(**numbers | {"tolerance": 2.0})
        return paper_config(self.model, **numbers)

    def session(self, config: DragConfig, *, masked: bool = False, points: int = 1) -> DragSession:
        """A session about a scene, with drags well inside the picture."""
        session = DragSession(self.model, self.picture(), "a red fox", config)
        session.drags = self.drags(points)
        if masked:
            mask = np.zeros((self.side, self.side), bool)
            mask[self.side // 8 : -self.side // 8, self.side // 8 : -self.side // 8] = True
            session.mask = mask
        return session

    def picture(self) -> np.ndarray:
        """(side, side, 3) uint8."""
        scene, times = render(sample_scene(1)), -(-self.side // 128)
        return np.kron(scene, np.ones((times, times, 1), np.uint8))[: self.side, : self.side]

    def drags(self, count: int) -> list[Any]:
        """So many drags to the right by a fifth of the picture, one below the other and side by side."""
        rows = math.ceil(count**0.5)
        places = [(0.25 + 0.3 * (i % rows) / rows, 0.25 + 0.5 * (i // rows) / rows) for i in range(count)]
        return [((x * self.side, y * self.side), ((x + 0.2) * self.side, y * self.side)) for x, y in places]

    # ---- phases

    def iterations(self, which: str = "iteration", *, only: Sequence[str] = ALL) -> dict[str, Work]:
        """One iteration of the engine's, of the plain implementation, and of that with the weights frozen.

        Beside the paper's losses without a mask stand the released program's, which run to the noise and on.
        """
        session = self.session(self.config(released="released" in which), masked="mask" in which)
        list(session.invert())
        works: dict[str, Work] = {OURS: session.step}
        for name in only:
            about = session
            if name in (AUTHORS, AUTHORS_FROZEN):
                if which != ITERATIONS[0]:
                    continue
                about = self.session(self.config(released=True))
            plain = Plain(about, frozen=name in (FROZEN, AUTHORS_FROZEN))
            plain.start(session.state.trajectory[-1])
            works[name] = plain.iteration
        return works

    def inversion(self) -> dict[str, Work]:
        """From the picture to z_t."""
        session = self.session(self.config())
        session.drags = []  # or the first iteration's encoder pass would be a part of it
        plain = Plain(session)
        return {OURS: lambda: list(session.invert()), PLAIN: lambda: plain.invert(plain.encode(self.picture()))}

    def rendering(self) -> dict[str, Work]:
        """From an iteration to its picture; plain with the unedited latent beside it, as the released programs do."""
        session = self.session(self.config())
        session.step()
        plain, z = Plain(session, frozen=True), session.state.trajectory[-1]
        plain.start(z)
        return {OURS: session.render, PLAIN: lambda: plain.decode(plain.render(z))}

    def fit(self, *, batch: int = 4) -> dict[str, Work]:
        """A step of a LoRA's fit."""
        session = self.session(self.config())
        fitting, plain = session.fit_lora(100_000, batch_size=batch), PlainFit(session, batch=batch)
        return {OURS: lambda: next(fitting), PLAIN: plain.step}

    def look(self) -> dict[str, Work]:
        """The picture predicted after an iteration; plain the whole U-Net and the VAE."""
        session = self.session(self.config())
        list(session.invert())
        plain, z = Plain(session), session.state.trajectory[-1]
        session.step()

        def ours() -> None:
            assert QuickLooks(self.model, share=math.inf).look(session) is not None

        @torch.no_grad()
        def theirs() -> None:
            step = plain.config.edit_from
            plain.decode(plain.moved(plain.noise(z, step), z, plain.alphas[step], 1.0))

        return {OURS: ours, PLAIN: theirs}

    def editors(self, names: Sequence[str]) -> dict[str, Work]:
        """A unit of work of every editor, an iteration or a denoising step, as `DragConfig.preset` has it."""
        return {name: self._endless(name) for name in names}

    def _endless(self, name: str) -> Work:
        numbers = {k: v for k, v in self.numbers.items() if k != "refine_from" or name == "dragnoise"}
        block = {"supervision_block": SHAPES[self.name].block}
        session = self.session(DragConfig.preset(name, **numbers | block | {"resize": "longer"}), masked=True)
        list(session.invert())

        def work() -> None:
            if session.status != "running":
                session.rewind(0)
            session.step()

        return work

    def all(self, *, wanted: Sequence[str] | None = None) -> Iterator[tuple[str, dict[str, Work]]]:
        """Every phase by its name, or those that are wanted; what one holds is let go before the next is made."""
        makers: dict[str, Callable[[], dict[str, Work]]] = {
            **{which: partial(self.iterations, which) for which in ITERATIONS},
            "inversion": self.inversion, "rendering": self.rendering, "quick look": self.look, "LoRA step": self.fit,
        }  # fmt: skip
        if unknown := set(wanted or ()) - set(makers):
            raise ValueError(f"there is no phase {sorted(unknown)[0]!r}; choose among {', '.join(map(repr, makers))}.")
        for name, make in makers.items():
            if wanted is None or name in wanted:
                yield name, make()
