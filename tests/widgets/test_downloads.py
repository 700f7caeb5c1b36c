"""What one takes home: the picture exactly, a GIF that plays, drags that can be read again."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
from helpers import assert_one_sentence, complaints, smooth_picture
from PIL import Image

from dragnoise import Drag, DragSession
from dragnoise.bench.datasets import read_dataset
from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.export import downloads
from dragnoise_widgets.export.export_panel import ExportPanel
from dragnoise_widgets.studio.studio import DragStudio


def saved(link: widgets.HTML) -> tuple[str, str, bytes]:
    """What a click on a link saves: name, kind, bytes."""
    name, kind, data = re.search(r'download="([^"]+)".*href="data:([^;]+);base64,([^"]*)"', link.value).groups()
    return name, kind, base64.b64decode(data)


def frames(data: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "GIF"
        found = []
        for k in range(opened.n_frames):
            opened.seek(k)
            found.append(np.asarray(opened.convert("RGB")).astype(int))
        return found


@pytest.fixture(autouse=True)
def unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The panel is open from the start."""
    monkeypatch.setattr(ExportPanel, "visible", property(lambda _: True, lambda *_: None), raising=False)


@pytest.fixture
def troubled(session: DragSession) -> Iterator[DragStudio]:
    studio = DragStudio(session, inline=True)
    yield studio
    studio.close()


# ---- the links --------------------------------------------------------------------------------------


def test_the_picture_is_saved_exactly(studio: DragStudio, session: DragSession) -> None:
    studio.step(2)
    name, kind, data = saved(studio.share.picture)
    assert (name, kind) == ("edited.png", "image/png")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(session.render()))
    studio.show(1)
    data = saved(studio.share.picture)[2]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(session.branch(1).render()))


def test_the_drags_are_saved_and_can_be_read_again(studio: DragStudio, session: DragSession) -> None:
    studio.canvas.drags = [((8.5, 9.2), (30, 31)), ((50, 20), (40, 20))]
    name, kind, data = saved(studio.share.drags)
    assert (name, kind) == ("drags.json", "application/json")
    canvas = DragCanvas(session.image)
    canvas.from_json(data.decode())
    assert canvas.drags == session.drags == (Drag((8.5, 9.2), (30, 31)), Drag((50, 20), (40, 20)))
    assert json.loads(data)["size"] == [72, 56]


def test_the_same_from_code(studio: DragStudio, session: DragSession, tmp_path: Path) -> None:
    studio.step(2)
    studio.save_picture(tmp_path / "edited.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "edited.png")), np.asarray(session.render()))
    studio.save_drags(tmp_path / "drags.json")
    assert (tmp_path / "drags.json").read_text("utf-8").encode() == saved(studio.share.drags)[2]
    studio.save_gif(tmp_path / "drag.gif", iterations=[0, 2])
    assert len(frames((tmp_path / "drag.gif").read_bytes())) == 2


def test_a_picture_that_is_not_there_is_not_saved(tmp_path: Path) -> None:
    studio = DragStudio(inline=True)
    with pytest.raises(RuntimeError, match="no picture") as caught:
        studio.save_picture(tmp_path / "none.png")
    assert_one_sentence(caught.value)


# ---- the GIF ----------------------------------------------------------------------------------------


def test_the_gif_has_a_frame_for_every_iteration(studio: DragStudio, session: DragSession) -> None:
    studio.preview.every.value = 0  # without quick looks all frames are rendered
    studio.step(3)
    studio.share.make_gif.click()
    name, kind, data = saved(studio.share.gif)
    assert (name, kind) == ("drag.gif", "image/gif")
    shown = frames(data)
    assert len(shown) == 4
    assert shown[0].shape == (round(56 * 384 / 72), 384, 3)
    for k, frame in enumerate(shown):
        branch = session.branch(k)
        paths = np.stack([s.anchors for s in branch.history])
        expected = np.asarray(downloads.frame_picture(branch.render(), paths, session.drags)).astype(int)
        assert np.abs(frame - expected).mean() < 6  # 255 colours
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.info["loop"] == 0


def test_the_gif_disturbs_nothing_that_runs_meanwhile(session: DragSession) -> None:
    studio, bare = DragStudio(session), DragSession(session.model, session.image, session.prompt, session.config)
    bare.drags = session.drags
    studio.step(2)
    assert studio.wait(60)
    coming = studio.render_gif()
    studio.step(3)
    assert len(frames(coming.result(60))) == 3
    assert studio.wait(60)
    for _ in range(5):
        bare.step()
    assert (bare.bottleneck == session.bottleneck).all()
    assert not complaints(studio)
    studio.close()


def test_the_steps_of_a_gif_are_short(studio: DragStudio, session: DragSession) -> None:
    """So that a pause is answered in between: a call for every denoising step and frame."""
    studio.step(1)
    calls: list[Any] = []

    def call(function: Any) -> Any:
        calls.append(function)
        return studio.runner.call(function)

    said: list[str] = []
    assert len(frames(downloads.render_gif(call, [0, 1], session.drags, said.append).result(0))) == 2
    assert len(calls) == 2 * (session.config.edit_from + 1) + 1
    assert list(dict.fromkeys(text[:12] for text in said)) == ["frame 1 of 2", "frame 2 of 2"]
    assert len(said) == 2 * session.config.edit_from and said[-1].endswith(" left")


@pytest.mark.parametrize("how", ["button", "stop"])
def test_a_gif_can_be_given_up(session: DragSession, how: str) -> None:
    studio = DragStudio(session)
    studio.step(3)
    assert studio.wait(60)
    gate = threading.Event()
    studio.runner.call(lambda _: gate.wait(60))
    studio.share.make_gif.click()
    assert studio.share.make_gif.description == "Stop the GIF"
    studio.share.make_gif.click() if how == "button" else studio.stop()
    gate.set()
    assert studio.wait(60)
    assert studio.share.make_gif.description == "Make a GIF" and studio.share.gif.value == ""
    assert len(session.history) == 4
    studio.close()


def test_gif_and_code_go_with_the_drags_they_are_of(studio: DragStudio, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studio.session.model, "name", "some/model")  # code can name it
    studio.step(1)
    studio.share.make_gif.click()
    studio.share.make_code.click()
    assert studio.share.gif.value and studio.share.code.value
    studio.canvas.drags = [((8, 9), (30, 31))]
    assert not studio.share.gif.value and not studio.share.code.value
    assert studio.share.code.layout.display == "none"


def test_an_edit_is_saved_as_a_sample_and_none_is_lost(session: DragSession, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    studio = DragStudio(session, inline=True, autosave=None)
    studio.share.make_sample.click()
    assert studio.share.folder.value == "samples/mine/2" and "samples/mine/1" in studio.messages.note
    studio.canvas.drags = [((8, 9), (30, 31))]
    studio.share.folder.value = "samples/mine/1"
    studio.share.make_sample.click()
    assert_one_sentence(FileExistsError(studio.messages.error), "'samples/mine/1'", "another folder")
    studio.share.folder.value = "samples/mine/fox"
    studio.share.make_sample.click()
    assert studio.share.folder.value == "samples/mine/fox"
    studio.canvas.drags = []
    studio.share.folder.value = "samples/mine/none"
    studio.share.make_sample.click()
    assert "no drags" in studio.messages.error and not (tmp_path / "samples/mine/none").exists()
    first, fox = read_dataset("samples").samples
    assert (first.id, fox.id) == ("mine/1", "mine/fox") and len(first.drags) == 2
    assert fox.drags == (Drag((8, 9), (30, 31)),)


def test_no_links_are_made_while_the_panel_is_folded(session: DragSession, monkeypatch: Any) -> None:
    monkeypatch.undo()
    studio = DragStudio(session, inline=True)
    (panel,) = [fold for fold in studio.children if studio.share in getattr(fold, "children", ())]
    studio.step(1)
    assert studio.share.picture.value == ""
    panel.selected_index = 0
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(saved(studio.share.picture)[2]))), np.asarray(session.render())
    )
    studio.close()


def test_a_gif_of_what_is_not_there_is_told(troubled: DragStudio) -> None:
    troubled.share.make_gif.click()
    assert "at least one frame" in troubled.transport.line.value
    assert troubled.share.gif.value == ""
    troubled.step(1)
    with pytest.raises(IndexError, match="7"):
        troubled.render_gif([7]).result(0)
    troubled.step(1)
    assert "loss" in troubled.transport.line.value


@pytest.mark.parametrize("count, most, expected", [
    (0, 24, ()), (1, 24, (0,)), (5, 24, (0, 1, 2, 3, 4)), (81, 3, (0, 40, 80)), (10, 1, (0,)),
])  # fmt: skip
def test_long_histories_are_shown_in_few_frames(count: int, most: int, expected: tuple[int, ...]) -> None:
    assert downloads.chosen_iterations(count, most) == expected
    assert len(downloads.chosen_iterations(500)) == 24


def test_a_frame_shows_the_points_where_they_are() -> None:
    picture = smooth_picture(72, 56)
    paths = np.array([[[30.0, 40.0]], [[34.0, 39.0]]])
    frame = np.asarray(downloads.frame_picture(picture, paths, [Drag((30, 40), (44, 36))])).astype(int)
    bare = np.asarray(picture.resize((384, 299), Image.Resampling.BICUBIC)).astype(int)
    (rows, columns) = np.nonzero(np.abs(frame - bare).max(-1) > 40)
    scale = 384 / 72
    assert columns.min() > 27 * scale and columns.max() < 48 * scale
    assert rows.min() > 33 * scale and rows.max() < 44 * scale


def test_a_long_gif_is_made_where_calls_are_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline every step is done when it is asked for; thousands of them must not pile up."""

    def many_steps(*_: Any) -> Iterator[Image.Image | None]:
        yield from [None] * 3000
        yield smooth_picture(16, 16)

    def call(function: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(None))
        return done

    monkeypatch.setattr(downloads, "_frames", many_steps)
    assert len(frames(downloads.render_gif(call, (0,), (), lambda _: None).result(0))) == 1
