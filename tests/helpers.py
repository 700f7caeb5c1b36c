"""What several tests share: dense references, pictures, and what a good error message looks like."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dragnoise.config import DragConfig

if TYPE_CHECKING:  # imported where they are used, so that tests of the canvas start at once
    from torch import Tensor

    from dragnoise import DragSession, Model, Snapshot


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


def resized(feature: Tensor, grid: tuple[int, int]) -> Tensor:
    """The whole map (C, h, w) resized to (width, height) -> (C, height, width)."""
    import torch

    size = (grid[1], grid[0])
    return torch.nn.functional.interpolate(feature[None], size, mode="bilinear", align_corners=False)[0]


def at(dense: Tensor, x: float, y: float) -> Tensor:
    """A dense map (C, H, W) at one place, bilinear, clamped to its border -> (C,)."""
    x, y = min(max(x, 0.0), dense.shape[2] - 1.0), min(max(y, 0.0), dense.shape[1] - 1.0)
    x0, y0 = math.floor(x), math.floor(y)
    x1, y1 = min(x0 + 1, dense.shape[2] - 1), min(y0 + 1, dense.shape[1] - 1)
    upper = dense[:, y0, x0] * (1 - (x - x0)) + dense[:, y0, x1] * (x - x0)
    lower = dense[:, y1, x0] * (1 - (x - x0)) + dense[:, y1, x1] * (x - x0)
    return upper * (1 - (y - y0)) + lower * (y - y0)


def smooth_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


NEED_A_MASK = ("fastdrag", "regiondrag")
"""Editors that move what a mask frees."""

CLASSIC: dict[str, Any] = {
    "start": "inverted", "target": "current", "schedule": "single", "hold": "nothing", "keep": "nothing"
}  # fmt: skip
"""What makes the embedded model's numbers those of the paper's method."""


def assert_one_sentence(error: BaseException, *named: str) -> None:
    """One line, one full stop at its end, and everything in `named` said; quoted reasons in (...) count for nothing."""
    message = str(error)
    assert "\n" not in message
    assert message.endswith(".")
    assert not re.search(r"[.!?] ", re.sub(r"\(.*\)", "", message)), message
    for part in named:
        assert part in message


QUICK = DragConfig(steps=4, edit_from=2, refine_from=0, max_iterations=6, side=64)
"""Numbers with which a small model takes no time."""


def quick_session(model: Model, iterations: int = 0, **given: Any) -> DragSession:
    """A session of a soft picture 50 wide and 40 high with two drags and a mask, after so many iterations."""
    from dragnoise import DragSession

    session = DragSession(model, smooth_picture(50, 40), "a fox", QUICK, **given)
    session.drags = [((10, 10), (30, 30)), ((40, 12.5), (20, 12.5))]
    mask = np.zeros((40, 50), bool)
    mask[3:37, :45] = True
    session.mask = mask
    for _ in range(iterations):
        session.step()
    return session


FAILING: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "lost": ([((10, 12), (40, 40))], {"lr": 3.0, "r2": 8, "max_iterations": 5}),
    "drifted": ([((10, 12), (20, 20))], {"lr": 0.5, "r2": 2, "tolerance": 0.4, "max_iterations": 16}),
    "opposed": ([((28, 32), (44, 32)), ((36, 33), (20, 33))], {"lr": 0.01, "max_iterations": 16}),
    "turned": ([((20, 32), (32, 20)), ((44, 32), (32, 44))], {"lr": 1e-6, "max_iterations": 16}),
    "stalled": ([((20, 30), (50, 34))], {"lr": 1e-6, "max_iterations": 16}),
    "iterations": ([((20, 30), (50, 34))], {"lr": 0.05, "max_iterations": 6}),
}
"""By finding of the diagnosis: drags, and numbers with which their run fails so, see `failing_session`."""


def failing_session(model: Model, what: str) -> DragSession:
    """A session on the small model and a soft picture, whose run fails in this way."""
    from dragnoise import DragSession

    drags, numbers = FAILING[what]
    session = DragSession(model, smooth_picture(64, 64), "a fox", QUICK.replace(**numbers))
    session.drags = drags
    return session


def made_snapshot(
    k: int,
    *,
    anchors: Any,
    distances: Any,
    variable: Tensor,
    alignment: float = math.nan,
    masking: float = 0.0,
    total: float | None = None,
    seconds: float = 0.01,
    name: str = "bottleneck",
) -> Snapshot:
    """Iteration k as DragNoise would tell it, of numbers made up."""
    import torch

    from dragnoise import Snapshot
    from dragnoise.editors import EditState

    total = alignment + 0.1 * masking if total is None else total
    anchors = np.asarray(anchors, float)
    return Snapshot(
        iteration=k, losses={"total": total, "alignment": alignment, "mask": masking} if k else {}, anchors=anchors,
        distances=np.asarray(distances, float), grad_norm=1.0 if k else math.nan, status="running", seconds=seconds,
        state=EditState({name: variable}, torch.from_numpy(anchors / 2), 4, k),
    )  # fmt: skip


def assert_same_snapshots(one: Sequence[Snapshot], other: Sequence[Snapshot]) -> None:
    """To the bit, all but the seconds; of what was let go nothing is asked."""
    import torch

    assert len(one) == len(other)
    for mine, its in zip(one, other, strict=True):
        for name in ("iteration", "loss", "alignment_loss", "mask_loss", "grad_norm", "status", "config"):
            a, b = getattr(mine, name), getattr(its, name)
            assert a == b or (a != a and b != b), (mine, its, name)
        for name in ("anchors", "distances", "mask"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(its, name))
        assert torch.equal(mine.state.anchors, its.state.anchors) and mine.losses == its.losses
        assert (mine.state.step, mine.state.count) == (its.state.step, its.state.count)
        if mine.is_whole and its.is_whole:
            assert list(mine.state.tensors) == list(its.state.tensors)
            assert all(torch.equal(tensor, its.state.tensors[name]) for name, tensor in mine.state.tensors.items())


def fingerprint(session: DragSession) -> str:
    """Of all that a session holds, the seconds too."""
    digest = hashlib.sha256()
    for thing in (
        session.drags, session.config, session.prompt, session.name, session.state.origin, session.history_limit,
        session.image.size, session.state.inverted, session.status, id(session.lora), id(session.model),
        session.store.autosaved,
    ):  # fmt: skip
        digest.update(repr(thing).encode())
    digest.update(session.image.tobytes())
    digest.update(b"" if session.mask is None else session.mask.tobytes())
    for latents in session.trajectory:
        digest.update(latents.numpy().tobytes())
    for snapshot in session.history:
        digest.update(repr((snapshot.iteration, snapshot.loss, snapshot.seconds, snapshot.is_whole)).encode())
        digest.update(snapshot.anchors.tobytes() + snapshot.state.anchors.numpy().tobytes())
        for name, tensor in snapshot.state.tensors.items():
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def complaints(studio: Any) -> list[str]:
    """What the log tells, but for news of what was done."""
    news = ("are kept as the branch", "of these drags is back", "are in the folder", "was ended; choose it")
    return [entry for entry in studio.journal.text if not any(told in entry for told in news)]


def python_blocks(document: Path) -> list[str]:
    """The fenced Python blocks of a Markdown file."""
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
