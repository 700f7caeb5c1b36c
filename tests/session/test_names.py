"""What `DragSession` shows of itself: its help, the names of earlier versions, and names that it does not have."""

from __future__ import annotations

import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, quick_session

from dragnoise import DragSession, Model
from dragnoise.session.deprecated_names import FORMER, SET


def test_its_help_fits_two_screens_of_sixty_lines() -> None:
    shown = pydoc.plain(pydoc.render_doc(DragSession))
    assert len(shown.splitlines()) <= (120 if sys.version_info < (3, 13) else 170)  # a line for each parameter
    for name in ("drags", "mask", "config", "run", "optimize", "rewind", "branch", "save", "open", "from_prompt"):
        described = shown.split(f"\n |  {name}", 1)[1].split("\n", 2)[1]
        assert described.startswith(" |      ") and len(described) > 20, name


def test_names_of_earlier_versions_go_on_working(small: Model, tmp_path: Path) -> None:
    session = quick_session(small, 2)
    state, last = session.state, session.history[-1]
    assert session.engine is session.store.engine and session.frame == state.frame
    assert session.inverted is True and session.origin is None and session.history_limit == state.history_limit
    assert all(map(torch.equal, session.trajectory, state.trajectory))
    assert torch.equal(session.latents, state.trajectory[-1]) and torch.equal(session.bottleneck, last.bottleneck)
    assert session.made_with == small.info
    branch = session.branch(1)
    assert branch.parent is session and session.children == (branch,)
    session.restore(state)
    told: list[Any] = []
    unwatch = session.watch(told.append)
    session.mask = None
    unwatch()
    session.drags = ()
    assert told == [session]
    session.autosave(tmp_path / "edit.drag")
    assert session.store.autosaved is not None
    session.history_limit = 1e9
    assert session.state.history_limit == 1e9


def test_a_lora_by_its_former_names_and_by_its_own(small: Model, tmp_path: Path) -> None:
    session, other = quick_session(small), quick_session(small)
    assert session.lora_weight == 0
    list(session.fit_lora(1, rank=1, batch_size=1))
    path = session.save_lora(tmp_path / "one.safetensors")
    assert session.lora is not None and path.read_bytes() == session.lora.to_bytes()
    assert session.lora.save(tmp_path / "folder").read_bytes() == path.read_bytes()
    other.load_lora(path)
    assert other.lora is not None and other.lora.norms == pytest.approx(session.lora.norms)
    other.lora = None
    other.lora = str(path)
    assert other.lora is not None and other.lora_weight == 1
    other.lora_weight = 0.5
    assert other.lora.weight == 0.5
    with pytest.raises(TypeError) as caught:
        other.lora = {}  # type: ignore[assignment]
    assert_one_sentence(caught.value, "Lora", "path")
    assert other.lora.weight == 0.5


def test_a_name_that_is_not_there_is_refused(small: Model) -> None:
    session = quick_session(small)
    drags = session.drags
    for name, advice in (("drag", "session.drags"), ("lr", "session.config.replace(lr=...)"), ("colour", "'colour'")):
        with pytest.raises(AttributeError) as caught:
            setattr(session, name, ())
        assert_one_sentence(caught.value, repr(name), advice)
        with pytest.raises(AttributeError) as caught:
            getattr(session, name)
        assert_one_sentence(caught.value, repr(name), advice)
    for name in sorted(FORMER.keys() - SET.keys() | {"image", "history", "status", "anchors"}):
        with pytest.raises(AttributeError):
            setattr(session, name, None)
    assert session.drags == drags and not hasattr(session, "colour")


def test_subclasses_may_have_attributes_of_their_own(small: Model) -> None:
    class Mine(DragSession):
        pass

    session = Mine(small, np.zeros((40, 50, 3), np.uint8))
    session.colour = "red"
    assert session.branch().frame == session.frame and session.colour == "red"


def test_sessions_are_imported_without_diffusers() -> None:
    code = (
        "import sys, dragnoise.session; from dragnoise import DragSession; assert DragSession;"
        "print([name for name in ('diffusers', 'transformers', 'peft', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"
