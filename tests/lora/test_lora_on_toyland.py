"""A LoRA does for the embedded model what the paper says: a picture beyond its training is kept better."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dragnoise import DragSession, load_model


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "lora.py"
    spec = importlib.util.spec_from_file_location("bench_lora", path)
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_a_short_fit_brings_reconstruction_and_edit_nearer_to_the_picture(bench: ModuleType) -> None:
    """Of a scene in colours that no training had; in dB 1.0 and 1.6 better when it was written, with any seed."""
    case = bench.make_case(3)
    session = DragSession(load_model(), case.picture, case.prompt)
    session.drags, session.mask = case.drags, case.mask
    session.config = session.config.replace(steps=20, edit_from=14, refine_from=4, max_iterations=5)

    def kept() -> tuple[float, float]:
        reconstruction, edit = session.reconstruct(), session.run(progress=False)
        return bench.psnr(reconstruction, case.picture), bench.psnr(edit, case.picture, ~case.mask)

    bare, bare_outside = kept()
    for _ in session.fit_lora(25, lr=1e-3):
        pass
    dressed, dressed_outside = kept()
    assert dressed > bare + 0.5
    assert dressed_outside > bare_outside
