"""Another editor in the studio, chosen from the presets: run, scrub, look inside, take home."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dragnoise
from dragnoise import DragSession, Model
from dragnoise.config import EDITORS, FIELDS
from dragnoise_widgets.studio.studio import DragStudio

QUICK = {"edit_from": 3, "steps": 4, "max_iterations": 3, "lr": 0.05}


@pytest.fixture
def dragdiffusion(studio: DragStudio) -> DragStudio:
    """A studio in which DragDiffusion was chosen from the presets, and has run with few steps."""
    studio.parameters.presets.value = "dragdiffusion"
    for name, value in QUICK.items():
        studio.parameters.fields[name].value = value
    studio.run()
    return studio


@pytest.mark.parametrize("editor", sorted(set(EDITORS) - {"dragnoise", "dragdiffusion"}))
def test_every_editor_is_chosen_run_and_copied_as_code(
    studio: DragStudio, session: DragSession, small: Model, editor: str, tmp_path: Path, monkeypatch: Any
) -> None:
    session.mask = np.pad(np.ones((48, 64), bool), 4)
    studio.parameters.presets.value = editor
    for name, value in QUICK.items():
        studio.parameters.fields[name].value = value
    greyed = {name for name, field in studio.parameters.fields.items() if field.disabled}
    assert greyed == {name for name, info in FIELDS.items() if not info.is_read_by(editor)}
    studio.run()
    assert session.config.editor == editor and len(session.history) == 4 and session.status != "running"
    studio.transport.scrubber.value = 2
    assert studio.preview.caption.value == "iteration 2"
    studio.transport.scrubber.value = 3
    monkeypatch.setattr(small, "name", "somebody/small")
    monkeypatch.setattr(dragnoise, "load_model", lambda name, **how: small)
    done: dict[str, Any] = {}
    exec(compile(studio.code(tmp_path / "edit"), "code", "exec"), done)
    assert torch.equal(done["session"].history[-1].variable, session.history[-1].variable)


def test_it_runs_and_every_iteration_is_shown(dragdiffusion: DragStudio, session: DragSession) -> None:
    assert session.config == dragnoise.DragConfig.preset("dragdiffusion", **QUICK)
    assert [next(iter(s.state.tensors)) for s in session.history] == ["latent"] * 4
    pictures = []
    for k in (0, 2, 3):
        dragdiffusion.transport.scrubber.value = k
        assert dragdiffusion.preview.caption.value == (f"iteration {k}" if k else "before any iteration")
        pictures.append(np.asarray(dragdiffusion.image))
    assert not np.array_equal(pictures[0], pictures[2])
    np.testing.assert_array_equal(pictures[2], np.asarray(session.render()))


def test_the_inspector_looks_inside(dragdiffusion: DragStudio) -> None:
    inspector = dragdiffusion.inspector
    inspector.visible = True
    for i, page in enumerate(inspector.pages[:5]):
        inspector.selected_index = i
        dragdiffusion.refresh()
        assert page.plot.picture.layout.display == "", (i, page.plot.note.value)
    assert inspector.get_title(2) == "Edited latent"


def test_a_number_of_the_rendering_gives_another_picture(dragdiffusion: DragStudio) -> None:
    before = np.asarray(dragdiffusion.image)
    dragdiffusion.parameters.fields["share_from"].value = 3  # never
    assert len(dragdiffusion.session.history) == 4
    assert not np.array_equal(np.asarray(dragdiffusion.image), before)


def test_the_gif_has_a_frame_for_each_iteration(dragdiffusion: DragStudio) -> None:
    with Image.open(io.BytesIO(dragdiffusion.render_gif((0, 3)).result())) as gif:
        assert gif.n_frames == 2


def test_the_code_names_the_editor_and_makes_the_same_bits(
    dragdiffusion: DragStudio, small: Model, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(small, "name", "somebody/small")
    monkeypatch.setattr(dragnoise, "load_model", lambda name, **how: small)
    text = dragdiffusion.code(tmp_path / "edit")
    assert "editor='dragdiffusion'" in text
    done: dict[str, Any] = {}
    exec(compile(text, "code", "exec"), done)
    assert torch.equal(done["session"].history[-1].variable, dragdiffusion.session.history[-1].variable)
    np.testing.assert_array_equal(np.asarray(done["picture"]), np.asarray(dragdiffusion.session.render()))


def test_a_picture_of_a_past_iteration_embeds_nothing_and_encodes_only_to_denoise(
    studio: DragStudio, session: DragSession, small: Model, monkeypatch: Any
) -> None:
    studio.preview.every.value = 0
    studio.step(3)
    counts = {"embed": 0, "encode": 0}
    for name in counts:
        real = getattr(small, name)

        def counted(*given: Any, name: str = name, real: Any = real, **more: Any) -> Any:
            counts[name] += 1
            return real(*given, **more)

        monkeypatch.setattr(small, name, counted)
    studio.show(1)
    assert studio.preview.caption.value == "iteration 1"
    assert counts == {"embed": 0, "encode": session.config.edit_from - 1}  # the first is the iterations' own
