"""Settings of a LoRA fit, and its subject: picture, prompt and model."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

from PIL import Image

from dragnoise.models.model import Model
from dragnoise.validation import as_integer, as_number

MOST = 2**14
"""Rank and batch at most, so that a typing error cannot use up the memory."""


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The numbers of a fit.

    rank: of every adapter, 1..`MOST`.  lr: AdamW's learning rate, above 0, at most 1.  batch_size: noised
    copies of the picture in a step, 1..`MOST`.  seed: of everything drawn, >= 0.

    The defaults are those that DragDiffusion, whose fit DragNoise takes over, was first released
    with for 200 steps; both programs' later 60 to 80 steps go with lr=5e-4.

    Raises ValueError when a number is out of its range.
    """

    rank: int = 16
    lr: float = 2e-4
    batch_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", as_integer("rank", self.rank, 1, MOST))
        object.__setattr__(self, "batch_size", as_integer("batch_size", self.batch_size, 1, MOST))
        object.__setattr__(self, "seed", as_integer("seed", self.seed, 0))
        object.__setattr__(self, "lr", as_number("lr", self.lr, 0, 1, above=True))


@dataclass(frozen=True, eq=False)
class Subject:
    """What is fitted: a picture at its working size (width, height), its prompt, and the model to learn them.

    latent_noise: standard deviation of the noise that goes on the latent, as in `DragConfig`.
    """

    model: Model
    picture: Image.Image
    size: tuple[int, int]
    prompt: str
    latent_noise: float = 0.0

    def key(self, settings: LoraSettings) -> str:
        """64 hexadecimal digits that change with the picture, the prompt, the model or the settings."""
        said = repr((self.picture.size, self.size, self.prompt, float(self.latent_noise), asdict(settings)))
        digest = hashlib.sha256(said.encode())
        digest.update(self.picture.tobytes())
        digest.update(self.model.digests[0])
        return digest.hexdigest()
