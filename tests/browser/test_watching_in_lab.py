"""Watching a drag in a real JupyterLab: all on one screen, a picture in every iteration, played again.

The times of a first run are printed, not asserted.  The pictures that it takes are in tests/browser/out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import PATIENCE, Kernel, Lab, chromium

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright, so the browser tests are skipped")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine, so the browser tests are skipped"),
]

OUT = Path(__file__).parent / "out"
SIZES = [(1400, 900), (1000, 800), (1120, 720)]
"""Windows of the browser; the last is 1400x900 at 125 %."""

CELL = """
from dragnoise.toyland import caption, drag_cases, render
from dragnoise_widgets import DragStudio
case = drag_cases("sun", 8, seed=20_000_000)[7]
studio = DragStudio(picture=render(case.scene), prompt=caption(case.scene), autosave=None)
studio.canvas.drags, studio.canvas.mask = case.drags, case.mask
studio
"""
PARTS = {
    "canvas": ".dragnoise-canvas canvas",
    "picture": ".dragnoise-overlay",
    "Run": ".dragnoise-studio button:has-text('Run')",
    "scrubber": ".dragnoise-studio .widget-hslider:has-text('iteration')",
    "state": ".dragnoise-studio b",
    "curves": ".dragnoise-studio svg",
}
DOCUMENTED = {
    "all": ".dragnoise-studio",
    "source": ".dragnoise-studio [class*=Collapse-header]",
    "prepare": "button:has-text('Prepare')",
    "run": "button:has-text('Step')",
    "scrubber": "button[title^='Play']",
    "continue": "button:has-text('Back to here')",
    "state": ".dragnoise-studio b",
    "tools": ".dragnoise-tools",
    "canvas": ".dragnoise-canvas canvas",
    "curtain": ".dragnoise-preview .widget-hslider",
    "picture": ".dragnoise-overlay",
    "show": ".dragnoise-preview .widget-dropdown:has-text('show')",
    "choice": ".dragnoise-choice",
    "curves": ".dragnoise-studio svg",
    "mask": ".dragnoise-tools:has-text('brush')",
    "table": ".dragnoise-table",
    "folds": "[class*=Collapse-header]:has-text('Inspector')",
}
"""The parts that docs/studio.md explains, by their names in docs/label_studio.py."""

FOLD = ".dragnoise-studio [class*=Collapse-open]"
TABS = ("Loss", "Anchors", "Bottleneck", "Latents", "Features", "LoRA", "Log")
FOLDS = {
    "inspector": {"all": f"{FOLD}:has([role=tab])"}
    | {tab.lower(): f"{FOLD} [role=tab]:has-text('{tab}')" for tab in TABS},
    "parameters": {
        "all": f"{FOLD}:has(select)",
        "preset": f"{FOLD} .widget-dropdown",
        "number": f"{FOLD} [style*=monospace]:text('edit_from')",
        "meaning": f"{FOLD} .widget-html:has-text('inversion stops after')",
        "others": f"{FOLD} [class*=Collapse-header]:has-text('All other')",
    },
    "branches": {
        "all": f"{FOLD}:has(button:has-text('Save'))",
        "thumbnail": f"{FOLD} img",
        "name": f"{FOLD} input[type=text] >> nth=0",
        "show": f"{FOLD} button:has-text('Show') >> nth=0",
        "remove": f"{FOLD} button:has(.fa-trash) >> nth=0",
        "compare": f"{FOLD} .widget-dropdown:has-text('compare with')",
        "file": f"{FOLD} .widget-text:has-text('file')",
        "autosave": f"{FOLD} .widget-checkbox:has-text('autosave')",
    },
}  # fmt: skip
"""The same of the folded panels, by the first word of their headers."""

FORTY = "str(studio.configure(max_iterations=40, drag_steps=8, step_iterations=5, tolerance=1e-3))"
"""So many iterations, since no anchor comes as near as that."""

PAIRS = 5
SHARES = f"""
def cpu(looks):
    edit = session.branch(0)
    edit.config = edit.config.replace(max_iterations=10, drag_steps=5, step_iterations=2)
    began = time.process_time()
    for _ in edit.optimize():
        if looks is not None:
            looks.look(edit)
    return time.process_time() - began
import time
from statistics import median
from dragnoise.inspection.quick_look import QuickLooks
looks = QuickLooks(session.model)
cpu(None), cpu(looks)
pairs = [(cpu(None), cpu(looks)) for _ in range({PAIRS})]
share = median(b / a for a, b in pairs) - 1
"""
"""CPU time of ten iterations without looks and with them, in turn."""

CPU = "__import__('time').process_time()"
"""Seconds of CPU time that the kernel has taken, which another load on the machine hardly changes."""

COUNT = """() => {
  window.frames_shown = 0;
  window.frames_counter?.disconnect();
  const picture = document.querySelector('.dragnoise-overlay img');
  window.frames_counter = new MutationObserver(() => window.frames_shown++);
  window.frames_counter.observe(picture, { attributeFilter: ['src'] });
}"""


class Watched:
    """The studio on a page, and its kernel."""

    def __init__(self, lab: Lab, browser: Any) -> None:
        OUT.mkdir(exist_ok=True)
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": 1400, "height": 900})
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{lab.url}/lab/tree/studio.ipynb")  # with the file browser beside it
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
        self.kernel: Kernel = lab.kernel()
        self.page.click(".lm-MenuBar-item:has-text('Run')")
        self.page.click(".lm-Menu-item:has-text('Run All Cells')")
        started = time.monotonic()
        self.page.wait_for_selector(".dragnoise-canvas canvas")
        self.seconds_to_studio = time.monotonic() - started
        self.page.locator(".dragnoise-studio button:has-text('Run'):enabled").first.wait_for()
        self.seconds_to_model, self.work_to_model = time.monotonic() - started, self.kernel.ask(CPU)
        self.kernel.until("studio.wait(60)")
        self.kernel.run("session = studio.session")

    def button(self, label: str) -> Any:
        return self.page.locator(f".dragnoise-studio button:has-text('{label}')").first

    def look(self, size: tuple[int, int], name: str) -> dict[str, dict[str, float]]:
        """Where the parts are in a window of this size, with the studio at the notebook's top."""
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self.page.wait_for_timeout(800)
        self.page.locator(".dragnoise-studio").first.evaluate("e => e.scrollIntoView()")
        self.page.wait_for_timeout(400)
        self.page.screenshot(path=OUT / f"watching, {name} {size[0]}x{size[1]}.png", scale="css")
        return {part: self.page.locator(selector).first.bounding_box() for part, selector in PARTS.items()}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.write_notebook("studio.ipynb", CELL)
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with lab, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--disable-gpu", *root])
        watched = Watched(lab, browser)
        yield watched
        watched.kernel.close()
        browser.close()


def require_on_one_screen(places: dict[str, dict[str, float]], size: tuple[int, int]) -> None:
    bottom = size[1] - 30  # JupyterLab's status bar
    for part, box in places.items():
        assert box["y"] >= 80 and box["y"] + box["height"] <= bottom, f"{part} at {size}: {box}"
        assert box["x"] + box["width"] <= size[0], f"{part} at {size}: {box}"
    canvas, picture = places["canvas"], places["picture"]
    assert abs(canvas["y"] - picture["y"]) <= 1 and abs(canvas["width"] - picture["width"]) <= 1
    assert canvas["x"] + canvas["width"] < picture["x"] and canvas["width"] >= 260


@pytest.mark.parametrize("size", SIZES)
def test_pictures_run_scrubber_state_and_curves_are_on_one_screen(watched: Watched, size: tuple[int, int]) -> None:
    require_on_one_screen(watched.look(size, "before"), size)


def test_a_picture_comes_in_every_iteration(watched: Watched) -> None:
    page, kernel = watched.page, watched.kernel
    before = watched.look(SIZES[0], "before")
    page.evaluate(COUNT)
    worked, started = kernel.ask(CPU), time.monotonic()
    watched.button("Run").click()
    page.wait_for_function("window.frames_shown > 0")
    first, work = time.monotonic() - started, kernel.ask(CPU) - worked
    assert page.locator(".dragnoise-quick").first.is_visible()
    during = watched.look(SIZES[0], "running")
    kernel.until("studio.runner.state == 'idle' and len(studio.session.history) > 1")
    ran = time.monotonic() - started
    frames, iterations = page.evaluate("window.frames_shown"), kernel.ask("len(studio.session.history) - 1")
    kernel.until("studio.wait(60) and not studio.preview.quick")
    page.locator(".dragnoise-quick").first.wait_for(state="hidden")
    print(
        f"\nstudio {watched.seconds_to_studio:.1f} s after running its cell, "
        f"with its model {watched.seconds_to_model:.1f} s ({watched.work_to_model:.1f} s CPU), "
        f"first quick look {first:.1f} s after Run ({work:.1f} s CPU), {frames} frames in {iterations} iterations, "
        f"{ran:.1f} s for the run (load {os.getloadavg()[0]:.1f})"
    )
    assert frames >= 0.6 * iterations
    for part in ("canvas", "picture", "Run", "scrubber"):
        assert before[part] == during[part], f"{part} moved"
    assert kernel.ask("studio.preview.caption.value") == f"iteration {iterations}"


@pytest.mark.parametrize("size", SIZES)
def test_after_the_run_they_still_are(watched: Watched, size: tuple[int, int]) -> None:
    require_on_one_screen(watched.look(size, "after"), size)


@pytest.mark.parametrize("size", SIZES)
def test_nothing_moves_for_a_long_error_or_a_question(watched: Watched, size: tuple[int, int]) -> None:
    kernel, before = watched.kernel, watched.look(size, "calm")
    error = "this is an error that says at length what was given, what was expected and what to do next, " * 4
    kernel.run(f"studio.messages.refused({error + '.'!r})")
    kernel.run(
        "studio.question.ask('Load the model that the file was made with?', [('Load', str), ('Only view', str)])"
    )
    after = watched.look(size, "error and question")
    line = watched.page.locator(".dragnoise-line").first
    assert line.bounding_box()["height"] <= 44 and "this is an error" in line.inner_text()
    line.hover()
    assert watched.page.locator(".dragnoise-line .widget-html-content").first.bounding_box()["height"] > 44
    watched.page.mouse.move(2, 2)
    kernel.run("studio.question.withdraw(); studio.messages.clear()")
    assert [(at["x"], at["y"]) for at in after.values()] == [(at["x"], at["y"]) for at in before.values()]


def test_the_picture_of_the_documentation(watched: Watched) -> None:
    """docs/label_studio.py makes the pictures of docs/studio.md of what is made here."""
    page = watched.page
    page.keyboard.press("Escape")
    page.keyboard.press("Control+b")  # without the file browser
    watched.kernel.ask("str(setattr(studio.preview.slider, 'value', 0))")
    watched.look((1320, 960), "documentation")
    places = {"studio": shoot(page, "studio", DOCUMENTED)}
    watched.kernel.run("main = studio.session; studio.branch(12)")
    watched.kernel.until("studio.wait(60)")
    for name, parts in FOLDS.items():
        header = page.locator(f".dragnoise-studio [class*=Collapse-header]:has-text('{name.capitalize()}')").first
        header.click()
        page.wait_for_timeout(2500)
        header.evaluate("e => e.scrollIntoView()")
        page.wait_for_timeout(500)
        places[name] = shoot(page, name, parts)
        header.click()
    (OUT / "documentation.json").write_text(json.dumps(places))
    watched.kernel.run("studio.session = main")
    watched.kernel.until("studio.wait(60)")
    page.keyboard.press("Control+b")


def shoot(page: Any, name: str, parts: dict[str, str]) -> dict[str, list[float]]:
    """Take the page's picture, and give the box of every part."""
    page.screenshot(path=OUT / f"documentation, {name}.png", scale="css")
    boxes = {part: page.locator(selector).first.bounding_box() for part, selector in parts.items()}
    assert all(boxes.values()), [part for part, box in boxes.items() if not box]
    return {part: [box[key] for key in ("x", "y", "width", "height")] for part, box in boxes.items()}


def test_it_is_played_again_from_the_looks(watched: Watched) -> None:
    page, kernel = watched.page, watched.kernel
    page.evaluate(COUNT)
    page.locator(".dragnoise-studio button[title^='Play']").first.click()
    kernel.until("studio.presenter.player.playing or studio.iteration > 1")
    kernel.until("not studio.presenter.player.playing and studio.iteration == len(studio.session.history) - 1")
    page.wait_for_timeout(500)
    assert page.evaluate("window.frames_shown") >= 3  # a page leaves frames out where the machine is busy
    assert not [told for told in kernel.ask("list(studio.journal.text)") if "Traceback" in told]
    assert not watched.complaints


def test_the_times_of_forty_iterations_are_printed(watched: Watched) -> None:
    """On a quiet machine: 25 frames or more, at most 1.2 times as long as without them and a fifth of an iteration."""
    page, kernel = watched.page, watched.kernel
    seconds, work = {}, {}
    for shown in ("end", 0):
        kernel.ask(FORTY)
        kernel.until("studio.wait(60)")
        kernel.ask(
            f"str((setattr(studio.preview.every, 'value', {shown!r}), studio.session.history and studio.rewind(0)))"
        )
        kernel.until("studio.wait(60)")
        page.evaluate(COUNT)
        worked, started = kernel.ask(CPU), time.monotonic()
        watched.button("Run").click()
        kernel.until("studio.runner.state == 'idle' and len(studio.session.history) == 41")
        seconds[shown], work[shown] = time.monotonic() - started, kernel.ask(CPU) - worked
        if shown:
            frames = page.evaluate("window.frames_shown")
        kernel.until("studio.wait(120)")
    kernel.run(SHARES)
    share = kernel.ask("share")
    print(
        f"\n{frames} frames in 40 iterations, {seconds['end']:.1f} s with quick looks and {seconds[0]:.1f} s without "
        f"({seconds['end'] / seconds[0]:.2f} times; of the kernel's CPU time {work['end'] / work[0]:.2f} times); "
        f"without a page {share:.0%} more CPU time, median of {PAIRS} pairs (load {os.getloadavg()[0]:.1f})"
    )
    assert frames > 1
