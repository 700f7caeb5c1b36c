"""What all tests share: fixtures of small pipelines and models, which tests are slow, and how files are spread."""

from __future__ import annotations

import os
import socket
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from typing import TYPE_CHECKING, Any

import pytest
from pipelines import build_sd15, build_sd21, build_sdxl, build_three_block

if TYPE_CHECKING:  # imported where a pipeline is built, so that tests without one start at once
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    from dragnoise import Model

SLOW_FILES = {
    "test_alternating", "test_atomic_write", "test_autosave", "test_concurrency", "test_counts", "test_determinism",
    "test_dragbench", "test_fuzz", "test_fuzz_widgets", "test_generation", "test_interrupts", "test_kernel",
    "test_loading", "test_lora", "test_lora_files", "test_lora_on_toyland", "test_memory", "test_plain", "test_recipe",
    "test_saved_sessions", "test_sdxl", "test_suite",
}  # fmt: skip
"""Files whose tests are all marked `slow`: they fit LoRAs, load and write many models, kill processes or train."""


SLOW_TESTS = frozenset((Path(__file__).parent / "slow.txt").read_text(encoding="utf-8").split())
"""Other tests that are marked `slow`, as `tests/file.py::test`, of which some case computed for more than 0.3 s."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import a file all of whose tests `-m "... not slow"` or `-m "not browser ..."` leaves out anyway."""
    marks, name = config.option.markexpr, collection_path.stem
    without = [mark for mark in ("slow", "browser") if f"not {mark}" in marks and " or " not in marks]
    left_out = ("slow" in without and name in SLOW_FILES) or ("browser" in without and name.endswith("_in_lab"))
    return left_out or None  # None lets pytest decide


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the files and the tests above."""
    for item in items:
        if item.path.stem in SLOW_FILES or item.nodeid.partition("[")[0] in SLOW_TESTS:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes (`-n 2`) a file's tests stay together, and the browser tests never run twice at once.

    xdist's own `--dist loadgroup` spreads the tests of a group over all processes with pytest 9.2.
    """
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = super()._split_scope(nodeid)
            return "tests/browser" if path.startswith("tests/browser/") else path

    return ByFile(config, log)


@pytest.fixture(scope="session")
def sdxl() -> StableDiffusionXLPipeline:
    return build_sdxl()


@pytest.fixture(scope="session")
def sd15() -> StableDiffusionPipeline:
    return build_sd15()


@pytest.fixture(scope="session")
def sd21() -> StableDiffusionPipeline:
    return build_sd21()


@pytest.fixture(scope="session")
def three_block() -> StableDiffusionPipeline:
    return build_three_block()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections and look-ups of names fail."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the tests stay off the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(params=["sd15", "sd21", "three_block"])
def pipeline(request: pytest.FixtureRequest) -> StableDiffusionPipeline:
    """Each of the three in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def model(pipeline: StableDiffusionPipeline) -> Model:
    """A model of each of the three in turn."""
    from dragnoise import Model

    return Model(pipeline)


@pytest.fixture(scope="session")
def small(three_block: StableDiffusionPipeline) -> Model:
    """The quickest model, for tests that want just any."""
    from dragnoise import Model

    return Model(three_block)
