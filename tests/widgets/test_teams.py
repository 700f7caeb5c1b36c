"""Idle teams of threads: gone before the worker computes, so that they cannot slow it down."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_session import FakeSession

from dragnoise_widgets.runner.runner import Runner
from dragnoise_widgets.runner.teams import disband

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an OpenMP that counts idle threads")


@pytest.fixture
def team() -> Iterator[set[str]]:
    """The threads that this one's computation has brought to life."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads, 2))  # a machine may have one core
    disband()
    before = alive()
    torch.ones(1 << 20).add_(1)
    born = alive() - before
    assert born, "torch has computed without a team"
    yield born
    torch.set_num_threads(threads)


def alive() -> set[str]:
    """The threads of this process, as the system counts them."""
    return {thread.name for thread in Path("/proc/self/task").iterdir()}


def test_a_team_goes_and_another_one_comes(team: set[str]) -> None:
    disband()
    assert not team & alive()
    disband()
    assert torch.ones(1 << 20).add_(1).sum() == 1 << 21


def test_the_worker_finds_no_idle_team(team: set[str]) -> None:
    runner = Runner(FakeSession())
    assert not team & runner.call(lambda session: alive()).result(timeout=100)


def test_without_that_function_nothing_happens(team: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragnoise_widgets.runner.teams._pause", lambda: None)
    disband()
    assert team <= alive()
