"""Threads that compute beside a page: one core is left to it, and idle teams are gone before the worker computes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_session import FakeSession

from dragnoise_widgets.runner.openmp import limit_threads, release_idle_threads
from dragnoise_widgets.runner.runner import Runner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an OpenMP that counts idle threads")


@pytest.fixture
def team() -> Iterator[set[str]]:
    """The threads that this one's computation has brought to life."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads, 2))  # a machine may have one core
    release_idle_threads()
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
    release_idle_threads()
    assert not team & alive()
    release_idle_threads()
    assert torch.ones(1 << 20).add_(1).sum() == 1 << 21


def test_the_worker_finds_no_idle_team(team: set[str]) -> None:
    runner = Runner(FakeSession())
    assert not team & runner.call(lambda session: alive()).result(timeout=100)


def test_without_that_function_nothing_happens(team: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragnoise_widgets.runner.openmp._pause", lambda: None)
    release_idle_threads()
    assert team <= alive()


@pytest.mark.parametrize(("cores", "given", "left"), [(2, 2, 1), (4, 4, 3), (8, 4, 4), (1, 1, 1), (4, 1, 1), (2, 4, 1)])
def test_a_core_is_left_to_the_page(monkeypatch: pytest.MonkeyPatch, cores: int, given: int, left: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(given)
        limit_threads.__wrapped__()
        found = [torch.get_num_threads()]
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start(), later.join()
        assert found == [left, left]
    finally:
        torch.set_num_threads(before)


def test_who_sets_the_number_of_threads_afterwards_decides() -> None:
    Runner(FakeSession())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert Runner(FakeSession()).call(lambda session: torch.get_num_threads()).result(timeout=100) == 2
    finally:
        torch.set_num_threads(before)
