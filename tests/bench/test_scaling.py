"""The simulation of more workers, against executors that sleep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dragnoise.bench.scaling import DRAGBENCH, dragbench_seconds, makespan, rehearse, scaling


def test_a_schedule_by_hand() -> None:
    assert makespan([3, 1, 1, 1], 1) == 6 and makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 3], 2, start=10) == 14 and makespan([], 4) == 0
    assert makespan([5], 64, start=2) == 7
    with pytest.raises(ValueError, match="workers=0"):
        makespan([1], 0)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_an_executor_takes_as_long_as_the_simulation_says(workers: int) -> None:
    seconds = [1 + i % 4 for i in range(24)]
    with ThreadPoolExecutor(workers) as pool:
        taken = rehearse(seconds, pool, pace=100)
    assert makespan(seconds, workers) <= taken < 2 * makespan(seconds, workers) + 10


def test_dragbench_has_its_pictures_and_pairs() -> None:
    assert sum(DRAGBENCH.values()) == 205 and sum(DRAGBENCH[n] for n in DRAGBENCH if n > 1) == 97
    assert sum(n * pictures for n, pictures in DRAGBENCH.items()) == 349
    jobs = dragbench_seconds([10, 20], a_picture=5)
    assert len(jobs) == 410 and sum(jobs) == 30 * 349 + 410 * 5
    told = scaling(jobs, [1, 8, 64], form="csv").splitlines()
    assert told[1] == "1,3.5 h,1.0" and told[2].startswith("8,26.") and 40 < float(told[3].split(",")[2]) < 64
