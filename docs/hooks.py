"""MkDocs hooks: notebooks as pages, source code by name, tables from the metadata of DragConfig, equations as MathML.

In a page, on a line of its own:

    <!-- source: dragnoise.semantics.track -->   the source of that function or class
    <!-- preset: gooddrag -->                    the numbers of a preset that differ from the defaults
    <!-- fields: gooddrag -->                    all numbers that the preset's editor reads
    <!-- fields -->                              all numbers
    <!-- tutorials -->                           an entry for each notebook, from its first cell
"""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
from base64 import b64decode
from html import unescape
from pathlib import Path
from typing import Any

from dragnoise.config import DEFAULTS, FIELDS, DragConfig
from dragnoise.fields import FieldInfo

ROOT = Path(__file__).parents[1]
OPTIONAL = {"editors.md": "Editors compared", "benchmarks.md": "Benchmarks"}
"""Pages that are listed in the navigation where they exist."""

RUN_WITH = {"02_your_photo_on_a_gpu": '# This page is made with the embedded model.\nMODEL, LORA_STEPS = "toyland", 40'}
"""Notebooks that need other parameters to be executed for their page -> the cell that sets them."""

DIRECTIVE = re.compile(r"^<!-- (source|preset|fields|tutorials)(?:: ([\w.]+))? -->$", re.MULTILINE)


def notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def on_config(config: Any) -> Any:
    """Put the notebooks, and pages that may be there, into the navigation."""
    for entry in config.nav:
        if "Tutorials" in entry:
            entry["Tutorials"] += [{_title(path): f"notebooks/{path.name}"} for path in notebooks()]
        if "Editors" in entry:
            extra = [{title: name} for name, title in OPTIONAL.items() if (ROOT / "docs" / name).is_file()]
            entry["Editors"] = extra + entry["Editors"]
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    executing = config.plugins["mkdocs-jupyter"].config["execute"]
    for path in notebooks():
        root = with_parameters(path, ROOT / ".cache" / "docs") if executing and path.stem in RUN_WITH else ROOT
        files.append(File(f"notebooks/{path.name}", str(root), config.site_dir, config.use_directory_urls))
    return files


def with_parameters(path: Path, folder: Path) -> Path:
    """`folder`, emptied, with a copy of the notebook at notebooks/ that has the cell of `RUN_WITH`."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    (at,) = [i for i, cell in enumerate(notebook["cells"]) if "parameters" in cell["metadata"].get("tags", ())]
    cell = {"cell_type": "code", "execution_count": None, "id": "run-with", "metadata": {}, "outputs": []}
    notebook["cells"].insert(at + 1, cell | {"source": RUN_WITH[path.stem]})
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / path.name).write_text(json.dumps(notebook), encoding="utf-8")
    return folder


on_files.mkdocs_priority = 100  # type: ignore[attr-defined]  # before mkdocs-jupyter looks for notebooks


MATHS = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
CELL = re.compile(r'(?<=jp-MarkdownOutput" data-mime-type="text/markdown">).*?(?=</div>)', re.DOTALL)
"""The text of a notebook's cell, as mkdocs-jupyter makes it."""

CODE_OR_MATHS = re.compile(r"<(pre|code)\b.*?</\1>|\$\$(.+?)\$\$|\$([^$<]+?)\$", re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """Equations as MathML, which browsers show without a script: of pages, and of the text in notebooks."""
    html = MATHS.sub(lambda found: as_mathml(found[3], block=found[2] == "["), html)
    return CELL.sub(lambda found: with_maths(found[0]), html)


def as_mathml(latex: str, *, block: bool) -> str:
    """An equation, in which &, < and > are escaped as in HTML."""
    from latex2mathml.converter import convert

    return convert(unescape(latex), display="block" if block else "inline")


def with_maths(html: str) -> str:
    """The HTML of a text with what stands between dollars as MathML, but not in code."""

    def maths(found: re.Match[str]) -> str:
        return found[0] if found[1] else as_mathml(found[2] or found[3], block=found[2] is not None)

    return CODE_OR_MATHS.sub(maths, html)


PICTURE = re.compile(r'<img\b[^>]* src="data:image/png;base64,([^"]+)"')
"""A picture that a notebook's cell has shown, as mkdocs-jupyter makes it."""


def on_post_build(config: Any) -> None:
    """Put the first picture of each notebook that was executed into its entry on the page of tutorials."""
    from PIL import Image

    page = Path(config.site_dir, "tutorials", "index.html")
    html = page.read_text(encoding="utf-8")
    for path in notebooks():
        executed = Path(config.site_dir, "notebooks", path.stem, "index.html").read_text(encoding="utf-8")
        if found := PICTURE.search(executed):
            picture = Image.open(io.BytesIO(b64decode(found[1]))).convert("RGB")
            picture.thumbnail((480, 320))
            picture.save(page.with_name(f"{path.stem}.png"))
            html = html.replace(f"<!-- picture: {path.stem} -->", f'<img src="{path.stem}.png" alt="">')
    page.write_text(html, encoding="utf-8")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return expanded(markdown)


def expanded(markdown: str) -> str:
    """A page with its directives carried out; raises KeyError or ValueError for a name that does not exist."""
    made = {"source": _source, "preset": _preset, "fields": _fields, "tutorials": _tutorials}
    return DIRECTIVE.sub(lambda found: made[found[1]](found[2]), markdown)


def _title(path: Path) -> str:
    number, _, words = path.stem.partition("_")
    return f"{number} {words.replace('_', ' ').capitalize()}".replace("gpu", "GPU")


def source_of(name: str) -> str:
    """The source of a function, class or method by its dotted name, from the file, without importing it."""
    parts = name.split(".")
    for k in range(len(parts) - 1, 0, -1):
        path = ROOT.joinpath(*parts[:k]).with_suffix(".py")
        if path.is_file():
            break
    else:
        raise KeyError(f"no module holds {name}.")
    text = path.read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for part in parts[k:]:
        node = next((child for child in node.body if getattr(child, "name", None) == part), None)
        if node is None:
            raise KeyError(f"{path.relative_to(ROOT)} has no {part}, which a page of docs/ shows as {name}.")
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    return "\n".join(line.removeprefix(" " * node.col_offset) for line in lines)


def _source(name: str) -> str:
    return f'```python title="{name}"\n{source_of(name)}\n```\n'


def _preset(name: str) -> str:
    config = DragConfig.preset(name)
    changed = [n for n in FIELDS if n != "editor" and getattr(config, n) != DEFAULTS[n]]
    if not changed:
        return "The preset's numbers are the defaults of `DragConfig`.\n"
    rows = [f"| `{n}` | `{getattr(config, n)!r}` | `{DEFAULTS[n]!r}` | {_meaning(FIELDS[n])} |" for n in changed]
    return "\n".join(["| number | preset | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _fields(name: str | None) -> str:
    config = DragConfig.preset(name) if name else DragConfig()
    read = [n for n, info in FIELDS.items() if not name or not info.editors or config.editor in info.editors]
    lines = [f'??? note "All {len(read)} numbers"', ""] if name else []
    indent = "    " if name else ""
    heading = "preset" if name else "default"
    group = ""
    for n in read:
        info = FIELDS[n]
        if info.group != group:
            group = info.group
            lines += ["", f"{indent}**{group}**", ""]
            lines += [f"{indent}| number | {heading} | range | meaning |", f"{indent}|---|---|---|---|"]
        only = "" if name or not info.editors else f" Read by {', '.join(info.editors)}."
        value, allowed = repr(getattr(config, n)), info.range + (f" {info.unit}" if info.unit else "")
        lines.append(f"{indent}| `{n}` | `{value}` | {allowed} | {_meaning(info)}{only} |")
    return "\n".join(lines) + "\n"


def _tutorials(_: str | None) -> str:
    """A card for each notebook: a place for its picture, then title, result and time from its first cell."""
    cards = []
    for path in notebooks():
        cell = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
        title, _, text = "".join(cell["source"]).removeprefix("# ").partition("\n")
        told = dict(re.findall(r"\*\*(\w+)\*\*:\s+(.+?)(?=\s+\*\*\w+\*\*:|\n\n|\Z)", text, re.DOTALL))
        result, time = (" ".join(told[name].split()) for name in ("Result", "Time"))
        cards.append(
            f"-   <!-- picture: {path.stem} -->**[{path.stem[:2]} {title}](notebooks/{path.name})**\n\n"
            f"    {result[:1].upper()}{result[1:]}\n\n    *Time:* {time}\n"
        )
    return "\n".join(['<div class="grid cards" markdown>\n', *cards, "</div>\n"])


def _meaning(info: FieldInfo) -> str:
    return f"{info.meaning[:1].upper()}{info.meaning[1:]}.".replace("|", "\\|")
