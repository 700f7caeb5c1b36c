"""Latents held outside the mask, with every number that they combine with."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import Any

import pytest
import torch
from helpers import NEED_A_MASK, quick_session

from dragnoise import DragConfig, Model
from dragnoise.config import DEFAULTS, EDITORS, FIELDS
from dragnoise.editors.parts.area import editable_area
from dragnoise.geometry import Frame, reach_of

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


FRAME = Frame((128, 128), (128, 128), (64, 64))


def reach(*drags: Any, reach: float = 0.1, start: str = "carried") -> float:
    """In grid pixels of 64 for drags in grid pixels."""
    starts, ends = (torch.tensor(points, dtype=torch.float64) for points in zip(*drags, strict=True))
    return reach_of(DragConfig.preset("firm", reach=reach, start=start), FRAME, starts, ends)


def test_without_a_mask_a_drag_reaches_as_far_as_it_needs() -> None:
    assert reach(((10, 10), (12, 10))) == pytest.approx(6.4), "what the config says"
    assert reach(((10, 10), (20, 10))) == pytest.approx(12), "1.2 times its length"
    assert reach(((2, 10), (60, 10))) == pytest.approx(16), "a quarter of the picture at most"
    assert reach(((10, 10), (60, 10)), reach=0.5) == pytest.approx(32)
    assert reach(((10, 10), (20, 10)), ((10, 30), (20, 30)), reach=0) == 0, "everything is free"
    assert reach(((10, 10), (20, 10)), ((10, 30), (20, 30)), start="inverted") == pytest.approx(6.4), (
        "nothing is carried"
    )
    assert reach(((10, 10), (20, 10)), ((10, 30), (20, 30)), reach=0.01) == pytest.approx(4 * 0.64), "a small one"


def test_drags_that_hold_one_thing_reach_as_far_as_it_is_large_and_as_their_motion_falls_off() -> None:
    held = reach(((10, 10), (11, 10)), ((10, 20), (11, 20)), ((13, 20), (14, 20)))
    assert held == pytest.approx(0.8 * 109**0.5 + 1.6)
    turned = (((10, 10), (10, 10)), ((10, 20), (15, 18.66)))  # by 30 degrees: the distance is kept
    assert reach(*turned) == pytest.approx(0.8 * 10 + 1.6 * math.hypot(5, 1.34))
    assert reach(((10, 10), (12, 10)), ((10, 30), (12, 40))) < 13, "they move apart"
    assert reach(((10, 10), (12, 10)), ((10, 50), (12, 50))) < 8, "two things, more than half of the picture apart"


def test_drags_of_one_thing_free_what_lies_between_and_beside_them(small: Model) -> None:
    session = quick_session(small)
    carried = {"schedule": "alternate", "target": "direct", "start": "carried", "drag_steps": 1, "step_iterations": 1}
    session.config, session.mask = session.config.replace(reach=0.08, **carried), None
    (_width, height) = session.image.size
    ends = [((5, 5), (7, 5)), ((5, 5 + height // 3), (7, 5 + height // 3))]
    free = []
    for drags in (ends[:1], ends):
        session.drags = drags
        list(session.invert())
        task = session.store.engine.editor(session.state).task
        area = editable_area(task, task.frame.grid)
        assert area is not None
        free.append(float(area.mean()))
    assert free[1] > 3 * free[0]
