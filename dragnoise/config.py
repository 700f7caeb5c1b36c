"""Every number of the method, in one frozen place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from dragnoise.given import LONGEST, as_integer, as_number, is_one_of, shown

Propagation = Literal["replace", "delta"]
Convention = Literal["paper", "released"]


INVERSION_FIELDS = ("steps", "edit_from", "resize", "side", "latent_noise", "seed", "inversion")
"""Fields whose change needs a new inversion."""

FRAME_FIELDS = ("convention", "supervision_scale")
"""Fields whose change keeps the inversion and starts the optimisation afresh."""


@dataclass(frozen=True, kw_only=True)
class DragConfig:
    """The numbers of DragNoise; the defaults are the paper's (CVPR 2024, section 4.1).

    Schedule
        steps: DDIM steps of the whole schedule, >= 2.
        edit_from: inversion stops after this many steps, and there the bottleneck is optimised
            (the paper's t = 35 of 50); 1..steps.
        refine_from: the last denoising steps, this many, run without substitution (the paper's
            t' = 10); 0..edit_from, 0 substitutes to the end.
        propagation: "replace" puts the optimised bottleneck in at every edit step (section 3.2);
            "delta" adds its difference from the unedited one to each step's own bottleneck.

    Optimisation
        lr: Adam's learning rate, > 0.
        eps: Adam's epsilon, > 0.  At the usual 1e-8 every element moves at the rate lr, however small
            its gradient; near the gradients' size, elements that hardly matter hardly move.
        max_iterations: updates at most, >= 1.
        r1, r2: half sides of the windows of Eq. 1 and Eq. 4 in supervision pixels (the picture at
            `supervision_scale` of the working size); integers >= 0 and >= 1.
        mask_weight: lambda of Eq. 3, >= 0.
        reach: without a mask, what lies farther than this from every drag is held as if a mask had been
            painted, in shares of the picture's longer side, >= 0; 0 holds nothing, as in the paper.
        tolerance: an anchor has arrived within this distance, in supervision pixels, > 0.
        supervision_block: which up block's output is the supervision feature, counted from 0
            (the decoder's third layer is 2).
        supervision_scale: side of the grid that features are sampled on, relative to the picture, > 0 and <= 1.

    Picture
        resize: bring the picture to the working size by its "longer" or "shorter" side, or "never".
        side: length of that side as the model sees it, in pixels, 64..16384; None is the model's native
            one.  A smaller one takes less memory and time, and gives coarser pictures.
        latent_noise: standard deviation of seeded Gaussian noise put on the picture's latent before
            inversion, >= 0.  Off (0) unless a model asks for it: very smooth pictures invert to
            latents of too little variance, which this mends at no visible cost.
        seed: of that noise, 0..2**63 - 1.
        inversion: the timestep at which an inversion step asks for the noise, the "source" it
            starts from (DDIM) or the "target" it goes to (the authors' program).

    convention: "paper" as above, or "released": the behaviour of the authors' program, see `released`.

    Raises ValueError when a number is out of its range.
    """

    steps: int = 50
    edit_from: int = 35
    refine_from: int = 10
    propagation: Propagation = "replace"
    lr: float = 0.01
    eps: float = 1e-8
    max_iterations: int = 80
    r1: int = 1
    r2: int = 3
    mask_weight: float = 0.1
    reach: float = 0.0
    tolerance: float = 1.0
    supervision_block: int = 2
    supervision_scale: float = 0.5
    resize: Literal["longer", "shorter", "never"] = "longer"
    side: int | None = None
    latent_noise: float = 0.0
    seed: int = 0
    inversion: Literal["source", "target"] = "source"
    convention: Convention = "paper"

    def __post_init__(self) -> None:
        self._integer("steps", 2)
        self._integer("edit_from", 1)
        self._integer("refine_from", 0)
        self._integer("max_iterations", 1)
        self._integer("r1", 0)
        self._integer("r2", 1)
        self._integer("supervision_block", 0)
        self._integer("seed", 0, 2**63 - 1)
        if self.side is not None:
            self._integer("side", 64, LONGEST)
        self._number("lr", positive=True)
        self._number("eps", positive=True)
        self._number("tolerance", positive=True)
        self._number("supervision_scale", positive=True)
        self._number("mask_weight")
        self._number("reach")
        self._number("latent_noise")
        self._choice("propagation", ("replace", "delta"))
        self._choice("inversion", ("source", "target"))
        self._choice("resize", ("longer", "shorter", "never"))
        self._choice("convention", ("paper", "released"))
        if self.steps > 1000:
            raise ValueError(f"steps={shown(self.steps)} is more than the 1000 timesteps of the noise schedule.")
        if self.edit_from > self.steps:
            raise ValueError(f"edit_from={shown(self.edit_from)} is beyond steps={self.steps}; choose 1..{self.steps}.")
        if self.refine_from > self.edit_from:
            given = shown(self.refine_from)
            raise ValueError(f"refine_from={given} is beyond edit_from={self.edit_from}; choose 0..{self.edit_from}.")
        if self.supervision_scale > 1:
            raise ValueError(f"supervision_scale={self.supervision_scale} is beyond the picture; choose 0..1.")

    def replace(self, **changes: Any) -> DragConfig:
        """A copy with some numbers changed; raises ValueError for a wrong value or an unknown name."""
        _known(changes)
        return dataclasses.replace(self, **changes)

    @classmethod
    def released(cls, **changes: Any) -> DragConfig:
        """The behaviour and the numbers of the authors' released program, which differ from the paper.

        Besides the numbers: the picture keeps its own size; points snap to the half-size grid;
        inversion evaluates the noise at the target timestep; the update uses the tracked anchors;
        the alignment is (2 r1 + 1)^2 times a mean; points within `tolerance` are left out; the mask
        holds the latent after one denoising step, and holds everything when no mask is given, whatever
        `reach` says;
        the result is truncated, not rounded, to bytes.
        """
        _known(changes)
        numbers: dict[str, Any] = {
            "convention": "released", "resize": "never", "tolerance": 2.0, "max_iterations": 60, "refine_from": 0,
            "inversion": "target",
        }  # fmt: skip
        return cls(**(numbers | changes))

    @property
    def is_released(self) -> bool:
        return self.convention == "released"

    def _integer(self, name: str, low: int, high: int | None = None) -> None:
        value = as_integer(name, getattr(self, name), low, high)
        object.__setattr__(self, name, value)  # an int, for numpy's numbers cannot be written to a file

    def _number(self, name: str, *, positive: bool = False) -> None:
        object.__setattr__(self, name, as_number(name, getattr(self, name), above=positive))

    def _choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if not is_one_of(value, allowed):
            raise ValueError(f"{name}={shown(value)} must be one of {', '.join(map(repr, allowed))}.")


def _known(changes: dict[str, Any]) -> None:
    names = [field.name for field in dataclasses.fields(DragConfig)]
    for name in changes:
        if name not in names:
            raise ValueError(f"DragConfig has no field {name!r}; it has {', '.join(names)}.")
