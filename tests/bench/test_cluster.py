"""The runner on a Dask cluster of two processes, one of which is killed in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dragnoise.bench import runner
from dragnoise.bench.datasets import read_dataset
from dragnoise.bench.measuring import Protocol
from dragnoise.bench.metrics.features import Dift

QUICK = Protocol(
    dift=Dift(ensemble=1), changes={"steps": 6, "edit_from": 3, "refine_from": 0, "drag_steps": 1, "step_iterations": 1}
)


def test_ways_to_work_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        runner.run("toyland:1", ["default"], tmp_path, workers=2, scheduler="tcp://127.0.0.1:1")


@pytest.mark.slow
def test_without_a_scheduler_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no Dask scheduler answers"):
        runner.connected("tcp://127.0.0.1:9")


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    import distributed  # here, as it takes a second

    data = read_dataset("toyland:1")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        killed: list[int] = []

        def kill() -> None:
            while not list(tmp_path.rglob("result.json")):
                time.sleep(0.1)
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        done = runner.run(
            data, ["default"], tmp_path, protocol=QUICK, scheduler=cluster.scheduler_address, progress=False
        )
        thread.join(10)
    assert killed and not done.skipped
    assert sorted(record["id"] for record in done.records) == sorted(sample.id for sample in data.samples)
    assert len(list(tmp_path.rglob("result.json"))) == len(data.samples)
