"""The presets that the parameters panel offers, and the fields that matter most for each editor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dragnoise import DragConfig
from dragnoise.config import EDITORS, OUR_PRESETS

MAIN = {
    "single": ("edit_from", "lr", "max_iterations", "r2", "mask_weight", "reach"),
    "alternate": ("edit_from", "lr", "drag_steps", "step_iterations", "mask_weight", "reach"),
    "gooddrag": ("edit_from", "lr", "drag_steps", "step_iterations", "r2", "mask_weight"),
    "freedrag": ("edit_from", "lr", "max_iterations", "expected_distance", "max_move", "mask_weight"),
    "dragondiffusion": ("edit_from", "drag_steps", "energy", "edit_weight", "content_weight", "guidance"),
    "fastdrag": ("steps", "edit_from", "blend", "hold", "keep", "seed"),
    "regiondrag": ("steps", "edit_from", "refine_from", "regions", "vacate", "seed"),
}
"""The fields that are seen at once, by editor, and by schedule for the others; the rest is folded away under them."""

CHANGED, OWN = "changed by hand", "the model's own"
"""Entries of the list of presets: of no preset, and of the numbers recommended for the model."""

PRESETS: dict[str, Callable[[], DragConfig]] = {
    **{name: partial(DragConfig.preset, name) for name in EDITORS | OUR_PRESETS},
    "dragnoise, released program": DragConfig.released,
}
"""The other entries of that list, and what makes the config of each."""


def main_fields(config: DragConfig) -> tuple[str, ...]:
    """Names of the six fields that matter most for a config's editor, or its schedule."""
    return MAIN.get(config.editor, MAIN[config.schedule])


def base_of(
    config: DragConfig, own: DragConfig | None, label: str, before: tuple[str, DragConfig]
) -> tuple[str, DragConfig]:
    """The preset that the config's changes are told from: itself, or the one before if it is of the same editor."""
    if label == OWN or (label == CHANGED and own is not None and own.editor == config.editor and before[0] == OWN):
        return OWN, config if own is None else own
    if label != CHANGED:
        return label, config
    is_of_it = before[0] != OWN and before[1].editor == config.editor
    return before if is_of_it else (config.editor, PRESETS[config.editor]())


def preset_of(config: DragConfig, own: DragConfig | None) -> str:
    """The entry of the list of presets that a config is."""
    if config == own:
        return OWN
    return next((label for label, make in PRESETS.items() if make() == config), CHANGED)
