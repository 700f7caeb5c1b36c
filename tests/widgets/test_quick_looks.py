"""Quick looks in a studio: shown in every iteration, marked, kept, and without any effect on the result."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import assert_same_snapshots

from dragnoise import DragSession, Model
from dragnoise.inspection.quick_look import QuickLooks
from dragnoise_widgets.export.missed_looks import MissedLooks
from dragnoise_widgets.runner.runner import Runner
from dragnoise_widgets.runner.updates import Update
from dragnoise_widgets.studio.studio import DragStudio


@pytest.fixture
def watched(studio: DragStudio) -> DragStudio:
    """A studio that skips no look."""
    studio.looks.share = math.inf
    return studio


def test_every_iteration_is_looked_at_and_the_bits_stay_the_same(watched: DragStudio, small: Model) -> None:
    session = watched.session
    alone = DragSession(small, session.image, session.prompt, session.config)
    alone.drags = session.drags
    picture = alone.run(progress=False)
    watched.run()
    assert_same_snapshots(session.history, alone.history)
    assert all(watched.looks.of(snapshot) is not None for snapshot in session.history[1:])
    np.testing.assert_array_equal(np.asarray(watched.image), np.asarray(picture))


def test_the_look_is_shown_at_once_marked_and_replaced_by_the_picture(watched: DragStudio) -> None:
    seen: list[tuple[str, bool, int]] = []

    def note(update: Update) -> None:
        seen.append((watched.preview.caption.value, watched.preview.quick, update.status.iteration or 0))

    watched.runner.observe(note)
    watched.step(3)
    assert not watched.preview.quick and watched.preview.caption.value == "iteration 3"
    assert watched.preview.badge.layout.display == "none"
    last = len(watched.session.history) - 1
    shown = [(caption, quick) for caption, quick, _ in seen]  # updates of a fast rendering may be left out
    assert shown.index((f"iteration {last}", True)) < shown.index((f"iteration {last}", False))
    watched.preview.show(watched.looks.of(watched.session.history[2]), quick=True)
    assert watched.preview.badge.layout.display == ""


def test_the_scrubber_shows_the_look_of_its_iteration_first(watched: DragStudio) -> None:
    watched.step(4)
    shown: list[tuple[str, bool]] = []
    watched.preview.after_image.observe(
        lambda _: shown.append((watched.preview.caption.value, watched.preview.quick)), "value"
    )
    given = watched.preview.after_image.value
    watched.show(2)
    assert [quick for _, quick in shown] == [True, False]
    assert watched.preview.caption.value == "iteration 2" and watched.preview.after_image.value != given


def test_with_nothing_to_be_shown_nothing_is_looked_at(watched: DragStudio) -> None:
    watched.preview.every.value = 0
    watched.step(2)
    assert watched.looks.of(watched.session.history[1]) is None and watched.runner.look is None


def test_a_look_is_the_picture_predicted(watched: DragStudio) -> None:
    watched.step()
    look, session = watched.looks.of(watched.session.history[1]), watched.session
    assert look is watched.looks.of(session.history[1])
    assert look is not None and max(look.size) == session.config.side
    full = np.asarray(watched.image.resize(look.size)).astype(float)
    assert np.corrcoef(np.asarray(look).ravel(), full.ravel())[0, 1] > 0.5


def test_a_look_that_fails_stops_no_run(session: DragSession, caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner(session, inline=True)
    runner.look = lambda session: 1 / 0
    runner.step(2)
    assert runner.status.ended == "done" and len(session.history) == 3
    assert "the look at iteration 2 failed" in caplog.text
    with pytest.raises(TypeError, match="look must be a function"):
        runner.look = 3  # type: ignore[assignment]


def test_a_small_vae_that_cannot_be_read_is_told_once_and_the_run_goes_on(session: DragSession) -> None:
    studio = DragStudio(session, inline=True, preview_vae="/nowhere/taesd")
    studio.run()
    assert studio.session.status == "max_iterations" and studio.looks.of(session.history[1]) is None
    told = [entry for entry in studio.journal.text if "/nowhere/taesd" in entry]
    assert len(told) == 1 and "/nowhere/taesd" in studio.transport.line.value
    studio.close()


def test_iterations_of_a_script_are_looked_at_when_a_studio_shows_them(session: DragSession) -> None:
    for _ in range(4):
        session.step()
    losses = [snapshot.loss for snapshot in session.history]
    studio = DragStudio(session, inline=True, autosave=None)
    known = studio.presenter.known()
    assert all(known(k) is not None for k in range(5)), "so that play and the GIF have a picture of each"
    alone = QuickLooks(session.model, share=math.inf)
    for k, snapshot in enumerate(session.history[1:], 1):
        look, expected = studio.looks.of(snapshot), alone.look(session.branch(k), skip=False)
        np.testing.assert_array_equal(np.asarray(look), expected)
    assert (np.asarray(studio.looks.of(session.history[1])) != np.asarray(look)).any(), "each is of its own iteration"
    assert [snapshot.loss for snapshot in session.history] == losses
    commands = len(studio.runner.commands)
    studio.show(2)
    studio.show(None)
    made = [command for command in studio.runner.commands[commands:] if isinstance(command, MissedLooks)]
    assert not made, "once"
    studio.close()


def test_a_history_longer_than_the_looks_that_are_kept_is_not_looked_at_for_ever(session: DragSession) -> None:
    for _ in range(5):
        session.step()
    studio = DragStudio(session, inline=True, autosave=None)
    (quick,) = studio.looks._models
    quick.limit = 2 * max(look.nbytes for _, look in quick._kept.values())
    session.step()
    studio.refresh()
    asked = [command for command in studio.runner.commands if isinstance(command, MissedLooks)]
    studio.refresh()
    studio.refresh()
    assert [command for command in studio.runner.commands if isinstance(command, MissedLooks)] == asked
    assert len(asked) < 6
    studio.close()


def test_with_looks_off_none_are_made_afterwards(session: DragSession) -> None:
    studio = DragStudio(session, inline=True, autosave=None)
    studio.preview.every.value = 0
    studio.step(2)
    assert [studio.looks.of(snapshot) for snapshot in session.history] == [None] * 3
    studio.close()
