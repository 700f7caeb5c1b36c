"""Names for screen readers, announcements, dropped pictures, and the answer that tells a page the kernel is free."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import ipywidgets as widgets
import pytest
from helpers import smooth_picture

from dragnoise import DragSession
from dragnoise.geometry import Drag
from dragnoise_widgets.access.access import described
from dragnoise_widgets.controls import all_below
from dragnoise_widgets.studio.studio import DragStudio

FIELDS = (
    widgets.Text, widgets.Textarea, widgets.Dropdown, widgets.IntText, widgets.FloatText, widgets.BoundedIntText,
    widgets.BoundedFloatText, widgets.IntSlider, widgets.FloatSlider, widgets.Checkbox,
)  # fmt: skip


@pytest.fixture
def failing(session: DragSession) -> Iterator[DragStudio]:
    """A studio of which it is no fault that something is complained of."""
    studio = DragStudio(session, inline=True, autosave=None)
    yield studio
    studio.close()


def test_every_field_and_button_of_a_studio_has_a_name(studio: DragStudio) -> None:
    found = all_below(studio)
    fields = [widget for widget in found if isinstance(widget, FIELDS)]
    assert len(fields) > 20
    assert not [field for field in fields if not field.description]
    buttons = [widget for widget in found if isinstance(widget, widgets.Button)]
    assert not [button for button in buttons if not (button.description or button.tooltip)]


def test_what_happens_is_announced_once(studio: DragStudio) -> None:
    said: list[str] = []
    studio.access.observe(lambda change: said.append(change.new), "said")
    studio.run()
    assert [word.split(":")[0] for word in said if word][-1] in ("Short of the goal", "Finished")
    assert len(said) < len(studio.session.history), "a state, not every iteration"
    studio.canvas.selected = 0
    assert said[-1].startswith("2 drags, drag 0 chosen, from 30, 40 to 44, 36")
    assert "2 drags" in studio.access.canvas


def test_an_error_is_announced(failing: DragStudio) -> None:
    failing.messages.refused("there is no such thing.")
    assert failing.access.said == failing.access.answer == "there is no such thing."


def test_what_was_done_last_is_the_answer_to_a_press(failing: DragStudio) -> None:
    failing.messages.tell("saved to edit.drag")
    assert failing.access.answer == "saved to edit.drag" and failing.access.said.endswith("saved to edit.drag")
    failing.messages.clear()
    assert failing.access.answer == ""


def test_drags_in_words() -> None:
    drags = [Drag((1.5, 2.0), (3.0, 4.0))]
    assert described((), -1) == "0 drags" and described(drags, -1) == "1 drag"
    assert described(drags, 0) == "1 drag, drag 0 chosen, from 1.5, 2 to 3, 4"


def test_the_page_is_answered(studio: DragStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(studio.access, "send", sent.append)
    studio.access._handle_custom_msg({"event": "ping", "n": 7}, [])
    assert sent == [{"pong": 7}]


def test_a_dropped_picture_is_a_new_session_and_heic_is_told_what_to_do(failing: DragStudio) -> None:
    before, data = failing.session, io.BytesIO()
    smooth_picture(40, 32).save(data, "PNG")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    failing.access._handle_custom_msg({"event": "file", "name": "a.heic"}, [memoryview(heic)])
    assert failing.session is before and "save it as JPEG or PNG" in failing.transport.line.value
    failing.messages.clear()
    failing.access._handle_custom_msg({"event": "file", "name": "a.png"}, [memoryview(data.getvalue())])
    assert failing.session is not before and failing.session.image.size == (40, 32)


@pytest.mark.parametrize("content", [None, 5, {}, {"event": "file"}, {"event": "other"}])
def test_any_other_message_does_nothing(studio: DragStudio, content: Any) -> None:
    before = studio.session
    studio.access._handle_custom_msg(content, [])
    assert studio.session is before
