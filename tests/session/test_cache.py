"""What is computed, counted: nothing that has been computed from the same values is computed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers import quick_session
from torch.utils._python_dispatch import TorchDispatchMode

from dragnoise import DragConfig, Model


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often a model embeds, encodes and decodes."""
    counted: Counter[str] = Counter()

    def count(name: str) -> None:
        original = getattr(Model, name)

        def counting(self: Model, *args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Model, name, counting)

    for name in ("embed", "encode", "decode", "encode_picture", "decode_latents"):
        count(name)
    yield counted


def test_an_iteration_is_one_decode(small: Model, calls: Counter[str]) -> None:
    session = quick_session(small, 1)
    calls.clear()
    for _ in range(3):
        session.step()
    assert calls == {"decode": 3}
    for released in (False, True):
        config = DragConfig.released(steps=6, edit_from=4, max_iterations=9) if released else session.config
        session.config = config
        session.step()
        session.step()
        calls.clear()
        session.step()
        assert calls == {"decode": 1}


@pytest.mark.parametrize(
    "changes",
    [{}, {"max_iterations": 9}, {"propagation": "delta"}, {"lr": 0.02}, {"refine_from": 2}, {"hold": "latents"}],
)
def test_a_change_of_what_nothing_depends_on_costs_nothing(
    small: Model, calls: Counter[str], changes: dict[str, Any]
) -> None:
    session = quick_session(small, 2)
    calls.clear()
    session.config = session.config.replace(**changes)
    session.step()
    assert calls == {"decode": 1}


def test_a_change_of_the_tracking_window_looks_again(small: Model, calls: Counter[str]) -> None:
    session = quick_session(small, 2)
    calls.clear()
    session.config = session.config.replace(r2=5)
    session.step()
    assert calls["embed"] == calls["encode"] == 0 and 2 <= calls["decode"] <= 3


def test_a_branch_embeds_and_encodes_nothing_again(small: Model, calls: Counter[str]) -> None:
    session = quick_session(small, 2)
    calls.clear()
    session.branch(1).step()
    assert calls["embed"] == calls["encode"] == calls["encode_picture"] == 0


def test_the_graph_is_let_go_of_before_rendering(small: Model) -> None:
    session = quick_session(small, 2)
    editor = session.store.engine.editor(session.state)
    assert editor._look is not None  # type: ignore[attr-defined]
    next(session.denoise())
    assert editor._look is None  # type: ignore[attr-defined]


class ScalarReads(TorchDispatchMode):
    """Counts single numbers that are read of float32 tensors, which is what lives on the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].dtype == torch.float32:
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "config", [None, DragConfig.released(steps=6, edit_from=4), DragConfig.preset("dragdiffusion")]
)
def test_an_iteration_reads_the_device_once(
    small: Model, config: DragConfig | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points and their distances are float64 and live on the host; what the device computes is float32."""
    session = quick_session(small)
    if config is not None:
        session.config = config.replace(
            steps=6, edit_from=4, **({} if config.editor != "dragnoise" else {"refine_from": 0})
        )
    session.step()
    session.step()
    read, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: read.append(x.dtype) or tolist(x))
    with ScalarReads() as scalars:
        session.step()
    assert read.count(torch.float32) == 1 and scalars.count <= 1  # Adam's count of updates, on the host
