"""The cache of rendered pictures: bounded in bytes, shared between branches."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dragnoise.config import DragConfig
from dragnoise_widgets.export.album import Album, PictureCache, size_of

CONFIG = DragConfig()


class Step:
    """What an album reads of a snapshot."""

    def __init__(self, k: int) -> None:
        self.anchors = np.array([[float(k), 0.0]])


@pytest.fixture
def history() -> list[Step]:
    return [Step(k) for k in range(100)]


def picture(side: int = 10, colour: int = 0) -> Image.Image:
    return Image.new("RGB", (side, side), (colour, 0, 0))


def test_it_is_bounded_in_bytes_and_lets_go_of_what_was_not_asked_for_longest(history) -> None:
    cache = PictureCache(limit=10 * size_of(picture()))
    album = Album(cache)
    for k in range(10):
        album.put(history, k, CONFIG, picture())
    assert album.get(history, 0, CONFIG) is not None
    album.put(history, 10, CONFIG, picture())
    assert cache.nbytes == cache.limit == 4000
    assert album.get(history, 0, CONFIG) is not None and album.get(history, 1, CONFIG) is None
    album.put(history, 11, CONFIG, picture(side=20))
    assert cache.nbytes <= cache.limit and len(cache) == 7
    album.put(history, 12, CONFIG, picture(side=200))  # larger than all that is allowed: the newest stays to be shown
    assert len(cache) == 1 and album.get(history, 12, CONFIG) is not None
    album.put(history, 13, CONFIG, picture())
    assert cache.nbytes == 400


def test_two_hundred_large_pictures_stay_within_the_limit(history) -> None:
    cache = PictureCache()
    large = Image.new("RGB", (4000, 3000))  # one object put often, as every entry counts its bytes
    for k in range(100):
        for refine_from in (1, 2):
            Album(cache).put(history, k, CONFIG.replace(refine_from=refine_from), large)
    assert cache.nbytes <= 2**28 and len(cache) == 5


def test_sessions_share_one_budget_and_branches_their_pictures(history) -> None:
    cache = PictureCache(limit=4000)
    one, other = Album(cache), Album(cache)
    for k in range(10):
        (one if k % 2 else other).put(history, k, CONFIG, picture())
    branch = history[:5]
    assert one.copy().get(branch, 3, CONFIG) is one.get(history, 3, CONFIG) is not None
    one.put(history, 20, CONFIG, picture())
    assert len(cache) == 10 and cache.nbytes == 4000


def test_a_picture_of_another_run_or_of_other_numbers_is_not_found(history) -> None:
    album = Album(PictureCache())
    album.put(history, 3, CONFIG, picture(colour=3))
    again = [Step(k) for k in range(100)]
    assert album.get(again, 3, CONFIG) is None
    assert album.get(history, 3, CONFIG.replace(refine_from=CONFIG.refine_from + 1)) is None
    assert album.get(history, 3, CONFIG.replace(lr=0.5)) is not None
    assert album.get(history, 200, CONFIG) is None and album.get(history, -1, CONFIG) is None
    album.put(history, 7, CONFIG, picture(colour=7))
    assert album.nearest(history, 5, CONFIG)[0] == 3 and album.nearest(history, 99, CONFIG)[0] == 7
    assert album.nearest(again, 5, CONFIG) is None
