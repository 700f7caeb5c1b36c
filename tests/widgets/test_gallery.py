"""The gallery of examples: every one can be run at once, the first after one pull."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from dragnoise.toyland import landmarks
from dragnoise_widgets.panels import gallery
from dragnoise_widgets.panels.gallery import EXAMPLES
from dragnoise_widgets.studio.studio import DragStudio


@pytest.fixture
def empty() -> Iterator[DragStudio]:
    studio = DragStudio(inline=True, autosave=None)
    yield studio
    assert not [told for told in studio.journal.text if "Traceback" in told]
    studio.close()


def test_there_are_six_with_pictures_and_words(empty: DragStudio) -> None:
    shown = empty.library.source.gallery
    assert len(shown.buttons) == 6 and len({example.kind for example in EXAMPLES.values()}) == 6
    pictures = [np.asarray(Image.open(io.BytesIO(shown.pictures[kind].value))) for kind in EXAMPLES]
    assert all(picture.std() > 10 for picture in pictures)
    assert all(each.description and EXAMPLES[kind].hint in each.tooltip for kind, each in shown.buttons.items())


def test_the_first_takes_one_pull_and_one_click(empty: DragStudio) -> None:
    first = next(iter(EXAMPLES))
    empty.library.source.gallery.buttons[first].click()
    assert empty.library.source.visible is False, "the gallery folds away"
    assert "pull" in empty.transport.line.value and empty.transport.run.disabled and empty.canvas.drags == ()
    drag = EXAMPLES[first].case.drags[0]
    view, pointer = empty.canvas.view, empty.canvas.pointer
    pointer.down(*view.to_canvas(drag.anchor))
    pointer.move(*view.to_canvas(drag.objective))
    pointer.up(*view.to_canvas(drag.objective))
    assert not empty.transport.run.disabled


@pytest.mark.parametrize("kind", list(EXAMPLES)[1:])
def test_the_others_come_ready_to_run(empty: DragStudio, kind: str) -> None:
    empty.library.source.gallery.buttons[kind].click()
    case = EXAMPLES[kind].case
    assert empty.session.drags == case.drags and case.names[0] in landmarks(case.scene)
    assert empty.session.mask is not None and not empty.session.state.remarks
    assert not empty.transport.run.disabled


def test_one_that_is_not_there(empty: DragStudio) -> None:
    with pytest.raises(ValueError, match="must be one of sun, head"):
        empty.library.new_sessions.example("moon")


def test_pictures_are_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery._thumbnail("sun")
    monkeypatch.setattr(gallery, "render", lambda scene: pytest.fail("rendered again"))
    gallery._thumbnail("sun")
