"""The drawn photograph: the balloon is where it was asked for, and nothing else changes with it."""

from __future__ import annotations

import numpy as np
import pytest

from dragnoise.toyland import balloon_photo


@pytest.mark.parametrize("side", [64, 512])
def test_the_balloon_alone_moves(side: int) -> None:
    here, there = (np.asarray(balloon_photo(side, at)).astype(int) for at in ((0.3, 0.3), (0.7, 0.4)))
    assert here.shape == (side, side, 3)
    y, x = np.mgrid[:side, :side] / side
    near = [np.hypot((x - a) / 0.14, (y - b - 0.05) / 0.2) < 1 for a, b in ((0.3, 0.3), (0.7, 0.4))]
    changed = np.abs(here - there).max(-1) > 3
    assert not (changed & ~near[0] & ~near[1]).any()
    one, other = (np.argwhere(changed & where).mean(0) / side for where in near)
    np.testing.assert_allclose(other - one, (0.1, 0.4), atol=0.02)


def test_the_same_arguments_give_the_same_pixels_and_another_seed_another_land() -> None:
    first = np.asarray(balloon_photo(64))
    np.testing.assert_array_equal(first, np.asarray(balloon_photo(64)))
    assert (first != np.asarray(balloon_photo(64, seed=8))).mean() > 0.3
