"""A session and several threads: work takes turns, and what was overtaken by a change leaves nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence, assert_same_snapshots, quick_session

from dragnoise import DragSession, Lora, Model
from dragnoise.lora import Adapter

OTHER_DRAGS = [((12, 10), (30, 30))]


def during_an_iteration(session: DragSession, change: Callable[[], Any]) -> None:
    """Make a change in another thread while the decoder of the next iteration runs."""
    block, done = session.store.engine.model.pipeline.unet.up_blocks[0], []

    def interfere(*_: Any) -> None:
        if not done:
            done.append(True)
            with ThreadPoolExecutor(1) as other:
                other.submit(change).result()

    hook = block.register_forward_hook(interfere)
    try:
        session.store.engine.release()
        session.step()
    finally:
        hook.remove()


CHANGES: dict[str, Callable[[DragSession], None]] = {
    "drags": lambda s: setattr(s, "drags", OTHER_DRAGS),
    "as many drags": lambda s: setattr(s, "drags", [((12, 10), (30, 30)), ((40, 12), (20, 12))]),
    "objectives": lambda s: setattr(s, "drags", [((10, 10), (31, 30)), ((40, 12.5), (20, 12.5))]),
    "mask": lambda s: setattr(s, "mask", None),
    "config": lambda s: setattr(s, "config", s.config.replace(lr=0.5)),
    "config that needs an inversion": lambda s: setattr(s, "config", s.config.replace(seed=7)),
    "prompt": lambda s: setattr(s, "prompt", "a hare"),
    "model": lambda s: setattr(s, "model", Model(s.model.pipeline)),
    "lora": lambda s: setattr(s, "lora", Lora({"mid_block.attentions.0.proj_in": _adapter(s)})),
}


def _adapter(session: DragSession) -> Adapter:
    weight = session.model.pipeline.unet.get_submodule("mid_block.attentions.0.proj_in").weight
    return Adapter(weight.new_zeros(1, *weight.shape[1:]), weight.new_zeros(weight.shape[0], 1, *weight.shape[2:]))


@pytest.mark.parametrize("name", CHANGES)
def test_an_iteration_that_was_overtaken_raises_and_leaves_nothing(small: Model, name: str, tmp_path: Path) -> None:
    session, expected = quick_session(small, 2), quick_session(small, 2)
    with pytest.raises(RuntimeError) as caught:
        during_an_iteration(session, lambda: CHANGES[name](session))
    assert_one_sentence(caught.value, "overtaken", "repeat the call")
    CHANGES[name](expected)
    assert_same_snapshots(session.history, expected.history)
    again = DragSession.open(session.save(tmp_path / "a.drag"), session.model)
    assert again.drags == session.drags and len(again.history) == len(session.history)
    assert session.step().iteration == expected.step().iteration


def test_two_threads_in_step_make_every_step_they_asked_for(small: Model) -> None:
    session, alone = quick_session(small), quick_session(small, 8)
    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(lambda _: session.step().iteration, range(8)))
    assert sorted(made) == list(range(1, 9))
    assert_same_snapshots(session.history, alone.history)


def test_rewinding_waits_for_the_iteration_that_is_under_way(small: Model) -> None:
    session = quick_session(small, 4)
    threads = [threading.Thread(target=session.step) for _ in range(3)]
    for thread in threads:
        thread.start()
    session.rewind(2)
    for thread in threads:
        thread.join()
    assert len(session.history) >= 3
    assert_same_snapshots(session.history, quick_session(small, len(session.history) - 1).history)


def test_drags_set_inside_the_loop_start_it_afresh(small: Model) -> None:
    session, seen = quick_session(small), []
    for snapshot in session.optimize():
        seen.append((snapshot.iteration, len(snapshot.distances)))
        if seen == [(1, 2), (2, 2)]:
            session.drags = OTHER_DRAGS
        if len(seen) == 4:
            break
    assert seen == [(1, 2), (2, 2), (1, 1), (2, 1)]


def test_no_drags_inside_the_loop_end_it_with_a_sentence(small: Model) -> None:
    session = quick_session(small)
    steps = session.optimize()
    next(steps)
    session.drags = []
    with pytest.raises(ValueError) as caught:
        next(steps)
    assert_one_sentence(caught.value, "nothing to drag")


def test_other_objectives_go_on_from_where_they_are(small: Model) -> None:
    session = quick_session(small, 3)
    history, moved = session.history, [((10, 10), (12, 34)), ((40, 12.5), (20, 12.5))]
    session.drags = moved
    assert session.history is history and session.status == "running"
    after = session.step()
    assert after.iteration == 4 and after.drags == session.drags
    np.testing.assert_allclose(after.distances[0], np.hypot(*(np.array([12, 34]) - after.anchors[0])))
    session.drags = [((11, 10), (12, 34)), ((40, 12.5), (20, 12.5))]
    assert not session.history and session.state.inverted


def test_other_objectives_are_replayed_with_those_they_were_made_with(small: Model) -> None:
    whole, thin = quick_session(small, 2), quick_session(small, 2, history_limit=1)
    for session in (whole, thin):
        session.drags = [((10, 10), (12, 34)), ((40, 12.5), (20, 12.5))]
        session.step()
        session.step()
        session.drags = [((10, 10), (30, 4)), ((40, 12.5), (20, 12.5))]
        session.step()
    for k in (1, 3):
        assert not thin.history[k].is_whole
        assert (thin.snapshot(k).variable == whole.history[k].variable).all()


def test_what_was_arrived_goes_on_when_its_objective_moves(small: Model) -> None:
    session = quick_session(small)
    session.config = session.config.replace(tolerance=100)
    assert list(session.optimize()) == [] and session.status == "reached"
    session.drags = [((10, 10), (31, 30)), ((40, 12.5), (20, 12.5))]
    assert session.status == "running"


def test_the_same_state_again_changes_nothing(small: Model) -> None:
    session = quick_session(small, 3)
    state = session.state
    session.drags, session.mask, session.config, session.prompt = (
        session.drags, session.mask, session.config.replace(), session.prompt,
    )  # fmt: skip
    assert session.state is state


def test_a_state_is_restored_with_its_iterations(small: Model) -> None:
    session = quick_session(small, 3)
    before = session.state
    session.drags, session.mask = OTHER_DRAGS, None
    session.step()
    told: list[DragSession] = []
    session.watch(told.append)
    session.store.restore(before)
    assert told == [session] and session.history is before.history and session.drags == before.drags
    assert session.step().iteration == 4
    with pytest.raises(ValueError) as caught:
        session.store.restore(quick_session(small).state)
    assert_one_sentence(caught.value, "session.state", "same session")
