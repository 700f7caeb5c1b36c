"""The runner: commands from anywhere, one worker, and a session that always stays usable."""

from __future__ import annotations

import gc
import itertools
import logging
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_session
import numpy as np
import pytest
import torch
from fake_session import FakeSession
from helpers import assert_one_sentence, smooth_picture
from properties import given, settings, st

from dragnoise import Drag, DragSession, Model
from dragnoise.geometry import short_drags
from dragnoise.session import stages as engine_stages
from dragnoise_widgets.runner import breakpoints, stages, status_publisher
from dragnoise_widgets.runner.commands import Pause, Render, Rewind, Run, SetConfig, Step, Stop
from dragnoise_widgets.runner.runner import Runner, Update

PATIENCE = 100
"""Seconds after which something that should have happened never will."""

ITERATIONS = [f"iterate {k}" for k in range(1, 9)]
INVERSION = [f"invert {k}" for k in range(1, 5)]


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


class Held:
    """A runner on a fake session whose units of work go through one by one."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.session = FakeSession(gate=self.gate)
        self.runner = Runner(self.session)

    def let(self, n: int) -> None:
        """Let n units through, and come back when they are done and the next one has begun or all is over."""
        done = len(self.session.log) + n
        for _ in range(n):
            self.gate.release()
        until(lambda: len(self.session.log) == done and (self.session.at_work or self.runner.wait(0)))

    def finish(self) -> None:
        """No gate any more."""
        self.session.gate = None
        self.gate.release(200)  # branches have the gate still
        assert self.runner.wait(PATIENCE)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.session.gate = None
    held.gate.release(100)
    held.runner.close()
    assert held.runner.wait(PATIENCE)


def ready(**options: Any) -> tuple[FakeSession, Runner]:
    """A fake session that is inverted, and its inline runner."""
    session = FakeSession(**options)
    runner = Runner(session, inline=True)
    runner.prepare()
    session.log.clear()
    return session, runner


def observed(runner: Runner) -> list[Update]:
    seen: list[Update] = []
    runner.observe(seen.append)
    return seen


# ---- what the commands do ----------------------------------------------------------------------


@pytest.mark.parametrize("inline", [True, False])
def test_commands_are_done_one_after_the_other(inline: bool) -> None:
    session = FakeSession()
    runner = Runner(session, inline=inline)
    runner.prepare()
    runner.step(2)
    runner.step()
    runner.render(2)
    runner.run()
    assert runner.wait(PATIENCE)
    rendered = [*(f"denoise 2: {k}" for k in (3, 2, 1, 0)), "decode 2"]
    assert session.log == [*INVERSION, *ITERATIONS[:3], *rendered, *ITERATIONS[3:]]
    assert runner.state == "idle" and runner.error is None
    assert runner.status.message == "stopped at max_iterations=8"
    assert runner.status.history_length == len(session.history) == 9
    assert runner.latest.picture.getpixel((0, 0))[0] == runner.latest.picture_iteration == 2


@pytest.mark.parametrize("command", ["step", "run", "render"])
def test_what_needs_an_inversion_makes_it(command: str) -> None:
    session = FakeSession()
    getattr(Runner(session, inline=True), command)()
    assert session.log[:4] == INVERSION and len(session.log) > 4


def test_nothing_is_inverted_before_there_are_drags() -> None:
    session = FakeSession()
    session.drags = ()
    runner = Runner(session, inline=True)
    for command in (runner.run, runner.step):
        command()
        assert runner.state == "error" and "nothing to drag" in runner.status.message
    assert session.log == []


def test_what_is_done_already_is_not_done_again() -> None:
    session, runner = ready()
    runner.prepare()
    assert session.log == [] and "already" in runner.status.message
    runner.run()
    session.log.clear()
    runner.run()
    assert session.log == [] and runner.state == "idle"


def test_a_lora_comes_before_the_inversion() -> None:
    session = FakeSession()
    runner = Runner(session, inline=True)
    seen = observed(runner)
    runner.prepare(lora={"steps": 3})
    assert session.log == ["fit 1", "fit 2", "fit 3", *INVERSION]
    assert seen[0].status.task == "lora" and seen[0].status.total == 3


def test_a_call_gives_back_what_the_function_gave() -> None:
    _, runner = ready()
    assert runner.call(lambda session: session.state.inverted).result(0) is True


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_step_wants_a_whole_number(n: Any) -> None:
    _, runner = ready()
    with pytest.raises(ValueError) as error:
        runner.step(n)
    assert_one_sentence(error.value, repr(n))


# ---- a real session ----------------------------------------------------------------------------


def real_session(model: Model) -> DragSession:
    config = model.default_config.replace(steps=8, edit_from=5, refine_from=1, max_iterations=6, lr=0.05)
    session = DragSession(model, smooth_picture(64, 48), config=config)
    session.drags = [((20, 20), (44, 30)), ((50, 10), (40, 10))]
    return session


@pytest.mark.parametrize("preview_every", [0, 1, "auto"])
def test_the_bits_are_those_of_the_bare_generator(small: Model, preview_every: Any) -> None:
    bare, driven = real_session(small), real_session(small)
    expected = list(bare.optimize())
    runner = Runner(driven)
    runner.preview_every = preview_every
    runner.step(2)
    runner.render(1)
    assert runner.wait(PATIENCE)
    runner.rewind(1)
    runner.run()
    assert runner.wait(PATIENCE) and runner.error is None
    assert len(expected) == len(driven.history) - 1 == 6
    for one, other in zip(bare.history, driven.history, strict=True):
        assert torch.equal(one.bottleneck, other.bottleneck)
        assert (one.anchors == other.anchors).all()
    assert (runner.latest.picture_iteration == 6) is bool(preview_every)
    if preview_every:
        assert runner.latest.picture.tobytes() == bare.render().tobytes()


def test_a_fit_is_left_and_gone_on_with(small: Model) -> None:
    whole, driven = real_session(small), real_session(small)
    fits = list(whole.fit_lora(3, rank=2, batch_size=1))
    runner = Runner(driven)
    fitted = threading.Event()
    runner.observe(lambda update: fitted.set() if getattr(update.step, "loss", None) else None)
    runner.prepare(lora={"steps": 3, "rank": 2, "batch_size": 1})
    fitted.wait(PATIENCE)
    runner.pause()
    assert runner.wait(PATIENCE)
    runner.run()
    assert runner.wait(PATIENCE) and runner.error is None and runner.state == "idle"
    assert driven.inverted and len(driven.history) == 7 and len(fits) == 3
    for one, other in zip(whole.lora.adapters.values(), driven.lora.adapters.values(), strict=True):
        assert torch.equal(one.down, other.down) and torch.equal(one.up, other.up)


# ---- pause, stop -------------------------------------------------------------------------------


def test_pause_is_answered_within_one_iteration(held: Held) -> None:
    held.runner.run()
    held.let(4 + 2)
    until(lambda: held.runner.status.done == 2)
    held.runner.pause()
    assert held.runner.state == "running" and held.runner.status.message == "pausing"
    held.let(1)
    assert held.runner.wait(PATIENCE)
    assert held.runner.state == "paused" and held.session.log == [*INVERSION, *ITERATIONS[:3]]
    held.runner.run()
    held.finish()
    assert held.session.log == [*INVERSION, *ITERATIONS] and held.runner.state == "idle"


def test_a_step_while_paused_stays_paused(held: Held) -> None:
    held.session.gate = None
    held.runner.breakpoints = [breakpoints.at(2)]
    held.runner.run()
    held.runner.wait()
    held.runner.step()
    held.runner.rewind(1)
    held.runner.wait()
    assert held.runner.state == "paused" and len(held.session.history) == 2
    held.runner.stop()
    assert held.runner.state == "idle"


@pytest.mark.parametrize("then", ["run", "prepare", "step", "render"])
def test_a_paused_inversion_is_gone_on_with(held: Held, then: str) -> None:
    held.runner.prepare()
    held.let(2)
    held.runner.pause()
    held.let(1)
    assert held.runner.wait(PATIENCE) and held.runner.state == "paused"
    getattr(held.runner, then)()
    held.finish()
    assert held.session.log[:4] == INVERSION and "invert 1" not in held.session.log[4:]
    assert held.session.state.inverted and held.runner.error is None


def test_a_paused_fit_is_gone_on_with(held: Held) -> None:
    held.runner.prepare(lora={"steps": 4})
    held.let(1)
    held.runner.pause()
    held.let(1)
    assert held.runner.wait(PATIENCE) and held.runner.state == "paused"
    held.runner.step()
    held.finish()
    assert held.session.log == ["fit 1", "fit 2", "fit 3", "fit 4", *INVERSION, "iterate 1"]


def test_a_paused_rendering_is_gone_on_with(held: Held) -> None:
    held.runner.step()
    held.let(5)
    held.runner.wait()
    held.runner.render()
    held.let(2)
    held.runner.pause()
    held.let(1)
    assert held.runner.wait(PATIENCE) and held.runner.state == "paused"
    held.runner.run()
    held.finish()
    rendered = [f"denoise 1: {k}" for k in (3, 2, 1, 0)]
    assert held.session.log[5:10] == [*rendered, "decode 1"]
    assert held.runner.latest.picture_iteration == 1


def test_a_paused_rendering_of_what_is_gone_is_given_up(held: Held) -> None:
    held.runner.step(2)
    held.let(6)
    held.runner.wait()
    held.runner.render()
    held.let(2)
    held.runner.pause()
    held.let(1)
    held.runner.rewind(1)
    held.runner.run()
    held.finish()
    assert held.runner.latest.picture is None and len(held.session.history) == 9


def test_a_look_at_an_iteration_that_has_gone_before_its_turn_is_no_error() -> None:
    session, runner = ready()
    runner.step(3)
    runner.rewind(1)
    runner.render(3, aside=True)
    assert runner.state == "idle" and runner.error is None and len(session.history) == 2
    runner.render(3)
    assert runner.state == "error", "who asks for it is told"


@pytest.mark.parametrize("through", [1, 3, 4 + 2, 4 + 8])
def test_stop_leaves_a_usable_session(held: Held, through: int) -> None:
    held.runner.run()
    held.let(through)
    until(lambda: held.runner.status.history_length == max(through - 3, 0))
    if through < 12:
        held.runner.stop()
        assert held.runner.state == "stopping"
        held.let(1)
    else:
        held.runner.wait()
        held.runner.stop()
    assert held.runner.wait(PATIENCE)
    assert held.runner.state == "idle" and held.runner.status.message == "stopped"
    assert held.session.state.inverted == (through + 1 >= 4)
    assert len(held.session.history) == min(max(through - 2, 0), 9)
    held.runner.step()
    held.finish()
    assert held.runner.error is None and held.session.log[-1].startswith("iterate")


def test_a_stopped_inversion_starts_over(held: Held) -> None:
    held.runner.prepare()
    held.let(2)
    held.runner.stop()
    held.let(1)
    assert held.runner.wait(PATIENCE) and not held.session.state.inverted
    held.runner.prepare()
    held.finish()
    assert held.session.log == [*INVERSION[:3], *INVERSION] and held.session.state.inverted


def test_stop_gives_up_what_was_paused(held: Held) -> None:
    held.runner.prepare()
    held.let(2)
    held.runner.pause()
    held.let(1)
    held.runner.wait()
    held.runner.stop()
    held.runner.prepare()
    held.finish()
    assert held.session.log == [*INVERSION[:3], *INVERSION]


def test_stop_during_rendering(held: Held) -> None:
    held.runner.step()
    held.let(5)
    held.runner.wait()
    held.runner.render()
    held.let(2)
    held.runner.stop()
    held.let(1)
    assert held.runner.wait(PATIENCE) and held.runner.state == "idle" and held.runner.latest.picture is None
    held.runner.render()
    held.finish()
    assert held.runner.latest.picture_iteration == 1 and len(held.session.history) == 2


def test_a_real_inversion_that_was_stopped(small: Model) -> None:
    session = real_session(small)
    runner = Runner(session, inline=True)
    seen: list[Update] = []

    def stop_early(update: Update) -> None:
        seen.append(update)
        if update.status.task == "inverting":
            runner.stop()

    ignore = runner.observe(stop_early)
    runner.run()
    ignore()
    assert runner.state == "idle" and not session.state.inverted and session.history == session.history
    assert seen[-1].status.state == "idle" and len(session.history) == 0
    runner.run()
    assert runner.error is None and session.state.inverted and len(session.history) == 7


# ---- clicks in any order ------------------------------------------------------------------------


def test_two_clicks_on_step_are_two_iterations(held: Held) -> None:
    held.runner.step()
    held.runner.step()
    held.finish()
    assert held.session.log == [*INVERSION, *ITERATIONS[:2]]


def test_two_clicks_on_run_are_one_run(held: Held) -> None:
    held.runner.run()
    held.runner.run()
    held.finish()
    assert held.session.log == [*INVERSION, *ITERATIONS]


def test_pause_and_stop_forget_the_clicks_that_wait(held: Held) -> None:
    for command, state in ((held.runner.pause, "paused"), (held.runner.stop, "idle")):
        before = len(held.session.log)
        held.runner.step()
        held.runner.step(3)
        until(lambda: held.session.at_work)
        command()
        held.let(1)
        assert held.runner.wait(PATIENCE)
        assert held.runner.state == state and len(held.session.log) == before + 1


def test_run_and_stop_at_once(held: Held) -> None:
    held.session.gate = None
    for _ in range(20):
        held.runner.run()
        held.runner.stop()
        held.runner.wait()
        assert held.runner.state == "idle"
    held.runner.run()
    held.runner.wait()
    assert len(held.session.history) == 9


def test_run_after_stop_runs(held: Held) -> None:
    held.runner.run()
    held.let(5)
    held.runner.stop()
    held.runner.run()
    held.finish()
    assert held.session.log == [*INVERSION, *ITERATIONS] and held.runner.state == "idle"


def test_pause_and_stop_with_nothing_to_do() -> None:
    _, runner = ready()
    runner.pause()
    assert runner.state == "idle"
    runner.stop()
    assert runner.state == "idle" and runner.error is None


COMMANDS = st.lists(
    st.sampled_from(
        ["prepare", "step", "run", "render", "pause", "stop", "rewind", "fail", "drags", "edit_from", "lora"]
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(COMMANDS, st.sampled_from([0, 1, "auto"]), st.booleans())
def test_any_order_of_commands_leaves_a_usable_session(commands: list[str], preview: Any, inline: bool) -> None:
    session = FakeSession(seconds=0 if inline else 2e-4)
    runner = Runner(session, inline=inline)
    runner.preview_every = preview
    special = {
        "rewind": lambda: runner.rewind(1),
        "fail": lambda: runner.call(lambda s: 1 / 0),
        "drags": lambda: runner.call(lambda s: setattr(s, "drags", (Drag((2, 2), (7, len(s.log) + 1)),))),
        "edit_from": lambda: runner.call(
            lambda s: setattr(s, "config", s.config.replace(edit_from=len(s.log) % 5 + 1))
        ),
        "lora": lambda: runner.prepare(lora={"steps": 2}),
    }
    for command in commands:
        special.get(command, getattr(runner, command, None))()
        assert runner.state in ("idle", "running", "paused", "stopping", "error")
    assert runner.wait(PATIENCE)
    assert runner.state in ("idle", "paused", "error")
    assert (runner.status.task, runner.status.done, runner.status.total) == ("", 0, 0)
    assert runner.status.history_length == len(session.history)
    assert runner.error is None or "AssertionError" not in runner.error
    done = len(session.history) - 1
    runner.stop()
    runner.run()
    assert runner.wait(PATIENCE)
    assert runner.state == "idle" and session.history[-1].iteration == max(8, done)  # step goes on beyond the most


# ---- changes while it runs ----------------------------------------------------------------------


def test_a_config_change_takes_effect_at_the_next_iteration(held: Held) -> None:
    held.runner.run()
    held.let(4 + 3)
    held.runner.call(lambda session: setattr(session, "config", session.config.replace(max_iterations=4)))
    held.finish()
    assert held.session.log == [*INVERSION, *ITERATIONS[:4]]
    assert held.runner.status.message == "stopped at max_iterations=4"


@pytest.mark.parametrize("through", [2, 6])
def test_a_change_that_needs_a_new_inversion_gets_it(held: Held, through: int) -> None:
    held.runner.run()
    held.let(through)
    held.runner.call(lambda session: setattr(session, "config", session.config.replace(edit_from=2)))
    held.finish()
    done = [*INVERSION, *ITERATIONS][: through + 1]
    assert held.session.log == [*done, *INVERSION[:2], *ITERATIONS] and held.runner.error is None


def test_a_drag_deleted_while_running_starts_the_optimisation_afresh(held: Held) -> None:
    held.session.drags = (Drag((1, 1), (9, 9)), Drag((2, 2), (8, 8)))
    held.runner.run()
    held.let(4 + 3)
    held.runner.call(lambda session: setattr(session, "drags", session.drags[:1]))
    held.finish()
    assert held.session.log == [*INVERSION, *ITERATIONS[:4], *ITERATIONS] and held.runner.error is None


def test_all_drags_deleted_while_running_ends_the_run(held: Held) -> None:
    held.runner.run()
    held.let(4 + 3)
    held.runner.call(lambda session: setattr(session, "drags", ()))
    held.finish()
    assert held.runner.state == "idle" and held.runner.status.message == "there is nothing left to drag"
    held.runner.call(lambda session: setattr(session, "drags", (Drag((2, 2), (8, 8)),)))
    held.runner.run()
    assert held.runner.wait(PATIENCE) and len(held.session.history) == 9


@pytest.mark.parametrize("command", ["run", "step"])
def test_drags_set_during_an_iteration_are_gone_on_with(small: Model, monkeypatch: Any, command: str) -> None:
    session = real_session(small)
    runner, following = Runner(session, inline=True), engine_stages.following

    def overtaken(editor: Any, last: Any, drags: Any) -> Any:
        snapshot = following(editor, last, drags)
        if snapshot.iteration == 2 and len(session.drags) == 2:
            session.drags = session.drags[:1]  # as a cell does while the worker computes
        return snapshot

    monkeypatch.setattr(engine_stages, "following", overtaken)
    runner.run() if command == "run" else runner.step(4)
    assert runner.error is None and runner.state == "idle"
    assert [len(snapshot.anchors) for snapshot in session.history] == [1] * len(session.history)
    assert len(session.history) > 3


def test_a_drag_too_short_to_move_anything_is_not_called_arrived(small: Model) -> None:
    session = real_session(small)
    session.drags = [((10.0, 10.0), (10.5, 10.0))]
    runner = Runner(session, inline=True)
    runner.run()
    assert len(session.history) == 1 and runner.error is None
    assert [runner.status.message] == short_drags(session.drags, session.state.frame, session.config)


def test_a_real_session_whose_drags_and_numbers_change_in_the_middle(small: Model) -> None:
    session, straight = real_session(small), real_session(small)
    runner = Runner(session, inline=True)

    def change(update: Update) -> None:
        if update.status.done == 2 and update.status.task == "optimising" and len(session.drags) == 2:
            runner.call(lambda s: setattr(s, "drags", s.drags[:1]))
            runner.call(lambda s: setattr(s, "config", s.config.replace(edit_from=4, lr=0.02)))

    runner.observe(change)
    runner.step(3)
    runner.call(lambda s: setattr(s, "drags", s.drags[:1]))
    runner.call(lambda s: setattr(s, "config", s.config.replace(edit_from=4, lr=0.02)))
    runner.run()
    straight.config = straight.config.replace(edit_from=4, lr=0.02)
    straight.drags = straight.drags[:1]
    last = list(straight.optimize())[-1]
    assert runner.error is None and torch.equal(session.history[-1].bottleneck, last.bottleneck)


def test_a_rewind_while_running_goes_on_from_there(held: Held) -> None:
    held.runner.run()
    held.let(4 + 5)
    held.runner.rewind(2)
    held.finish()
    assert held.session.log == [*INVERSION, *ITERATIONS[:6], *ITERATIONS[2:]]


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["invert 3", "iterate 5", "fit 2", "denoise 8: 1", "decode 8"])
@pytest.mark.parametrize("inline", [True, False])
def test_after_an_error_it_goes_on_working(unit: str, inline: bool) -> None:
    session = FakeSession(fails=[unit])
    runner = Runner(session, inline=inline)
    seen = observed(runner)

    def everything() -> None:
        runner.prepare(lora={"steps": 3})
        runner.wait()
        runner.run()
        runner.wait()
        runner.render()
        runner.wait()

    everything()
    assert runner.error is not None and runner.error.startswith(unit) and "Traceback" in runner.traceback
    times = 3 if unit.startswith("invert") else 1  # each of the three commands needs the inversion
    assert [u.status.message for u in seen if u.status.state == "error"] == times * [runner.error]
    session.fails.clear()
    everything()
    assert runner.state == "idle" and len(session.history) == 9 and runner.latest.picture_iteration == 8


def test_an_error_keeps_the_last_good_iteration() -> None:
    session, runner = ready(fails=["iterate 5"])
    runner.run()
    assert runner.state == "error" and runner.latest.history[-1].iteration == session.history[-1].iteration == 4


def test_two_errors_at_once_are_both_told(held: Held) -> None:
    seen = observed(held.runner)
    held.session.fails = {"invert 1"}
    held.runner.step()
    held.runner.step()
    held.let(2)
    assert held.runner.wait(PATIENCE)
    assert [u.status.state for u in seen].count("error") == 2


def test_an_error_in_a_call_is_told_and_given_back() -> None:
    _, runner = ready()
    future = runner.call(lambda s: [][3])
    assert runner.state == "error" and runner.error == "IndexError: list index out of range"
    assert isinstance(future.exception(0), IndexError)
    runner.rewind(3)
    assert runner.state == "error" and "iteration 3" in runner.status.message
    assert runner.call(lambda s: len(s.history), aside=True).result(0) == 1
    assert runner.state == "error", "looking mends nothing"
    runner.call(lambda s: None)
    assert runner.state == "idle" and runner.status.message == ""


def test_a_picture_made_aside_leaves_what_was_said() -> None:
    _, runner = ready()
    runner.breakpoints = [lambda history: "far enough" if len(history) == 3 else ""]
    runner.run()
    runner.render(1, aside=True)
    assert (runner.state, runner.status.message) == ("paused", "far enough")
    runner.call(lambda s: 1 / 0)
    runner.render(1)
    assert (runner.state, runner.status.message) == ("paused", "")


def test_what_was_called_for_first_is_done_first(held: Held) -> None:
    """A run that follows a rewind at once begins where the rewind went."""
    held.runner.step(4)
    held.finish()
    order: list[str] = []
    for n in range(20):
        held.runner.call(lambda s, n=n: order.append(f"call {n}"))
        held.runner.step()
        held.runner.call(lambda s, n=n: order.append(f"after {n}: {len(s.history)}"))
    assert held.runner.wait(PATIENCE)
    assert [told for told in order if told.startswith("call")] == [f"call {n}" for n in range(20)]
    for _ in range(20):
        held.runner.rewind(2)
        held.runner.step()
        assert held.runner.wait(PATIENCE)
        assert len(held.session.history) == 4


def test_calls_that_call_again_let_the_work_go_on(held: Held) -> None:
    lengths: list[int] = []

    def again(session: FakeSession) -> None:
        lengths.append(len(session.history))
        if len(lengths) < 1000 and len(session.history) < 9:
            held.runner.call(again)

    held.runner.run()
    held.runner.call(again)
    held.finish()
    assert len(held.session.history) == 9
    assert len(lengths) < 100


def test_an_error_in_a_call_does_not_end_the_run(held: Held) -> None:
    seen = observed(held.runner)
    held.runner.run()
    held.let(5)
    held.runner.call(lambda s: 1 / 0)
    held.finish()
    (told,) = [u.status for u in seen if "ZeroDivisionError" in u.status.message and u.status.state == "running"]
    assert told.task == "optimising" and told.total == 8
    assert held.runner.state == "idle" and len(held.session.history) == 9


def test_an_interrupt_inline_comes_through_and_holds() -> None:
    session, runner = ready()
    with pytest.raises(KeyboardInterrupt):
        runner.breakpoints = [lambda history: (_ for _ in ()).throw(KeyboardInterrupt)]
        runner.run()
    assert runner.state == "paused" and len(session.history) == 2
    runner.breakpoints = []
    runner.run()
    assert runner.state == "idle" and len(session.history) == 9


# ---- breakpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [True, False])
def test_a_breakpoint_pauses_with_its_reason(inline: bool) -> None:
    session = FakeSession()
    runner = Runner(session, inline=inline)
    runner.breakpoints.append(breakpoints.at(3))
    runner.breakpoints.append(breakpoints.custom(lambda snap: snap.iteration == 6 and "six is enough"))
    for message, state, length in (
        ("iteration 3 is done", "paused", 4),
        ("six is enough", "paused", 7),
        ("stopped at max_iterations=8", "idle", 9),
    ):
        runner.run()
        assert runner.wait(PATIENCE)
        assert (runner.status.message, runner.state, len(session.history)) == (message, state, length)


def test_a_breakpoint_ends_a_step_of_many_too() -> None:
    session, runner = ready()
    runner.breakpoints = [breakpoints.at(3), breakpoints.at(3)]
    runner.step(5)
    assert len(session.history) == 4 and runner.status.message == "iteration 3 is done; iteration 3 is done"


def test_a_breakpoint_that_fails_is_named() -> None:
    def clumsy(history: Any) -> bool:
        return 1 / 0

    session, runner = ready()
    runner.breakpoints = [clumsy]
    runner.run()
    assert runner.state == "error" and len(session.history) == 2
    assert_one_sentence(RuntimeError(runner.error), "clumsy", "ZeroDivisionError", "runner.breakpoints")
    runner.breakpoints.clear()
    runner.run()
    assert runner.state == "idle" and len(session.history) == 9


# ---- two runners, and none ------------------------------------------------------------------------


def test_two_runners_share_one_worker(held: Held) -> None:
    other = Runner(held.session)
    mine, theirs = observed(held.runner), observed(other)
    held.runner.step()
    other.step()
    held.let(4 + 1)
    until(lambda: held.gate._cond._waiters)  # the other's step has begun, which a pause lets finish
    other.pause()
    held.let(1)
    assert other.wait(PATIENCE) and held.runner.wait(PATIENCE)
    assert held.session.log == [*INVERSION, *ITERATIONS[:2]]
    assert held.runner.state == other.state == "paused"
    assert [id(u) for u in mine] == [id(u) for u in theirs] and mine
    other.close()


def test_two_runners_have_breakpoints_of_their_own() -> None:
    session, runner = ready()
    other = Runner(session, inline=True)
    other.breakpoints.append(breakpoints.at(2))
    other.run()
    assert len(session.history) == 3
    runner.rewind(0)
    runner.run()
    assert len(session.history) == 9


def test_sessions_have_workers_of_their_own() -> None:
    gate = threading.Semaphore(0)
    slow, quick = Runner(FakeSession(gate=gate)), Runner(FakeSession())
    slow.run()
    quick.run()
    assert quick.wait(PATIENCE) and quick.status.history_length == 9
    assert not slow.wait(0.01)
    slow.session.gate = None
    gate.release()
    assert slow.wait(PATIENCE)


def test_the_work_goes_on_while_any_runner_is_left(held: Held) -> None:
    other = Runner(held.session)
    other.run()
    held.let(5)
    other.close()
    held.finish()
    assert len(held.session.history) == 9


def test_closing_the_last_runner_ends_the_work(held: Held) -> None:
    held.runner.run()
    held.let(5)
    held.runner.close()
    held.runner.close()
    held.let(1)
    assert held.runner.wait(PATIENCE) and held.session.log == [*INVERSION, *ITERATIONS[:2]]
    for command in (
        held.runner.run,
        held.runner.step,
        lambda: held.runner.rewind(0),
        lambda: held.runner.observe(print),
    ):
        with pytest.raises(RuntimeError) as error:
            command()
        assert_one_sentence(error.value, "closed")
    held.runner = Runner(held.session)
    held.runner.run()
    held.finish()
    assert len(held.session.history) == 9


def forget_in_the_middle() -> tuple[list[str], threading.Semaphore, list[weakref.ref]]:
    """Run until the sixth unit is held at the gate, and let go of session and runner."""
    gate = threading.Semaphore(5)
    session = FakeSession(gate=gate)
    runner = Runner(session)
    runner.observe(lambda update: runner)  # a cycle, as a studio makes one
    runner.run()
    until(lambda: len(session.log) == 5)
    session.gate = None
    return session.log, gate, [weakref.ref(session), weakref.ref(runner)]


def test_a_forgotten_runner_ends_its_work_and_leaves_nothing_behind() -> None:
    log, gate, (session, runner) = forget_in_the_middle()

    def collected(*things: weakref.ref) -> bool:
        gc.collect()
        return all(thing() is None for thing in things)

    until(lambda: collected(runner))
    assert session() is not None, "it is at work"
    gate.release()
    until(lambda: collected(session))
    assert log == [*INVERSION, *ITERATIONS[:2]]


def test_an_idle_runner_has_no_thread_and_can_be_collected() -> None:
    before = set(threading.enumerate())
    session = FakeSession()
    runner = Runner(session)
    runner.run()
    assert runner.wait(PATIENCE)
    until(lambda: set(threading.enumerate()) <= before)
    gone = weakref.ref(session)
    del runner, session
    gc.collect()
    assert gone() is None


def test_a_process_ends_in_the_middle_of_a_run() -> None:
    code = """
        import sys
        sys.path[:0] = sys.argv[1:]
        from fake_session import FakeSession
        from dragnoise_widgets.runner.runner import Runner

        runner = Runner(FakeSession(seconds=0.05))
        runner.observe(lambda update: None)
        runner.call(lambda s: setattr(s, "config", s.config.replace(max_iterations=100_000)))
        runner.run()
        while runner.status.done < 3 or runner.status.task != "optimising":
            pass
        print("leaving")
    """
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *map(str, Path(__file__).parents[:2])],
        capture_output=True, text=True, timeout=3 * PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr
    assert "Error" not in done.stderr and time.monotonic() - started < PATIENCE


# ---- what is told ---------------------------------------------------------------------------------


def test_updates_come_ten_times_a_second_at_most_and_the_last_always() -> None:
    session = FakeSession(seconds=0.002)
    session.config = session.config.replace(max_iterations=250)
    runner = Runner(session)
    times: list[float] = []
    seen: list[Update] = []
    runner.observe(lambda update: (times.append(time.monotonic()), seen.append(update)))
    runner.run()
    assert runner.wait(PATIENCE)
    assert len(seen) > 3
    assert all(later - earlier > 0.095 for earlier, later in itertools.pairwise(times[:-1]))
    assert seen[-1].status.state == "idle" and len(seen[-1].history) == 251
    lengths = [len(update.history) for update in seen]
    assert lengths == sorted(lengths)


def test_slow_watchers_get_the_latest_and_hold_up_nothing() -> None:
    session = FakeSession(seconds=0.001)
    session.config = session.config.replace(max_iterations=100)
    runner = Runner(session)
    lengths: list[int] = []
    release = threading.Event()

    def slow(update: Update) -> None:
        lengths.append(len(update.history))
        release.wait(PATIENCE)

    runner.observe(slow)
    runner.run()
    until(lambda: len(session.history) == 101)
    assert len(lengths) == 1 and not runner.wait(0.05)
    release.set()
    assert runner.wait(PATIENCE) and lengths[1:] == [101]


def test_the_state_that_each_command_leaves_is_told() -> None:
    _, runner = ready()
    seen = observed(runner)
    for k in range(1, 6):
        runner.step()
        assert (seen[-1].status.state, len(seen[-1].history)) == ("idle", k + 1)
    runner.rewind(2)
    assert len(seen[-1].history) == 3
    runner.render()
    assert seen[-1].picture_iteration == 2


def test_an_update_is_of_one_moment_and_stays_so() -> None:
    _, runner = ready()
    seen = observed(runner)
    runner.step(2)
    before = seen[-1]
    runner.rewind(0)
    runner.step()
    assert len(before.history) == before.status.history_length == 3
    with pytest.raises(AttributeError):
        before.status.done = 5  # type: ignore[misc]


def test_a_picture_of_what_is_gone_says_so() -> None:
    _, runner = ready()
    runner.step(3)
    runner.render()
    assert runner.latest.picture_iteration == 3
    runner.rewind(2)
    assert runner.latest.picture is not None and runner.latest.picture_iteration is None
    runner.step()
    assert runner.latest.picture_iteration is None, "the new iteration 3 is another"


def test_a_watcher_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    session, runner = ready()

    def clumsy(update: Update) -> None:
        raise LookupError("clumsy")

    runner.observe(clumsy)
    seen = observed(runner)
    with caplog.at_level(logging.ERROR):
        runner.run()
    assert len(session.history) == 9 and seen[-1].status.state == "idle" and runner.error is None
    assert "clumsy" in caplog.text


def test_who_is_told_no_more_hears_no_more() -> None:
    _, runner = ready()
    seen: list[Update] = []
    ignore = runner.observe(seen.append)
    runner.step()
    ignore()
    ignore()
    heard = len(seen)
    runner.step()
    assert heard and len(seen) == heard


def test_a_watcher_may_give_commands(held: Held) -> None:
    def go_on(update: Update) -> None:
        if update.status.state == "idle" and len(update.history) < 5:
            held.runner.step()

    held.session.gate = None
    held.runner.observe(go_on)
    held.runner.step()
    until(lambda: len(held.session.history) == 5)
    assert held.runner.wait(PATIENCE)


@pytest.mark.parametrize("inline", [True, False])
def test_waiting_for_oneself_is_refused(inline: bool) -> None:
    runner = Runner(FakeSession(), inline=inline)
    errors = []

    def impatient(update: Update) -> None:
        try:
            runner.wait()
        except RuntimeError as error:
            errors.append(error)

    runner.observe(impatient)
    failed = runner.call(lambda session: runner.wait())
    assert isinstance(failed.exception(PATIENCE), RuntimeError)
    runner.step()
    assert runner.wait(PATIENCE)
    assert errors
    assert_one_sentence(errors[0], "wait()")


def test_waiting_that_is_interrupted_pauses(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> bool:
        raise KeyboardInterrupt

    held.runner.run()
    held.let(5)
    changed = held.runner._worker.changed
    with monkeypatch.context() as patch:
        patch.setattr(changed, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            held.runner.wait()
    held.let(1)
    assert held.runner.wait(PATIENCE) and held.runner.state == "paused"


class Clock:
    """Time that passes only while a fake session works."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (fake_session, stages, status_publisher):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_the_time_left_is_estimated_for_whatever_runs(clock: Clock) -> None:
    costs = {"fit": 2.0, "invert": 0.5, "iterate": 0.25, "denoise": 1.0, "decode": 1.0}
    session = FakeSession(seconds=lambda unit: costs[unit.split()[0]])
    runner = Runner(session, inline=True)
    seen = observed(runner)
    runner.prepare(lora={"steps": 5})
    runner.run()
    runner.render()
    tasks = {"lora": 2.0, "inverting": 0.5, "optimising": 0.25, "rendering": 1.0}
    told = [u.status for u in seen if u.status.seconds_left is not None]
    assert {status.task for status in told} == set(tasks)
    for status in told:
        assert status.seconds_left == pytest.approx((status.total - status.done) * tasks[status.task])


def test_the_time_left_reckons_with_previews(clock: Clock) -> None:
    session = FakeSession(seconds=1.0)
    runner = Runner(session, inline=True)
    runner.preview_every = 1
    seen = observed(runner)
    runner.run()
    told = [u.status for u in seen if u.status.done == 4 and u.step is u.history[-1] and u.picture_iteration == 3]
    assert {(status.task, status.total) for status in told} == {("optimising", 8)}
    expected = (8 - 4) * (1 + 5) - np.arange(len(told))  # a second passes with every step of the picture
    assert [status.seconds_left for status in told] == pytest.approx(expected.tolist())


def test_the_time_left_forgets_how_it_was_long_ago(clock: Clock) -> None:
    pace = status_publisher.TimeEstimate()
    left = []
    for done in range(100):
        clock.sleep(10.0 if done < 50 else 1.0)
        left.append(pace.seconds_left("optimising", done, 100))
    assert left[0] is None and left[40] == pytest.approx(600) and left[90] == pytest.approx(10)
    clock.sleep(5.0)
    assert pace.seconds_left("optimising", 20, 100) is None, "after a rewind"


# ---- previews ---------------------------------------------------------------------------------------


def pictured(session: FakeSession) -> list[int]:
    return [int(entry.split()[1]) for entry in session.log if entry.startswith("decode")]


@pytest.mark.parametrize(("every", "expected"), [(0, []), (1, list(range(1, 9))), (3, [3, 6, 8]), (100, [8])])
def test_a_preview_every_n_iterations_and_one_of_the_end(every: int, expected: list[int]) -> None:
    session, runner = ready()
    runner.preview_every = every
    runner.run()
    assert pictured(session) == expected
    assert runner.latest.picture_iteration == (8 if every else None)


@pytest.mark.parametrize(("step", "decode"), [(1.0, 1.0), (0.1, 0.5), (3.0, 0.0), (0.5, 20.0)])
def test_auto_previews_cost_a_quarter_of_the_time_at_most(clock: Clock, step: float, decode: float) -> None:
    """An iteration takes a second; the account is made from the log, not from what the runner measures."""
    costs = {"invert": 1.0, "iterate": 1.0, "denoise": step, "decode": decode}
    session = FakeSession(seconds=lambda unit: costs[unit.split()[0]])
    session.config = session.config.replace(max_iterations=300)
    runner = Runner(session, inline=True)
    runner.prepare()
    runner.render()
    session.log.clear()
    runner.preview_every = "auto"
    runner.run()
    during = session.log[: session.log.index("iterate 300")]
    total = sum(costs[unit.split()[0]] for unit in during)
    shown = sum(costs[unit.split()[0]] for unit in during if not unit.startswith("iterate"))
    assert 0.15 < shown / total <= 0.25
    assert len(pictured(session)) >= 4


def test_the_first_auto_preview_is_cautious(clock: Clock) -> None:
    """Before any picture, a step of one is taken to cost what an iteration does."""
    session, runner = ready(seconds=1.0)
    runner.preview_every = "auto"
    runner.step(14)
    first = session.log.index("denoise 12: 3")
    assert session.log[first - 1] == "iterate 12" and pictured(session) == [12, 14]


def test_after_a_step_there_is_a_picture_of_it() -> None:
    _, runner = ready()
    runner.preview_every = "auto"
    for k in (1, 2):
        runner.step()
        assert runner.latest.picture_iteration == k and runner.state == "idle"
    runner.run()
    assert runner.latest.picture_iteration == 8


def test_a_picture_of_the_end_gives_way_to_a_command(held: Held) -> None:
    held.runner.preview_every = 100
    held.runner.step()
    held.let(5 + 2)
    assert held.runner.state == "idle" and held.runner.status.task == "rendering"
    held.runner.step()
    held.let(1)
    held.finish()
    assert held.session.log[:5] + held.session.log[8:9] == [*INVERSION, *ITERATIONS[:2]]
    assert pictured(held.session) == [2]


@pytest.mark.parametrize("command", ["pause", "stop"])
def test_a_picture_of_the_end_can_be_given_up(held: Held, command: str) -> None:
    held.runner.preview_every = 1
    held.runner.step()
    held.let(5 + 2)
    getattr(held.runner, command)()
    held.let(1)
    assert held.runner.wait(PATIENCE)
    assert held.runner.state == "idle" and held.runner.status.task == "" and pictured(held.session) == []


def test_pause_during_a_preview_is_answered_within_a_step(held: Held) -> None:
    held.runner.preview_every = 2
    held.runner.run()
    held.let(4 + 2 + 1)
    held.runner.preview_every = 0
    held.runner.pause()
    held.let(1)
    assert held.runner.wait(PATIENCE) and held.runner.state == "paused" and pictured(held.session) == []


@pytest.mark.parametrize("every", [-1, 1.5, True, "often", None])
def test_a_wrong_preview_interval_gets_a_sentence(every: Any) -> None:
    _, runner = ready()
    with pytest.raises(ValueError) as error:
        runner.preview_every = every
    assert_one_sentence(error.value, repr(every))
    assert runner.preview_every == 0


# ---- threads that fail ----------------------------------------------------------------------------


def threaded_runner() -> tuple[FakeSession, Runner]:
    session = FakeSession()
    return session, Runner(session)


def test_an_update_that_cannot_be_delivered_is_logged_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, runner = threaded_runner()
    seen, deliver = observed(runner), runner._worker.publisher.updates._deliver
    failures: list[BaseException] = [SystemExit(3), MemoryError(), RuntimeError("Set changed size during iteration")]

    def fragile(update: Update) -> None:
        if failures:
            raise failures.pop()
        deliver(update)

    monkeypatch.setattr(runner._worker.publisher.updates, "_deliver", fragile)
    runner.run()
    assert runner.wait(PATIENCE)
    for _ in range(3):
        runner.step()
        assert runner.wait(PATIENCE)
    assert not failures and seen[-1].status.history_length == 12
    assert "Set changed size" in caplog.text and "SystemExit" in caplog.text


def test_runners_may_come_and_go_while_updates_are_delivered() -> None:
    session, runner = threaded_runner()
    worker, failed, done = runner._worker, list[BaseException](), threading.Event()

    def deliver() -> None:
        while not done.is_set():
            try:
                worker._deliver(worker.publisher.update)
            except BaseException as error:
                failed.append(error)
                return

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        for _ in range(40):
            others = [Runner(session) for _ in range(25)]
            for other in others[::2]:
                other.close()
            del others, other
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(before)
    assert not failed
    assert list(worker.watchers) == [runner]


def test_a_breakpoint_that_exits_the_thread_does_not_leave_anyone_waiting(caplog: pytest.LogCaptureFixture) -> None:
    session, runner = threaded_runner()

    def leave(history: Any) -> None:
        raise SystemExit(1)

    runner.breakpoints = [leave]
    runner.run()
    runner.step()
    assert runner.wait(PATIENCE)
    assert runner.state == "error" and "SystemExit" in caplog.text
    runner.breakpoints = []
    runner.run()
    assert runner.wait(PATIENCE)
    assert runner.state == "idle" and session.status == "max_iterations"


def test_an_interrupt_inline_leaves_nobody_waiting() -> None:
    _, runner = ready()

    def interrupt(history: Any) -> None:
        waiting.append(runner.call(lambda session: session.status))
        raise KeyboardInterrupt

    waiting: list[Any] = []
    runner.breakpoints = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert runner.wait(PATIENCE) and waiting[0].done()


def test_commands_are_named_and_remembered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="dragnoise_widgets.runner.queue")
    session, runner = ready()
    runner.step(2)
    runner.do(SetConfig({"lr": 0.5}))
    runner.rewind(1)
    runner.run()
    runner.render(3, aside=True)
    runner.pause()
    runner.stop()
    expected = (Step(2), SetConfig({"lr": 0.5}), Rewind(1), Run(), Render(3, aside=True), Pause(), Stop())
    assert runner.commands[-len(expected) :] == expected
    assert session.config.lr == 0.5 and "SetConfig(changes={'lr': 0.5})" in caplog.text


# ---- how a command ended --------------------------------------------------------------------------


def test_how_a_command_ended_holds_until_the_history_is_another_one() -> None:
    _, runner = ready()
    runner.breakpoints = [lambda history: "far" if len(history) == 4 else ""]
    runner.run()
    assert (runner.state, runner.status.ended, runner.status.message) == ("paused", "breakpoint", "far")
    runner.call(lambda session: None)
    assert runner.status.ended == "breakpoint"
    runner.rewind(1)
    assert (runner.state, runner.status.ended, runner.status.message) == ("idle", "", "")
    runner.run()
    runner.run()
    assert (runner.status.ended, runner.status.message) == ("done", "stopped at max_iterations=8")
    runner.rewind(2)
    assert (runner.status.ended, runner.status.message) == ("", "")
