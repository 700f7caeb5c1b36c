"""The widgets' tests once more, with the ipywidgets and the ipykernel that Google Colab has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COLAB = ROOT / ".venv-colab"
PYTHON = COLAB / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

VERSIONS = """
import ipykernel, IPython, ipywidgets
print(ipywidgets.__version__, ipykernel.__version__, IPython.__version__)
"""


@pytest.fixture
def python() -> str:
    if not PYTHON.is_file():
        pytest.skip(
            f"there is no {COLAB.name}, which `make setup` makes; the widgets were tested with one version only"
        )
    return str(PYTHON)


def run(*command: str) -> str:
    """A command's output; its failure fails the test with the output's end."""
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, "\n".join(done.stdout.splitlines()[-60:])
    return done.stdout


@pytest.mark.slow
def test_the_second_environment_has_the_versions_that_colab_has(python: str) -> None:
    assert run(python, "-W", "ignore", "-c", VERSIONS).split() == ["7.7.1", "6.17.1", "7.34.0"]


@pytest.mark.slow
def test_torch_is_not_there_twice(python: str) -> None:
    where = "import torch; print(torch.__file__)"
    assert run(python, "-c", where) == run(sys.executable, "-c", where)


WHOLE = [f"tests/widgets/test_{name}.py" for name in ("cell_cleanup", "kernel", "studio")]
"""What is most the older versions' own, of which the slow tests run there too."""


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("tests", [["-m", "not slow", "tests/widgets"], ["-m", "slow", *WHOLE]], ids=["quick", "slow"])
def test_the_widgets_pass_their_tests_there(python: str, tests: list[str]) -> None:
    out = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert " passed" in out.splitlines()[-1], out
