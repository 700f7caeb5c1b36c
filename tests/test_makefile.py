"""The Makefile: its failures say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def program(path: Path, text: str) -> Path:
    """A shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def made(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *args], cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_without_python_it_says_which_to_install(clone: Path) -> None:
    done = made(clone, "lab", "PYTHON=python-that-is-not-there")
    assert done.returncode
    assert "There is no python-that-is-not-there here. Install Python 3.11 to 3.13" in done.stdout
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize(("version", "fits"), [((3, 10, 14), False), ((3, 14, 0), False), ((3, 11, 0), True)])
def test_a_python_that_is_too_old_or_too_new_is_named(clone: Path, version: tuple[int, ...], fits: bool) -> None:
    """The check is carried out by this Python with another version."""
    patched = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    python = program(clone / "python", f'[ "$1" = -c ] && exec {sys.executable} -c "{patched}" "$2"; exit 1')
    done = made(clone, "lab", f"PYTHON={python}")
    assert done.returncode and not (clone / ".venv").exists()
    said = f"dragnoise needs Python 3.11 to 3.13, this is {version[0]}.{version[1]}: give another one with PYTHON="
    assert (said in done.stdout + done.stderr) is not fits
    assert ("python3-venv" in done.stdout) is fits, "it goes on to make an environment"


def test_a_python_that_cannot_make_environments_names_the_package(clone: Path) -> None:
    python = program(clone / "python", '[ "$1" = -c ] && exit 0; echo "ensurepip is not available"; exit 1')
    done = made(clone, "lab", f"PYTHON={python}")
    assert done.returncode
    assert "apt install python3-venv" in done.stdout


@pytest.mark.parametrize("index", ["", "TORCH_INDEX=https://example.org/whl"])
def test_a_failed_installation_says_what_may_be_wrong(clone: Path, index: str) -> None:
    program(clone / ".venv" / "bin" / "pip", "exit 1")
    program(clone / ".venv" / "bin" / "python", "echo ERROR: Could not find a version; exit 1")
    done = made(clone, "lab", *([index] if index else []))
    assert done.returncode
    assert "did not finish" in done.stdout and "No network" in done.stdout and "free here: " in done.stdout
    assert done.stdout.count("did not finish") == 1, "the recipe itself is printed"
    assert not (clone / ".venv" / ".installed").exists()


def test_the_lab_says_what_to_do_without_a_browser(clone: Path) -> None:
    for name in ("pip", "python"):
        program(clone / ".venv" / "bin" / name, "exit 0")
    done = made(clone, "lab")
    assert done.returncode == 0
    assert "open the address with '?token='" in done.stdout and "--port=9000" in done.stdout


def test_help_names_every_target(clone: Path) -> None:
    done = made(clone)
    assert all(f"make {target}" in done.stdout for target in ("setup", "lab", "test", "docs", "lint", "test-lowest"))
