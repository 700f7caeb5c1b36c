"""The picture under a drag that is being pulled is warped, without a model, and is gone when it is let go."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from helpers import smooth_picture
from PIL import Image

from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.sketch import edits, warp_preview
from dragnoise_widgets.sketch.sketch import Sketch
from dragnoise_widgets.sketch.warp_preview import WarpPreview, drags_if_released
from dragnoise_widgets.studio.studio import DragStudio

PICTURE = smooth_picture(64, 48)
A, B = (20.0, 20.0), (40.0, 24.0)


def pulling(end: tuple[float, float] = B) -> Sketch:
    return edits.move(edits.press(Sketch(PICTURE.size), A), end)


def test_the_drags_are_those_of_letting_go() -> None:
    assert drags_if_released(pulling()) == edits.release(pulling()).edit.drags != ()
    assert drags_if_released(Sketch(PICTURE.size)) == drags_if_released(pulling(A)) == ()
    assert drags_if_released(edits.release(pulling())) == ()
    painting = edits.move(edits.press(Sketch(PICTURE.size), A, tool="paint"), B)
    assert drags_if_released(painting) == ()


def test_what_is_pulled_is_shown_and_gone_on_release() -> None:
    shown: list[Image.Image | None] = []
    picture = WarpPreview(shown.append, inline=True)
    picture.pull(PICTURE, Sketch(PICTURE.size))
    assert shown == [], "moving without a button asks for nothing"
    picture.pull(PICTURE, pulling())
    picture.pull(PICTURE, edits.release(pulling()))
    warped, gone = shown
    assert gone is None and warped is not None and warped.size == PICTURE.size
    x, y = map(int, B)
    assert warped.getpixel((x, y)) == pytest.approx(PICTURE.getpixel((20, 20)), abs=12), "what was there has come here"


def test_the_latest_position_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, done, warped = threading.Semaphore(0), threading.Event(), []

    class Slow(warp_preview.Warp):
        def preview(self, drags: Any) -> np.ndarray:
            assert gate.acquire(timeout=60)
            warped.append(drags[0].objective)
            return super().preview(drags)

    monkeypatch.setattr(warp_preview, "Warp", Slow)
    picture = WarpPreview(lambda shown: done.set() if shown is None else None, inline=False)
    for x in range(21, 41):
        picture.pull(PICTURE, pulling((float(x), 24.0)))
    gate.release(20)
    for _ in range(600):
        if len(warped) >= 2:
            break
        threading.Event().wait(0.05)
    assert warped[-1] == (40.0, 24.0) and len(warped) < 5
    picture.pull(PICTURE, edits.release(pulling()))
    assert done.wait(60)


def test_in_a_studio_it_is_marked_and_no_work_is_put(studio: DragStudio) -> None:
    canvas, commands = studio.canvas, len(studio.runner.commands)
    seen: list[tuple[str, str]] = []
    studio.preview.after_image.observe(
        lambda _: seen.append((studio.preview.badge.value, studio.preview.badge.layout.display)), "value"
    )
    start, end = canvas.view.to_canvas((50.0, 45.0)), canvas.view.to_canvas((62.0, 50.0))
    canvas.pointer.down(*start)
    canvas.pointer.move(*end)
    assert seen == [("without the model", "")] and studio.preview.quick
    assert len(studio.runner.commands) == commands
    canvas.pointer.up(*end)
    assert not studio.preview.quick and studio.image is studio.session.image
    assert len(studio.session.drags) == 3


def test_a_large_picture_is_warped_small() -> None:
    shown: list[Any] = []
    large = smooth_picture(3000, 2000)
    picture = WarpPreview(shown.append, inline=True)
    start, end = (1000.0, 900.0), (1400.0, 900.0)
    for mask in (None, np.arange(3000)[None].repeat(2000, 0) > 500):
        sketch = Sketch(large.size)
        if mask is not None:
            sketch = edits.with_mask(sketch, mask)
        picture.pull(large, edits.move(edits.press(sketch, start), end))
        assert shown[-1].size == (512, 341) and max(shown[-1].size) == warp_preview.LARGEST
        at = [round(p * 512 / 3000) for p in end]
        was = large.getpixel((1000, 900))
        assert shown[-1].getpixel(tuple(at)) == pytest.approx(was, abs=12)


def test_without_a_mask_what_is_out_of_reach_stays(studio: DragStudio) -> None:
    canvas, session = studio.canvas, studio.session
    studio.canvas.drags, studio.canvas.mask = (), None
    changed = {}
    for reach in (0.05, 0.4):
        studio.configure(reach=reach)
        canvas.pointer.down(*canvas.view.to_canvas((30.0, 30.0)))
        canvas.pointer.move(*canvas.view.to_canvas((40.0, 34.0)))
        assert studio.preview.badge.value == "without the model" and studio.preview.picture is not None
        changed[reach] = (np.asarray(studio.preview.picture) != np.asarray(session.image)).any(-1).sum()
        canvas.pointer.up(*canvas.view.to_canvas((40.0, 34.0)))
        studio.canvas.drags = ()
    assert 0 < changed[0.05] < changed[0.4] / 4


def test_a_canvas_alone_warps_nothing() -> None:
    canvas = DragCanvas(PICTURE)
    canvas.pointer.down(100.0, 100.0)
    canvas.pointer.move(300.0, 120.0)
    canvas.pointer.up(300.0, 120.0)
    assert len(canvas.drags) == 1 and canvas.pointer.pulled is None
