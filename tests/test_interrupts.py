"""Ctrl-C between any two lines of the engine, and inside the model: the session stands at a good state and goes on."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_snapshots, quick_session
from pipelines import build_three_block

import dragnoise
from dragnoise import DragSession, Model

ENGINE = str(Path(dragnoise.__file__).parent)
MOMENTS = 5
"""Interrupts of each call, over all its lines."""


@contextmanager
def counting(stop: int | None = None) -> Iterator[list[int]]:
    """Count the engine's lines and calls that are run; before number `stop` a KeyboardInterrupt is raised, once."""
    lines = [0]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ENGINE):
            return None
        if event in ("line", "call"):  # a signal can come before the first line of a function, too
            if lines[0] == stop:
                lines[0] += 1
                raise KeyboardInterrupt
            lines[0] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


CALLS: dict[str, Callable[[DragSession, Path], Any]] = {
    "invert": lambda s, _: list(s.invert()),
    "step": lambda s, _: [s.step(), s.step()],
    "optimize": lambda s, _: list(s.optimize()),
    "render": lambda s, _: s.render(),
    "run": lambda s, _: s.run(progress=False),
    "rewind": lambda s, _: s.rewind(1),
    "snapshot": lambda s, _: s.snapshot(1),
    "branch": lambda s, _: s.branch(1),
    "drags": lambda s, _: setattr(s, "drags", [((5, 5), (9, 9))]),
    "mask": lambda s, _: setattr(s, "mask", None),
    "config": lambda s, _: setattr(s, "config", s.config.replace(edit_from=3, lr=0.1)),
    "prompt": lambda s, _: setattr(s, "prompt", "a bear"),
    "fit_lora": lambda s, _: list(s.fit_lora(2, rank=1, batch_size=1)),
    "history_limit": lambda s, _: setattr(s, "history_limit", 1),
    "save": lambda s, folder: s.save(folder / "edit.drag"),
    "autosave": lambda s, folder: [s.autosave(folder / "edit.drag", every=1), s.step()],
    "autosave of a fit": lambda s, folder: [
        s.autosave(folder / "edit.drag", every=1),
        list(s.fit_lora(1, rank=1, batch_size=1)),
    ],
}


@pytest.fixture(scope="module")
def whole(small: Model) -> DragSession:
    """Three iterations, of which a small limit has thinned two, so that going back has to run them again."""
    return quick_session(small, 3, history_limit=1)


def assert_usable(session: DragSession) -> None:
    """What it holds belongs together: going on gives the bits of a session that came here undisturbed."""
    assert [s.iteration for s in session.history] == list(range(len(session.history)))
    fresh = DragSession(session.model, session.image, session.prompt, session.config)
    fresh.drags, fresh.lora = session.drags, session.lora
    for snapshot in session.history[1:]:
        assert snapshot.config is not None
        fresh.config, fresh.mask = snapshot.config, snapshot.mask
        fresh.step()
    fresh.config, fresh.mask = session.config, session.mask
    for one in (session, fresh):
        one.step()
    assert_same_snapshots(session.history, fresh.history)
    np.testing.assert_array_equal(np.asarray(session.render()), np.asarray(fresh.render()))


@pytest.mark.parametrize("name", CALLS)
def test_between_any_two_lines(small: Model, whole: DragSession, tmp_path: Path, name: str) -> None:
    CALLS[name](whole.branch(), tmp_path)  # what is made once for all, such as imports, is made now
    session = whole.branch()
    with counting() as lines:
        CALLS[name](session, tmp_path)
    count, rng = lines[0], random.Random(name)
    for stop in sorted({0, count - 1, *(rng.randrange(count) for _ in range(MOMENTS))}):
        session = whole.branch()
        session.save(tmp_path / "edit.drag")
        with pytest.raises(KeyboardInterrupt), counting(stop):
            CALLS[name](session, tmp_path)
        found = DragSession.open(tmp_path / "edit.drag")  # the old file or the new one, whole
        assert len(found.history) in (4, 5) or (found.lora and not found.inverted)
        session.autosave(None)
        kept = DragSession.open(session.save(tmp_path / "stands.drag"), small)
        assert (len(kept.history), kept.state.inverted) == (len(session.history), session.state.inverted)
        assert_usable(session)
    assert len(whole.history) == 4


@contextmanager
def ctrl_c(after: float) -> Iterator[None]:
    """The signal of Ctrl-C after so many seconds, if the block still runs then; wherever it is, inside torch too."""
    left = False

    def interrupt(*_: Any) -> None:
        if not left:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        left = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        torch.set_grad_enabled(True)  # should it have hit the very line that does this, the other tests go on


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that sends signals")
def test_at_any_moment_while_it_runs(whole: DragSession) -> None:
    started = time.perf_counter()
    whole.branch(0).run(progress=False)
    takes, rng, hit = time.perf_counter() - started, random.Random(3), 0
    for _ in range(10):
        session = whole.branch(0)
        try:
            with ctrl_c(rng.uniform(0.001, takes)):
                session.run(progress=False)
        except KeyboardInterrupt:
            hit += 1
        assert_usable(session)
    assert hit > 0


@contextmanager
def ctrl_c_leaving(block: type) -> Iterator[list[int]]:
    """Ctrl-C when a block of torch's is left next, before that has switched anything back; once."""
    leave, left = block.__exit__, [0]

    def exit_(self: Any, *error: Any) -> Any:
        left[0] += 1
        if left[0] == 1:
            raise KeyboardInterrupt
        return leave(self, *error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block, "__exit__", exit_)
        yield left


@pytest.mark.parametrize("name", ["invert", "step", "render", "run"])
def test_gradients_are_as_they_were_after_an_interrupt_that_torch_did_not_survive(
    whole: DragSession, tmp_path: Path, name: str
) -> None:
    session = whole.branch(1)
    with pytest.raises(KeyboardInterrupt), ctrl_c_leaving(torch.no_grad) as left:
        CALLS[name](session, tmp_path)
    assert left[0] >= 1 and torch.is_grad_enabled()
    assert_usable(session)


def assert_casts_are_not_kept() -> None:
    """An open autocast block would keep the cast of a weight and give it again when the weight has changed."""
    weight = torch.nn.Parameter(torch.ones(1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        torch.ones(1, 1) @ weight
    with torch.no_grad():
        weight.mul_(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(1, 1) @ weight).item() == 2


def autocast_depth() -> int:
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def test_a_unit_of_work_can_be_interrupted_between_any_two_lines(whole: DragSession) -> None:
    store = whole.store
    with counting() as lines, store.working, store.unit():
        pass
    for stop in range(lines[0]):
        with pytest.raises(KeyboardInterrupt), counting(stop), store.working, store.unit():
            pass
        assert autocast_depth() == 0
        with ThreadPoolExecutor(1) as other:
            free = other.submit(store.working.acquire, timeout=5).result()
            assert free, f"before line {stop} of {lines[0]}: the lock is still held, and no other thread can work"
            other.submit(store.working.release).result()


def test_mixed_precision_is_off_again_after_an_interrupt_that_torch_did_not_survive() -> None:
    session = quick_session(Model(build_three_block().to(torch.bfloat16)), 1)
    with pytest.raises(KeyboardInterrupt), ctrl_c_leaving(torch.autocast):
        list(session.fit_lora(2, rank=1, batch_size=1))
    assert not torch.is_autocast_enabled("cpu")
    assert_casts_are_not_kept()
    assert_usable(session)


@pytest.mark.parametrize("name", ["step", "fit_lora"])
def test_whether_the_caller_has_gradients_makes_no_difference(small: Model, tmp_path: Path, name: str) -> None:
    with_them, without = quick_session(small, 1), quick_session(small, 1)
    CALLS[name](with_them, tmp_path)
    with torch.no_grad():
        CALLS[name](without, tmp_path)
        assert not torch.is_grad_enabled()
    assert_same_snapshots(with_them.history, without.history)
    assert_usable(without)
