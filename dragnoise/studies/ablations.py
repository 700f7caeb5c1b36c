"""Ablations with the same drag: initial timestep (Fig. 9), optimised layer (10), where propagation stops (11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from dragnoise.config import DragConfig
from dragnoise.geometry import as_drags
from dragnoise.images.pictures import Picture, as_picture
from dragnoise.models.model import Model
from dragnoise.studies.comparison import Comparison, compare
from dragnoise.studies.editing import rendered


def initial_timesteps(
    model: Model,
    image: Picture,
    drags: Any,
    steps: Sequence[int] = (10, 20, 30, 35, 40, 50),
    *,
    config: DragConfig | None = None,
    **options: Any,
) -> Comparison:
    """Fig. 9: the edit begun after each number of inversion steps, all from one inversion.

    config: default the model's own; `refine_from` is lowered where it lies beyond.  options: of `compare`.
    """
    usual = config or model.default_config
    configs = {
        f"t = {k}": usual.replace(edit_from=k, refine_from=min(k, usual.refine_from)) for k in steps
    }  # fmt: skip
    return compare(model, image, drags, configs, **options)


def layers(
    model: Model,
    image: Picture,
    drags: Any,
    sites: Sequence[str] | None = None,
    *,
    config: DragConfig | None = None,
    **options: Any,
) -> Comparison:
    """Fig. 10: the output of each block optimised and propagated in place of the bottleneck, from one inversion.

    sites: of `CutUNet.sites`, default all before the supervision feature's block.
    """
    usual = config or model.default_config
    last = f"up.{usual.supervision_block}"
    every = model.unet.sites
    chosen = every[: every.index(last)] if sites is None else sites
    return compare(model, image, drags, {site: usual.replace(variable=site) for site in chosen}, **options)


def stops(
    model: Model,
    image: Picture,
    drags: Any,
    steps: Sequence[int] | None = None,
    *,
    config: DragConfig | None = None,
    **options: Any,
) -> Comparison:
    """Fig. 11: one optimisation, rendered with propagation down to each step t'.

    steps: default `edit_from` (never), every tenth below it and 0 (to the end).  config: an editor with `refine_from`.
    """
    usual = config or model.default_config
    k = usual.edit_from
    chosen = [k, *range((k - 1) // 10 * 10, -1, -10)] if steps is None else list(steps)
    usual.replace(refine_from=max(chosen))  # says what is wrong with it before anything is computed
    done, picture = options.pop("done", None), as_picture(image)
    names = {step: f"t' = {step}" for step in chosen}
    if done is not None and _is_of(done, picture, drags, names, usual):
        return done
    (edit,) = compare(model, picture, drags, {"propagation": usual}, **options).edits
    made = tuple(rendered(edit, name, refine_from=step) for step, name in names.items())
    return Comparison(edit.session.image, made)


def _is_of(done: Comparison, image: Image.Image, drags: Any, names: Mapping[int, str], usual: DragConfig) -> bool:
    """Is an earlier result of `stops` of the same picture, drags, steps and numbers?"""
    sessions = {edit.name: edit.session for edit in done.edits}
    return (
        done.image.size == image.size
        and done.image.tobytes() == image.tobytes()
        and list(sessions) == list(names.values())
        and all(sessions[name].config == usual.replace(refine_from=step) for step, name in names.items())
        and all(session.drags == as_drags(drags, image.size) for session in sessions.values())
    )
