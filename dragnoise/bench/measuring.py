"""Edit one sample with one editor and measure the result; the job that a worker does."""

from __future__ import annotations

import dataclasses
import importlib
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

import dragnoise
from dragnoise.bench.metrics import fidelity, pixels, points
from dragnoise.bench.metrics.features import Dift, dift, sample_seed, skip
from dragnoise.bench.samples import Sample
from dragnoise.config import DragConfig
from dragnoise.geometry import Drag
from dragnoise.images.difference import psnr
from dragnoise.models.model import Model, load_model
from dragnoise.session.session import DragSession
from dragnoise.validation import shown

resource: Any
try:
    resource = importlib.import_module("resource")
except ImportError:  # Windows
    resource = None


@dataclass(frozen=True)
class Protocol:
    """How a run edits and measures; it is written beside every result.

    model: edits; featurizer: makes MD's features, default the same.  seed: of the run.  lora_steps: 0 fits none.
    as_published: MD's noise as DragBench's program draws it, from one generator that is seeded once a run, so that each
    sample's depends on all before it (in the order of the data set), and latents from the autoencoder's posterior;
    default a seed for each sample, and the posterior's mean.
    lpips: measure IF too, and with the regions of a sample IF_bg, IF_s2t and IF_s2s.  released_dai: DAI also as
    GoodDrag's released file has it.  drag_back: edit the result back and compare it with the given picture, which takes
    as long as the edit.  changes: fields of `DragConfig` that differ from the editors' own.
    """

    model: str = "toyland"
    featurizer: str | None = None
    dift: Dift = field(default_factory=Dift)
    seed: int = 42
    as_published: bool = False
    lora_steps: int = 0
    lpips: bool = False
    released_dai: bool = False
    drag_back: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


Editor = str | DragConfig | Mapping[str, Any]
"""A preset or "default", the model's recommended numbers; a config; or changes of "default", or of a "preset"."""


@dataclass(frozen=True, eq=False)
class Job:
    """One sample to edit with one editor.  earlier: sizes of the samples before it, with `as_published` alone."""

    sample: Sample
    editor: str
    config: DragConfig
    protocol: Protocol
    earlier: tuple[tuple[int, int], ...] = ()

    @property
    def key(self) -> dict[str, Any]:
        """Values, in JSON's types, that a stored result must have to count as this job's."""
        return {
            "sample": self.sample.digest, "config": dataclasses.asdict(self.config),
            "protocol": dataclasses.asdict(self.protocol),
        }  # fmt: skip


def config_of(editor: Editor, protocol: Protocol) -> DragConfig:
    """The numbers of an editor with those that the protocol changes; loads the model for "default" alone.

    Raises TypeError or ValueError if it names or describes none.
    """
    if isinstance(editor, DragConfig):
        return editor.replace(**protocol.changes)
    if not isinstance(editor, str | Mapping):
        raise TypeError(f"an editor is a preset's name, a DragConfig or a dict of changes, not {shown(editor)}.")
    changes = {"preset": editor} if isinstance(editor, str) else dict(editor)
    preset = changes.pop("preset", "default")
    if preset == "default":
        return worker_model(protocol.model).default_config.replace(**changes | protocol.changes)
    return DragConfig.preset(preset, **changes | protocol.changes)


def edit_sample(job: Job) -> tuple[Image.Image, dict[str, Any]]:
    """The edited picture and its record: id, category, editor, protocol, config, versions, cost and metrics.

    cost: seconds of the edit, of the LoRA and of both, the first and last also a point; seconds of measuring;
    iterations; and peak memory, see `peak_memory`, of the LoRA and of the edit.
    Raises what the session raises for what it cannot edit.
    """
    sample, protocol = job.sample, job.protocol
    peak_memory(reset=True)
    session, edited, cost = _edited(job, sample.image, sample.drags)
    cost |= {
        "seconds_a_point": cost["seconds"] / len(sample.drags),
        "seconds_with_lora_a_point": cost["seconds_with_lora"] / len(sample.drags),
    }
    begin = time.perf_counter()
    metrics = measure(job, edited)
    if protocol.drag_back:
        metrics |= _drag_back(job, edited)
    cost["measuring_seconds"] = time.perf_counter() - begin
    record = {
        "id": sample.id, "category": sample.category, "editor": job.editor, **job.key, "status": session.status,
        "cost": cost, "versions": versions(protocol), "metrics": metrics,
    }  # fmt: skip
    return edited, record


def _edited(
    job: Job, picture: Image.Image, drags: tuple[Drag, ...]
) -> tuple[DragSession, Image.Image, dict[str, float]]:
    """A session with its edit done, the picture that came of it, and what that cost."""
    protocol = job.protocol
    cost: dict[str, float] = {}
    session = DragSession(worker_model(protocol.model), picture, job.sample.prompt, job.config)
    session.drags = drags
    if job.sample.mask is not None:
        session.mask = job.sample.mask
    start = time.perf_counter()
    if protocol.lora_steps:
        for _ in session.fit_lora(protocol.lora_steps, seed=protocol.seed):
            pass
        cost |= {f"lora_{name}": value for name, value in peak_memory(reset=True).items()}
    fitted = time.perf_counter()
    edited = session.run(progress=False)
    end = time.perf_counter()
    seconds = {"seconds": end - fitted, "lora_seconds": fitted - start, "seconds_with_lora": end - start}
    return session, edited, cost | seconds | {"iterations": float(session.history[-1].iteration)} | peak_memory()


def measure(job: Job, edited: Image.Image) -> dict[str, Any]:
    """Metrics by name; md and m_md are lists, a number a pair, all others are numbers.  m_md needs a mask."""
    sample, protocol = job.sample, job.protocol
    given, size = sample.image, sample.image.size
    if edited.size != size:
        edited = edited.resize(size, Image.Resampling.BILINEAR)
    source, result = _features(job, given, edited)
    one, other = np.asarray(given), np.asarray(edited)
    found: dict[str, Any] = {"md": points.mean_distances(source, result, sample.drags, size)}
    if sample.mask is not None:
        found["m_md"] = points.mean_distances(source, result, sample.drags, size, sample.mask)
    found["regiondrag_md"] = points.normalised_distance(source, result, sample.drags, size)
    for gamma in pixels.DAI_SIDES:
        found[f"dai_{gamma}"] = pixels.dai(one, other, sample.drags, gamma)
        if protocol.released_dai:
            found[f"released_dai_{gamma}"] = pixels.dai(one, other, sample.drags, gamma, released=True)
    found |= pixels.likeness(other, one, sample.mask, "input")
    if (answer := sample.answer_image) is not None:
        found |= pixels.likeness(other, np.asarray(answer), sample.mask, "answer")
    if protocol.lpips:
        found["if"] = fidelity.fidelity(given, edited)
        found |= fidelity.region_fidelities(one, other, sample.mask, sample.areas)
    return found


def _features(job: Job, *pictures: Image.Image) -> list[torch.Tensor]:
    """DIFT of the given and the edited picture, from one generator whose state the job alone decides."""
    protocol, sample = job.protocol, job.sample
    model, numbers, published = (
        worker_model(protocol.featurizer or protocol.model),
        protocol.dift,
        protocol.as_published,
    )
    seed = protocol.seed if published else sample_seed(protocol.seed, sample.id)
    rng = torch.Generator().manual_seed(seed)
    for size in job.earlier:
        for _ in pictures:
            skip(model, size, rng, numbers, sampled=published)
    return [dift(model, picture, sample.prompt, rng, numbers, sampled=published) for picture in pictures]


def _drag_back(job: Job, edited: Image.Image) -> dict[str, float]:
    """Drag-back (DragLoRA): the result edited with anchors and objectives exchanged, against the given picture.

    The same mask, prompt, numbers and steps of LoRA.  drag_back_mse: of pixels in -1..1, as published; drag_back_psnr;
    drag_back_if where IF is measured.  An editor that does nothing is perfect, so read it beside MD.
    """
    given = job.sample.image
    if edited.size != given.size:
        edited = edited.resize(given.size, Image.Resampling.BILINEAR)
    swapped = tuple(Drag(drag.objective, drag.anchor) for drag in job.sample.drags)
    back = _edited(job, edited, swapped)[1]
    one, other = (np.asarray(picture, float) / 127.5 - 1 for picture in (given, back))
    found = {"drag_back_mse": float(np.square(one - other).mean()), "drag_back_psnr": psnr(given, back)}
    if job.protocol.lpips:
        found["drag_back_if"] = fidelity.fidelity(given, back)
    return found


def peak_memory(*, reset: bool = False) -> dict[str, float]:
    """peak_gib: GiB of CUDA memory in use at most since the last reset, also reset after that if asked for.

    Without CUDA process_peak_gib: of main memory, which the process has had at most since it began; none on Windows.
    """
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return {"peak_gib": peak}
    if resource is None:
        return {}
    unit = 1 if platform.system() == "Darwin" else 2**10
    return {"process_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}


def versions(protocol: Protocol) -> dict[str, str]:
    """Versions of the software, and the device, that a result is made with."""
    device = worker_model(protocol.model).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {
        "dragnoise": dragnoise.__version__, "torch": torch.__version__, "diffusers": diffusers.__version__,
        "python": platform.python_version(), "device": name,
    }  # fmt: skip


@cache
def worker_model(name: str) -> Model:
    """A model, loaded once a process."""
    return load_model(name)
