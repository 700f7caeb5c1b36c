"""The files that sessions save themselves to: none is written over by another edit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dragnoise import DragSession, Model
from dragnoise_widgets.export.autosaves import KEPT, Autosaves
from dragnoise_widgets.studio.studio import DragStudio


def iterations(path: Path) -> int:
    return len(DragSession.open(path).history) - 1


@pytest.fixture
def other(session: DragSession) -> DragSession:
    other = DragSession(session.model, session.image, "another", session.config)
    other.drags = session.drags
    return other


@pytest.fixture(autouse=True)
def loads(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragnoise.load_model", lambda name: small)


def test_what_is_offered_is_still_there_after_more_work(
    session: DragSession, other: DragSession, tmp_path: Path
) -> None:
    path = tmp_path / "auto.drag"
    first = DragStudio(session, inline=True, autosave=path, every=1)
    first.step(3)
    first.close()
    second = DragStudio(other, inline=True, autosave=path, every=1)
    assert second.library.branches_panel.found.layout.display == ""
    (panel,) = [fold for fold in second.children if second.library.branches_panel in getattr(fold, "children", ())]
    assert panel.selected_index == 0 and "is offered under Branches and files" in second.transport.line.value
    second.prepare()
    second.step(1)
    assert iterations(path) == 1
    second.library.branches_panel.found.children[1].click()
    assert len(second.session.history) == 4 and second.session is not other
    second.step(1)
    assert iterations(path) == 1, "that is the other session's file"
    assert sorted(map(iterations, tmp_path.glob("*.drag"))) == [1, 3, 4]
    second.close()
    third = DragStudio(DragSession(session.model, session.image), inline=True, autosave=path, every=1)
    assert "auto 2.drag" in third.library.branches_panel.found.children[0].value, "the newest"
    third.close()


def test_each_session_has_its_own_file(session: DragSession, other: DragSession, tmp_path: Path) -> None:
    studio = DragStudio(session, inline=True, autosave=tmp_path / "auto.drag", every=1)
    studio.step(2)
    studio.session = other
    studio.step(1)
    studio.session = session
    studio.step(1)
    assert (iterations(tmp_path / "auto.drag"), iterations(tmp_path / "auto 2.drag")) == (3, 1)
    studio.library.set_autosave(None)
    studio.step(1)
    studio.session = other
    studio.step(1)
    assert (iterations(tmp_path / "auto.drag"), iterations(tmp_path / "auto 2.drag")) == (3, 1)
    studio.close()


def test_the_tick_saves_on_to_the_file_that_was_saved_by_hand(session: DragSession, tmp_path: Path) -> None:
    studio = DragStudio(session, inline=True)
    studio.step(1)
    keeping = studio.library.branches_panel
    keeping.path.value = str(tmp_path / "mine.drag")
    keeping.save_button.click()
    keeping.autosave.value = True
    studio.step(5)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.drag"]
    assert iterations(tmp_path / "mine.drag") == 5  # after every fifth
    keeping.autosave.value = False
    studio.step(5)
    assert iterations(tmp_path / "mine.drag") == 5
    studio.close()


def test_a_file_that_is_there_is_renamed_after_its_time(session: DragSession, tmp_path: Path) -> None:
    for n in range(2):
        session.save(tmp_path / "a [b].drag")
        os.utime(tmp_path / "a [b].drag", (1_700_000_000, 1_700_000_000))
        autosaves = Autosaves(tmp_path / "a [b].drag", 1)
        autosaves.begin(session)
        found = sorted(path.name for path in tmp_path.iterdir())
        assert len(found) == n + 1 and all(name.startswith("a [b] of 2023-11-1") for name in found)
        assert autosaves.newest() in tmp_path.iterdir()


def test_only_the_newest_earlier_files_stay(session: DragSession, tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("auto of mine.drag", "auto of 2023-11-01 00.00.00 x.drag", "auto 2.drag")]
    for other in others:
        other.write_bytes(b"of somebody")
    for day in range(1, 15):
        path = session.save(tmp_path / "auto.drag")
        os.utime(path, (1_700_000_000 + 86_400 * day,) * 2)
        Autosaves(path, 1).begin(session)
    earlier = sorted(path.name for path in tmp_path.glob("auto of 2023*.drag") if path not in others)
    assert len(earlier) == KEPT and earlier[0].startswith("auto of 2023-11-19")
    assert all(other.exists() for other in others)


def test_a_failing_autosave_is_told_in_the_studio(session: DragSession, tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    studio = DragStudio(session, inline=True)
    studio.library.set_autosave(path)
    with pytest.warns(RuntimeWarning, match="autosave did not work"):
        studio.step(5)
        session.autosave(None)
    assert "autosave did not work, and the edit goes on" in studio.transport.line.value
    assert any("autosave did not work" in entry for entry in studio.journal.text) and len(session.history) == 6
    studio.journal.text.clear()
    studio.close()


def test_no_path_is_refused(session: DragSession, other: DragSession) -> None:
    bad: Any = 7
    with pytest.raises(TypeError, match="path"):
        DragStudio(session, inline=True, autosave=bad)
    assert Autosaves(None, 3).newest() is None
