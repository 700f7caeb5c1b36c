"""`SessionState.rendering` holds whatever rendering an iteration reads, for every editor, schedule and mask."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from helpers import NEED_A_MASK, smooth_picture

from dragnoise import DragConfig, DragSession, Model
from dragnoise.config import EDITORS, FIELDS
from dragnoise.editors import Task, make_editor

NUMBERS: dict[str, Any] = {"steps": 4, "edit_from": 2, "refine_from": 0, "max_iterations": 3, "side": 64, "reach": 0.2}
KINDS = [
    (editor, schedule, convention)
    for editor in EDITORS
    for schedule in (("single", "alternate") if editor in FIELDS["schedule"].editors else ("single",))
    for convention in ("paper", "released")
    if schedule == "single" or convention == "paper"
]
FORGOTTEN = {name for name, info in FIELDS.items() if info.forgets in ("inversion", "optimisation")}
"""Numbers whose change takes the iteration away, so that no picture of it can be asked for."""


def read_by(task: Task, state: Any) -> set[str]:
    """Names of the numbers and of the task's inputs that rendering a state reads."""
    seen: set[str] = set()

    class Config(DragConfig):
        def __getattribute__(self, name: str) -> Any:
            if name in FIELDS:
                seen.add(name)
            return super().__getattribute__(name)

    class Watched(Task):
        def __getattribute__(self, name: str) -> Any:
            if name in ("mask", "anchors", "objectives"):
                seen.add(name)
            return super().__getattribute__(name)

    given = {field.name: getattr(task, field.name) for field in dataclasses.fields(Task)}
    numbers = {name: getattr(task.config, name) for name in FIELDS}
    editor = make_editor(Watched(**given | {"config": Config(**numbers)}))
    editor.initial_features(state)  # the editor of a step is made when it is needed
    seen.clear()  # what it takes to make an editor is told by `FieldInfo.forgets`
    list(editor.render(state))
    return seen


@pytest.mark.parametrize("hold", ["nothing", "latents"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("editor", "schedule", "convention"), KINDS)
def test_it_holds_what_rendering_reads(
    small: Model, editor: str, schedule: str, convention: str, masked: bool, hold: str
) -> None:
    if not masked and editor in NEED_A_MASK:
        pytest.skip("it needs a mask")
    numbers = {"refine_from": 0} if editor in FIELDS["refine_from"].editors else {}
    own = {"schedule": schedule} if editor in FIELDS["schedule"].editors else {}
    base = {name: value for name, value in NUMBERS.items() if name != "refine_from"}
    config = DragConfig(editor=editor, convention=convention, hold=hold, **base, **numbers, **own)
    session = DragSession(small, smooth_picture(50, 40), "a fox", config)
    session.drags = [((10, 10), (30, 30))]
    if masked:
        session.mask = np.arange(50) < np.full((40, 1), 40)
    session.step()
    task = session.store.engine.editor(session.state).task
    seen = read_by(task, session.history[-1].state)
    state = session.state
    changed = {
        name: state.changed(config=config.replace(**{name: _another(config, name)}))
        for name in seen & FIELDS.keys() - FORGOTTEN
    }
    if "mask" in seen:
        changed["mask"] = state.changed(mask=np.ones((40, 50), bool))
    if "objectives" in seen:
        changed["objectives"] = state.changed(drags=(dataclasses.replace(state.drags[0], objective=(20.0, 20.0)),))
    assert "hold" in seen
    for name, other in changed.items():
        assert other.rendering != state.rendering, f"{editor} reads {name} while it renders"
    assert session.branch().state.rendering == state.rendering


def _another(config: DragConfig, name: str) -> Any:
    info, value = FIELDS[name], getattr(config, name)
    return next(c for c in info.choices if c != value) if info.choices else value + 1
