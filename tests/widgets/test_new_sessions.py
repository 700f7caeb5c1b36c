"""A studio that begins with a picture: it is shown and drawn on while the model is loaded for its session."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import until
from PIL import Image

from dragnoise import DragSession, Model
from dragnoise_widgets.studio.studio import DragStudio

WAIT = 60.0
DRAG = (10.0, 12.0), (20.0, 16.0)


@pytest.fixture
def gate(small: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set no model is loaded."""
    gate = threading.Event()

    def load(name: str, **how: Any) -> Model:
        assert gate.wait(WAIT)
        if name == "nowhere":
            raise OSError("there is no such model.")
        return Model(small.pipeline, name=name)

    monkeypatch.setattr("dragnoise.load_model", load)
    yield gate
    gate.set()


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (40, 50, 3), dtype=np.uint8))


def test_it_can_be_drawn_on_while_the_model_is_loaded(gate: threading.Event, picture: Image.Image) -> None:
    studio = DragStudio(picture=picture, prompt="noise", autosave=None)
    assert studio.stage.layout.display == "" and studio.canvas.image.size == picture.size
    assert not studio.has_session and "loading the embedded model" in studio.transport.line.value
    studio.canvas.drags = [DRAG]
    studio.canvas.tool = "paint"
    studio.canvas.mask = mask = np.arange(50)[None].repeat(40, 0) < 30
    gate.set()
    session = studio.session  # which waits
    assert studio.wait(WAIT)
    assert [(d.anchor, d.objective) for d in session.drags] == [DRAG]
    assert np.array_equal(session.mask, mask)
    assert session.prompt == "noise" and session.model.name == "toyland"
    assert studio.canvas.sketch.past, "what was drawn before can be undone"
    studio.close()


def test_a_drag_made_at_any_moment_of_the_loading_arrives(gate: threading.Event, picture: Image.Image) -> None:
    studio = DragStudio(picture=picture, autosave=None)
    stop = threading.Event()

    def draw() -> None:
        for drawn in range(100_000):
            studio.canvas.drags = [((10, 12), (20 + drawn % 7, 16))]
            if stop.wait(0.002):
                return

    hand = threading.Thread(target=draw, daemon=True)
    hand.start()
    gate.set()
    assert studio.library.wait(WAIT) and studio.has_session
    stop.set()
    hand.join(WAIT)
    assert studio.wait(WAIT)
    assert studio.session.drags == studio.canvas.drags and len(studio.session.drags) == 1
    studio.close()


def test_a_model_that_cannot_be_had_is_told_and_another_picture_begins_anew(
    gate: threading.Event, picture: Image.Image
) -> None:
    gate.set()
    studio = DragStudio(picture=picture, model="nowhere", autosave=None)
    assert studio.wait(WAIT)
    assert not studio.has_session and studio.stage.layout.display == "none" and studio.canvas.image is None
    assert "there is no such model" in "".join(studio.journal.text)
    with pytest.raises(RuntimeError, match="no picture yet"):
        _ = studio.session
    studio.library.source.model.value = "toyland"
    studio.library.new_sessions.picture(picture)
    assert studio.wait(WAIT) and studio.has_session
    studio.close()


def test_what_is_pulled_meanwhile_is_shown_and_stays_a_drag(gate: threading.Event, picture: Image.Image) -> None:
    studio = DragStudio(picture=picture, autosave=None)
    canvas, view = studio.canvas, studio.canvas.view
    start, end = ((x * view.scale, y * view.scale) for x, y in DRAG)
    canvas.pointer.down(*start)
    canvas.pointer.move(*end)
    until(lambda: studio.preview.caption.value != "given")  # the caption is shown last
    assert studio.preview.quick
    canvas.pointer.up(*end)
    until(lambda: studio.preview.caption.value == "given")
    assert not studio.preview.quick and studio.preview.picture.size == picture.size
    gate.set()
    assert studio.wait(WAIT) and len(studio.session.drags) == 1
    studio.close()


def test_an_upload_is_shown_at_once_too(gate: threading.Event, picture: Image.Image) -> None:
    studio = DragStudio(autosave=None)
    assert studio.stage.layout.display == "none"
    studio.library.new_sessions.picture(picture)
    assert studio.stage.layout.display == "" and studio.preview.picture is not None
    gate.set()
    assert studio.wait(WAIT) and studio.session.drags == ()
    studio.close()


def test_beside_a_session_the_one_shown_stays_until_the_other_is_there(
    gate: threading.Event, picture: Image.Image, small: Model
) -> None:
    session = DragSession(small, Image.new("RGB", (40, 40), "teal"))
    session.drags = [DRAG]
    studio = DragStudio(session, autosave=None)
    studio.library.new_sessions.picture(picture)
    assert studio.canvas.image.size == (40, 40)
    gate.set()
    assert studio.wait(WAIT)
    assert studio.session is not session and studio.session.drags == () and studio.canvas.drags == ()
    studio.close()


def test_a_session_and_a_picture_are_too_much(picture: Image.Image, small: Model) -> None:
    with pytest.raises(ValueError, match="a session has its picture"):
        DragStudio(DragSession(small, picture), picture=picture)


@pytest.mark.parametrize("wrong", [7, "no such file.png", np.zeros(3)])
def test_what_is_no_picture_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError, OSError)):
        DragStudio(picture=wrong, autosave=None)


def test_inline_it_is_there_at_once(gate: threading.Event, picture: Image.Image) -> None:
    gate.set()
    studio = DragStudio(picture=picture, prompt="noise", inline=True, autosave=None)
    assert studio.has_session and studio.session.prompt == "noise"
    studio.close()
