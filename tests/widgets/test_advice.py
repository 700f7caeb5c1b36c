"""Why an edit stopped short, with the remedy as a button."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import FAILING, failing_session

from dragnoise import Model
from dragnoise.session.diagnosis import Finding, Remedy
from dragnoise_widgets.panels.advice import Advice
from dragnoise_widgets.studio.studio import DragStudio


def finding(label: str = "40 more", **changes: object) -> Finding:
    return Finding("iterations", "drag 0 is 4 px <short>.", (0,), Remedy(label, **changes))  # type: ignore[arg-type]


def test_each_finding_is_a_line_with_its_button() -> None:
    pressed: list[Remedy] = []
    advice = Advice(pressed.append)
    assert advice.layout.display == "none"
    found = [finding(), Finding("opposed", "drags 0 and 1 pull against each other.", (0, 1))]
    advice.show(found)
    assert advice.layout.display == "" and [each.description for each in advice.buttons] == ["40 more"]
    assert "4 px &lt;short&gt;." in advice.children[0].children[0].value
    advice.buttons[0].click()
    assert pressed == [found[0].remedy]
    row = advice.children[0]
    advice.show(found)
    assert advice.children[0] is row, "the same again is not built again"
    advice.show(())
    assert advice.layout.display == "none" and not advice.buttons


def test_more_iterations_are_run_by_the_button(studio: DragStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    more = finding("2 more", config={"max_iterations": 4})
    monkeypatch.setattr("dragnoise.session.diagnosis.diagnose", lambda state, anchors: [more])
    studio.configure(max_iterations=2)
    studio.run()
    assert studio.session.status == "max_iterations"
    studio.advice.buttons[0].click()
    assert len(studio.session.history) - 1 == studio.session.config.max_iterations == 4


def test_a_remedy_that_goes_back_does_and_runs_on(studio: DragStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = Remedy("go back to 1 with r2 = 4", rewind=1, config={"r2": 4})
    lost = Finding("lost", "the anchor of drag 0 was lost at iteration 2.", (0,), remedy, 2)
    monkeypatch.setattr("dragnoise.session.diagnosis.diagnose", lambda state, anchors: [lost])
    studio.configure(max_iterations=3)
    studio.run()
    before = studio.session.history
    studio.advice.buttons[0].click()
    after = studio.session.history
    assert studio.session.config.r2 == 4 and len(after) == 4
    assert after[1].anchors is before[1].anchors and after[2].anchors is not before[2].anchors


def test_the_mask_is_painted_by_the_button_and_can_be_undone(studio: DragStudio) -> None:
    mask = np.zeros(studio.session.image.size[::-1], bool)
    mask[36:46, 24:36] = True  # drag 0's anchor
    studio.configure(mask_weight=0.1)
    with pytest.warns(UserWarning):
        studio.canvas.mask = mask
    paint = [each for each in studio.advice.buttons if each.description == "paint it"]
    assert paint and not studio.session.history
    for _ in paint:
        studio.advice.buttons[0].click()
    assert studio.session.mask is not None and all(
        studio.session.mask[int(y), int(x)] for drag in studio.session.drags for x, y in (drag.anchor, drag.objective)
    )
    painted = studio.session.mask
    assert np.array_equal(studio.canvas.mask, painted) and not studio.session.history
    assert not studio.advice.buttons
    studio.canvas.undo()
    assert studio.advice.buttons and not np.array_equal(studio.session.mask, painted)


def test_while_looking_back_nothing_is_advised(studio: DragStudio) -> None:
    studio.configure(max_iterations=2, lr=1e-6)
    studio.run()
    (short,) = studio.advice.findings
    assert "short after 2 iterations" in short.sentence and studio.advice.layout.display == ""
    studio.show(1)
    assert not studio.advice.findings and studio.advice.layout.display == "none"
    studio.show(None)
    assert studio.advice.findings == (short,)


@pytest.mark.parametrize("what", list(FAILING))
def test_the_button_of_each_finding_of_a_run_that_failed_makes_its_changes(small: Model, what: str) -> None:
    studio = DragStudio(failing_session(small, what), inline=True, autosave=None)
    studio.preview.every.value = 0
    studio.run()
    at, found = next((i, f) for i, f in enumerate(with_remedy(studio.advice.findings)) if f.what == what)
    remedy, before = found.remedy, studio.session.history
    assert remedy is not None and studio.advice.buttons[at].description == remedy.label
    studio.break_when(lambda snapshot: True)  # one iteration of the run that follows is enough
    studio.advice.buttons[at].click()
    session, history = studio.session, studio.session.history
    assert all(getattr(session.config, name) == value for name, value in remedy.config.items())
    assert not studio.messages.error and len(history) > 1
    if remedy.rewind is not None:
        assert len(history) == remedy.rewind + 2
    if remedy.drags:
        assert session.drags == studio.canvas.drags == remedy.drags
        assert len(studio.library.sessions) == 2, "the iterations so far are kept as a branch"
    elif remedy.rewind is None:
        assert len(history) == len(before) + 1
    studio.close()


def with_remedy(findings: tuple[Finding, ...]) -> list[Finding]:
    return [found for found in findings if found.remedy is not None]
