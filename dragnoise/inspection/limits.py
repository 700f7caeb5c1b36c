"""The model's limit: how well it reproduces a picture without any edit, and advice for when it does not.

    limit = at_upload(model, picture)          # 0.2 s on the miniature, which alone is checked; None for other models
    limit = of_reconstruction(session)         # after inversion; denoises once
    limit.psnr, limit.sentence                 # "" when the picture is given back well enough

On the miniature the autoencoder alone tells: rendered scenes come back with 33 to 36 dB, and thirteen photographs and
paintings of DragBench and Drag100 with 20 to 27 dB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dragnoise.config import DragConfig
from dragnoise.geometry import Frame
from dragnoise.images.difference import psnr
from dragnoise.images.pictures import as_picture, padded_picture, tensor_picture
from dragnoise.models.model import Model, require_model
from dragnoise.session.session import DragSession

LOW = 28.0
"""PSNR in dB below which a picture counts as not reproduced."""


@dataclass(frozen=True, eq=False)
class Limit:
    """How well a model gives a picture back.

    picture: what it gives back, of the given size.  psnr: in dB, at the size that the model sees or the given one,
    whichever is smaller, so that it tells of the model and not of the resizing.
    sentence: what is wrong and what helps, "" from `LOW` dB on.
    """

    picture: Image.Image
    psnr: float
    sentence: str

    @property
    def is_met(self) -> bool:
        """Can the model reproduce the picture?"""
        return not self.sentence


def at_upload(model: Model, picture: Any, config: DragConfig | None = None) -> Limit | None:
    """The limit of the miniature for a picture that was just opened, by its autoencoder alone; else None.

    For other models the reconstruction tells, since their autoencoders take long and know every kind of picture.
    config: default the model's own.
    """
    require_model(model)
    if model.name != "toyland":
        return None
    image = as_picture(picture)
    frame = model.frame(image.size, model.default_config if config is None else config)
    latents, _ = model.posterior(padded_picture(image, frame), frame.padded)
    given_back = tensor_picture(model.decode_latents(latents), image.size, working=frame.working)
    return _limit(image, given_back, frame, model.name, has_lora=False)


def of_reconstruction(session: DragSession) -> Limit:
    """The limit for a session's picture, prompt, LoRA and numbers, inverting first if needed; denoises once."""
    return judged(session, session.reconstruct())


def judged(session: DragSession, reconstruction: Image.Image) -> Limit:
    """The limit that a reconstruction, of `session.reconstruct()`, shows."""
    name, frame = session.store.made_with.name, session.state.frame
    return _limit(session.image, reconstruction, frame, name, has_lora=session.lora is not None)


def _limit(image: Image.Image, given_back: Image.Image, frame: Frame, name: str, *, has_lora: bool) -> Limit:
    size = tuple(min(lengths) for lengths in zip(image.size, frame.working, strict=True))
    a, b = (np.asarray(p.resize(size, Image.Resampling.LANCZOS)) for p in (image, given_back))  # type: ignore[arg-type]
    decibels = psnr(a, b)
    return Limit(given_back, decibels, "" if decibels >= LOW else _sentence(decibels, name, has_lora))


def _sentence(decibels: float, name: str, has_lora: bool) -> str:
    cannot = f"cannot reproduce this picture ({decibels:.0f} dB, below {LOW:.0f})"
    if name == "toyland":
        return (
            f"the model toyland {cannot}, for it was trained on rendered creatures only; for photographs load Stable "
            "Diffusion, see notebook 02."
        )
    helps = (
        "fit the LoRA for more steps, or say more exactly in the prompt what the picture shows"
        if has_lora
        else "fit a LoRA to it before the drag, and say in the prompt what it shows"
    )
    return f"the model {name!r} {cannot}, so that parts no drag asks for will change too; {helps}."
