"""The cache of rendered pictures: bounded in bytes, shared between branches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from dragnoise.config import DragConfig
from dragnoise.geometry import Drag, Frame
from dragnoise.session.state import SessionState
from dragnoise_widgets.export.picture_cache import Album, PictureCache, size_of

SIZE = (64, 48)


def picture(side: int = 10, colour: int = 0) -> Image.Image:
    return Image.new("RGB", (side, side), (colour, 0, 0))


def state_of(**given: Any) -> SessionState:
    """A session's state with these fields; config: changes of the paper's numbers."""
    config = DragConfig(**given.pop("config", {}))
    return SessionState(
        image=picture(), prompt="", config=config, frame=Frame.of(SIZE, config, native=64, multiple=4), **given
    )


STATE = state_of()


class Step:
    """What an album reads of a snapshot."""

    def __init__(self, k: int) -> None:
        self.anchors = np.array([[float(k), 0.0]])


@pytest.fixture
def history() -> list[Step]:
    return [Step(k) for k in range(100)]


def test_it_is_bounded_in_bytes_and_lets_go_of_what_was_not_asked_for_longest(history) -> None:
    cache = PictureCache(limit=10 * size_of(picture()))
    album = Album(cache)
    for k in range(10):
        album.put(history, k, STATE, picture())
    assert album.get(history, 0, STATE) is not None
    album.put(history, 10, STATE, picture())
    assert cache.nbytes == cache.limit == 4000
    assert album.get(history, 0, STATE) is not None and album.get(history, 1, STATE) is None
    album.put(history, 11, STATE, picture(side=20))
    assert cache.nbytes <= cache.limit and len(cache) == 7
    album.put(history, 12, STATE, picture(side=200))  # larger than all that is allowed: the newest stays to be shown
    assert len(cache) == 1 and album.get(history, 12, STATE) is not None
    album.put(history, 13, STATE, picture())
    assert cache.nbytes == 400


def test_two_hundred_large_pictures_stay_within_the_limit(history) -> None:
    cache = PictureCache()
    large = Image.new("RGB", (4000, 3000))  # one object put often, as every entry counts its bytes
    for k in range(100):
        for refine_from in (1, 2):
            Album(cache).put(history, k, state_of(config={"refine_from": refine_from}), large)
    assert cache.nbytes <= 2**28 and len(cache) == 5


def test_sessions_share_one_budget_and_branches_their_pictures(history) -> None:
    cache = PictureCache(limit=4000)
    one, other = Album(cache), Album(cache)
    for k in range(10):
        (one if k % 2 else other).put(history, k, STATE, picture())
    branch = history[:5]
    assert one.copy().get(branch, 3, STATE) is one.get(history, 3, STATE) is not None
    one.put(history, 20, STATE, picture())
    assert len(cache) == 10 and cache.nbytes == 4000


def test_a_picture_of_another_run_or_of_other_numbers_is_not_found(history) -> None:
    album = Album(PictureCache())
    album.put(history, 3, STATE, picture(colour=3))
    again = [Step(k) for k in range(100)]
    assert album.get(again, 3, STATE) is None
    assert album.get(history, 3, state_of(config={"refine_from": 11})) is None
    assert album.get(history, 3, state_of(config={"lr": 0.5})) is not None
    assert album.get(history, 200, STATE) is None and album.get(history, -1, STATE) is None
    album.put(history, 7, STATE, picture(colour=7))
    assert album.nearest(history, 5, STATE)[0] == 3 and album.nearest(history, 99, STATE)[0] == 7
    assert album.nearest(again, 5, STATE) is None


def test_what_is_held_while_rendering_is_part_of_the_key(history) -> None:
    held, mask, other = {"hold": "latents"}, np.zeros(SIZE[::-1], bool), np.zeros(SIZE[::-1], bool)
    album, drags = Album(PictureCache()), (Drag((1.0, 1.0), (9.0, 9.0)),)
    album.put(history, 3, state_of(config=held, mask=mask), picture())
    assert album.get(history, 3, state_of(config=held | {"reach": 0.5}, mask=mask, drags=drags)) is not None
    for state in (state_of(config=held, mask=other), state_of(config=held), state_of(mask=mask)):
        assert album.get(history, 3, state) is None
    album.put(history, 4, state_of(config=held | {"reach": 0.5}, drags=drags), picture())
    assert album.get(history, 4, state_of(config=held | {"reach": 0.5}, drags=drags)) is not None
    moved = (Drag((1.0, 1.0), (5.0, 5.0)),)
    for state in (state_of(config=held, drags=drags), state_of(config=held | {"reach": 0.5}, drags=moved)):
        assert album.get(history, 4, state) is None
    album.put(history, 5, state_of(mask=mask, drags=drags), picture())  # nothing is held: neither matters
    assert album.get(history, 5, state_of(config={"reach": 0.5}, mask=other, drags=moved)) is not None
