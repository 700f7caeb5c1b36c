"""The pages of docs/: their Python runs, what they name in the sources exists, the navigation has them all."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import re
from base64 import b64encode
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import dragnoise
from dragnoise import DragConfig, Model
from dragnoise.config import EDITORS, FIELDS, OUR_PRESETS
from dragnoise.toyland import render, sample_scene

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
QUICK = {"steps": 6, "edit_from": 3, "refine_from": 0, "drag_steps": 2, "step_iterations": 1, "max_iterations": 2}


def page_name(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def blocks(path: Path) -> list[str]:
    """The Python of a page, in order; of indented blocks without their indentation."""
    found = BLOCK.findall(path.read_text(encoding="utf-8"))
    return ["".join(line.removeprefix(indent) for line in text.splitlines(keepends=True)) for indent, text in found]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def embedded() -> Model:
    """The embedded model, with few steps as its default."""
    model = dragnoise.load_model()
    model.default_config = model.default_config.replace(**QUICK)
    return model


@pytest.mark.slow  # some 3 seconds a page
@pytest.mark.filterwarnings("ignore:the prompt is longer")
@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path)], ids=page_name)
def test_the_python_of_a_page_runs(
    path: Path, embedded: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From top to bottom, beside a picture and a mask; whichever model is asked for, the embedded one comes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dragnoise, "load_model", lambda *_, **__: embedded)
    picture = render(sample_scene(3))
    Image.fromarray(picture).save("picture.png")
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[:64] = 255
    Image.fromarray(mask).save("mask.png")
    given: dict[str, Any] = {}
    for text in blocks(path):
        exec(compile(text.replace("steps=200", "steps=2"), page_name(path), "exec"), given)


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_what_a_page_takes_from_the_sources_is_there(path: Path, hooks: ModuleType) -> None:
    text = path.read_text(encoding="utf-8")
    made = hooks.expanded(text)
    assert not re.search(r"<!-- (source|preset|fields)", made)
    for link in LINK.findall(text):
        assert (path.parent / link).is_file(), f"{page_name(path)} links to {link}"


def test_a_name_that_is_gone_is_an_error(hooks: ModuleType) -> None:
    assert "def track(" in hooks.expanded("<!-- source: dragnoise.semantics.track -->")
    with pytest.raises(KeyError, match="has no nothing"):
        hooks.expanded("<!-- source: dragnoise.semantics.nothing -->")


def test_tables_are_made_of_the_metadata(hooks: ModuleType) -> None:
    whole = hooks.expanded("<!-- fields -->")
    assert all(f"| `{name}` |" in whole for name in FIELDS)
    changed = hooks.expanded("<!-- preset: gooddrag -->")
    assert f"| `r2` | `{DragConfig.preset('gooddrag').r2}` | `{DragConfig().r2}` |" in changed
    assert "| `variable` |" not in hooks.expanded("<!-- fields: gooddrag -->")


def test_every_editor_has_a_page() -> None:
    assert {path.stem for path in (DOCS / "editors").glob("*.md")} == {*EDITORS, *OUR_PRESETS}


def test_the_navigation_names_every_page_and_nothing_else(hooks: ModuleType) -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda *_: None)
    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    config = type("Config", (), yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader))
    hooks.on_config(config)

    def leaves(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [leaf for part in (entry.values() if isinstance(entry, dict) else entry) for leaf in leaves(part)]

    named = leaves(config.nav)
    assert sorted(named) == sorted(
        [page_name(path) for path in PAGES] + [f"notebooks/{path.name}" for path in hooks.notebooks()]
    )


def public_names() -> dict[str, set[str]]:
    """package.name of each name in a package's `__all__` -> the dotted paths that it can be imported from."""
    found: dict[str, set[str]] = {}
    for root in (ROOT, ROOT / "widgets"):
        for path in root.glob("dragnoise*/**/__init__.py"):
            package = ".".join(path.parent.relative_to(root).parts)
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assigned = [(ast.unparse(node.targets[0]), node.value) for node in body if isinstance(node, ast.Assign)]
            names = [name for target, value in assigned if target == "__all__" for name in ast.literal_eval(value)]
            imports = [node for part in body for node in ast.walk(part) if isinstance(node, ast.ImportFrom)]
            sources = {alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
            found |= {f"{package}.{name}": {f"{package}.{name}", sources.get(name, "")} for name in names}
    for paths in found.values():
        paths |= {origin for path in list(paths) for origin in found.get(path, ())}
    return found


def documented(path: str, directives: dict[str, list[str] | None]) -> bool:
    """Is there a directive for this name, or for its module or package without `members` that leave it out?"""
    parent, _, name = path.rpartition(".")
    return path in directives or (parent in directives and (directives[parent] is None or name in directives[parent]))


def test_the_reference_has_every_public_name() -> None:
    directives: dict[str, list[str] | None] = {}
    for page in (DOCS / "reference").glob("*.md"):
        for name, options in re.findall(r"^::: (\S+)\n((?: +.*\n)*)", page.read_text("utf-8"), re.MULTILINE):
            directives[name] = (yaml.safe_load(options) or {}).get("options", {}).get("members")
    names = public_names()
    assert {"dragnoise.compare", "dragnoise.bench.run", "dragnoise_widgets.Runner"} <= set(names)
    missing = [name for name, paths in names.items() if not any(documented(path, directives) for path in paths)]
    assert not missing, f"docs/reference has no ::: directive that shows {', '.join(missing)}"


def test_every_notebook_has_an_entry_on_the_page_of_tutorials(hooks: ModuleType) -> None:
    made = hooks.expanded((DOCS / "tutorials.md").read_text(encoding="utf-8"))
    entries = re.findall(r"^-   <!-- picture: (\w+) -->\*\*\[\d\d .+\]\(notebooks/\1\.ipynb\)\*\*$", made, re.MULTILINE)
    assert entries == [path.stem for path in hooks.notebooks()]
    result = "    A picture with its sun moved, and plots of how the edit went."
    assert f"{result}\n\n    *Time:* ten minutes to read" in made


def test_only_executed_notebooks_have_a_picture_on_the_page_of_tutorials(hooks: ModuleType, tmp_path: Path) -> None:
    names = [path.stem for path in hooks.notebooks()]
    png = io.BytesIO()
    Image.new("RGB", (960, 320), "red").save(png, "PNG")
    shown = (
        f'<img src="logo.svg"><img alt="" class="" src="data:image/png;base64,{b64encode(png.getvalue()).decode()}">'
    )
    pages = {f"notebooks/{name}": shown if name == names[0] else '<img src="logo.svg">' for name in names}
    pages["tutorials"] = "".join(f"<!-- picture: {name} -->" for name in names)
    for name, html in pages.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "index.html").write_text(html)
    hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    made = (tmp_path / "tutorials" / "index.html").read_text()
    assert re.findall(r"<img[^>]*>", made) == [f'<img src="{names[0]}.png" alt="">'] and names[1] in made
    assert Image.open(tmp_path / "tutorials" / f"{names[0]}.png").size == (480, 160)


def test_a_notebook_that_needs_a_gpu_is_executed_with_the_embedded_model(hooks: ModuleType, tmp_path: Path) -> None:
    for name, source in hooks.RUN_WITH.items():
        path = ROOT / "notebooks" / f"{name}.ipynb"
        copy = hooks.with_parameters(path, tmp_path / "copy") / "notebooks" / path.name
        given, made = (json.loads(file.read_text("utf-8"))["cells"] for file in (path, copy))
        (at,) = [i for i, cell in enumerate(made) if cell["source"] == source]
        assert "MODEL = " in "".join(made[at - 1]["source"]) and 'MODEL, LORA_STEPS = "toyland", ' in source
        assert made[:at] + made[at + 1 :] == given


def test_every_equation_of_a_notebook_is_found(hooks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "as_mathml", lambda latex, *, block: "")
    for cell in [cell for path in hooks.notebooks() for cell in json.loads(path.read_text("utf-8"))["cells"]]:
        if cell["cell_type"] == "markdown":
            text = re.sub(r"```.*?```|`[^`]*`", "", "".join(cell["source"]), flags=re.DOTALL).replace("<", "&lt;")
            assert "$" not in hooks.with_maths(text), text


def test_equations_in_the_text_of_notebooks_become_mathml_and_code_stays(hooks: ModuleType) -> None:
    pytest.importorskip("latex2mathml", reason="the extra docs is not installed")
    cell = '<div class="jp-MarkdownOutput" data-mime-type="text/markdown">{}</div>'
    text = "<p>The <code>$PATH</code> of $a_i &lt; 2$:</p><p>$$\\sum_i \\lVert F_p \\rVert_1$$</p><pre>$x$ or $y$</pre>"
    made = hooks.on_page_content(cell.format(text) + "<p>$outside$</p>")
    assert made.count("<math") == 2 and made.count('display="block"') == 1 and "&amp;lt" not in made
    over_lines = hooks.on_page_content(cell.format("<p>by $x \\leftarrow\ny$, for 5 $</p><p>and 6 $</p>"))
    assert over_lines.count("<math") == 1 and "</math>, for 5 $</p><p>and 6 $</p>" in over_lines
    assert "<code>$PATH</code>" in made and "<pre>$x$ or $y$</pre>" in made and "<p>$outside$</p>" in made
