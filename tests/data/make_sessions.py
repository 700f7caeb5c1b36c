"""Wrote the session files of format version 1 beside it, and `sessions.json`; not run by the tests.

Run with the dragnoise of commit f3257e6: `python tests/data/make_sessions.py`.  `sessions.json` says of each file what
going on for two more iterations gave on an x86 CPU with torch 2.13: losses, anchors and the SHA-256 of the bottleneck.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

import dragnoise
from dragnoise import DragConfig, DragSession

HERE = Path(__file__).parent
DRAGS = [((20.0, 24.0), (36.5, 30.0)), ((44.0, 40.0), (40.0, 50.0))]


def picture() -> Image.Image:
    """64x64 pixels of soft random colours."""
    colours = np.random.default_rng(5).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((64, 64), Image.Resampling.BICUBIC)


def mask() -> np.ndarray:
    """(64, 64) bool, the picture but for its border."""
    inside = np.zeros((64, 64), bool)
    inside[6:58, 8:60] = True
    return inside


def toyland() -> DragSession:
    """The embedded model's own numbers, with a mask, after three iterations."""
    model = dragnoise.load_model()
    config = model.default_config.replace(steps=8, edit_from=4, refine_from=1, side=64)
    session = DragSession(model, picture(), "a red sun over a hill", config)
    session.drags, session.mask = DRAGS, mask()
    for _ in range(3):
        session.step()
    return session


def paper() -> DragSession:
    """The paper's numbers, with a LoRA whose fit could go on, a change of numbers and a thinned history."""
    model = dragnoise.load_model()
    config = DragConfig(steps=6, edit_from=2, refine_from=1, side=64, max_iterations=12)
    session = DragSession(model, picture(), "", config, name="with a LoRA")
    next(session.fit_lora(2, rank=1, batch_size=1))
    session.drags = DRAGS[:1]
    session.step()
    session.config = config.replace(lr=0.05)
    for _ in range(2):
        session.step()
    session.history_limit = 2 * session.history[1].nbytes
    return session


def released() -> DragSession:
    """The released program's numbers, a branch, after its anchors have arrived."""
    model = dragnoise.load_model()
    config = DragConfig.released(steps=6, edit_from=2, lr=0.1, max_iterations=9)
    session = DragSession(model, picture(), "a fox", config)
    session.drags = [((30.0, 30.0), (37.0, 30.0))]
    session.step()
    branch = session.branch(1, name="arrived")
    branch.config = config.replace(tolerance=5.0)
    for _ in branch.optimize():
        pass
    branch.step()
    return branch


def main() -> None:
    """Write the files."""
    after = {}
    for make in (toyland, paper, released):
        session = make()
        name = f"{make.__name__}.drag"
        path = session.save(HERE / name)
        whole = [s.is_whole for s in session.history]
        print(name, path.stat().st_size, session.status, session.origin, whole, session.history[-1])
        opened = DragSession.open(path, session.model)
        stored = [_numbers(s) for s in opened.history]
        going_on = [_numbers(opened.step()) for _ in range(2)]
        after[name] = {"stored": stored, "going_on": going_on, "anchors": opened.anchors.tolist()}
    (HERE / "sessions.json").write_text(json.dumps(after, indent=1) + "\n")


def _numbers(s: dragnoise.Snapshot) -> dict[str, object]:
    losses = (s.loss, s.alignment_loss, s.mask_loss, s.grad_norm)
    digest = hashlib.sha256(s.bottleneck.numpy().tobytes()).hexdigest() if s.is_whole else None
    return {
        "iteration": s.iteration,
        "losses": [None if np.isnan(x) else x for x in losses],
        "anchors": s.anchors.tolist(),
        "distances": s.distances.tolist(),
        "status": s.status,
        "bottleneck": digest,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
