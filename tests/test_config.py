"""DragConfig: the paper's numbers, the released program's, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence
from properties import given, st

from dragnoise import DragConfig
from dragnoise.config import EDITORS, FIELDS

PAPER = {
    "steps": 50, "edit_from": 35, "refine_from": 10, "propagation": "replace", "lr": 0.01, "eps": 1e-8,
    "max_iterations": 80, "r1": 1, "r2": 3, "mask_weight": 0.1, "reach": 0.0, "tolerance": 1.0, "supervision_block": 2,
    "supervision_scale": 0.5, "resize": "longer", "side": None, "latent_noise": 0.0, "seed": 0, "inversion": "source",
    "convention": "paper", "editor": "dragnoise",
    "target": "current", "stride": 1.0, "variable": "mid",
    "hold": "nothing", "keep": "nothing", "start": "inverted",
    "schedule": "single", "drag_steps": 12, "step_iterations": 4,
}  # fmt: skip
RELEASED = PAPER | {
    "convention": "released", "refine_from": 0, "max_iterations": 60, "tolerance": 2.0, "resize": "never",
    "inversion": "target",
}  # fmt: skip


def own_numbers(config: DragConfig) -> dict[str, Any]:
    """All but those of other editors alone."""
    numbers = dataclasses.asdict(config)
    return {name: numbers[name] for name, info in FIELDS.items() if config.editor in (info.editors or EDITORS)}


def test_defaults_are_the_papers() -> None:
    assert own_numbers(DragConfig()) == PAPER
    assert not DragConfig().is_released


def test_released_differs_in_exactly_its_numbers() -> None:
    assert own_numbers(DragConfig.released()) == RELEASED
    assert DragConfig.released().is_released


def test_released_takes_changes() -> None:
    assert DragConfig.released(lr=0.5, tolerance=3) == DragConfig(**RELEASED | {"lr": 0.5, "tolerance": 3})


def test_replace_copies() -> None:
    config = DragConfig(lr=0.5)
    assert config.replace(r1=2) == DragConfig(lr=0.5, r1=2)
    assert config == DragConfig(lr=0.5)


def test_frozen_and_hashable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DragConfig().lr = 1.0  # type: ignore[misc]
    assert len({DragConfig(), DragConfig(), DragConfig(r1=2)}) == 2


WRONG: list[tuple[str, Any]] = [
    ("side", 63), ("side", 256.0), ("side", "half"), ("side", True),
    ("steps", 1), ("steps", 1001), ("steps", 50.0), ("steps", "50"), ("steps", True), ("steps", None),
    ("edit_from", 0), ("edit_from", 51), ("edit_from", -3), ("refine_from", -1), ("refine_from", 36),
    ("refine_from", 2.5), ("lr", 0), ("lr", -0.1), ("lr", math.nan), ("lr", math.inf), ("lr", "fast"), ("lr", True),
    ("eps", 0), ("eps", -1e-8), ("eps", math.nan), ("eps", "small"),
    ("max_iterations", 0), ("max_iterations", 1.5), ("r1", -1), ("r1", 0.5), ("r2", 0), ("r2", -2),
    ("mask_weight", -0.1), ("mask_weight", math.nan), ("reach", -0.1), ("reach", math.inf),
    ("tolerance", 0), ("tolerance", -1), ("tolerance", math.inf),
    ("supervision_block", -1), ("supervision_scale", 0), ("supervision_scale", 1.01), ("latent_noise", -0.01),
    ("seed", -1), ("seed", 0.5), ("propagation", "swap"), ("inversion", "middle"), ("resize", "fit"),
    ("convention", "mine"), ("propagation", None), ("editor", "dragfast"), ("target", "ahead"), ("stride", 0),
    ("hold", "pixels"), ("share_from", -1), ("share_layer", 1.5),
    ("r1", 51), ("r1", 300), ("r2", 300), ("lr", 1e38), ("mask_weight", 1e30), ("tolerance", 1e9), ("reach", 1e6),
    ("max_iterations", 10**9), ("eps", 1e30), ("latent_noise", 1e9), ("edit_from", 1001), ("supervision_block", 10**6),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
@pytest.mark.parametrize("make", [DragConfig, DragConfig().replace, DragConfig.released])
def test_wrong_values_are_refused_when_the_config_is_made(make: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError) as caught:
        make(**{name: value})
    assert_one_sentence(caught.value, f"{name}={value!r}")


@pytest.mark.parametrize("make", [DragConfig().replace, DragConfig.released])
def test_an_unknown_name_is_refused(make: Any) -> None:
    with pytest.raises(ValueError) as caught:
        make(learning_rate=0.1)
    assert_one_sentence(caught.value, "'learning_rate'", "lr")


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 2, "edit_from": 1, "refine_from": 0}, {"steps": 1000}, {"edit_from": 50}, {"refine_from": 35},
        {"r1": 0, "r2": 1}, {"max_iterations": 1}, {"mask_weight": 0}, {"reach": 0}, {"reach": 2},
        {"supervision_scale": 1},
        {"lr": np.float32(0.5), "r2": np.int64(4)}, {"propagation": "delta"}, {"resize": "shorter"},
    ],
)  # fmt: skip
def test_the_last_right_values_are_taken(changes: dict[str, Any]) -> None:
    config = DragConfig(**changes)
    assert all(getattr(config, name) == value for name, value in changes.items())


@given(st.integers(-2, 60), st.integers(-2, 60), st.integers(-2, 60))
def test_the_schedule_is_taken_exactly_when_in_order(steps: int, edit_from: int, refine_from: int) -> None:
    in_order = steps >= 2 and 1 <= edit_from <= steps and 0 <= refine_from <= edit_from
    try:
        DragConfig(steps=steps, edit_from=edit_from, refine_from=refine_from)
    except ValueError:
        assert not in_order
    else:
        assert in_order
