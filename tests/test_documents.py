"""README, notebooks, benchmarks and docs: their code is correct Python that imports names which exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers import python_blocks
from PIL import Image

import dragnoise
from dragnoise.toyland.scenes import render, sample_scene

ROOT = Path(__file__).parent.parent
OURS = ("dragnoise", "dragnoise_widgets", "recipes", "benchmarks")


def code_cells(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def sources() -> dict[str, str]:
    """Name -> Python source of every document with code in it."""
    found = {"README.md": "\n".join(python_blocks(ROOT / "README.md"))}
    for path in sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").glob("*.py")]):
        found[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        found[str(path.relative_to(ROOT))] = "\n".join(
            cell.replace("    %", "    pass  # %") for cell in code_cells(path)
        )
    return found


def imported_names(source: str) -> list[tuple[str, str | None]]:
    """(module, name) of everything of ours that is imported, also inside functions; name is None for `import m`."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
    return [(module, name) for module, name in found if module.split(".")[0] in OURS]


@pytest.mark.parametrize("document", sources())
def test_every_name_that_is_imported_exists(document: str) -> None:
    for module, name in imported_names(sources()[document]):
        loaded = importlib.import_module(module)
        exists = name is None or hasattr(loaded, name) or importlib.util.find_spec(f"{module}.{name}")
        assert exists, f"{document}: there is no {name} in {module}"


COMMANDS = re.compile(r"python -m ((?:dragnoise|recipes|benchmarks)[\w.]*)")
FILES = re.compile(r"python (docs/\w+\.py)")
LINKS = re.compile(r"\]\((?!https?:)([^)#]+)\)")


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/toyland/README.md", "dragnoise/toyland/MODEL_CARD.md"],
)
def test_commands_and_links_name_what_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for module in COMMANDS.findall(text):
        assert importlib.util.find_spec(module), f"{document}: there is no module {module}"
    for file in FILES.findall(text):
        assert (ROOT / file).is_file(), f"{document}: there is no {file}"
    for link in LINKS.findall(text):
        assert ((ROOT / document).parent / link).exists(), f"{document}: there is no {link}"


QUICK = {"steps": 8, "edit_from": 5, "refine_from": 1, "max_iterations": 11, "tolerance": 0.01}
"""As many iterations as the README goes back, and few denoising steps."""


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(render(sample_scene(3))).save("picture.png")
    quick = "DragSession(model, 'picture.png', prompt='', config=model.default_config.replace(**QUICK))"
    given: dict[str, object] = {"QUICK": QUICK}
    first, *more = python_blocks(ROOT / "README.md")
    shortened = re.sub(r"DragSession\(model, \"picture.png\".*\)", quick, first)
    assert shortened != first
    exec(shortened, given)
    for block in more:
        exec(block, given)
    before, after = (np.asarray(Image.open(name)) for name in ("edited.png", "edited again.png"))
    assert before.shape == after.shape == (128, 128, 3) and (before != after).any()


@pytest.mark.slow
def test_the_benchmark_of_the_widgets_measures_a_move() -> None:
    from benchmarks import widgets as bench

    assert len(bench.move_times(dragnoise.load_model(), drags=1)) == bench.MOVES


LIGHT = """
import sys
{code}
print(*sorted({{"accelerate", "diffusers", "matplotlib", "peft", "transformers"}} & set(sys.modules)))
"""


def in_a_new_process(code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "widgets")])}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)


def heavy_modules(code: str) -> list[str]:
    """The large libraries that a piece of code imports."""
    done = in_a_new_process(LIGHT.format(code=code))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_loading_a_model_prints_nothing() -> None:
    """Neither on stdout nor on stderr, where a notebook would show it in red."""
    done = in_a_new_process("import dragnoise; dragnoise.load_model()")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "code",
    [
        "import dragnoise, dragnoise_widgets", "from dragnoise import Drag, DragConfig, load_model",
        "from dragnoise.toyland import caption, drag_cases, render", "from dragnoise_widgets import DragCanvas",
        "from dragnoise import DragConfig; DragConfig().replace(lr=0.1); DragConfig.released(); help(DragConfig)",
    ],
)  # fmt: skip
def test_what_needs_no_pipeline_imports_none(code: str) -> None:
    assert heavy_modules(code) == []
