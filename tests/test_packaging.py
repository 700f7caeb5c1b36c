"""pyproject.toml, constraints.txt and environment.yml agree, and the packages stay as lean as they say."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import nbformat
import pytest
import yaml
from helpers import python_blocks
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
CONDA_TO_PYPI = {"pytorch": "torch"}
NOT_FROM_CONDA = {"playwright"}  # the extras in environment.yml's pip section bring it
NOT_IN_THE_ENGINE = {"ipywidgets", "ipycanvas", "anywidget", "torchvision"}


def read_pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pyproject_requirements() -> list[Requirement]:
    """Every requirement of the project and of all its extras."""
    project = read_pyproject()["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def pyproject_bounds() -> dict[str, SpecifierSet]:
    return {canonicalize_name(r.name): r.specifier for r in pyproject_requirements()}


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def environment() -> tuple[dict[str, SpecifierSet], list[str]]:
    """The conda packages with their bounds, under PyPI's names, and the lines of the pip section."""
    conda: dict[str, SpecifierSet] = {}
    pip: list[str] = []
    for entry in yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]:
        if isinstance(entry, dict):
            pip += entry["pip"]
        else:
            name, _, bound = entry.partition(" ")
            conda[canonicalize_name(CONDA_TO_PYPI.get(name, name))] = SpecifierSet(bound)
    return conda, pip


def test_every_python_that_is_promised_is_tested() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    tested = {step["with"]["python-version"] for step in jobs["everything"]["steps"] if "with" in step}
    tested |= set(jobs["quick"]["strategy"]["matrix"]["python"])
    named = {line.split()[-1] for line in read_pyproject()["project"]["classifiers"] if "Python :: 3." in line}
    bounds = SpecifierSet(read_pyproject()["project"]["requires-python"])
    assert tested == named == {f"3.{minor}" for minor in range(30) if Version(f"3.{minor}") in bounds}


def test_a_package_has_one_bound_in_pyproject() -> None:
    bounds = pyproject_bounds()
    assert all(r.specifier == bounds[canonicalize_name(r.name)] for r in pyproject_requirements())


def test_every_requirement_has_a_lower_bound() -> None:
    for name, bound in pyproject_bounds().items():
        assert any(spec.operator == ">=" for spec in bound), f"{name} has no lower bound"


def test_constraints_name_the_same_packages_as_pyproject() -> None:
    assert sorted(canonicalize_name(r.name) for r in constraints()) == sorted(pyproject_bounds())


def test_environment_has_the_same_bounds_as_pyproject() -> None:
    conda, _ = environment()
    python = conda.pop("python")
    conda.pop("pip")
    assert python == SpecifierSet(read_pyproject()["project"]["requires-python"])
    assert conda == {name: bound for name, bound in pyproject_bounds().items() if name not in NOT_FROM_CONDA}


def test_environment_installs_the_project_with_extras_that_exist() -> None:
    _, pip = environment()
    (line,) = pip
    extras = line.removeprefix("-e .[").removesuffix("]").split(",")
    assert set(extras) <= set(read_pyproject()["project"]["optional-dependencies"])


@pytest.mark.parametrize("tested", constraints(), ids=lambda r: r.name)
def test_tested_version_is_exact_and_within_the_bounds(tested: Requirement) -> None:
    (pin,) = tested.specifier
    assert pin.operator == "=="
    assert "+" not in pin.version, "a local version exists on one index only"
    name = canonicalize_name(tested.name)
    assert pyproject_bounds()[name].contains(pin.version)
    assert name in NOT_FROM_CONDA or environment()[0][name].contains(pin.version)


LOWEST = ROOT / ".venv-lowest"


def floors() -> dict[str, str]:
    """What `make test-lowest` installs: name -> version, of which .ci/lowest.py prints a line each."""
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "lowest.py")], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return dict(line.split("==") for line in done.stdout.split())


def test_the_lowest_versions_are_the_bounds() -> None:
    bounds, lowest = pyproject_bounds(), floors()
    for name, version in lowest.items():
        assert any(spec.operator == ">=" and spec.version == version for spec in bounds[canonicalize_name(name)])
    engine = {Requirement(line).name for line in read_pyproject()["project"]["dependencies"]}
    assert engine - set(lowest) == {"torch"}


def test_the_bounds_that_test_lowest_leaves_out_are_what_test_runs_with() -> None:
    (torch,) = (r for r in constraints() if r.name == "torch")
    (tested,) = torch.specifier
    assert f">={Version(tested.version).major}.{Version(tested.version).minor}" in str(pyproject_bounds()["torch"])
    heading = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[0]
    python = read_pyproject()["project"]["requires-python"].partition(",")[0].removeprefix(">=")
    assert f"on Python {python}:" in heading


@pytest.mark.skipif(Path(sys.prefix) != LOWEST, reason="for make test-lowest, which has an environment of its own")
def test_the_lowest_versions_are_installed() -> None:
    for name, version in floors().items():
        assert Version(importlib.metadata.version(name)) == Version(version), name


def test_torchvision_is_required_nowhere() -> None:
    conda, pip = environment()
    assert "torchvision" not in pyproject_bounds()
    assert "torchvision" not in {r.name for r in constraints()}
    assert "torchvision" not in conda
    assert not any("torchvision" in line for line in pip)


def test_wheel_packages_exist() -> None:
    packages = read_pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["dragnoise", "widgets/dragnoise_widgets"]
    for package in packages:
        assert (ROOT / package / "__init__.py").is_file()


FROM_THE_WHEEL = """
import dragnoise, dragnoise_widgets
from dragnoise.toyland import render, sample_scene
from PIL import Image

Image.fromarray(render(sample_scene(3))).save("picture.png")
{quickstart}
studio = dragnoise_widgets.DragStudio(session, inline=True, autosave=None)
studio.step()
assert not studio.messages.error
print(dragnoise.__file__, dragnoise_widgets.__file__, sep="\\n")
"""


@pytest.mark.slow
def test_the_quickstart_runs_from_a_wheel(tmp_path: Path) -> None:
    """In an environment that has the wheel of its own, and of this one the libraries but not the source tree."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "empty", with_pip=False)
    scheme = sysconfig.get_preferred_scheme("prefix")
    python, packages = (
        Path(sysconfig.get_path(name, scheme, {"base": str(tmp_path / "empty"), "platbase": str(tmp_path / "empty")}))
        for name in ("scripts", "purelib")
    )
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(packages), str(wheel)], check=True)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")  # after its own
    quickstart, *_ = python_blocks(ROOT / "README.md")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python / "python"), "-c", FROM_THE_WHEEL.format(quickstart=quickstart)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(packages) for line in done.stdout.splitlines()[-2:]), done.stdout
    assert (tmp_path / "edited.png").is_file() and (tmp_path / "edited again.png").is_file()


def imported_packages(source: Path) -> set[str]:
    """Top-level names of everything a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_no_file_of_the_engine_imports_the_notebook_layer() -> None:
    for source in sorted((ROOT / "dragnoise").rglob("*.py")):
        found = imported_packages(source) & {*NOT_IN_THE_ENGINE, "dragnoise_widgets"}
        assert not found, f"{source.relative_to(ROOT)} imports {', '.join(sorted(found))}"


def test_importing_dragnoise_loads_no_widgets_and_no_torchvision() -> None:
    code = f"import dragnoise, sys; print(*sorted({NOT_IN_THE_ENGINE!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def committed_notebooks() -> dict[str, str]:
    """Name and text of the notebooks as git has them; as they are on disk where this is no checkout."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, check=True).stdout.decode("utf-8")

    try:
        names = [name for name in git("ls-files", "-z", "notebooks/*.ipynb").split("\0") if name]
        found = {name: git("show", f":./{name}") for name in names}
    except (OSError, subprocess.CalledProcessError):
        found = {}
    return found or {str(path): path.read_text(encoding="utf-8") for path in ROOT.glob("notebooks/*.ipynb")}


def test_notebooks_are_committed_without_outputs() -> None:
    for name, text in committed_notebooks().items():
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                assert not cell.outputs, f"{name}: cell {number} was committed with its output"
                assert cell.execution_count is None, f"{name}: cell {number} was committed with its count"


def test_no_environment_is_committed() -> None:
    """Neither as a folder nor as a link, which a checkout would put in the place of the real one."""
    done = subprocess.run(["git", "ls-files", ".venv*"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert ".venv*" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
