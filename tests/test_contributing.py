"""The code in CONTRIBUTING.md runs as it stands: an editor, a metric, a dataset and a panel."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import python_blocks, smooth_picture

import dragnoise
from dragnoise import DragConfig, DragSession, Model
from dragnoise.config import EDITORS, FIELDS
from dragnoise.toyland import cases, measures, suite

ROOT = Path(__file__).parents[1]
BLOCKS = python_blocks(ROOT / "CONTRIBUTING.md")
LINES = 11
"""A block's non-empty lines at most: its file's name and ten of code."""


def block(path: str) -> str:
    """The block that says it belongs in this file."""
    (found,) = [text for text in BLOCKS if text.startswith(f"# {path}\n")]
    return found


def added_to(module: ModuleType) -> dict[str, Any]:
    """What a block defines when it stands at the end of a module's file."""
    path = Path(str(module.__file__)).relative_to(ROOT)
    names = dict(vars(module))
    exec(compile(block(str(path)), str(path), "exec", dont_inherit=True), names)
    return names


@pytest.mark.parametrize("package", ["dragnoise", "widgets/dragnoise_widgets"])
def test_the_map_names_every_folder(package: str) -> None:
    named = set(re.findall(r"`([\w/]+)/`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / package).glob("*/__init__.py")}
    assert folders and folders <= named, f"the map of CONTRIBUTING.md lacks {sorted(folders - named)}"


def test_every_block_is_short() -> None:
    assert len(BLOCKS) == 5
    for text in BLOCKS:
        assert len([line for line in text.splitlines() if line.strip()]) <= LINES


@pytest.fixture
def plain_latent(monkeypatch: pytest.MonkeyPatch) -> str:
    """The editor of the document, registered as it says."""
    (line,) = [text for text in BLOCKS if text.startswith('"')]
    ((name, where),) = ast.literal_eval(f"{{{line}}}").items()
    path = f"{where.replace('.', '/')}.py"
    module = ModuleType(where)
    exec(compile(block(path), path, "exec"), vars(module))
    monkeypatch.setitem(sys.modules, where, module)
    monkeypatch.setitem(EDITORS, name, where)
    field = FIELDS["editor"]
    monkeypatch.setitem(FIELDS, "editor", dataclasses.replace(field, choices=(*field.choices, name)))
    return name


def test_an_editor(small: Model, plain_latent: str, tmp_path: Path) -> None:
    config = DragConfig.preset(plain_latent, steps=5, edit_from=3, max_iterations=3, side=64)
    session = DragSession(small, smooth_picture(72, 56), config=config)
    session.drags = [((20, 20), (40, 30))]
    picture = np.asarray(session.run(progress=False))
    assert picture.shape == (56, 72, 3) and session.history[-1].losses["alignment"] > 0
    assert (picture != np.asarray(session.reconstruct())).any()
    again = DragSession.open(session.save(tmp_path / "a.drag"), small)
    assert again.config.editor == plain_latent and (np.asarray(again.render()) == picture).all()


def test_a_metric() -> None:
    a, b = np.full((4, 5, 3), 200, np.uint8), np.full((4, 5, 3), 196, np.uint8)
    b[0] = 0
    where = np.ones((4, 5), bool)
    where[0] = False
    assert added_to(measures)["mean_change"](a, b, where) == 4


def test_a_dataset() -> None:
    (case,) = added_to(cases)["raised_suns"](1, 50_000_000)
    model = dragnoise.load_model()
    config = model.default_config.replace(steps=6, edit_from=2, refine_from=1, max_iterations=1)
    result = suite.measure(model, case, config)
    assert result.kind == "raised_sun" and 0 < result.before <= 12
    assert result.iterations == 1 and np.isfinite(result.edit.outside)


def test_a_panel(small: Model) -> None:
    pages = pytest.importorskip("dragnoise_widgets.pages.pages")
    session = DragSession(
        small, smooth_picture(72, 56), config=DragConfig(steps=4, edit_from=3, refine_from=1, side=64)
    )
    session.drags = [((20, 20), (40, 30))]
    session.step()
    session.step()
    page = pages.Page(added_to(pages)["paint_gradient"])
    page.show(pages.ViewState(session, session.history, 1, session.drags, session.image, 2.0))
    assert page.plot.picture.layout.display == "" and page.plot.picture.value
    assert page.plot.figure.axes[0].get_ylabel() == "gradient norm"
