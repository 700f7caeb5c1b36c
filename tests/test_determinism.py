"""The same bits on a GPU too, once torch has been asked for them; and a word when they are others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import assert_one_sentence, quick_session

from dragnoise import Model
from dragnoise.editors.base import Report
from dragnoise.editors.parts.single_timestep import SingleTimestep

PROGRAM = """
import sys

import pipelines
import numpy as np
import torch
from helpers import assert_same_snapshots, quick_session

from dragnoise import Model
from dragnoise.lora.files import pack

device, dtype, build = sys.argv[1:]
torch.use_deterministic_algorithms(True)
model = Model(getattr(pipelines, build)().to(getattr(torch, dtype)), device=device)
session, again = quick_session(model, 5, history_limit=1), quick_session(model, 5)
assert_same_snapshots(session.history, again.history)
session.rewind(2)
for _ in range(3):
    session.step()
assert_same_snapshots(session.history, again.history)
np.testing.assert_array_equal(np.asarray(session.render()), np.asarray(again.render()))
for one, steps in ((session, (2, 4)), (again, (4,))):
    for count in steps:
        list(one.fit_lora(count, rank=2, batch_size=2))
(mine, _), (its, _) = pack(session.lora), pack(again.lora)
assert all(torch.equal(mine[name], its[name]) for name in its)
"""

WHERE = [
    ("cpu", "float32", "build_three_block"), ("cuda", "float32", "build_sd15"), ("cuda", "float16", "build_sd15"),
]  # fmt: skip


@pytest.mark.parametrize(("device", "dtype", "build"), WHERE)
def test_who_asks_for_the_same_bits_gets_them(tmp_path: Path, device: str, dtype: str, build: str) -> None:
    """In a process of its own, for the environment has to say so before CUDA starts."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", PROGRAM, device, dtype, build]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_replay_that_comes_out_differently_says_why(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    session, advance = quick_session(small, 3, history_limit=1), SingleTimestep.advance
    assert not session.history[1].is_whole
    monkeypatch.setattr(SingleTimestep, "advance", lambda *given: (advance(*given)[0], Report({"total": 0.5}, 0.0)))
    with pytest.warns(RuntimeWarning) as warned:
        session.snapshot(1)
    (warning,) = warned
    assert_one_sentence(warning.message, "iteration 1", "loss 0.5", "on a GPU")
