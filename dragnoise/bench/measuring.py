"""Edit one sample with one editor and measure the result; the job that a worker does."""

from __future__ import annotations

import dataclasses
import platform
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

import dragnoise
from dragnoise.bench import fidelity, pixels, points
from dragnoise.bench.features import Dift, dift, sample_seed
from dragnoise.bench.samples import Sample
from dragnoise.config import DragConfig
from dragnoise.models.model import Model, load_model
from dragnoise.session.session import DragSession


@dataclass(frozen=True)
class Protocol:
    """How a run edits and measures; it is written beside every result.

    model: edits; featurizer: makes MD's features, default the same.  seed: of the run.  lora_steps: 0 fits none.
    lpips: measure IF too.  changes: fields of `DragConfig` that differ from the editor's preset.
    """

    model: str = "toyland"
    featurizer: str | None = None
    dift: Dift = field(default_factory=Dift)
    seed: int = 42
    lora_steps: int = 0
    lpips: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


def config_of(editor: str, model: Model, changes: dict[str, Any]) -> DragConfig:
    """The preset of an editor with some numbers changed; "default" is the model's recommended config."""
    if editor == "default":
        return model.default_config.replace(**changes)
    return DragConfig.preset(editor, **changes)


def edit_sample(sample: Sample, editor: str, protocol: Protocol) -> tuple[Image.Image, dict[str, Any]]:
    """The edited picture and its record: id, category, editor, protocol, config, versions, timings and metrics.

    Raises what the session raises for what it cannot edit.
    """
    model = worker_model(protocol.model)
    config = config_of(editor, model, protocol.changes)
    session = DragSession(model, sample.image, sample.prompt, config)
    session.drags = sample.drags
    if sample.mask is not None:
        session.mask = sample.mask
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for _ in session.fit_lora(protocol.lora_steps, seed=protocol.seed) if protocol.lora_steps else ():
        pass
    fitted = time.perf_counter()
    edited = session.run(progress=False)
    seconds = time.perf_counter() - fitted
    cost = {
        "seconds": seconds, "seconds_a_point": seconds / len(sample.drags), "lora_seconds": fitted - start,
        "iterations": float(session.history[-1].iteration),
    }  # fmt: skip
    if torch.cuda.is_available():
        cost["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    versions = {"dragnoise": dragnoise.__version__, "torch": torch.__version__, "python": platform.python_version()}
    record = {
        "id": sample.id, "category": sample.category, "editor": editor, "protocol": dataclasses.asdict(protocol),
        "config": dataclasses.asdict(config), "status": session.status, "cost": cost,
        "versions": versions,
        "metrics": measure(sample, edited, protocol),
    }  # fmt: skip
    return edited, record


def measure(sample: Sample, edited: Image.Image, protocol: Protocol) -> dict[str, Any]:
    """Metrics by name; md and m_md are lists, a number a pair, all others are numbers.

    DIFT's noise is seeded by run and sample, so the order of samples is of no account.  m_md needs a mask.
    """
    model = worker_model(protocol.featurizer or protocol.model)
    given, size = sample.image, sample.image.size
    if edited.size != size:
        edited = edited.resize(size, Image.Resampling.BILINEAR)
    rng = torch.Generator().manual_seed(sample_seed(protocol.seed, sample.id))
    source, result = (dift(model, picture, sample.prompt, rng, protocol.dift) for picture in (given, edited))
    one, other = np.asarray(given), np.asarray(edited)
    found: dict[str, Any] = {"md": points.mean_distances(source, result, sample.drags, size)}
    if sample.mask is not None:
        found["m_md"] = points.mean_distances(source, result, sample.drags, size, sample.mask)
    found["regiondrag_md"] = points.normalised_distance(source, result, sample.drags, size)
    found |= {f"dai_{gamma}": pixels.dai(one, other, sample.drags, gamma) for gamma in pixels.DAI_SIDES}
    found |= pixels.likeness(other, one, sample.mask, "input")
    if (answer := sample.answer_image) is not None:
        found |= pixels.likeness(other, np.asarray(answer), sample.mask, "answer")
    if protocol.lpips:
        found["if"] = fidelity.fidelity(given, edited)
    return found


@cache
def worker_model(name: str) -> Model:
    """A model, loaded once a process."""
    return load_model(name)
