"""Keys on a focused canvas, in a real JupyterLab and a real Chromium; notebook shortcuts must not fire."""

from __future__ import annotations

import os
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
CELL = """
import numpy as np
from dragnoise_widgets.canvas.canvas import DragCanvas
canvas = DragCanvas((np.indices((96, 128)).sum(0) % 64 * 3)[..., None].repeat(3, 2).astype("uint8"))
done = []
canvas.actions["run_or_pause"] = lambda: done.append("run")
canvas
"""
FOCUSED = "document.activeElement.closest('.dragnoise-canvas') !== null"


class Opened:
    """The notebook on a page, and its kernel."""

    def __init__(self, lab: Lab, browser: Any) -> None:
        OUT.mkdir(exist_ok=True)
        self.page = browser.new_page(viewport={"width": 1100, "height": 800})
        self.page.set_default_timeout(1000 * PATIENCE)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{lab.url}/lab/tree/canvas.ipynb")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.page.keyboard.press("Control+b")
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
        self.kernel: Kernel = lab.kernel()
        self.page.click(".lm-MenuBar-item:has-text('Run')")
        self.page.click(".lm-Menu-item:has-text('Run All Cells')")
        self.page.wait_for_selector(".dragnoise-canvas canvas")
        self.page.wait_for_timeout(1000)
        self.canvas = self.page.locator(".dragnoise-canvas canvas").first

    @property
    def cells(self) -> int:
        return self.page.locator(".jp-Notebook .jp-Cell").count()

    def begin(self) -> None:
        """An empty canvas on the top of the page, without the focus, as if no test had run before."""
        self.page.evaluate("document.activeElement.blur()")
        self.page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        self.kernel.ask("str((canvas.begin(canvas.image), setattr(canvas, 'tool', 'drag'), done.clear()))")

    def pull(self) -> None:
        """An arrow with the mouse, which gives the canvas the focus."""
        box = self.canvas.bounding_box()
        mouse = self.page.mouse
        mouse.move(box["x"] + 100, box["y"] + 100)
        mouse.down()
        mouse.move(box["x"] + 200, box["y"] + 150, steps=5)
        mouse.up()


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.write_notebook("canvas.ipynb", CELL, "done", "")
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with lab, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--disable-gpu", *root])
        opened = Opened(lab, browser)
        yield opened
        opened.kernel.close()
        browser.close()


@pytest.fixture
def opened(notebook: Opened) -> Opened:
    notebook.begin()
    return notebook


def test_no_shortcut_of_the_notebook_fires_while_the_canvas_has_the_focus(opened: Opened) -> None:
    page, kernel = opened.page, opened.kernel
    before = opened.cells
    opened.pull()
    kernel.until("len(canvas.drags) == 1")
    assert page.evaluate(FOCUSED)
    for name in "xbddycvmrlhojkpu01234567890000-=;'/\\`":
        page.keyboard.press(name)
        assert page.evaluate(FOCUSED), f"{name} took the focus away"
    for name in ("Enter", "Shift+M", "Shift+L", "Shift+V", "Shift+ArrowDown", "Shift+K", "Escape", "Space"):
        page.keyboard.press(name)
        assert page.evaluate(FOCUSED), f"{name} took the focus away"
    page.wait_for_timeout(500)
    assert opened.cells == before
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(".jp-Notebook .jp-CodeCell").count() == before, "no cell became text"
    assert page.locator(".jp-Notebook .jp-Cell.jp-mod-selected").count() == 1
    kernel.until("done == ['run']")
    assert kernel.ask("[len(canvas.drags), canvas.tool]") == [1, "drag"]


def test_the_keys_do_what_the_help_says(opened: Opened) -> None:
    page, kernel = opened.page, opened.kernel
    opened.pull()
    kernel.until("canvas.selected == 0")
    page.keyboard.press("Escape")
    kernel.until("canvas.selected == -1")
    page.keyboard.press("b")
    kernel.until("canvas.tool == 'paint'")
    page.keyboard.press("e")
    kernel.until("canvas.tool == 'erase'")
    page.keyboard.press("d")
    kernel.until("canvas.tool == 'drag'")
    page.keyboard.press("0")
    kernel.until("canvas.selected == 0")
    x = kernel.ask("canvas.drags[0].objective[0]")
    page.keyboard.press("ArrowRight")
    kernel.until(f"abs(canvas.drags[0].objective[0] - {x} - 1) < 1e-9")
    page.keyboard.press("z")
    kernel.until(f"canvas.drags[0].objective[0] == {x}")
    page.keyboard.press("?")
    page.locator("table[aria-label='Keys']").wait_for(state="visible")
    page.screenshot(path=OUT / "canvas, keys.png")
    page.keyboard.press("?")
    page.locator("table[aria-label='Keys']").wait_for(state="hidden")


def test_tab_and_the_wheel_are_the_page_s(opened: Opened) -> None:
    page = opened.page
    opened.canvas.focus()
    page.keyboard.press("Tab")
    assert not page.evaluate(FOCUSED)
    opened.canvas.focus()
    page.keyboard.press("Shift+Tab")
    assert not page.evaluate(FOCUSED)
    scrolled = "document.querySelector('.jp-WindowedPanel-outer').scrollTop"
    page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
    opened.canvas.hover(position={"x": 50, "y": 60})
    page.mouse.wheel(0, 60)
    page.wait_for_function(f"{scrolled} > 20")


def test_elsewhere_the_shortcuts_work(opened: Opened) -> None:
    before = opened.cells
    opened.page.locator(".jp-Notebook .jp-Cell .jp-InputPrompt").first.click()
    opened.page.keyboard.press("Escape")
    opened.page.keyboard.press("b")
    opened.page.locator(".jp-Notebook .jp-Cell").nth(before).wait_for(state="attached")
    assert opened.cells == before + 1
    assert not opened.complaints
