"""What an iteration does may not grow: operations, waits for the device, transfers and allocations, counted.

The meta device stands in for an accelerator, so the numbers are those of a GPU with the same libraries.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from helpers import quick_session

from benchmarks.measuring.counting import Counts, counted, counting
from benchmarks.phases import Bench
from dragnoise import Model

ROOM = 1.1
"""Of allocations, which other versions of the libraries make a few more or fewer of."""


def test_the_counter_counts() -> None:
    with counting() as counts:
        one = torch.ones(4, 5).to("meta")  # waits
        two = one.t() @ torch.empty(4, 3, device="meta")  # 2 x 5 x 4 x 3 operations
        sent = torch.ones(3).to("meta", non_blocking=True)
        assert two.sum().item() == 1.0 and two.isfinite().all() and sent.tolist() == [1.0, 1.0, 1.0]
        torch.empty(3).copy_(sent, non_blocking=True)
        loss = (torch.empty(2, 2, device="meta", requires_grad=True) @ torch.empty(2, 2, device="meta")).sum()
    assert counts.flops == 120 + 16 and counts.reads == 3 and counts.blocking_uploads == 1
    assert counts.posted == 2 and counts.bytes_up == 80 + 12 and counts.bytes_down == 4 + 1 + 12 + 12
    assert counts.allocations >= 8 and loss.device.type == "meta"


@cache
def iteration(name: str, *, points: int = 1, which: str = "iteration") -> Counts:
    """Of an update in the middle of a run."""
    with counting():
        bench = Bench(name, steps=1, device="meta")
        session = bench.session(bench.config(released="released" in which), masked="mask" in which, points=points)
        session.step()
    return counted(session.step)


@pytest.mark.parametrize(("points", "which"), [(1, "iteration"), (3, "iteration with a mask")])
def test_one_blocking_read_and_no_other_wait(points: int, which: str) -> None:
    counts = iteration("tiny", points=points, which=which)
    assert counts.reads == 1  # losses, checks and tracked anchors together
    assert counts.blocking_uploads == 0
    assert counts.posted <= 6 and counts.bytes_up < 10_000 * points and counts.bytes_down < 20_000


def test_points_and_a_mask_cost_nothing_to_speak_of() -> None:
    one, more = iteration("tiny"), iteration("tiny", points=3, which="iteration with a mask")
    assert more.flops < 1.01 * one.flops and more.allocations < 1.1 * one.allocations


@pytest.mark.slow
def test_an_iteration_of_stable_diffusion() -> None:
    """696 GFLOP is the least that the paper's losses need on SD 1.5 at 512x512."""
    counts = iteration("sd15")
    assert 600e9 < counts.flops < 697e9
    assert counts.reads == 1 and counts.blocking_uploads == 0
    assert counts.allocations < ROOM * 964 and counts.bytes_allocated < ROOM * 2.78e9


def test_rendering_runs_no_mid_block_and_takes_the_first_encoder_pass_as_it_is(sd15: Any) -> None:
    session = quick_session(Model(sd15))
    session.config = session.config.replace(steps=6, edit_from=4, refine_from=1)
    session.step()
    calls: Counter[str] = Counter()
    for name, part in (("mid", sd15.unet.mid_block), ("encoder", sd15.unet.conv_in), ("decoder", sd15.unet.conv_out)):
        part.register_forward_hook(lambda *_, name=name: calls.update([name]))
    session.render()
    assert calls == {"mid": 1, "encoder": 3, "decoder": 4}  # one step refines
    calls.clear()
    session.reconstruct()
    assert calls == {"mid": 3, "encoder": 3, "decoder": 4}


def test_a_step_of_the_alternating_schedule_runs_nothing_twice(three_block: Any) -> None:
    """A step of the schedule with three iterations, and the denoising step to the next one."""
    session = quick_session(Model(three_block))
    session.config = session.config.replace(
        steps=6, edit_from=4, start="carried", target="direct", schedule="alternate", drag_steps=3, step_iterations=3,
        max_iterations=9,
    )  # fmt: skip
    for _ in range(3):
        session.step()
    calls: Counter[str] = Counter()
    unet = three_block.unet
    for name, part in (("encoder", unet.conv_in), ("decoder", unet.up_blocks[0]), ("noise", unet.conv_out)):
        part.register_forward_hook(lambda *_, name=name: calls.update([name]))
    for _ in range(3):
        session.step()
    # the edited latent and the unedited one; those, and a forward after each update; the denoising step
    assert calls == {"encoder": 2, "decoder": 1 + 1 + 3, "noise": 1}
