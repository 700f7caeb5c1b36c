"""A person's first minutes with the studio, in a real JupyterLab and a real Chromium.

The pictures that it takes on the way are in tests/browser/out.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import PATIENCE, Lab, chromium
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright, so the browser tests are skipped")

OUT = Path(__file__).parent / "out"
ARGUMENTS = [
    "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
BY_HAND = ((93.0, 24.0), (73.0, 33.0))
"""Where the mouse pulls, in pixels of the picture: the sun, down to the left."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine, so the browser tests are skipped"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        running = playwright.chromium.launch(executable_path=chromium(), args=[*ARGUMENTS, *root])
        yield running
        running.close()


class Notebook:
    """Notebook 01 on a page, and its kernel."""

    def __init__(self, lab: Any, browser: Any, *, width: int, height: int, **page: Any) -> None:
        OUT.mkdir(exist_ok=True)
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": height}, **page)
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self.heard)
        self.page.goto(f"{lab.url}/lab/tree/01_first_drag.ipynb")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.page.keyboard.press("Control+b")  # the file browser is in the way
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
        self.kernel = lab.kernel()
        self.page.click(".lm-MenuBar-item:has-text('Run')")
        self.page.click(".lm-Menu-item:has-text('Run All Cells')")
        self.kernel.until("'masked' in globals()")  # all cells have run
        self.go_to_studio()

    def heard(self, line: Any) -> None:
        """Notes an error; the badge of a notebook lies on the network, which may not be there."""
        if line.type == "error" and "ERR_NAME_NOT_RESOLVED" not in line.text:
            self.complaints.append(line.text)

    def go_to_studio(self) -> None:
        """The first screen, away from the last cell, where running all cells ends."""
        self.page.wait_for_timeout(1000)
        self.page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        self.page.wait_for_selector(".dragnoise-canvas canvas")
        self.kernel.until("studio.canvas.page_events.seen > 0")  # by which its own pixels follow
        self.page.wait_for_timeout(500)

    @property
    def canvas(self) -> Any:
        return self.page.locator(".dragnoise-canvas canvas").first

    def button(self, label: str) -> Any:
        return self.page.locator(".dragnoise-studio button").filter(has_text=re.compile(f"^\\s*{label}\\s*$")).first

    def shoot(self, name: str) -> None:
        """The page as it is, with the studio's tools at its top."""
        self.page.locator(".dragnoise-studio").first.evaluate("e => e.scrollIntoView()")
        self.page.wait_for_timeout(400)
        self.page.screenshot(path=OUT / f"{name}.png", scale="css")

    def on_page(self, point: tuple[float, float]) -> tuple[float, float]:
        """Image pixels -> where that is on the page."""
        box = self.canvas.bounding_box()
        width, height = self.kernel.ask("list(studio.session.image.size)")
        return (
            box["x"] + (point[0] + 0.5) * box["width"] / width,
            box["y"] + (point[1] + 0.5) * box["height"] / height,
        )

    @property
    def near(self) -> float:
        """Image pixels that a point put by hand may be off: a CSS pixel, in which the browser counts, and rounding."""
        return float(self.kernel.ask("studio.session.image.size[0]") / self.canvas.bounding_box()["width"] + 0.05)

    def pull(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press, move, release."""
        self.canvas.scroll_into_view_if_needed()
        mouse = self.page.mouse
        mouse.move(*self.on_page(start))
        mouse.down()
        mouse.move(*self.on_page(end), steps=12)
        mouse.up()

    def pull_by_finger(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The same by touch."""
        self.canvas.scroll_into_view_if_needed()
        finger = self.page.context.new_cdp_session(self.page)
        for kind, share in [("touchStart", 0.0), *(("touchMove", i / 8) for i in range(1, 9)), ("touchEnd", 1.0)]:
            x, y = self.on_page((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
            finger.send(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": [] if kind == "touchEnd" else [{"x": x, "y": y}]},
            )
            self.page.wait_for_timeout(30)
        finger.detach()

    def pinch(self, start: float, end: float) -> None:
        """Two fingers about the picture's middle, so many pixels of the picture apart at the start and at the end."""
        self.canvas.scroll_into_view_if_needed()
        finger = self.page.context.new_cdp_session(self.page)
        width, height = self.kernel.ask("list(studio.session.image.size)")
        gaps = [start + (end - start) * i / 8 for i in range(9)]
        for kind, gap in [("touchStart", start), *(("touchMove", gap) for gap in gaps), ("touchEnd", end)]:
            ends = [self.on_page((width / 2 + sign * gap / 2, height / 2)) for sign in (-1, 1)]
            points = [] if kind == "touchEnd" else [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(ends)]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            self.page.wait_for_timeout(30)
        finger.detach()

    def pixels(self) -> np.ndarray:
        """What is drawn on the canvas, (h, w, 4) uint8."""
        url = self.canvas.evaluate("c => c.toDataURL('image/png')")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))

    def around(self, point: tuple[float, float], radius: float) -> np.ndarray:
        """The canvas's colours (h, w, 3) within so many pixels of the picture."""
        pixels = self.pixels()
        width, height = self.kernel.ask("list(studio.session.image.size)")
        (x0, x1), (y0, y1) = (
            (int((v - radius) * many / all_), int((v + radius) * many / all_))
            for v, many, all_ in zip(point, pixels.shape[1::-1], (width, height), strict=True)
        )
        return pixels[y0:y1, x0:x1, :3].astype(int)

    def colour_at(self, point: tuple[float, float]) -> np.ndarray:
        """The canvas's colour at a point of the picture."""
        pixels = self.pixels()
        width, height = self.kernel.ask("list(studio.session.image.size)")
        return pixels[
            int((point[1] + 0.5) * pixels.shape[0] / height), int((point[0] + 0.5) * pixels.shape[1] / width)
        ].astype(int)


@pytest.fixture(scope="module")
def notebook(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        notebook = Notebook(lab, browser, width=1280, height=800)
        yield notebook
        notebook.kernel.close()
        notebook.page.close()


def test_an_arrow_is_pulled_with_the_mouse(notebook: Notebook) -> None:
    given = notebook.pixels()
    assert given[..., 3].min() == 255 and given[..., :3].std() > 20  # the picture is there
    notebook.pull(*BY_HAND)
    drags = notebook.kernel.until("[[list(d.anchor), list(d.objective)] for d in studio.session.drags]")
    np.testing.assert_allclose(drags, [BY_HAND], atol=notebook.near)
    notebook.page.wait_for_timeout(500)
    anchor, objective = (notebook.colour_at(point) for point in BY_HAND)
    assert anchor[0] > anchor[2] + 60, "the anchor is red"
    far = notebook.pixels().astype(int) - given
    assert np.abs(far).max(-1).mean() < 30, "the rest is as it was"
    assert (objective != given[0, 0]).any()
    notebook.shoot("1 an arrow")


def test_the_keys_are_the_canvas_s_and_all_others_the_page_s(notebook: Notebook) -> None:
    page, ask = notebook.page, notebook.kernel.until
    drags = "[[list(d.anchor), list(d.objective)] for d in studio.session.drags]"
    pulled = notebook.kernel.ask(drags)
    page.mouse.click(*notebook.on_page(BY_HAND[1]))  # selects the objective
    page.keyboard.press("ArrowRight")
    moved = [BY_HAND[0], (BY_HAND[1][0] + 1, BY_HAND[1][1])]
    ask(f"abs(studio.session.drags[0].objective[0] - {pulled[0][1][0] + 1}) < 1e-6")
    np.testing.assert_allclose(notebook.kernel.ask(drags), [moved], atol=notebook.near)
    page.keyboard.press("Control+z")
    ask(f"{drags} == {pulled}")
    page.keyboard.press("Control+z")
    ask("len(studio.session.drags) == 0")
    page.keyboard.press("Control+Shift+z")
    ask(f"{drags} == {pulled}")

    focused = "document.activeElement.closest('.dragnoise-canvas') !== null"
    assert page.evaluate(focused)
    page.keyboard.press("Tab")
    assert not page.evaluate(focused), "Tab leaves the canvas"

    scrolled = "document.querySelector('.jp-WindowedPanel-outer').scrollTop"
    notebook.canvas.click(position={"x": 5, "y": 5}, button="right")  # not the left button, so nothing happens
    page.keyboard.press("Escape")
    before = page.evaluate(scrolled)
    page.mouse.move(*notebook.on_page((64, 64)))
    page.mouse.wheel(0, 150)
    page.wait_for_function(f"{scrolled} > {before + 50}")
    notebook.go_to_studio()
    assert notebook.kernel.ask(drags) == pulled


def test_three_steps(notebook: Notebook) -> None:
    for k in (1, 2, 3):
        notebook.button("Step").click()
        notebook.kernel.until(f"len(studio.session.history) == {k + 1} and studio.runner.state == 'idle'")
    losses = notebook.kernel.ask("[s.loss for s in studio.session.history[1:]]")
    assert len(losses) == 3 and all(loss > 0 for loss in losses)
    notebook.page.locator(".dragnoise-studio").get_by_text("iteration 3:").first.wait_for()
    notebook.shoot("2 three steps")


def test_run_and_pause(notebook: Notebook) -> None:
    notebook.kernel.ask("str(studio.configure(max_iterations=3000, lr=1e-4))")  # so that it does not end by itself
    notebook.button("Run").click()
    notebook.kernel.until("len(studio.session.history) > 6")
    notebook.button("Pause").click()
    notebook.kernel.until("studio.runner.state == 'paused'")
    paused = notebook.kernel.ask("len(studio.session.history)")
    notebook.page.wait_for_timeout(700)
    assert notebook.kernel.ask("len(studio.session.history)") == paused
    notebook.shoot("3 paused")


def test_scrubbing_back_shows_what_was(notebook: Notebook) -> None:
    last = notebook.kernel.ask("studio.iteration")
    notebook.kernel.until("studio.wait(60)")
    slider = notebook.page.locator(".dragnoise-studio .widget-hslider", has_text="iteration").first
    slider.locator(".noUi-handle").focus()
    for _ in range(2):
        notebook.page.keyboard.press("ArrowLeft")
    notebook.kernel.until(f"studio.iteration == {last - 2}")
    assert notebook.kernel.ask("len(studio.canvas.trajectory)") == last  # the start, and where each update led
    notebook.kernel.until("studio.preview.caption.value == f'iteration {studio.iteration}'")
    notebook.shoot("4 scrubbed back")


def test_go_on_from_there_to_the_end(notebook: Notebook) -> None:
    here = notebook.kernel.ask("studio.iteration")
    kept = notebook.kernel.ask(f"[s.loss for s in studio.session.history[1:{here + 1}]]")
    notebook.kernel.ask(
        "str(studio.configure(max_iterations=studio.iteration + 30, lr=studio.session.model.default_config.lr))"
    )
    notebook.button("Continue from here").click()
    notebook.kernel.until("studio.runner.state == 'idle' and studio.wait(60)")
    assert notebook.kernel.ask(f"[s.loss for s in studio.session.history[1:{here + 1}]]") == kept
    assert here < notebook.kernel.ask("studio.session.history[-1].iteration") <= here + 30
    assert notebook.kernel.ask("studio.session.status") in ("reached", "max_iterations")
    notebook.kernel.until("studio.preview.caption.value == f'iteration {len(studio.session.history) - 1}'")
    notebook.shoot("5 the end")


def test_the_picture_is_downloaded(notebook: Notebook, tmp_path: Path) -> None:
    notebook.page.locator(".dragnoise-studio").get_by_text("Download and code").first.click()
    with notebook.page.expect_download() as coming:
        notebook.page.locator(".dragnoise-studio a[download$='.png']").first.click()
    path = tmp_path / coming.value.suggested_filename
    coming.value.save_as(path)
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert picture.shape == (128, 128, 3)
    assert notebook.kernel.ask("__import__('numpy').asarray(studio.image).astype(int).tolist()") == picture.tolist()
    given = np.array(notebook.kernel.ask("__import__('numpy').asarray(studio.session.image).astype(int).tolist()"))
    assert np.abs(picture - given).max() > 40, "the picture was edited"
    notebook.shoot("6 download")


def test_the_inspector_looks_inside(notebook: Notebook) -> None:
    studio = notebook.page.locator(".dragnoise-studio")
    studio.get_by_text("Inspector").first.click()
    for title in ("Loss", "Anchors", "Bottleneck", "Latents", "Features", "LoRA", "Log"):
        studio.locator(".lm-TabBar-tab, .p-TabBar-tab").filter(has_text=title).first.click()
        notebook.page.wait_for_timeout(600)
        notebook.kernel.until("studio.wait(60)")
        notebook.page.wait_for_timeout(600)
        shown = studio.locator(".lm-TabPanel-stackedPanel, .widget-tab-contents").first
        shown.evaluate("e => e.scrollIntoView({block: 'end'})")
        notebook.page.screenshot(path=OUT / f"7 {title.lower()}.png")
    assert notebook.kernel.ask("[told for told in studio.journal.text if 'Traceback' in told]") == []


def test_a_run_from_the_start_with_the_model_s_own_numbers(notebook: Notebook) -> None:
    kernel = notebook.kernel
    notebook.page.locator(".dragnoise-studio").get_by_text("Inspector").first.click()
    kernel.ask("str((studio.rewind(0), setattr(studio.session, 'config', studio.session.model.default_config)))")
    notebook.button("Run").click()
    kernel.until("len(studio.session.history) > 5 and studio.runner.state == 'idle' and studio.wait(60)")
    kernel.until("studio.preview.caption.value == f'iteration {len(studio.session.history) - 1}'")
    start, end = map(np.array, BY_HAND)
    now = np.array(kernel.ask("studio.session.anchors[0].tolist()"))
    assert np.linalg.norm(now - end) < np.linalg.norm(start - end) / 2
    notebook.shoot("8 from the start")


def test_a_reloaded_page_is_drawn_again(notebook: Notebook) -> None:
    notebook.page.keyboard.press("Escape")
    notebook.page.click(".jp-NotebookPanel .jp-Toolbar [data-command='docmanager:save'], button[title^='Save']")
    notebook.page.wait_for_timeout(2000)
    before = notebook.pixels()
    notebook.page.reload()
    notebook.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    notebook.go_to_studio()
    notebook.page.wait_for_function(
        "document.querySelector('.dragnoise-canvas canvas').getContext('2d').getImageData(9, 9, 1, 1).data[3] > 0"
    )
    notebook.page.wait_for_timeout(1500)
    after = notebook.pixels()
    assert after.shape == before.shape
    assert np.abs(after.astype(int) - before).max(-1).mean() < 2
    notebook.shoot("8 reloaded")


def test_the_browser_has_nothing_to_complain_of(notebook: Notebook) -> None:
    assert not notebook.complaints


def test_a_narrow_and_dense_page_with_touch(browser: Any, tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        notebook = Notebook(lab, browser, width=900, height=800, device_scale_factor=2, has_touch=True)
        notebook.pull(*BY_HAND)
        drags = notebook.kernel.until("[[list(d.anchor), list(d.objective)] for d in studio.session.drags]")
        np.testing.assert_allclose(drags, [BY_HAND], atol=notebook.near)
        notebook.pull_by_finger((100.0, 90.0), (80.0, 100.0))
        notebook.kernel.until("len(studio.session.drags) == 2")
        drags = notebook.kernel.ask("[[list(d.anchor), list(d.objective)] for d in studio.session.drags]")
        np.testing.assert_allclose(drags, [BY_HAND, ((100.0, 90.0), (80.0, 100.0))], atol=notebook.near)
        notebook.kernel.ask("str(studio.canvas.undo())")
        notebook.pinch(20, 60)
        notebook.kernel.until("studio.canvas.window.zoom > 2")
        notebook.pinch(60, 10)
        notebook.kernel.until("studio.canvas.window.zoom == 1")
        assert notebook.kernel.ask("[len(studio.canvas.drags), studio.canvas.pending]") == [1, None]
        studio = notebook.page.locator(".dragnoise-studio").first
        assert studio.evaluate("e => e.scrollWidth - e.clientWidth") <= 1, "nothing sticks out"
        notebook.shoot("9 narrow")
        studio.screenshot(path=OUT / "9 narrow, all of it.png", scale="css")
        for name, grey in (("black", 0), ("grey", 128), ("white", 255)):
            plain = f"__import__('numpy').full((128, 128, 3), {grey}, 'uint8')"
            notebook.kernel.ask(f"str(setattr(studio, 'session', DragSession(model, {plain})))")
            notebook.kernel.ask(f"str(setattr(studio.canvas, 'drags', [{BY_HAND}]))")
            notebook.page.wait_for_timeout(800)
            for point in BY_HAND:
                near = notebook.around(point, 6)
                assert np.ptp(near.sum(-1)) > 150, f"the marks stand out on {name}"
            notebook.canvas.screenshot(path=OUT / f"9 on {name}.png")
        assert not notebook.complaints
        notebook.kernel.close()
