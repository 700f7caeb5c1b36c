"""The library: loads one at a time, no model that only a file names without asking, autosave by default."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import until
from PIL import Image

from dragnoise import DragConfig, DragSession, Model
from dragnoise.inspection import limits
from dragnoise.inspection.limits import Limit
from dragnoise_widgets.export import autosave_folder
from dragnoise_widgets.panels.source import USUAL
from dragnoise_widgets.studio.studio import DragStudio

WAIT = 60.0


class Loader:
    """Stands for `load_model`: counts, waits at a gate, and notices two at once."""

    def __init__(self, model: Model) -> None:
        self.model, self.names = model, list[str]()
        self.gate, self.busy, self.overlapped = threading.Event(), threading.Lock(), False

    def __call__(self, name: str, **how: Any) -> Model:
        if not self.busy.acquire(blocking=False):
            self.overlapped = True
            self.busy.acquire()
        try:
            self.names.append(name)
            assert self.gate.wait(WAIT)
            return Model(self.model.pipeline, name=name)
        finally:
            self.busy.release()


@pytest.fixture
def loader(small: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loader]:
    loader = Loader(small)
    monkeypatch.setattr("dragnoise.load_model", loader)
    yield loader
    loader.gate.set()


# ---- loading ----------------------------------------------------------------------------------------


def test_two_clicks_on_example_are_one_load(loader: Loader) -> None:
    studio = DragStudio(autosave=None)
    source = studio.library.source
    source.gallery.buttons["ear"].click()
    until(lambda: loader.names)
    assert "Loading" in studio.transport.line.value
    for control in (
        source.upload,
        *source.gallery.buttons.values(),
        source.load,
        studio.library.branches_panel.open_button,
    ):
        assert control.disabled
    source.gallery.buttons["ear"].click()  # as if the page had not heard yet
    loader.gate.set()
    assert studio.wait(WAIT)
    assert loader.names == ["toyland"] and len(studio.library.sessions) == 1
    assert not source.gallery.buttons["ear"].disabled and "Loading" not in studio.transport.line.value
    source.gallery.buttons["ear"].click()
    assert studio.wait(WAIT)
    assert len(studio.library.sessions) == 1, "it is shown, and nothing was done to it"
    studio.step()
    assert studio.wait(WAIT)
    source.gallery.buttons["ear"].click()
    assert studio.wait(WAIT)
    assert len(studio.library.sessions) == 2
    studio.close()


def test_loads_of_two_studios_are_done_one_after_the_other(loader: Loader) -> None:
    studios = [DragStudio(autosave=None) for _ in range(3)]
    for studio in studios:
        studio.library.new_sessions.example()
    until(lambda: loader.names)
    loader.gate.set()
    assert all(studio.wait(WAIT) for studio in studios)
    assert len(loader.names) == 3 and not loader.overlapped
    for studio in studios:
        studio.close()


def test_two_pictures_at_once_are_two_sessions(loader: Loader) -> None:
    studio, pictures = DragStudio(autosave=None), [Image.new("RGB", (40, 32), colour) for colour in ("red", "blue")]
    for picture in pictures:
        studio.library.new_sessions.picture(picture)
    loader.gate.set()
    assert studio.wait(WAIT)
    assert [session.image.getpixel((0, 0)) for session in studio.library.sessions] == [(255, 0, 0), (0, 0, 255)]
    studio.close()


def test_a_studio_that_is_closed_meanwhile_gets_no_session(loader: Loader) -> None:
    studio = DragStudio(autosave=None)
    studio.library.new_sessions.example()
    until(lambda: loader.names)
    studio.close()
    loader.gate.set()
    assert studio.library.wait(WAIT)
    assert not studio.has_session


def test_the_usual_precision_can_be_chosen_again(studio: DragStudio) -> None:
    dtype = studio.library.source.dtype
    dtype.value = "float16"
    dtype.value = USUAL
    assert dtype.index == 0 and dtype.label == "usual precision"


# ---- a model that a file names ----------------------------------------------------------------------


@pytest.fixture
def stranger(session: DragSession, tmp_path: Path) -> Path:
    """A file that names a model of somebody's."""
    session.model = Model(session.model.pipeline, name="somebody/model")
    session.step()
    return session.save(tmp_path / "a <strange>.drag")


def test_a_model_that_only_a_file_names_is_loaded_after_a_yes(stranger: Path, loader: Loader) -> None:
    loader.gate.set()
    studio = DragStudio(inline=True, autosave=None)
    studio.library.open(stranger)
    assert loader.names == [] and studio.session.model is None and len(studio.session.history) == 2
    assert studio.question.layout.display == "" and "'somebody/model'" in studio.question.text
    assert "hub" in studio.question.text and "a <strange>.drag" in studio.question.text
    assert "<strange>" not in studio.question.children[0].value
    yes, no = studio.question.answers
    no.click()
    assert studio.question.layout.display == "none" and loader.names == []
    studio.library.open(stranger)
    yes, no = studio.question.answers
    yes.click()
    assert loader.names == ["somebody/model"] and studio.session.model is not None
    assert studio.question.layout.display == "none" and not studio.transport.run.disabled
    studio.step()
    assert len(studio.session.history) == 3
    studio.close()


@pytest.mark.parametrize("name", ["//far.example/share/model", "\\\\far.example\\share", "~/model", "x" * 5000])
def test_nothing_that_a_file_names_is_looked_for_before_a_yes(
    session: DragSession, tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    session.model = Model(session.model.pipeline, name=name)
    session.save(tmp_path / "it.drag")
    looked: list[str] = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: (looked.append(str(path)), stat(path, **how))[1])
    studio = DragStudio(inline=True, autosave=None)
    studio.library.open(tmp_path / "it.drag")
    assert loader.names == [] and studio.has_session
    assert not [path for path in looked if "far.example" in path or "model" in path or "xxx" in path]
    assert (studio.question.layout.display == "") == (len(name) < 100)
    studio.close()


def test_a_model_that_cannot_be_had_leaves_something_to_look_at(stranger: Path, monkeypatch: Any) -> None:
    def none(name: str, **how: Any) -> Model:
        raise OSError(f"there is no model {name!r}.")

    monkeypatch.setattr("dragnoise.load_model", none)
    studio = DragStudio(inline=True, autosave=None)
    studio.library.open(stranger)
    studio.question.answers[0].click()
    assert "only for viewing" in studio.transport.line.value and "somebody/model" in studio.transport.line.value
    studio.show(0)
    assert studio.session.model is None and studio.iteration == 0
    studio.close()


def test_a_model_that_is_here_already_is_not_asked_about(stranger: Path, session: DragSession, loader: Loader) -> None:
    studio = DragStudio(session, inline=True, autosave=None)
    studio.library.open(stranger)
    assert studio.question.layout.display == "none" and loader.names == []
    assert studio.session is not session and studio.session.model is session.model
    studio.close()


# ---- autosave by default ----------------------------------------------------------------------------


def test_a_studio_saves_beside_the_notebook_and_offers_it_after_a_restart(session: DragSession, small: Model) -> None:
    path = autosave_folder.default_path()
    studio = DragStudio(session, inline=True, every=1)
    studio.step(2)
    assert path.parent.name == ".dragnoise" and len(DragSession.open(path).history) == 3
    beside = DragStudio(DragSession(small, session.image), inline=True)
    assert beside.library.branches_panel.found.layout.display == "none", "a studio that is open is no restart"
    assert path.is_file() and session.store.autosaved is not None
    studio.close()
    beside.close()
    again = DragStudio(DragSession(small, session.image), inline=True)
    assert again.library.branches_panel.found.layout.display == ""
    again.close()


def test_the_name_of_what_is_offered_is_escaped(session: DragSession, tmp_path: Path) -> None:
    session.save(tmp_path / "<i>.drag")
    studio = DragStudio(DragSession(session.model, session.image), inline=True, autosave=tmp_path / "<i>.drag")
    assert "&lt;i&gt;" in studio.library.branches_panel.found.children[0].value
    assert "<i>" not in studio.library.branches_panel.found.children[0].value
    studio.close()


@pytest.mark.parametrize("off", [None, False])
def test_it_can_be_switched_off(session: DragSession, off: Any) -> None:
    studio = DragStudio(session, inline=True, autosave=off, every=1)
    studio.step()
    assert not autosave_folder.default_path().parent.exists()
    studio.close()


def test_a_folder_that_cannot_be_made_is_told(session: DragSession, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(
        "dragnoise_widgets.export.autosave_folder.default_path", lambda: tmp_path / "file" / "edit.drag"
    )
    studio = DragStudio(session, inline=True)
    assert "autosave did not work" in studio.transport.line.value
    studio.step()
    assert len(session.history) == 2
    studio.close()


def test_an_autosave_that_fails_is_told_in_the_studio(session: DragSession) -> None:
    told: dict[str, Any] = {}

    def autosave(path: Any, *, every: int = 10, on_error: Any = None) -> None:
        told["hook"] = on_error

    session.store.autosave = autosave  # type: ignore[method-assign]
    studio = DragStudio(session, inline=True)
    told["hook"](OSError("no space left on <device>."))
    assert "autosave did not work" in studio.transport.line.value and "&lt;device&gt;" in studio.transport.line.value
    assert any("no space left" in entry for entry in studio.journal.text)
    told["hook"](None)
    assert "works again" in studio.transport.line.value
    studio.close()


def test_old_files_are_removed_but_for_those_in_use(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.drag" for n in range(6)]
    for age, file in enumerate(files):
        file.touch()
        os.utime(file, (time.time() - 10_000 * (age + 1),) * 2)
    (tmp_path / "notes.txt").touch()
    autosave_folder.tidy(tmp_path, in_use=[files[5]], keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.drag", "1.drag", "2.drag", "5.drag", "notes.txt"]
    files[0].touch()
    autosave_folder.tidy(tmp_path, keep=0)
    assert files[0].exists(), "another kernel may be at work on it"
    autosave_folder.tidy(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("notebook", "name"), [("", "edit"), ("a/b/01 first.ipynb", "01 first"), ("x:*?<y>.ipynb", "x____y_")]
)
def test_the_default_file_has_the_notebooks_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, notebook: str, name: str
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("JPY_SESSION_NAME", notebook)
    monkeypatch.chdir(tmp_path)
    assert autosave_folder.default_path() == tmp_path / ".dragnoise" / f"{name}.drag"


def test_a_picture_that_the_model_cannot_reproduce_is_told_of_at_once(
    session: DragSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_upload(model: Model, picture: Image.Image, config: DragConfig) -> Limit | None:
        return None if picture.width < 50 else Limit(picture, 21.0, "the model cannot reproduce this picture (21 dB).")

    monkeypatch.setattr(limits, "at_upload", at_upload)
    studio = DragStudio(session, inline=True)
    studio.library.new_sessions.picture(Image.new("RGB", (40, 40)))
    assert "reproduce" not in studio.remarks.value
    studio.library.new_sessions.picture(Image.new("RGB", (60, 40)))
    assert studio.session.image.size == (60, 40)
    assert "the model cannot reproduce this picture (21 dB)." in studio.remarks.value
    other = DragStudio(studio.session, inline=True)
    assert "the model cannot reproduce this picture (21 dB)." in other.remarks.value, "of a session from elsewhere too"
    other.canvas.drags = [((10, 10), (20, 20))]
    assert "the model cannot reproduce this picture (21 dB)." in other.remarks.value, "and it stays"
    other.close()
    studio.close()
