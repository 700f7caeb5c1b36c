"""Print the oldest version of each direct dependency that pyproject.toml allows, as pip requirements.

`make test-lowest` installs them and runs a short list of tests.  torch is left out, since its lower bound is the
version of `make test`; so is lpips, which brings a torchvision that may not fit, and what only develops the project.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

NOT_PINNED = ("torch", "lpips")
GROUPS = ("widgets", "bench")
"""Extras that a user installs."""


def floors(pyproject: Path) -> list[str]:
    """`name==version` of every dependency with a lower bound; without the names in `NOT_PINNED`."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for group in GROUPS for line in project["optional-dependencies"][group])]
    found = []
    for requirement in map(Requirement, lines):
        (low,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
        if requirement.name not in NOT_PINNED:
            found.append(f"{requirement.name}=={low}")
    return found


if __name__ == "__main__":
    print(*floors(Path(__file__).parent.parent / "pyproject.toml"), sep="\n")
