"""DragConfig: the numbers of all methods, frozen, each field with its metadata.  Long, because all of them are here."""

from __future__ import annotations

import dataclasses
import importlib
import textwrap
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dragnoise.fields import FieldInfo, Forgets, checked, choice, integer, number
from dragnoise.validation import LONGEST, is_one_of, shown

EDITORS = {
    "dragnoise": "dragnoise.editors.dragnoise",
    "dragdiffusion": "dragnoise.editors.dragdiffusion",
    "gooddrag": "dragnoise.editors.gooddrag",
    "freedrag": "dragnoise.editors.freedrag",
    "dragondiffusion": "dragnoise.editors.dragondiffusion",
    "fastdrag": "dragnoise.editors.fastdrag",
    "regiondrag": "dragnoise.editors.regiondrag",
}
"""Editor name -> the module with `make(task)`, which gives its editor, and the numbers `PRESET`."""

OUR_PRESETS = {"firm": "dragnoise.editors.firm"}
"""Preset name -> the module with `PRESET`, for numbers of ours that name one of the editors."""

Propagation = Literal["replace", "delta"]
Convention = Literal["paper", "released"]
Resize = Literal["longer", "shorter", "never"]
Inversion = Literal["source", "target"]
Start = Literal["inverted", "carried"]
Target = Literal["current", "initial", "path", "direct"]
Hold = Literal["nothing", "latents"]
Keep = Literal["nothing", "pixels"]
Schedule = Literal["single", "alternate"]
Blend = Literal["distance", "nearest"]
Regions = Literal["mask", "polygon"]
Site = Literal["mid", "down.0", "down.1", "down.2", "down.3", "up.0", "up.1", "up.2"]


_BOTTLENECK = ("dragnoise",)
_SHARING = ("dragdiffusion", "freedrag")
_GUIDED = ("dragondiffusion",)
_DENOISING = (*_GUIDED, "fastdrag", "regiondrag")
_PHASES = (*_BOTTLENECK, "gooddrag", *_GUIDED)
_STRIDES = (*_BOTTLENECK, "dragdiffusion", "gooddrag")
_TRACKING = (*_STRIDES, *_GUIDED)


@dataclass(frozen=True, kw_only=True)
class DragConfig:
    editor: str = choice(
        "dragnoise", EDITORS, "Editor",
        "the method: what is optimised, what pulls it, and how it becomes a picture", forgets="optimisation",
    )  # fmt: skip
    convention: Convention = choice(
        "paper", Convention, "Editor",
        'the equations as in the paper, or "released" for the rounding, stopping and masking of the published '
        "programs, see `released`", forgets="optimisation",
    )  # fmt: skip
    steps: int = integer(50, 2, 1000, "Schedule", "DDIM steps of the whole schedule", forgets="inversion")
    edit_from: int = integer(
        35, 1, 1000, "Schedule",
        "inversion stops after this many steps, and there the optimisation takes place (the paper's t = 35 of 50); "
        "at most `steps`", forgets="inversion",
    )  # fmt: skip
    refine_from: int = integer(
        10, 0, 1000, "Schedule",
        "the last denoising steps, this many, run without substitution (the paper's t' = 10); at most `edit_from`, "
        "0 substitutes to the end", editors=(*_BOTTLENECK, "regiondrag"),
    )  # fmt: skip
    propagation: Propagation = choice(
        "replace", Propagation, "Schedule",
        '"replace" puts the optimised bottleneck in at every edit step (section 3.2); "delta" adds its difference from '
        "the unedited one to each step's own bottleneck", editors=_BOTTLENECK,
    )  # fmt: skip
    schedule: Schedule = choice(
        "single", Schedule, "Schedule",
        'all iterations at `edit_from`, or "alternate": `step_iterations` at each of `drag_steps` edit steps, with a '
        "denoising step between, the change of the bottleneck carried on; ours, not in the paper",
        forgets="optimisation", editors=_BOTTLENECK,
    )  # fmt: skip
    start: Start = choice(
        "inverted", Start, "Schedule",
        'the latent that the optimisation begins with: the "inverted" one, or "carried", with picture and noise moved '
        "along the drags within the mask or `reach`, so that what is dragged keeps its details; the iterations then "
        "run to the end of the schedule; ours, not in the paper", forgets="optimisation", editors=_BOTTLENECK,
    )  # fmt: skip
    drag_steps: int = integer(
        12, 1, 1000, "Schedule",
        "number of edit steps at which iterations take place when alternating; at most `edit_from`",
        forgets="optimisation", editors=_PHASES,
    )  # fmt: skip
    step_iterations: int = integer(
        4, 1, 1000, "Schedule", "iterations at each of `drag_steps`", forgets="optimisation",
        editors=(*_BOTTLENECK, "gooddrag"),
    )  # fmt: skip
    track_every: int = integer(
        3, 1, 1000, "Schedule", "gradient steps between two trackings of the anchors", forgets="optimisation",
        editors=("gooddrag",),
    )  # fmt: skip
    patience: int = integer(
        10, 1, 1000, "Schedule", "the drag ends after this many trackings in a row that move no anchor",
        editors=("gooddrag",),
    )  # fmt: skip
    share_from: int = integer(
        0, 0, 1000, "Schedule",
        "denoising step, counted from the first, from which self-attention reads the keys and values of the unedited "
        "picture (mutual self-attention)", editors=_SHARING,
    )  # fmt: skip
    share_layer: int = integer(
        10, 0, 1000, "Schedule",
        "first self-attention layer that reads those keys and values, in order of execution, of the 16 of "
        "Stable Diffusion 1.5; scaled for other U-Nets", forgets="editor", editors=(*_SHARING, "gooddrag"),
    )  # fmt: skip
    variable: Site = choice(
        "mid", Site, "Optimisation",
        "the U-Net block whose output is optimised and propagates: the bottleneck, or another one (Fig. 10)",
        forgets="optimisation", editors=_BOTTLENECK,
    )  # fmt: skip
    lr: float = number(0.01, 1000, "Optimisation", "Adam's learning rate", above=True, unread_by=_DENOISING)
    eps: float = number(
        1e-8, 1e6, "Optimisation",
        "Adam's epsilon; at the usual 1e-8 every element moves at the rate lr, however small its gradient; near the "
        "gradients' size, elements that hardly matter hardly move", above=True, unread_by=_DENOISING,
    )  # fmt: skip
    max_iterations: int = integer(80, 1, 100_000, "Optimisation", "updates at most")
    r1: int = integer(
        1, 0, 50, "Supervision", "half side of the square window of the alignment loss (Eq. 1)",
        unit="grid pixels", forgets="editor",
    )  # fmt: skip
    r2: int = integer(
        3, 1, 50, "Supervision", "half side of the square window of point tracking (Eq. 4)", unit="grid pixels",
        forgets="editor", editors=_TRACKING,
    )  # fmt: skip
    mask_weight: float = number(
        0.1, 1e6, "Supervision", "weight of the masking loss, lambda of Eq. 3", forgets="editor"
    )
    reach: float = number(
        0.0, 10, "Supervision",
        "without a mask, what lies farther than this from every drag is held as if a mask had been painted; with "
        'start="carried" long drags, and several that hold one thing, reach farther; 0 holds nothing, as in the paper',
        unit="shares of the picture's longer side", forgets="editor",
    )  # fmt: skip
    target: Target = choice(
        "current", Target, "Supervision",
        'what the feature is pulled to: "current", the present feature one step further (Eq. 1); or the initial '
        'feature at the anchor, wanted `stride` ahead of the tracked anchor ("initial"), at a point that moves evenly '
        'along the drag ("path"), or at the objective ("direct"); ours, not in the paper', forgets="editor",
        editors=(*_BOTTLENECK, "dragdiffusion"),
    )  # fmt: skip
    stride: float = number(
        1.0, 1000, "Supervision",
        'how far ahead of the tracked anchor the "initial" target lies, at most at the objective', unit="grid pixels",
        above=True, editors=_STRIDES,
    )  # fmt: skip
    expected_distance: float = number(
        1.0, 1000, "Supervision",
        "a point is placed where the feature is this far from its template, as a mean L1 distance (l of FreeDrag)",
        above=True, forgets="optimisation", editors=("freedrag",),
    )  # fmt: skip
    max_move: float = number(
        5.0, 1000, "Supervision", "how far a point is moved at most in a round (d_max of FreeDrag)",
        unit="grid pixels", above=True, editors=("freedrag",),
    )  # fmt: skip
    hold: Hold = choice(
        "nothing", Hold, "Rendering",
        "\"latents\" puts the inversion's own latents back outside the mask, or farther than `reach` from every drag, "
        "at every denoising step, with an edge that is soft after all of them; ours, not in the paper",
    )  # fmt: skip
    keep: Keep = choice(
        "nothing", Keep, "Rendering",
        '"pixels" puts the given pixels back where the edit has changed nothing, with a soft edge, and with '
        'start="carried" the moved ones where the edit equals those; not with convention="released"; ours, not in the '
        "paper",
    )  # fmt: skip
    energy: float = number(
        2.0, 1e6, "Supervision", "strength of the guidance by energies, in thousands; 0 guides nothing",
        editors=_GUIDED,
    )  # fmt: skip
    edit_weight: float = number(
        4.0, 1e6, "Supervision", "weight of the energy that draws the anchors' features to the objectives",
        editors=_GUIDED,
    )  # fmt: skip
    content_weight: float = number(
        6.0, 1e6, "Supervision", "weight of the energy that keeps what is outside the mask unchanged", editors=_GUIDED,
    )  # fmt: skip
    leave_weight: float = number(
        0.2, 1e6, "Supervision", "weight of the energy that removes the anchors' features from their initial places",
        editors=_GUIDED,
    )  # fmt: skip
    guidance: float = number(
        1.0, 100, "Rendering", "weight of classifier-free guidance by the prompt; 1 is no guidance", editors=_GUIDED,
    )  # fmt: skip
    blend: Blend = choice(
        "distance", Blend, "Supervision",
        'how several drags share a place that is moved: by inverse "distance", or the "nearest" one decides, as '
        "LazyDrag found better", forgets="optimisation", editors=("fastdrag",),
    )  # fmt: skip
    regions: Regions = choice(
        "mask", Regions, "Supervision",
        'what is copied: what the drags move within the "mask", or the "polygon" whose 3 or 4 corners are the anchors, '
        "to that of the objectives", forgets="optimisation", editors=("regiondrag",),
    )  # fmt: skip
    vacate: float = number(
        0.0, 1, "Supervision", "share of fresh noise in what the source region leaves behind, 1 is noise alone",
        forgets="optimisation", editors=("regiondrag",),
    )  # fmt: skip
    tolerance: float = number(
        1.0, 1000, "Supervision", "an anchor has arrived within this distance of its objective", unit="grid pixels",
        above=True,
    )  # fmt: skip
    supervision_block: int = integer(
        2, 0, 100, "Supervision",
        "which up block's output is the supervision feature, counted from 0 (the decoder's third layer is 2)",
        forgets="editor",
    )  # fmt: skip
    supervision_scale: float = number(
        0.5, 1, "Supervision", "side of the grid that features are sampled on, relative to the working picture",
        above=True, forgets="optimisation",
    )  # fmt: skip
    resize: Resize = choice(
        "longer", Resize, "Picture",
        'bring the picture to the working size by its "longer" or "shorter" side, or "never"', forgets="inversion",
    )  # fmt: skip
    side: int | None = integer(
        None, 64, LONGEST, "Picture",
        "length of the side that `resize` names, as the model sees it; None is the model's native one; a smaller one "
        "takes less memory and time, and gives coarser pictures", unit="pixels", forgets="inversion",
    )  # fmt: skip
    latent_noise: float = number(
        0.0, 10, "Picture",
        "standard deviation of seeded Gaussian noise put on the picture's latent before inversion; very smooth "
        "pictures invert to latents of too little variance, which this mends at no visible cost", forgets="inversion",
    )  # fmt: skip
    seed: int = integer(0, 0, 2**63 - 1, "Picture", "seed of `latent_noise` and of the editor", forgets="inversion")
    inversion: Inversion = choice(
        "source", Inversion, "Picture",
        'the timestep at which an inversion step evaluates the noise, the "source" it starts from (DDIM) or the '
        '"target" it goes to (the released programs)', forgets="inversion",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, info in FIELDS.items():
            value = getattr(self, name)
            if info.choices:
                if not is_one_of(value, info.choices):
                    raise ValueError(f"{name}={shown(value)} must be one of {', '.join(map(repr, info.choices))}.")
            elif not info.optional or value is not None:
                object.__setattr__(self, name, checked(name, value, info))
        if self.edit_from > self.steps:
            raise ValueError(f"edit_from={self.edit_from} is beyond steps={self.steps}; choose 1..{self.steps}.")
        if self.refine_from > self.edit_from and FIELDS["refine_from"].is_read_by(self.editor):
            given = self.refine_from
            raise ValueError(f"refine_from={given} is beyond edit_from={self.edit_from}; choose 0..{self.edit_from}.")
        self._refuse_numbers_of_other_editors()
        if self.variable.startswith("up.") and int(self.variable[3:]) > self.supervision_block:
            last = self.supervision_block
            raise ValueError(
                f"variable={self.variable!r} lies beyond the supervision feature, supervision_block={last}, which it "
                f"would not move; choose a block up to 'up.{last}'."
            )
        if self.is_released and self.keep != "nothing":
            raise ValueError(
                f'keep={self.keep!r} does not combine with convention="released", whose result is the decoded one; use '
                'convention="paper".'
            )
        if self.start == "carried" and self.target in ("current", "path"):
            raise ValueError(
                f'target={self.target!r} does not combine with start="carried", which has moved the anchors to their '
                'objectives before the first iteration; use target="direct" or "initial".'
            )
        if self.is_released and self.target != "current":
            raise ValueError(
                f'target={self.target!r} does not combine with convention="released", whose loss compares with the '
                'current feature; use convention="paper".'
            )

    def replace(self, **changes: Any) -> DragConfig:
        """A copy with some numbers changed.

        Changing `editor` alone puts the numbers that the new editor does not have back to their defaults.  Raises
        ValueError for a wrong value, an unknown name, or a number that the editor does not have.
        """
        _known(changes)
        if "editor" in changes and changes["editor"] != self.editor:
            foreign = {n: DEFAULTS[n] for n, info in FIELDS.items() if not info.is_read_by(changes["editor"])}
            own = {} if "refine_from" in foreign else {"refine_from": min(self.refine_from, self.edit_from)}
            changes = foreign | own | changes
        return dataclasses.replace(self, **changes)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> DragConfig:
        """The numbers of a published editor by its name, or of one of our own presets, with some changed.

        Raises ValueError for an unknown name and as `replace` does.
        """
        modules = EDITORS | OUR_PRESETS
        if not is_one_of(name, tuple(modules)):
            raise ValueError(f"there is no preset {shown(name)}; choose one of {', '.join(map(repr, modules))}.")
        _known(changes)
        return cls(**({"editor": name} | importlib.import_module(modules[name]).PRESET | changes))

    @classmethod
    def released(cls, **changes: Any) -> DragConfig:
        """DragNoise as its authors' program behaves, which differs from the paper.

        Besides the numbers: the picture keeps its own size; points snap to the half-size grid;
        inversion evaluates the noise at the target timestep; the update uses the tracked anchors;
        the alignment is (2 r1 + 1)^2 times a mean; points within `tolerance` are left out; the mask
        holds the latent after one denoising step, and holds everything when no mask is given, whatever
        `reach` says; the result is truncated, not rounded, to bytes.
        """
        _known(changes)
        return cls(**(RELEASED | {"max_iterations": 60, "refine_from": 0} | changes))

    @property
    def is_released(self) -> bool:
        return self.convention == "released"

    @property
    def most_drag_steps(self) -> int:
        """Edit steps that are dragged at."""
        alternates = self.schedule == "alternate" or not FIELDS["schedule"].is_read_by(self.editor)
        return min(self.drag_steps, self.edit_from) if alternates else 1

    @property
    def most_iterations(self) -> int:
        """The largest number of updates that `max_iterations` and the schedule allow."""
        steps, planned = self.most_drag_steps, self.max_iterations
        if self.schedule == "alternate":
            planned = steps * self.step_iterations
        elif self.editor in _DENOISING:
            planned = self.edit_from
        elif self.editor == "gooddrag":
            planned = steps * (self.step_iterations + 1)  # a denoising step ends every phase
        return min(planned, self.max_iterations)

    def forgets(self, other: DragConfig) -> Forgets:
        """The most that a change from these numbers to `other`'s makes obsolete."""
        changed = {i.forgets for n, i in FIELDS.items() if getattr(self, n) != getattr(other, n)}
        return next((level for level in get_args(Forgets) if level in changed), "nothing")

    def _refuse_numbers_of_other_editors(self) -> None:
        for name, info in FIELDS.items():
            if info.editors and self.editor not in info.editors and getattr(self, name) != DEFAULTS[name]:
                raise ValueError(
                    f"{name}={shown(getattr(self, name))} is a number of {' and '.join(info.editors)} alone; leave it "
                    f"out with editor={self.editor!r}."
                )


FIELDS: dict[str, FieldInfo] = {field.name: field.metadata["info"] for field in dataclasses.fields(DragConfig)}
"""Field name -> its metadata, in the order of definition."""

DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(DragConfig)}
RELEASED: dict[str, Any] = {"convention": "released", "resize": "never", "tolerance": 2.0, "inversion": "target"}
"""What the published programs of DragDiffusion and its descendants have in common."""


def _known(changes: dict[str, Any]) -> None:
    for name in changes:
        if name not in FIELDS:
            raise ValueError(f"DragConfig has no field {name!r}; it has {', '.join(FIELDS)}.")


def _documented() -> str:
    """The class docstring, from the fields' metadata."""
    lines = ["The numbers of an edit; the defaults are those of the DragNoise paper (CVPR 2024, section 4.1).", ""]
    group = ""
    for name, info in FIELDS.items():
        if info.group != group:
            group = info.group
            lines += ["", group] if len(lines) > 2 else [group]
        unit = f", in {info.unit}" if info.unit else ""
        own = f"; {' and '.join(info.editors)} alone" if info.editors else ""
        text = f"{name}: {info.meaning} ({info.range}{unit}; default {DEFAULTS[name]!r}{own})."
        lines += textwrap.wrap(text, 110, initial_indent="    ", subsequent_indent="        ")
    return "\n".join([*lines, "", "Raises ValueError when a number is out of its range or of another editor."])


DragConfig.__doc__ = _documented()
