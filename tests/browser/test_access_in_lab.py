"""The studio without a mouse, in a dark theme, zoomed, with a busy kernel: in a real JupyterLab and a real Chromium.

The pictures that it takes are in tests/browser/out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Kernel, Lab, chromium
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright, so the browser tests are skipped")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine, so the browser tests are skipped"),
]

OUT = Path(__file__).parent / "out"
CELL = """
from dragnoise_widgets import DragStudio
studio = DragStudio(autosave=None)
studio
"""
BUSY = "import time; time.sleep(6)"
CONTROLS = {
    "button", "slider", "textbox", "spinbutton", "combobox", "checkbox", "tab", "canvas", "image", "application",
    "region", "link", "radio", "toggleButton", "progressbar", "img", "Canvas",
}  # fmt: skip
DROP = """async (studio) => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 40, height: 32 });
  canvas.getContext('2d').fillRect(0, 0, 20, 20);
  const blob = await new Promise((done) => canvas.toBlob(done));
  const data = new DataTransfer();
  data.items.add(new File([blob], 'a.png', { type: 'image/png' }));
  studio.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }));
}"""


DROP_A_LARGE_FILE = """async (studio) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(1e7)], 'dropped.png', { type: 'image/png' }));
  studio.dispatchEvent(new PointerEvent('pointerup', { bubbles: true })); // asks the kernel whether it is busy
  studio.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }));
}"""


class Opened:
    """The studio on a page, and its kernel."""

    def __init__(self, lab: Lab, browser: Any) -> None:
        OUT.mkdir(exist_ok=True)
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": 1400, "height": 900})
        self.page.set_default_timeout(30_000)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{lab.url}/lab/tree/studio.ipynb")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
        self.kernel: Kernel = lab.kernel()
        self.page.locator(".jp-Notebook .jp-CodeCell").first.click()
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_selector(".dragnoise-gallery")
        self.studio = self.page.locator(".dragnoise-studio").first
        self.page.wait_for_timeout(2500)

    @property
    def canvas(self) -> Any:
        return self.page.locator(".dragnoise-canvas canvas").first

    def shoot(self, name: str) -> None:
        self.studio.evaluate("e => e.scrollIntoView()")
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=OUT / f"access, {name}.png", scale="css")

    def unnamed(self) -> list[str]:
        """Controls and pictures of the studio without a name, as the accessibility tree has them."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("DOM.enable")
        session.send("Accessibility.enable")
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        root = next(n for n in nodes if value(n, "name") == "drag studio")
        below, new = [], [root["nodeId"]]
        by_id = {node["nodeId"]: node for node in nodes}
        while new:
            node = by_id.get(new.pop())
            if node is not None:
                below.append(node)
                new += node.get("childIds", [])
        assert len(below) > 100
        bad = [n for n in below if not n["ignored"] and value(n, "role") in CONTROLS and not value(n, "name").strip()]
        told = []
        for node in bad:
            html = session.send("DOM.resolveNode", {"backendNodeId": node["backendDOMNodeId"]})["object"]["objectId"]
            said = session.send(
                "Runtime.callFunctionOn",
                {"objectId": html, "functionDeclaration": "function() { return (this.outerHTML ?? '').slice(0, 200) }"},
            )
            told.append(f"{value(node, 'role')}: {said['result'].get('value')}")
        session.detach()
        return told


def value(node: dict[str, Any], name: str) -> str:
    return str(node.get(name, {}).get("value", ""))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.write_notebook("studio.ipynb", CELL, BUSY)
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with lab, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--disable-gpu", *root])
        opened = Opened(lab, browser)
        yield opened
        opened.kernel.close()
        browser.close()


def test_the_first_example_takes_one_pull_and_one_click(opened: Opened) -> None:
    opened.shoot("1 gallery")
    opened.page.locator(".dragnoise-gallery button").first.click()
    opened.kernel.until("studio.has_session and studio.wait(60)")
    opened.canvas.wait_for(state="visible")
    opened.shoot("2 an example")
    width, height = opened.kernel.ask("list(studio.session.image.size)")
    box = opened.canvas.bounding_box()
    drag = opened.kernel.ask(
        "[*map(list, (lambda d: (d.anchor, d.objective))"
        "(__import__('dragnoise_widgets.panels.gallery', fromlist=['']).EXAMPLES['sun'].case.drags[0]))]"
    )
    places = [(box["x"] + x * box["width"] / width, box["y"] + y * box["height"] / height) for x, y in drag]
    opened.page.mouse.move(*places[0])
    opened.page.mouse.down()
    opened.page.mouse.move(*places[1], steps=8)
    opened.page.mouse.up()
    opened.kernel.until("len(studio.session.drags) == 1")
    opened.studio.get_by_role("button", name="Run", exact=True).first.click()
    opened.kernel.until("len(studio.session.history) > 3 and studio.runner.state == 'idle' and studio.wait(90)")
    opened.shoot("3 after the run")


def test_no_control_is_without_a_name(opened: Opened) -> None:
    for title in ("Inspector", "Parameters", "Breakpoints", "Download and code", "Branches and files"):
        opened.studio.get_by_role("button", name=title, exact=True).first.focus()
        opened.page.keyboard.press("Enter")
    opened.kernel.ask("str(setattr(studio.canvas, 'tool', 'paint'))")
    opened.kernel.until("studio.wait(60)")
    opened.page.wait_for_timeout(1500)
    opened.studio.screenshot(path=OUT / "access, 4 all panels.png", scale="css")
    assert opened.unnamed() == []
    pressed = opened.studio.locator("[aria-pressed=true]").all_inner_texts()
    assert "Paint" in [text.strip() for text in pressed]
    assert opened.studio.get_by_role("tab", name="Loss").first.get_attribute("aria-selected") == "true"
    opened.studio.get_by_role("tab", name="Loss").first.focus()
    opened.page.keyboard.press("ArrowRight")
    opened.kernel.until("studio.inspector.selected_index == 1")
    for title in ("Inspector", "Parameters", "Breakpoints", "Download and code", "Branches and files"):
        opened.studio.get_by_role("button", name=title, exact=True).first.focus()
        opened.page.keyboard.press("Enter")
    opened.kernel.ask("str(setattr(studio.canvas, 'tool', 'drag'))")


def test_an_answer_comes_where_the_press_was(opened: Opened) -> None:
    page, answer = opened.page, opened.studio.locator(".dragnoise-answer")
    page.set_viewport_size({"width": 1400, "height": 700})
    files = opened.studio.get_by_role("button", name="Branches and files", exact=True).first
    files.focus()
    page.keyboard.press("Enter")
    save = opened.studio.get_by_role("button", name="Save", exact=True).last
    opened.studio.evaluate("e => e.scrollIntoView({ block: 'end' })")
    page.wait_for_timeout(500)
    save.click()
    answer.filter(has_text="saved to").wait_for()
    said, pressed = answer.bounding_box(), save.bounding_box()
    assert answer.inner_text().startswith("saved to") and said["y"] + said["height"] < 670, "and seen"
    assert abs(said["y"] - pressed["y"]) < 60 and abs(said["x"] - pressed["x"]) < 400
    page.screenshot(path=OUT / "access, answer.png", scale="css")
    files.focus()
    page.keyboard.press("Enter")
    page.set_viewport_size({"width": 1400, "height": 900})


def test_a_drag_is_made_and_run_by_keys_alone(opened: Opened) -> None:
    page, kernel = opened.page, opened.kernel
    kernel.ask("str(setattr(studio.canvas, 'drags', ()))")
    opened.canvas.focus()
    page.keyboard.press("a")
    kernel.until("len(studio.canvas.drags) == 1")
    at = kernel.ask("list(studio.canvas.drags[0].objective)")
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowLeft")
    kernel.until(f"list(studio.canvas.drags[0].objective) == [{at[0] - 1}, {at[1] - 10}]")
    page.wait_for_timeout(500)
    assert "1 drag, drag 0 chosen" in opened.canvas.get_attribute("aria-label")
    page.keyboard.press("Space")
    kernel.until("studio.runner.state == 'running' or len(studio.session.history) > 1")
    kernel.until("studio.runner.stop() is None and studio.wait(60)")
    assert opened.studio.locator(".dragnoise-live").inner_text() != ""


def test_wheel_and_space_zoom_and_pan_both_pictures(opened: Opened) -> None:
    page, kernel = opened.page, opened.kernel
    box = opened.canvas.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.keyboard.down("Control")
    for _ in range(4):
        page.mouse.wheel(0, -120)
        page.wait_for_timeout(60)
    page.keyboard.up("Control")
    kernel.until("studio.canvas.window.zoom > 1.5")
    left = kernel.ask("studio.canvas.window.left")
    opened.canvas.focus()
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 100, steps=5)
    page.mouse.up()
    page.keyboard.up("Space")
    kernel.until(f"studio.canvas.window.left > {left} + 5")
    assert kernel.ask("[len(studio.canvas.drags), studio.runner.state]") == [1, "idle"], "nothing was drawn or run"
    page.mouse.down(button="middle")
    page.mouse.move(box["x"] + 260, box["y"] + 100, steps=5)
    page.mouse.up(button="middle")
    opened.shoot("5 zoomed")
    page.keyboard.press("f")
    kernel.until("studio.canvas.window.zoom == 1")


def test_a_busy_kernel_is_told_of_and_forgotten(opened: Opened) -> None:
    page = opened.page
    line = opened.studio.locator(".dragnoise-busy")
    page.evaluate("window.late = 0")
    page.locator(".jp-Notebook .jp-CodeCell").last.click()
    page.keyboard.press("Control+Enter")
    page.wait_for_timeout(1000)
    opened.studio.get_by_role("button", name="Step", exact=True).first.focus()
    began = time.monotonic()
    page.keyboard.press("Enter")
    page.wait_for_timeout(420)
    told = line.inner_text()
    if told:  # with subshells the kernel answers
        assert "busy with another cell" in told
        page.screenshot(path=OUT / "access, 6 busy.png", scale="css")
        page.wait_for_function("document.querySelector('.dragnoise-busy').textContent === ''")
        assert time.monotonic() - began > 2
    print(f"\nwhile another cell runs: {told or 'the studio answers'}")
    opened.kernel.until("studio.wait(60)")


def test_a_picture_is_dropped(opened: Opened) -> None:
    opened.studio.evaluate(DROP)
    opened.kernel.until("list(studio.session.image.size) == [40, 32] and studio.wait(60)")


def test_a_picture_is_uploaded_and_one_too_large_for_the_connection_is_told(opened: Opened, tmp_path: Path) -> None:
    page, button = opened.page, opened.page.locator(".dragnoise-open-picture").first
    if not button.is_visible():
        page.locator(".dragnoise-studio [class*=Collapse-header]").first.click()
    small, large = tmp_path / "small.png", tmp_path / "large.bmp"
    Image.new("RGB", (44, 36), "olive").save(small)
    Image.new("RGB", (2400, 1400)).save(large)  # 10 MB
    for path in (large, small):
        with page.expect_file_chooser() as chooser:
            button.click()
        chooser.value.set_files(path)
        if path is large:
            page.wait_for_function(
                "document.querySelector('.dragnoise-busy').textContent.includes('large.bmp is larger')"
            )
            opened.shoot("8 too large")
    opened.kernel.until("studio.has_session and list(studio.session.image.size) == [44, 36] and studio.wait(60)")
    assert page.locator(".dragnoise-busy").first.inner_text() == ""
    opened.studio.evaluate(DROP_A_LARGE_FILE)
    page.wait_for_timeout(1500)  # the kernel's answer is not an answer to the file
    assert "dropped.png is larger" in page.locator(".dragnoise-busy").first.inner_text()
    opened.studio.evaluate(DROP)
    page.wait_for_function("document.querySelector('.dragnoise-busy').textContent === ''")
    opened.kernel.until("list(studio.session.image.size) == [40, 32] and studio.wait(60)")
    opened.studio.evaluate(DROP_A_LARGE_FILE)
    page.wait_for_function("document.querySelector('.dragnoise-busy').textContent.includes('dropped.png is larger')")
    opened.canvas.click(position={"x": 3, "y": 3})
    page.wait_for_function("document.querySelector('.dragnoise-busy').textContent === ''")


def test_a_dark_theme(opened: Opened) -> None:
    page, kernel = opened.page, opened.kernel
    kernel.ask("str(studio.library.choose(0))")
    kernel.until("studio.wait(60)")
    page.evaluate("document.activeElement.blur()")
    page.click(".lm-MenuBar-item:has-text('Settings')")
    page.hover(".lm-Menu-item:has-text('Theme')")
    page.click(".lm-Menu-item:has-text('JupyterLab Dark')")
    kernel.until("studio.access.dark")
    opened.shoot("7 dark")
    opened.studio.get_by_role("button", name="Inspector", exact=True).first.click()
    page.wait_for_timeout(1500)
    opened.studio.screenshot(path=OUT / "access, 8 dark, inspector.png", scale="css")
    option = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor].map(c => c.match(/\\d+/g)[0])"
    letters, ground = map(int, opened.studio.locator("select option").first.evaluate(option))
    assert abs(letters - ground) > 100, "a list can be read"
    page.set_viewport_size({"width": 1000, "height": 800})
    opened.shoot("9 dark 1000x800")
    assert not [told for told in kernel.ask("list(studio.journal.text)") if "Traceback" in told]
    assert not opened.complaints
