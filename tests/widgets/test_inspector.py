"""The inspector: what every tab draws, when it is drawn, and that nothing is drawn that nobody sees."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dragnoise import DragSession
from dragnoise.inspection import feature_maps
from dragnoise_widgets.pages import page as module
from dragnoise_widgets.pages import pages
from dragnoise_widgets.pages.page import Page
from dragnoise_widgets.pages.view_state import ViewState
from dragnoise_widgets.panels.inspector import Inspector
from dragnoise_widgets.panels.log import Log
from dragnoise_widgets.studio.studio import DragStudio

TITLES = ("Loss", "Anchors", "Bottleneck", "Latents", "Features", "LoRA", "Log")
WIDGETS = Path(module.__file__).parents[1]


def view(session: DragSession, k: int | None = None, **more: Any) -> ViewState:
    history = session.history
    k = max(len(history) - 1, 0) if k is None else k
    return ViewState(session, history, k, session.drags, session.image, 2.0, **more)


def at_once(session: DragSession) -> Callable[[Callable[[DragSession], Any]], Future[Any]]:
    def call(function: Callable[[DragSession], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(session))
        return future

    return call


@pytest.fixture
def inspector(session: DragSession) -> Iterator[Inspector]:
    journal = Log()
    yield Inspector(at_once(session), journal)
    assert not journal.text, "\n".join(journal.text)


def page(inspector: Inspector, title: str) -> Page:
    inspector.selected_index = TITLES.index(title)
    return inspector.pages[inspector.selected_index]


def picture(of: Page) -> np.ndarray:
    """What the tab shows; there must be a picture."""
    assert of.plot.picture.layout.display == "", of.plot.note.value
    return np.asarray(Image.open(io.BytesIO(of.plot.picture.value)).convert("RGB"))


def note(of: Page) -> str:
    assert of.plot.picture.layout.display == "none"
    return of.plot.note.value


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a latent's numbers were copied from the device or into bytes."""
    counted: list[int] = []

    def counting(method: Any) -> Any:
        def copy(tensor: Any, *arguments: Any, **more: Any) -> Any:
            counted.extend([tensor.numel()] if tensor.numel() > 100 else [])  # anchors are no latents
            return method(tensor, *arguments, **more)

        return copy

    for name in ("cpu", "numpy", "clone"):
        monkeypatch.setattr(torch.Tensor, name, counting(getattr(torch.Tensor, name)))
    return counted


def test_an_unchanged_tab_copies_nothing_however_often_it_is_updated(
    inspector: Inspector, session: DragSession, copies: list[int]
) -> None:
    session.step()
    inspector.show(view(session))
    for title in ("Latents", "Bottleneck", "Loss"):
        of = page(inspector, title)
        inspector.show(now := view(session))
        shown = of.plot.picture.value
        copies.clear()
        for _ in range(10):
            inspector.show(replace(now))
        assert copies == [], title
        assert of.plot.picture.value is shown


def test_the_latents_of_one_step_are_copied_when_it_is_chosen_and_none_for_other_tabs(
    inspector: Inspector, session: DragSession, copies: list[int]
) -> None:
    session.step()
    inspector.show(view(session))
    page(inspector, "Loss")
    copies.clear()
    for _ in range(3):
        session.step()
    copies.clear()
    inspector.show(view(session))
    assert copies == []
    latents = page(inspector, "Latents")
    copies.clear()
    latents.step.value = 1
    assert 0 < len(copies) < 4


# ---- every tab --------------------------------------------------------------------------------------


def test_the_tabs(inspector: Inspector) -> None:
    assert tuple(inspector.get_title(i) for i in range(len(inspector.children))) == TITLES


@pytest.mark.parametrize("title", TITLES[:-1])
def test_before_the_inversion_every_tab_says_what_is_missing(
    inspector: Inspector, session: DragSession, title: str
) -> None:
    inspector.show(view(session))
    said = note(page(inspector, title))
    assert said.count("<") == 2 and len(said) > 30, said


@pytest.mark.parametrize("iterations", [0, 1, 4])
@pytest.mark.parametrize("title", ["Loss", "Anchors", "Bottleneck", "Latents", "Features"])
def test_every_tab_draws(inspector: Inspector, session: DragSession, title: str, iterations: int) -> None:
    list(session.invert())
    for _ in range(iterations):
        session.step()
    inspector.show(view(session))
    if (title, iterations) == ("Loss", 0):
        assert "before the first update" in note(page(inspector, title))
        return
    drawn = picture(page(inspector, title))
    assert drawn.shape[1] == module.WIDE * 1.5
    assert drawn.std() > 5


@pytest.mark.parametrize("title", ["Loss", "Anchors", "Bottleneck", "Latents"])
def test_without_a_model_one_can_look(session: DragSession, tmp_path: Path, title: str) -> None:
    for _ in range(3):
        session.step()
    session.save(tmp_path / "edit.drag")
    opened = DragSession.open(tmp_path / "edit.drag")
    inspector = Inspector(at_once(opened), Log())
    inspector.show(view(opened))
    picture(page(inspector, title))
    assert "model" in note(page(inspector, "Features"))
    assert not inspector._journal.text


def test_an_iteration_in_between_is_marked(inspector: Inspector, session: DragSession) -> None:
    for _ in range(4):
        session.step()
    loss = page(inspector, "Loss")
    inspector.show(view(session))
    (axes,) = loss.plot.figure.axes
    lines = len(axes.lines)
    inspector.show(view(session, 2))
    (axes,) = loss.plot.figure.axes
    assert len(axes.lines) == lines + 1
    assert list(axes.lines[-1].get_xdata()) == [2, 2]


def test_a_branch_to_compare_with_is_drawn_beside_it(inspector: Inspector, session: DragSession) -> None:
    for _ in range(3):
        session.step()
    other = session.branch(1)
    other.config = other.config.replace(lr=0.02)
    other.step()
    loss = page(inspector, "Loss")
    inspector.show(view(session, other=other.history))
    assert "compared" in [line.get_label() for line in loss.plot.figure.axes[0].lines]


# ---- what is in them --------------------------------------------------------------------------------


def test_loss_and_distances_are_those_of_the_history(inspector: Inspector, session: DragSession) -> None:
    for _ in range(4):
        session.step()
    inspector.show(view(session))
    (axes,) = page(inspector, "Loss").plot.figure.axes
    losses = [s.loss for s in session.history[1:]]
    assert any(np.array_equal(line.get_ydata()[-4:], losses) for line in axes.lines)
    left, right = page(inspector, "Anchors").plot.figure.axes[:2]
    for i in range(2):
        far = [s.distances[i] for s in session.history]
        assert any(len(y := line.get_ydata()) >= 4 and np.allclose(y[:4], far[: len(y)][:4]) for line in left.lines)
    np.testing.assert_array_equal(right.images[0].get_array(), np.asarray(session.image))


def test_features_are_what_equation_4_sees_with_its_window(inspector: Inspector, session: DragSession) -> None:
    for _ in range(3):
        session.step()
    features = page(inspector, "Features")
    for k in (3, 1):
        inspector.show(view(session, k))
        maps = feature_maps.measure(session, k)
        shown = features.plot.figure.axes
        assert len(shown) == 2 * len(session.drags) == 4, "the whole map of each drag, and the window in it"
        assert all(zoomed.get_xlim() != whole.get_xlim() for whole, zoomed in zip(shown[::2], shown[1::2], strict=True))
        for i, axes in enumerate(shown[::2]):
            np.testing.assert_array_equal(axes.images[0].get_array(), maps.distance[i])
            (window,) = axes.patches
            np.testing.assert_allclose(window.get_bbox().extents, maps.windows[i])


def test_features_cost_one_forward_for_each_iteration_looked_at(
    session: DragSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.step()
    measured: list[int] = []
    monkeypatch.setattr(pages, "measure", lambda s, k: measured.append(k) or feature_maps.measure(s, k))
    inspector = Inspector(at_once(session), Log())
    page(inspector, "Features")
    for k in (1, 1, 0, 0):
        inspector.show(view(session, k))
    assert measured == [1, 0]


def test_latents_have_a_slider_over_the_inversion(inspector: Inspector, session: DragSession) -> None:
    list(session.invert())
    latents = page(inspector, "Latents")
    inspector.show(view(session))
    assert latents.step.max == latents.step.value == session.config.edit_from == 3
    for k in (3, 0, 2):
        latents.step.value = k
        axes = latents.plot.figure.axes
        for channel, drawn in zip(session.trajectory[k][0], axes, strict=False):
            np.testing.assert_array_equal(drawn.images[0].get_array(), channel)


def test_another_inversion_is_drawn_and_the_same_is_not_drawn_again(inspector: Inspector, session: DragSession) -> None:
    list(session.invert())
    latents = page(inspector, "Latents")
    inspector.show(view(session))
    first = latents.plot.picture.value
    inspector.show(view(session))
    assert latents.plot.picture.value is first
    session.prompt = "something else altogether"
    list(session.invert())
    inspector.show(view(session))
    assert latents.plot.picture.value != first


def test_lora_is_filled_by_a_fit(inspector: Inspector, session: DragSession) -> None:
    inspector.show(view(session))
    lora = page(inspector, "LoRA")
    assert "Prepare" in note(lora)
    list(session.fit_lora(steps=3, rank=2))
    inspector.show(view(session))
    picture(lora)
    left, right = lora.plot.figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), session.lora.losses)
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], list(session.lora.norms.values()))
    assert len(session.lora.norms) > 10


def test_a_lora_whose_file_tells_no_losses_shows_its_norms(inspector: Inspector, session: DragSession) -> None:
    list(session.fit_lora(steps=1, rank=2))
    session.lora = replace(session.lora, losses=(), training=None)
    inspector.show(view(session))
    lora = page(inspector, "LoRA")
    picture(lora)
    left, right = lora.plot.figure.axes
    assert not left.lines and len(right.patches) == len(session.lora.norms)


def test_the_log_is_the_studios(studio: DragStudio) -> None:
    assert studio.inspector.children[-1] is studio.journal
    studio.messages.tell("a line for the log")
    assert "a line for the log" in studio.journal.value
    studio.journal.text.clear()


# ---- when it is drawn -------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_while_it_runs_figures_take_a_twentieth_of_the_time(
    inspector: Inspector, session: DragSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, drawn = Clock(), []
    monkeypatch.setattr(module, "time", clock)
    loss = page(inspector, "Loss")

    def draw(paint: Any) -> None:
        drawn.append(clock.now)
        loss.plot.seconds = 0.5

    monkeypatch.setattr(loss.plot, "draw", draw)
    for _ in range(300):
        clock.now += 0.1
        session._history = type(session.history)(session.history)  # another object, as after an iteration
        inspector.show(view(session, running=True))
    assert 3 <= len(drawn) <= 4
    assert min(np.diff(drawn)) >= 0.5 * 19 - 1e-6
    inspector.show(view(session))
    assert drawn[-1] == clock.now, "at its end the latest is drawn in any case"


def test_what_is_not_seen_is_not_drawn(session: DragSession, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = DragStudio(session, inline=True)
    drawn: list[str] = []
    for title, each in zip(TITLES, studio.inspector.pages, strict=False):
        monkeypatch.setattr(each.plot, "draw", lambda paint, title=title: drawn.append(title))
    studio.step(2)
    assert drawn == []  # folded away
    fold = next(c for c in studio.children if studio.inspector in getattr(c, "children", ()))
    fold.selected_index = 0
    assert drawn == ["Loss"]
    studio.inspector.selected_index = TITLES.index("Anchors")
    assert drawn == ["Loss", "Anchors"]
    fold.selected_index = None
    studio.step(1)
    assert drawn == ["Loss", "Anchors"]
    studio.close()


@pytest.mark.parametrize("title", TITLES[:-1])
def test_in_a_studio_every_tab_is_up_to_date_when_all_is_done(
    studio: DragStudio, session: DragSession, title: str
) -> None:
    fold = next(c for c in studio.children if studio.inspector in getattr(c, "children", ()))
    fold.selected_index = 0
    drawn = page(studio.inspector, title)
    studio.step(2)
    first = drawn.plot.picture.value
    studio.step(1)
    if title not in ("LoRA", "Latents"):
        assert drawn.plot.picture.value != first
    if title == "Features":
        assert drawn._maps.snapshot is session.history[3]


def test_a_tab_that_fails_is_told_in_the_log_and_the_others_work(session: DragSession, monkeypatch: Any) -> None:
    session.step()
    inspector = Inspector(at_once(session), Log())
    monkeypatch.setattr(inspector.pages[0], "paint", lambda figure, view: 1 / 0)
    inspector.show(view(session))
    assert "tab Loss" in inspector._journal.text[0]
    picture(page(inspector, "Anchors"))


def test_pyplot_has_no_part_in_it() -> None:
    assert not [path.name for path in WIDGETS.rglob("*.py") if "import matplotlib.pyplot" in path.read_text("utf-8")]
    code = "import sys, dragnoise_widgets; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
