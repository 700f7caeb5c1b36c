"""The house: who may import whom, no circles, no crowded folder, no long file without a reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE, WIDGETS = ROOT / "dragnoise", ROOT / "widgets" / "dragnoise_widgets"

FLOORS = [
    {"identity", "locks", "validation", "atomic_write", "lazy_names"},
    {"fields", "numerics", "transfers"},
    {"config"},
    {"geometry", "images"},
    {"interrupts", "semantics"},
    {"models"},
    {"sampling"},
    {"lora"},
    {"editors"},
    {"session", "archive"},  # a session is saved by the archive, and the archive holds a session's state
    {"inspection"},
    {"plots"},
    {"toyland", "studies", "bench"},
]
"""Rooms of the engine from the ground up; each may import those of its own floor and below."""


def modules(root: Path) -> dict[str, Path]:
    """Module name -> file, of one package."""
    files = (p for p in root.rglob("*.py"))
    return {".".join(p.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


def imports(path: Path, known: dict[str, Path], name: str) -> set[str]:
    """The modules of the package that a file imports, at the top or in a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {m if m in known else node.module for m in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {m for m in found if m in known and m != name}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("root", [ENGINE, WIDGETS], ids=["engine", "widgets"])
def test_no_imports_in_a_circle(root: Path) -> None:
    known = modules(root)
    graph = {name: imports(path, known, name) for name, path in known.items()}
    state: dict[str, bool] = {}

    def walk(name: str, path: list[str]) -> None:
        state[name] = True
        for other in graph[name]:
            if name.startswith(f"{other}."):
                continue  # a module may name its own package
            assert not state.get(other), " > ".join([*path, name, other])
            if other not in state:
                walk(other, [*path, name])
        state[name] = False

    for name in graph:
        if name not in state:
            walk(name, [])


def test_nothing_imports_upwards() -> None:
    known = modules(ENGINE)
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    assert {room(name) for name in known} - {""} <= floor.keys()
    for name, path in known.items():
        if room(name):
            for other in imports(path, known, name):
                assert room(other) == "" or floor[room(other)] <= floor[room(name)], f"{name} imports {other}"


def test_the_engine_never_imports_widgets() -> None:
    for path in ENGINE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(
                n.split(".")[0] in {"ipywidgets", "ipycanvas", "anywidget", "dragnoise_widgets"} for n in names
            )


@pytest.mark.parametrize("root", [ENGINE, WIDGETS], ids=["engine", "widgets"])
def test_no_folder_is_crowded(root: Path) -> None:
    for folder in {path.parent for path in root.rglob("*.py")}:
        names = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(names) <= 12, f"{folder.relative_to(ROOT)} holds {len(names)} files: {sorted(names)}"


@pytest.mark.parametrize("root", [ENGINE, WIDGETS], ids=["engine", "widgets"])
def test_a_long_file_says_why_in_its_first_line(root: Path) -> None:
    for path in root.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not lines or lines[0].startswith(('"""', "#")), f"{path.relative_to(ROOT)} does not say what is in it"
        if len(lines) > 300:
            assert "Long" in lines[0], f"{path.relative_to(ROOT)} has {len(lines)} lines"


def test_random_numbers_say_their_precision() -> None:
    """Loaders change torch's default dtype for the whole process while they read, and other threads draw meanwhile."""
    for path in ENGINE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.randn", "torch.rand", "torch.zeros"):
                named = {keyword.arg for keyword in node.keywords}
                assert "dtype" in named, f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def test_slow_tests_that_are_listed_exist() -> None:
    listed = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").split()
    assert listed == sorted(set(listed))
    for name in listed:
        path, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"tests/slow.txt names {name}"


def test_properties_have_the_settings_of_the_suite() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        if path.name != "properties.py":
            names = re.findall(r"^\s*(?:from|import) (hypothesis)", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert not names, f"{path.relative_to(ROOT)} imports hypothesis; import given and st from properties"
