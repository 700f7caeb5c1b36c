"""Session files that dragnoise 0.1 wrote, in tests/data: they open as they were and go on as they did then."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_archive import DELETED, change, told

import dragnoise
from dragnoise import DragSession, Model, Snapshot
from dragnoise.archive import ArchiveError

DATA = Path(__file__).parents[1] / "data"
THEN: dict[str, Any] = json.loads((DATA / "sessions.json").read_text())


@pytest.fixture(scope="module")
def model() -> Model:
    return dragnoise.load_model()


def numbers(s: Snapshot) -> list[float]:
    return [s.loss, s.alignment_loss, s.mask_loss, s.grad_norm]


def numbers_then(told: dict[str, Any]) -> list[float]:
    return [np.nan if x is None else x for x in told["losses"]]


@pytest.mark.parametrize("name", THEN)
def test_what_is_stored_is_read_exactly(name: str) -> None:
    session = DragSession.open(DATA / name)
    assert len(session.history) == len(THEN[name]["stored"])
    for snapshot, then in zip(session.history, THEN[name]["stored"], strict=True):
        np.testing.assert_array_equal(numbers(snapshot), numbers_then(then))
        np.testing.assert_array_equal(snapshot.anchors, then["anchors"])
        np.testing.assert_array_equal(snapshot.distances, then["distances"])
        assert (snapshot.iteration, snapshot.status) == (then["iteration"], then["status"])
        assert snapshot.is_whole == (then["bottleneck"] is not None)
        if snapshot.is_whole:
            assert hashlib.sha256(snapshot.bottleneck.numpy().tobytes()).hexdigest() == then["bottleneck"]


def test_each_file_holds_what_it_was_made_for() -> None:
    toyland, paper, released = (DragSession.open(DATA / f"{name}.drag") for name in ("toyland", "paper", "released"))
    assert toyland.mask is not None and toyland.prompt == "a red sun over a hill" and len(toyland.history) == 4
    assert paper.lora is not None and paper.lora.steps == 1 and not paper.history[1].is_whole
    assert {s.config.lr for s in paper.history if s.config} == {0.01, 0.05} and paper.name == "with a LoRA"
    assert released.config.is_released and released.status == "reached" and released.state.origin == ("main", 1)


@pytest.mark.parametrize("name", THEN)
def test_going_on_gives_what_it_gave_then(name: str, model: Model) -> None:
    session = DragSession.open(DATA / name, model)
    for then in THEN[name]["going_on"]:
        snapshot = session.step()
        np.testing.assert_allclose(numbers(snapshot), numbers_then(then), rtol=1e-5)
        np.testing.assert_allclose(snapshot.anchors, then["anchors"], rtol=1e-5)
        assert (snapshot.iteration, snapshot.status) == (then["iteration"], then["status"])
    np.testing.assert_allclose(session.anchors, THEN[name]["anchors"], rtol=1e-5)


def test_a_thinned_iteration_of_an_old_file_can_be_run_again(model: Model) -> None:
    session = DragSession.open(DATA / "paper.drag", model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another rounding
        assert session.snapshot(2).is_whole


@pytest.mark.parametrize("name", THEN)
def test_an_old_file_saved_again_is_the_same_in_the_new_format(name: str, tmp_path: Path) -> None:
    old = DragSession.open(DATA / name)
    path = old.save(tmp_path / "new.drag")
    new = DragSession.open(path)
    assert new.save(tmp_path / "again.drag").read_bytes() == path.read_bytes()
    for a, b in zip(old.history, new.history, strict=True):
        np.testing.assert_array_equal(numbers(a), numbers(b))
        assert a.is_whole == b.is_whole
    assert (new.config, new.drags, new.made_with) == (old.config, old.drags, old.made_with)


HOSTILE: dict[str, tuple[Any, str]] = {
    "no loss": (told("history", 2, "alignment_loss", value=DELETED), "alignment_loss"),
    "a loss that is none": (told("history", 2, "mask_loss", value=None), "mask loss"),
    "an unknown field": (told("history", 2, "losses", value={}), "'losses'"),
    "whole that is none": (told("history", 2, "whole", value=1), "whole"),
    "whole without tensors": (told("history", 2, "whole", value=True), "iterations/2"),
    "no updates": (told("history", 3, "updates", value=0), "updates"),
    "no such config": (told("history", 2, "config", value=7), "config"),
    "anchors that are none": (told("history", 2, "grid_anchors", value=[["a", 1]]), "anchors"),
    "too many anchors": (told("history", 2, "grid_anchors", value=[[1, 1], [2, 2]]), "anchors"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_broken_file_of_version_1_is_named_and_refused(tmp_path: Path, name: str) -> None:
    (entry, how), said = HOSTILE[name]
    path = change(DATA / "paper.drag", tmp_path / "hostile.drag", entry, how)
    with pytest.raises(ArchiveError, match=said):
        DragSession.open(path)
