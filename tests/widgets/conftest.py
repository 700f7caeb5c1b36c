"""A session and a studio of the quickest model, driven inline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from helpers import complaints, smooth_picture

from dragnoise.config import DragConfig
from dragnoise.geometry import Drag

if TYPE_CHECKING:  # imported where they are used, so that tests of the canvas start at once
    from dragnoise import DragSession, Model
    from dragnoise_widgets.studio.studio import DragStudio

QUICK = DragConfig(steps=4, edit_from=3, refine_from=1, max_iterations=9, lr=0.2, r2=2, side=64)
DRAGS = (Drag((30.0, 40.0), (44.0, 36.0)), Drag((10.0, 12.0), (10.0, 28.0)))


@pytest.fixture(autouse=True)
def beside_no_notebook(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a studio saves by itself goes to a folder of the test's own."""
    folder = tmp_path_factory.mktemp("beside") / ".dragnoise"
    monkeypatch.setattr("dragnoise_widgets.export.autosave_folder.default_path", lambda: folder / "edit.drag")


@pytest.fixture
def session(small: Model) -> DragSession:
    from dragnoise import DragSession

    session = DragSession(small, smooth_picture(72, 56), "a creature", QUICK)
    session.drags = DRAGS
    return session


@pytest.fixture
def studio(session: DragSession) -> Iterator[DragStudio]:
    from dragnoise_widgets.studio.studio import DragStudio

    studio = DragStudio(session, inline=True)
    yield studio
    assert not complaints(studio), "\n".join(complaints(studio))
    studio.close()
