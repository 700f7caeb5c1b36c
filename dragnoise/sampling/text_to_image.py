"""Pictures from a prompt alone: DDIM from noise, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import torch
from PIL import Image
from tqdm.auto import tqdm

from dragnoise.images.pictures import tensor_picture
from dragnoise.interrupts import halved, memory_guard
from dragnoise.models.model import Model, require_model
from dragnoise.numerics import require_finite, without_lr
from dragnoise.sampling import ddim
from dragnoise.validation import LONGEST, as_integer, as_number, as_pair, as_text, shown

USUAL_GUIDANCE = 15
"""Largest usual weight of classifier-free guidance; above it, errors advise a lower weight first."""


def generate_picture(
    model: Model,
    prompt: str,
    *,
    seed: int = 0,
    guidance: float = 7.5,
    steps: int = 50,
    negative_prompt: str = "",
    size: tuple[int, int] | None = None,
    progress: bool = True,
) -> Image.Image:
    """The picture that the model makes of a prompt; arguments and errors as of `DragSession.from_prompt`."""
    require_model(model)
    _check(prompt, negative_prompt, seed, guidance, steps)
    width, height = size = _checked_size(size, model)
    with memory_guard(lambda: _advice(model, size)):
        states = generate(
            model, prompt, seed=seed, guidance=guidance, steps=steps, negative_prompt=negative_prompt, size=size
        )
        for state in tqdm(states, "generating", steps, disable=not progress):  # noqa: B007
            pass
        much = guidance > USUAL_GUIDANCE
        advice = f"try a guidance of {USUAL_GUIDANCE} or less" if much else without_lr(model.dtype)
        require_finite(state.latents, "the generated latent", advice=advice)
        pixels = model.decode_latents(state.latents)
        require_finite(pixels, "the generated picture", advice=advice)
        return tensor_picture(pixels, (width, height))


def generate(
    model: Model, prompt: str, *, seed: int, guidance: float, steps: int, negative_prompt: str, size: tuple[int, int]
) -> Iterator[ddim.DDIMState]:
    """Denoise seeded Gaussian noise (1, C, h, w) to the clean latent of a (width, height) picture, a state per step.

    With guidance w above 1 every step's prediction is u + w (c - u), c with the prompt and u with the
    negative one (Eq. 6 of Ho & Salimans 2022, in the weighting that diffusers uses).
    """
    schedule = ddim.Schedule(model, steps)
    text = model.embed(prompt)
    away = model.embed_negative(negative_prompt) if guidance > 1 else None
    shape = (1, model.pipeline.unet.config.in_channels, size[1] // model.factor, size[0] // model.factor)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32).to(model.device)
    for step in range(steps, 0, -1):
        with torch.no_grad():
            encoded = model.encode(z, schedule.timestep(step), text)
            prediction = model.predict(encoded.bottleneck, encoded)
            if away is not None:
                without = model.encode(z, schedule.timestep(step), away)
                u = model.predict(without.bottleneck, without)
                prediction = u + guidance * (prediction - u)
            z = schedule.down(prediction, z, step)
        yield ddim.DDIMState(step - 1, schedule.timestep(step - 1) if step > 1 else 0, z, encoded.bottleneck.float())


def _check(prompt: Any, negative_prompt: Any, seed: Any, guidance: Any, steps: Any) -> None:
    as_text("the prompt", prompt)
    as_text("the negative_prompt", negative_prompt)
    as_integer("seed", seed, 0, 2**63 - 1)
    as_integer("steps", steps, 2, 1000)
    as_number("guidance", guidance, 0, 1000)


def _checked_size(size: Any, model: Model) -> tuple[int, int]:
    """(width, height) in pixels that the model can make; default a square of its native side."""
    if size is None:
        return model.native, model.native
    try:
        width, height = as_pair(size)
    except (TypeError, ValueError):
        raise ValueError(f"size={shown(size)} must be (width, height) in pixels.") from None
    low, step = 8 * model.factor, model.factor
    for length in (width, height):
        whole = isinstance(length, Integral) and not isinstance(length, bool)
        if not (whole and low <= length <= LONGEST and length % step == 0):
            raise ValueError(
                f"size={shown(size)} must be (width, height) in pixels, multiples of {step}, at least {low} and "
                f"at most {LONGEST} each."
            )
    return int(width), int(height)


def _advice(model: Model, size: tuple[int, int]) -> str:
    tries = ["a smaller size=(width, height)"]
    if model.memory != "low":
        tries.append('load_model(..., memory="low")')
    tries += halved(model.device, model.dtype)
    return (
        f"the memory of {str(model.device)!r} is used up by generating {size[0]}x{size[1]} pixels: "
        f"try {', then '.join(tries)}."
    )
