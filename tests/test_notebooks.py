"""The tutorials run from top to bottom, as a person would run them."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from dragbench import DATA
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from pipelines import build_three_block

import dragnoise
from dragnoise.images.difference import psnr
from dragnoise.toyland import balloon_photo, drag_cases, render

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

PHOTO = "02_your_photo_on_a_gpu"
"""The one that is about a real model; here it gets the embedded one, or a small random one."""

SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"

COLAB = {
    "__init__.py": "",
    "output.py": "def enable_custom_widget_manager():\n    print('widgets are on')\n",
    "files.py": "def upload():\n    return {'photo.png': open('photo.png', 'rb').read()}\n",
    "drive.py": (
        "from pathlib import Path\n"
        "def mount(place):\n"
        "    print('mounted at', place)\n"
        "    (Path(place) / 'MyDrive').mkdir(parents=True)\n"
    ),
}
"""What of the package google.colab a notebook asks for; somebody uploads photo.png and has a Drive."""


def put_in(notebook: NotebookNode, **values: Any) -> None:
    """Give a notebook other parameters as papermill does, in a cell after the one tagged so."""
    (at,) = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell("\n".join(lines)))


def executed(name: str, folder: Path | None = None, **parameters: Any) -> NotebookNode:
    """The notebook after all of its cells, none of which has complained.

    folder: where it runs, default where it lies, as in JupyterLab.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    if parameters:
        put_in(notebook, **parameters)
    resources = {"metadata": {"path": folder or NOTEBOOKS}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    complaints = [o for o in outputs(notebook) if o.get("name") == "stderr"]
    assert not complaints, complaints
    return notebook


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(notebook: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def printed(notebook: NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.get("name") == "stdout")


def test_every_notebook_is_run_below() -> None:
    assert [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))] == [
        "01_first_drag", PHOTO, "03_step_debugging", "04_what_the_bottleneck_knows", "05_editors_side_by_side",
        "06_ablations", "07_dragbench",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not outputs(notebook)
    assert not any(cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_a_first_drag() -> None:
    assert pictures(executed("01_first_drag")) >= 4


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_a_photo_with_the_example(tmp_path: Path) -> None:
    notebook = executed(PHOTO, MODEL="toyland", LORA_STEPS=3, SAVE_TO=str(tmp_path / "edits"))
    assert pictures(notebook) >= 8
    assert "this one is drawn" in printed(notebook)
    saved = tmp_path / "edits"
    edited = Image.open(saved / "edited.png")
    given, answer = balloon_photo(), balloon_photo(centre=(0.62, 0.30))
    assert psnr(edited, answer) > psnr(given, answer) + 4, "the balloon arrives"
    assert (saved / "edit.drag").is_file()


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_a_drawn_photo_with_a_pipeline_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first cell to the last with a Stable Diffusion, here a small random one, as on a GPU."""
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # its text encoder reads 16 tokens, and says so of longer prompts
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    build_three_block().save_pretrained(tmp_path / "model")
    saved = tmp_path / "edits"
    notebook = executed(PHOTO, MODEL=str(tmp_path / "model"), SIDE=64, LORA_STEPS=2, SAVE_TO=str(saved))
    assert "a photo of a hot air balloon over hills" in printed(notebook) and pictures(notebook) >= 8
    assert Image.open(saved / "edited.png").size == (512, 512)
    kept = dragnoise.DragSession.open(saved / "edit.drag")
    assert len(kept.history) > 1 and kept.drags[0].objective == (317, 154)


def a_colab(folder: Path) -> Path:
    """A folder of packages that has `COLAB` as google.colab."""
    package = folder / "packages" / "google" / "colab"
    package.mkdir(parents=True)
    for name, text in COLAB.items():
        (package / name).write_text(text)
    return folder / "packages"


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_a_photo_that_is_uploaded_in_colab_and_kept_in_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(a_colab(tmp_path)), prepend=os.pathsep)
    case = drag_cases("sun", 1, seed=20_000_000)[0]
    Image.fromarray(render(case.scene)).resize((150, 100)).save(tmp_path / "photo.png")

    place = str(tmp_path / "drive")
    notebook = executed(
        PHOTO, tmp_path, MODEL="toyland", DRAGS=[((90, 30), (60, 24))], LORA_STEPS=3, SIDE=64, DRIVE=place
    )
    assert pictures(notebook) >= 8
    assert "widgets are on" in printed(notebook)
    assert "150x100 pixels" in printed(notebook)
    assert f"mounted at {place}" in printed(notebook)
    assert Image.open(tmp_path / "drive" / "MyDrive" / "dragnoise" / "edited.png").size == (150, 100)


def source_of(name: str, part: str) -> str:
    """Of the one cell of a notebook that has this in it."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    (source,) = [cell.source for cell in cells if cell.cell_type == "code" and part in cell.source]
    return source


@pytest.mark.parametrize(
    ("given", "has_gpu", "model"), [(None, True, SD), (None, False, "toyland"), ("a/b", False, "a/b")]
)
def test_without_a_photo_one_is_drawn(
    capsys: pytest.CaptureFixture[str], given: str | None, has_gpu: bool, model: str
) -> None:
    names: dict[str, Any] = {
        "PHOTO": None, "DRAGS": None, "MODEL": given, "PROMPT": "a photo", "in_colab": False, "has_gpu": has_gpu,
    }  # fmt: skip
    exec(source_of(PHOTO, "google.colab import files"), names)
    assert names["MODEL"] == model and names["picture"].size == (512, 512)
    assert ("balloon" in names["PROMPT"]) == (model != "toyland")
    ((start, end),) = names["DRAGS"]
    there = balloon_photo(centre=(0.62, 0.30)).getpixel(end)
    assert names["picture"].getpixel(start) == pytest.approx(there, abs=25), "the same place of the balloon"
    assert "this one is drawn" in capsys.readouterr().out


def test_every_notebook_begins_in_the_same_way() -> None:
    beginnings = set()
    for path in NOTEBOOKS.glob("*.ipynb"):
        first, second = nbformat.read(path, as_version=4).cells[:2]
        assert "colab-badge.svg" in first.source and f"notebooks/{path.name})" in first.source
        assert all(f"**{word}**" in first.source for word in ("Goal", "Time", "Needs", "Result")), path.name
        beginnings.add(second.source)
    assert len(beginnings) == 1 and max(len(text.splitlines()) for text in beginnings) < 10


@pytest.mark.parametrize(("asked", "in_colab"), [(False, True), (True, False), (False, False)])
def test_drive_is_left_alone_unless_asked_for_in_colab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: bool, in_colab: bool
) -> None:
    monkeypatch.syspath_prepend(str(a_colab(tmp_path)))
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "drive"
    given = {"SAVE_TO": "here", "DRIVE": str(place) if asked else None, "in_colab": in_colab}
    exec(source_of(PHOTO, "google.colab import drive"), given)
    assert given["folder"] == Path("here") and (tmp_path / "here").is_dir()
    assert "mounted" not in capsys.readouterr().out and not place.exists()


@pytest.mark.parametrize(
    ("name", "dtype", "cuda", "variant"),
    [
        ("a/b", None, True, "fp16"), ("a/b", None, False, None), ("a/b", "float16", False, "fp16"),
        ("a/b", "float32", True, None), ("toyland", None, True, None),
    ],
)  # fmt: skip
def test_half_the_weights_are_fetched_where_half_precision_is_used(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: str | None, cuda: bool, variant: str | None
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(dragnoise, "load_model", lambda model, **given: asked.update(given, name=model))
    loading, _, _ = source_of(PHOTO, "load_model(").partition("print(model)")
    exec(loading, {"torch": torch, "MODEL": name, "MEMORY": "low", "DTYPE": dtype, "VARIANT": "fp16"})
    assert asked == {"name": name, "memory": "low", "dtype": dtype, "variant": variant}


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_step_debugging_finds_a_lost_drag_and_mends_it() -> None:
    notebook = executed("03_step_debugging")
    assert pictures(notebook) >= 8
    said = printed(notebook)
    assert re.search(r"paused: anchor \d jumped", said) and "outside the window" in said
    left = ast.literal_eval(re.findall(r"left, by the judge: (.*)", said)[-1])
    lost, *mended = (np.mean(distances) for distances in left.values())
    assert len(mended) == 3 and max(mended) < 0.7 * lost


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_the_bottleneck_knows_more_the_later_it_is_recorded() -> None:
    notebook = executed("04_what_the_bottleneck_knows")
    assert pictures(notebook) >= 2
    errors = [float(e) for e in re.findall(r"from step \d+: MSE ([\d.e+-]+)", printed(notebook))]
    assert len(errors) == 3 and errors == sorted(errors, reverse=True)


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_editors_side_by_side() -> None:
    notebook = executed("05_editors_side_by_side")
    assert pictures(notebook) >= 4
    counts = dict(re.findall(r"^(\w+) +(\d+) iterations, +[\d.]+ px left, reached", printed(notebook), re.MULTILINE))
    assert int(counts["dragnoise"]) < int(counts["dragdiffusion"])


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_ablations_and_failures() -> None:
    notebook = executed("06_ablations")
    assert pictures(notebook) >= 5
    said = printed(notebook)
    assert "opposed - drags 0 and 1 pull against each other" in said
    both, alone = map(float, re.findall(r"([\d.]+) px left with both drags, ([\d.]+) px with one", said)[0])
    assert alone < both


@pytest.mark.notebook
@pytest.mark.timeout(2000)
def test_a_benchmark_on_toyland(tmp_path: Path) -> None:
    notebook = executed("07_dragbench", OUT=str(tmp_path / "run"), CATEGORIES=["sun", "ear"])
    assert pictures(notebook) >= 3
    said = printed(notebook)
    assert "8 samples, 15 pairs" in said and "6 results" in said
    distance, length = map(float, re.findall(r"MD ([\d.]+) px; the drags are ([\d.]+) px long", said)[0])
    assert distance == pytest.approx(length, abs=8) and "SSIM to the given picture 1.0" in said
    tables = [o.data.get("text/markdown", "") for o in outputs(notebook) if "data" in o]
    assert any("| firm | all | 2 |" in text for text in tables) and any("| mean |" in text for text in tables)


@pytest.mark.notebook
@pytest.mark.timeout(2000)
@pytest.mark.skipif(not (DATA / "dragbench").is_dir(), reason=f"no DragBench samples in {DATA}; set DRAGNOISE_DATA")
def test_a_benchmark_on_real_samples_with_a_small_random_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text encoder reads 16 tokens, and says so of longer prompts."""
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    build_three_block().save_pretrained(tmp_path / "model")
    quick = {"side": 64, "steps": 4, "edit_from": 2}
    editors = {
        "dragnoise": {"preset": "dragnoise", "refine_from": 0, "max_iterations": 1}, "fastdrag": {"preset": "fastdrag"}
    }  # fmt: skip
    notebook = executed(
        "07_dragbench", OUT=str(tmp_path / "run"), DATA=str(DATA / "dragbench"), MODEL=str(tmp_path / "model"),
        EDITORS=editors, CATEGORIES=["animals", "human_head"], CHANGES=quick, SIDE=64,
        ENSEMBLE=1,
    )  # fmt: skip
    assert pictures(notebook) >= 3 and "10 samples" in printed(notebook) and "4 results" in printed(notebook)
