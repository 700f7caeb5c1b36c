"""`fit`: training of LoRA adapters on one picture, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator

from dragnoise.interrupts import halved, memory_guard
from dragnoise.lora.adapters import Lora
from dragnoise.lora.cache import LoraCache
from dragnoise.lora.settings import LoraSettings, Subject
from dragnoise.lora.training import LoraStep, Trainee
from dragnoise.models.model import Model
from dragnoise.validation import shown

KEPT_AT_MOST = 4 * 64 * 64
"""Latent pixels of a step's batch above which `fit` uses gradient checkpointing unless told otherwise."""


def fit(
    subject: Subject,
    settings: LoraSettings,
    steps: int,
    *,
    start: Lora | None = None,
    gradient_checkpointing: bool | None = None,
    cache: LoraCache | None = None,
) -> Iterator[tuple[LoraStep, Lora]]:
    """Fit adapters to a picture with the model's own training loss, to `steps` steps in all.

    start: a LoRA to go on with, if it comes from the same subject and settings; otherwise the fit
        begins anew.  Going on gives the same bits as never having stopped, on a
        GPU up to rounding.
    gradient_checkpointing: see `checkpoints`.
    cache: where to look for the result first, and to put it at last; a result that was found there is
        one step.

    Every LoRA yielded is complete and stays as it is: the next step goes on with copies of its tensors, so that there
    are at most two sets of adapters and moments, the one last yielded and the one of the step being taken.  The model
    and torch's random state are not touched.  Raises ValueError for a wrong `gradient_checkpointing`,
    FloatingPointError when a number stops being finite, and `OutOfMemory`.
    """
    model, key = subject.model, subject.key(settings)
    checkpointing = checkpoints(subject, settings, gradient_checkpointing)
    if start is not None and (start.training is None or start.training.key != key):
        start = None
    if start is not None and start.steps >= steps:
        return
    name = f"{key}-{steps}"
    with memory_guard(lambda: _advice(model, settings, checkpointing)):
        if cache is not None and (found := cache.get(name, model)) is not None:
            yield LoraStep(steps, found.losses[-1], settings.lr, 0.0), found
            return
        for step, lora in _train(subject, settings, key, start, checkpointing, steps):
            yield step, lora
    if cache is not None:
        cache.put(name, lora)


def _train(
    subject: Subject, settings: LoraSettings, key: str, start: Lora | None, checkpointing: bool, steps: int
) -> Iterator[tuple[LoraStep, Lora]]:
    """Run the steps in a separate frame, which `memory_guard` clears: it frees the trainee when memory runs out."""
    trainee = Trainee(subject, settings, key, start, checkpointing)
    for step in range(len(trainee.losses) + 1, steps + 1):
        yield trainee.step(step)


def checkpoints(subject: Subject, settings: LoraSettings, asked: bool | None) -> bool:
    """Whether a fit uses gradient checkpointing: keeps only layer inputs and runs layers again in the backward pass.

    That costs about a third more time, gives the same bits, and saves most of the memory that grows
    with the picture (`python -m benchmarks memory` counts it).  asked: yes, no, or None for yes when the
    batch is larger than four pictures of 512x512 pixels, in pixels of the latent: `KEPT_AT_MOST`.  A
    model in low memory does so in any case.  Raises ValueError if it is none of the three.
    """
    if not (asked is None or isinstance(asked, bool)):
        raise ValueError(f"gradient_checkpointing={shown(asked)} must be True, False or None.")
    if asked is None:
        width, height = (side // subject.model.factor for side in subject.size)
        asked = settings.batch_size * width * height > KEPT_AT_MOST
    return asked or subject.model.memory == "low"


def _advice(model: Model, settings: LoraSettings, checkpointing: bool) -> str:
    """What to try, in the order of effect as `python -m benchmarks memory` counts it."""
    usual, tries = LoraSettings().rank, []
    if settings.rank > 16 * usual:  # with AdamW's moments more than all else
        tries.append(f"rank={usual}")
    if not checkpointing:
        tries.append("gradient_checkpointing=True")
    if settings.batch_size > 1:
        tries.append("batch_size=1")
    tries.append("a smaller picture with session.config = session.config.replace(side=...)")
    tries += halved(model.device, model.dtype)
    if model.memory != "low":
        tries.append('load_model(..., memory="low")')
    return (
        f"the memory of {str(model.device)!r} is used up by the LoRA's fit, and the LoRA stands where it stood: try "
        f"{', then '.join(tries)}."
    )
