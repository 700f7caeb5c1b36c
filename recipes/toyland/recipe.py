"""The switches of a training run and its named variants."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragnoise.atomic_write import atomic_write

FILE = "recipe.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run learns; kept as `recipe.json` in its folder.

    General
        init: a pipeline folder whose weights the training starts from wherever names and shapes agree;
            "" starts from random weights, "package" from the weights in the package.
        pictures: training scenes, each rendered as it is and with one or two things changed.
        held_out: the last of them, which no stage trains on.

    Autoencoder
        decoder_blocks: residual blocks of the decoder at 32x32, 64x64 and 128x128.
        crop: side of the squares that are trained on, in pixels; 0 takes whole pictures.  Most squares lie
            round a landmark, where nearly all of the error is.
        autoencoder_steps, autoencoder_batch, autoencoder_lr: updates, pictures or squares in each, and the
            learning rate of Muon and AdamW.
        edge_weight: weight of the L1 distance of the picture's gradients.
        detail_weight: weight of the L1 distance between Laplacian bands of the pictures, which a blur raises.
        frozen_encoder: train the decoder alone, so that latents and a denoiser trained on them stay as they are.

    Judge
        judge_steps: updates.

    Denoiser
        widths: channels of the U-Net's levels: three end in a bottleneck of 8x8, two in one of 16x16.
        denoiser_steps, denoiser_batch, denoiser_lr: updates, samples in each, and the learning rate.
        muon: whether matrices and convolutions are Muon's; its step takes as long as a dozen samples on a CPU.
        small_weight: how much more the error counts round eyes, mouth, ears, hat and tail tip.
        favour: night scenes, hats and small creatures are drawn this many times as often.
        carried: share of the edits in which the bottleneck's change is carried through denoising steps as
            delta propagation does, instead of one noisy latent made by a formula.
        carried_steps: denoising steps before the one that is trained on, in those edits.
    """

    init: str = ""
    pictures: int = 40_000
    held_out: int = 500

    decoder_blocks: tuple[int, int, int] = (2, 2, 1)
    crop: int = 0
    autoencoder_steps: int = 2000
    autoencoder_batch: int = 16
    autoencoder_lr: float = 1.5e-3
    edge_weight: float = 0.5
    detail_weight: float = 0.0
    frozen_encoder: bool = False

    judge_steps: int = 3500

    widths: tuple[int, ...] = (64, 64, 192)
    denoiser_steps: int = 14_000
    denoiser_batch: int = 32
    denoiser_lr: float = 1e-3
    muon: bool = True
    small_weight: float = 0.0
    favour: float = 1.0
    carried: float = 0.0
    carried_steps: int = 2

    def __post_init__(self) -> None:
        for name in ("decoder_blocks", "widths"):  # lists in JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some switches changed; raises ValueError for an unknown name."""
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise ValueError(f"a recipe has no switch {name!r}; it has {', '.join(names)}.")
        return dataclasses.replace(self, **changes)


FINER: dict[str, Any] = {"small_weight": 3.0, "favour": 1.5, "carried": 0.25}
HOURS: dict[str, Any] = {
    "pictures": 6000, "held_out": 100, "decoder_blocks": (2, 2, 2), "crop": 64, "frozen_encoder": True,
    "autoencoder_steps": 600, "autoencoder_lr": 1e-3, "detail_weight": 0.5, "denoiser_batch": 16,
}  # fmt: skip
"""What some hours of one core of a shared machine allow: a better decoder for the same latents, few pictures."""

VARIANTS: dict[str, Recipe] = {
    "shipped": Recipe(),
    "further": Recipe(init="package", muon=False, denoiser_lr=1e-4, denoiser_steps=3000, **HOURS, **FINER),
    "fine": Recipe(init="package", widths=(64, 64), denoiser_lr=2e-3, denoiser_steps=2000, **HOURS, **FINER),
    "fresh": Recipe(
        decoder_blocks=(2, 2, 2), autoencoder_steps=16_000, autoencoder_batch=32, detail_weight=0.5,
        denoiser_steps=16_000, denoiser_batch=128, denoiser_lr=1.5e-3, **FINER,
    ),
}  # fmt: skip
"""shipped: what made the weights of version 0.1.  further: goes on from the package's weights.  fine: a bottleneck of
16x16, the rest from the package's weights.  fresh: everything from nothing, for an accelerator."""


def keep_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the recipe to the run folder, or compare it with the one that the folder was begun with.

    Only numbers of steps may differ.  Raises ValueError for anything else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    now = dataclasses.asdict(recipe)
    if path.exists():
        before = dataclasses.asdict(Recipe().replace(**json.loads(path.read_text())))
        changed = [n for n in now if now[n] != before[n] and not n.endswith("_steps")]
        if changed:
            name = changed[0]
            raise ValueError(
                f"{folder} was begun with {name}={before[name]!r}, not {now[name]!r}; "
                "train in another folder, or give the switch its former value."
            )
    with atomic_write(path) as file:
        file.write((json.dumps(now, indent=1) + "\n").encode())
