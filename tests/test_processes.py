"""Tests in several processes: which of them stay together."""

from __future__ import annotations

import pytest

pytest.importorskip("xdist")


def test_a_file_is_run_by_one_process_and_all_browser_tests_are(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytestconfig.option, "tx", ["popen"], raising=False)
    scheduler = pytestconfig.hook.pytest_xdist_make_scheduler(config=pytestconfig, log=None)
    names = ["tests/test_a.py::test_x", "tests/test_a.py::test_y[1]", "tests/widgets/test_a.py::test_x"]
    assert [scheduler._split_scope(name) for name in names] == [
        "tests/test_a.py", "tests/test_a.py", "tests/widgets/test_a.py",
    ]  # fmt: skip
    browser = ["tests/browser/test_a.py::test_x", "tests/browser/test_b.py::test_y"]
    assert len({scheduler._split_scope(name) for name in browser}) == 1
