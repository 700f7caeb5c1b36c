"""A cell that is run again closes the studio it made before."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import ipywidgets as widgets
import pytest
from helpers import smooth_picture

from dragnoise import DragSession, Model
from dragnoise_widgets.studio import cell_cleanup
from dragnoise_widgets.studio.studio import DragStudio


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(cell: str, message: str) -> None:
        monkeypatch.setattr(cell_cleanup, "_here", lambda: (cell, message))

    return run


def known() -> int:
    return len(widgets.Widget.get_manager_state()["state"])


def test_the_studio_of_the_run_before_is_closed(run: Any, session: DragSession) -> None:
    run("cell a", "1")
    first, beside = DragStudio(session, inline=True), DragStudio(session, inline=True)
    assert first.comm is not None and beside.comm is not None, "one run may make several"
    run("cell b", "2")
    elsewhere = DragStudio(session, inline=True)
    assert first.comm is not None
    run("cell a", "3")
    again = DragStudio(session, inline=True)
    assert first.comm is None and beside.comm is None
    assert elsewhere.comm is not None and again.comm is not None
    again.step(1)
    assert len(session.history) == 2
    elsewhere.close()
    again.close()


def test_without_a_notebook_nothing_is_closed(session: DragSession) -> None:
    assert cell_cleanup._here() == ("", "")
    first, second = DragStudio(session, inline=True), DragStudio(session, inline=True)
    assert first.comm is not None and second.comm is not None
    first.close()
    second.close()


def test_closing_takes_every_widget_along_and_lets_the_session_go(small: Model) -> None:
    before = known()
    session = DragSession(small, smooth_picture(72, 56))
    session.drags = [((30, 40), (44, 36))]
    studio, session = DragStudio(session, inline=True), weakref.ref(session)
    studio.canvas.delete(0)
    studio.canvas.add()
    assert known() > before + 200
    studio.close()
    assert known() <= before + 4
    del studio
    gc.collect()
    assert session() is None
