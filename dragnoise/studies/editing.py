"""Edits of one picture with several configurations, from as few inversions as their numbers allow."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from dragnoise.config import FIELDS, DragConfig
from dragnoise.images.pictures import Picture
from dragnoise.models.model import Model
from dragnoise.session import stages
from dragnoise.session.diagnosis import anchor_path
from dragnoise.session.session import DragSession
from dragnoise.validation import shown

INVERSION = tuple(n for n, i in FIELDS.items() if i.forgets == "inversion" and n != "edit_from")
"""Numbers that two edits from one inversion have in common; a shorter one is the beginning of a longer one."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit, done.

    session: as it stands at the end, with its history.  picture: rendered, of the given picture's size.
    seconds: of optimisation and rendering, the inversion left out.
    """

    name: str
    session: DragSession
    picture: Image.Image
    seconds: float

    @property
    def losses(self) -> np.ndarray:
        """(n,) what update 1..n minimised, NaN for a denoising step."""
        return np.array([s.loss for s in self.session.history[1:]])

    @property
    def path(self) -> np.ndarray:
        """(n + 1, m, 2) image pixels: where the anchors were after 0, 1, .. n updates."""
        return anchor_path(self.session.history, self.session.anchors)

    @property
    def distances(self) -> np.ndarray:
        """(n + 1, m) image pixels between the anchors and their objectives after 0, 1, .. n updates."""
        return np.linalg.norm(self.path - [d.objective for d in self.session.drags], axis=-1)

    @property
    def motion(self) -> np.ndarray:
        """(n, m) image pixels that update 1, .. n moved the anchors by."""
        return np.linalg.norm(np.diff(self.path, axis=0), axis=-1)

    @property
    def numbers(self) -> dict[str, Any]:
        """Where it ended, as JSON values: iterations, status, distance left (the mean, px), loss, seconds."""
        losses = self.losses
        loss = float(losses[-1]) if len(losses) and not math.isnan(losses[-1]) else None
        return {
            "iterations": self.session.history[-1].iteration, "status": self.session.status,
            "distance": float(self.distances[-1].mean()), "loss": loss, "seconds": self.seconds,
        }  # fmt: skip


def as_config(given: DragConfig | str, model: Model) -> DragConfig:
    """A configuration, or that of a preset by its name; "default" is the model's own."""
    if isinstance(given, DragConfig):
        return given
    if not isinstance(given, str):
        raise TypeError(f"give a DragConfig or the name of a preset, not {shown(given)}.")
    return model.default_config if given == "default" else DragConfig.preset(given)


def edits(
    model: Model,
    image: Picture,
    drags: Any,
    configs: Mapping[str, DragConfig],
    *,
    prompt: str = "",
    mask: Any = None,
    done: Mapping[str, Edit] | None = None,
    progress: bool = True,
) -> Iterator[Edit]:
    """Edit a picture with each configuration in turn: an `Edit` each, in the order given.

    Configurations that agree in `INVERSION` share one inversion, to the highest `edit_from` among them.
    done: edits that are made already, by name; those of the same configuration are given back as they are.
    """
    inverted: dict[tuple[Any, ...], DragSession] = {}
    bar = partial(tqdm, disable=not progress, leave=False)
    for name, config in configs.items():
        if done is not None and name in done and done[name].session.config == config:
            yield done[name]
            continue
        key = _key(config)
        if key not in inverted:
            upto = max(c.edit_from for c in configs.values() if _key(c) == key)
            first = next(c for c in configs.values() if _key(c) == key and c.edit_from == upto)
            base = DragSession(model, image, prompt, first, name=name)
            for _ in bar(base.invert(), f"{name}: inverting", upto):
                pass
            inverted[key] = base
        session = begun(inverted[key], config, name, drags, mask)
        started = time.perf_counter()
        for _ in bar(session.optimize(), f"{name}: dragging", config.most_iterations):
            pass
        picture = session.render()
        yield Edit(name, session, picture, time.perf_counter() - started)


def begun(base: DragSession, config: DragConfig, name: str, drags: Any, mask: Any) -> DragSession:
    """A session of the same picture from the same inversion with other numbers, up to their `edit_from`."""
    session, trajectory = base.branch(name=name), base.state.trajectory[: config.edit_from + 1]
    session.config = config
    session.store.write(trajectory=trajectory)
    session.drags, session.mask = drags, mask
    return session


def rendered(edit: Edit, name: str, **changes: Any) -> Edit:
    """The same iterations rendered with other numbers, which must be those of the rendering alone."""
    session = edit.session.branch(name=name)
    config = session.config.replace(**changes)
    if session.config.forgets(config) != "nothing":
        raise ValueError(f"{shown(changes)} are no numbers of the rendering alone; make another edit with them.")
    session.config = config
    started = time.perf_counter()
    picture = session.picture_of(stages.last(session.denoise()).latents, edited=True)
    return Edit(name, session, picture, time.perf_counter() - started)


def _key(config: DragConfig) -> tuple[Any, ...]:
    return tuple(getattr(config, name) for name in INVERSION)
