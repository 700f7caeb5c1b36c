"""Latents held outside the mask, with every number that they combine with."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
import torch
from helpers import NEED_A_MASK, quick_session

from dragnoise import DragConfig, Model
from dragnoise.config import DEFAULTS, EDITORS, FIELDS

ROW = {
    "convention": FIELDS["convention"].choices, "schedule": FIELDS["schedule"].choices,
    "propagation": FIELDS["propagation"].choices, "target": FIELDS["target"].choices,
}  # fmt: skip


def rows(editor: str, most: int) -> list[DragConfig]:
    """Configs with at most so many choices that differ from the defaults; without those that DragConfig refuses."""
    own = [name for name in ROW if not FIELDS[name].editors or editor in FIELDS[name].editors]
    numbers = {"steps": 4, "edit_from": 2, "refine_from": 0, "drag_steps": 2, "step_iterations": 1}
    numbers = {name: x for name, x in numbers.items() if not FIELDS[name].editors or editor in FIELDS[name].editors}
    found = []
    for values in itertools.product(*(ROW[name] for name in own)):
        row: dict[str, Any] = {name: x for name, x in zip(own, values, strict=True) if x != DEFAULTS[name]}
        if len(row) <= most:
            with contextlib.suppress(ValueError):
                found.append(
                    DragConfig(editor=editor, hold="latents", side=64, reach=0.02, max_iterations=2, **numbers, **row)
                )
    return found


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("editor", EDITORS)
def test_what_is_held_is_the_inversions_own_whatever_else_is_chosen(small: Model, editor: str, masked: bool) -> None:
    if not masked and editor in NEED_A_MASK:
        pytest.skip("it needs a mask")
    session = quick_session(small)
    if not masked:
        session.mask = None
    h, w = session.model.encode_picture(session.image, session.frame.working).shape[-2:]
    held = torch.zeros(h, w, dtype=torch.bool)
    held[-1, 0] = True  # far from both drags
    if masked:
        free = torch.from_numpy(session.mask)[None, None].float()
        held = torch.nn.functional.interpolate(free, (h, w), mode="area")[0, 0] == 0
    assert held.any()
    configs = rows(editor, 2 if masked else 1)
    assert configs, "it is refused by every config of this editor"
    for config in configs:
        session.config = config
        for _ in session.optimize():
            pass
        *_, last = session.denoise()
        ours, own = last.latents.cpu(), session.trajectory[0]
        same = (ours == own).all(1)[0]
        assert not same.all(), f"nothing was edited: {config}"
        assert bool(same[held].all()), config
        assert bool(torch.isfinite(ours).all()), config
