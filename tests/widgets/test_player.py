"""Play: the iterations one after another, and the GIF of the quick looks."""

from __future__ import annotations

import io
import math
import threading

import numpy as np
import pytest
from PIL import Image

from dragnoise import DragSession
from dragnoise_widgets.export import downloads
from dragnoise_widgets.panels.player import Player
from dragnoise_widgets.studio.studio import DragStudio


def test_it_plays_from_the_first_to_the_newest_when_it_stands_at_the_end() -> None:
    shown: list[int | None] = []
    player = Player(lambda: 4, lambda: 3, shown.append, inline=True)
    player.toggle()
    assert shown == [0, 1, 2, None] and not player.playing


def test_it_plays_on_from_the_iteration_shown() -> None:
    shown: list[int | None] = []
    Player(lambda: 4, lambda: 1, shown.append, inline=True).toggle()
    assert shown == [1, 2, None]


def test_pressed_again_it_stays_where_it_is() -> None:
    at, stopped = [0], threading.Event()

    def show(k: int | None) -> None:
        at[0] = 99 if k is None else k
        if player.playing and k == 2:
            player.toggle()
        elif not player.playing:
            stopped.set()

    player = Player(lambda: 100, lambda: at[0], show, inline=False)
    player.toggle()
    assert stopped.wait(60) and at[0] == 2


def test_one_iteration_is_no_film() -> None:
    shown: list[int | None] = []
    player = Player(lambda: 1, lambda: 0, shown.append, inline=True)
    player.toggle()
    assert shown == [] and not player.playing


def test_in_a_studio_the_looks_are_played_and_nothing_is_rendered(studio: DragStudio) -> None:
    studio.looks.share = math.inf
    studio.step(3)
    seen: list[tuple[str, bool]] = []
    studio.preview.caption.observe(lambda change: seen.append((change.new, studio.preview.quick)), "value")
    commands = len(studio.runner.commands)
    studio.transport.play.click()
    assert [caption for caption, _ in seen][-3:] == ["iteration 1", "iteration 2", "iteration 3"]
    assert [quick for _, quick in seen][-3:] == [True, True, False]
    assert len(studio.runner.commands) == commands, "nothing was put to the worker"
    assert studio.transport.play.icon == "film"


def test_the_gif_is_made_of_the_looks_without_rendering(studio: DragStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    studio.looks.share = math.inf
    studio.step(3)
    monkeypatch.setattr(DragSession, "denoise", lambda session: pytest.fail("rendered"))
    gif = studio.render_gif([0, 2, 3]).result(0)
    with Image.open(io.BytesIO(gif)) as film:
        assert film.n_frames == 3
        assert (
            film.size == downloads.frame_picture(studio.session.image, np.zeros((1, 2, 2)), studio.session.drags).size
        )
