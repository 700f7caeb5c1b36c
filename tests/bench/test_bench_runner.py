"""The runner: each result once, resumed, on executors, and bad samples beside good ones."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence, smooth_picture
from tqdm.auto import tqdm

from dragnoise import Drag, DragConfig, Model, bench
from dragnoise.atomic_write import write_text
from dragnoise.bench import __main__ as command
from dragnoise.bench import measuring, runner
from dragnoise.bench.areas import Area
from dragnoise.bench.datasets import Dataset
from dragnoise.bench.measuring import Protocol
from dragnoise.bench.metrics import fidelity
from dragnoise.bench.metrics.features import Dift
from dragnoise.bench.samples import Sample

CHANGES = {"steps": 4, "edit_from": 2, "refine_from": 0, "max_iterations": 1, "side": 64}
PROTOCOL = Protocol(dift=Dift(ensemble=1), changes=CHANGES)
MASK = np.zeros((24, 32), bool)
MASK[2:20, 2:28] = True


@pytest.fixture
def data(small: Model, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr(measuring, "worker_model", lambda _: small)
    picture = smooth_picture(32, 24)
    drags = (Drag((5, 6), (20, 12)), Drag((25, 6), (12, 6)))
    return Dataset(tuple(Sample(f"a/{i}", "a", picture, drags[: i + 1], MASK, answer=picture) for i in range(2)))


def go(data: Dataset, out: Path, protocol: Protocol = PROTOCOL, **given: Any) -> bench.Run:
    return bench.run(data, given.pop("editors", ["dragnoise"]), out, protocol=protocol, progress=False, **given)


def counted(monkeypatch: pytest.MonkeyPatch, *, interrupt: int = 0) -> list[str]:
    """The ids of the samples that are edited from now on; the edit of that number is interrupted."""
    seen: list[str] = []

    def edit(job: measuring.Job) -> Any:
        seen.append(job.sample.id)
        if len(seen) == interrupt:
            raise KeyboardInterrupt
        return measuring.edit_sample(job)

    monkeypatch.setattr(runner, "edit_sample", edit)
    return seen


def test_a_run_is_resumed_and_every_result_is_there_once(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counted(monkeypatch, interrupt=2)
    with pytest.raises(KeyboardInterrupt):
        go(data, tmp_path)
    assert [r["id"] for r in runner.records(tmp_path)] == ["a/0"]
    done = go(data, tmp_path)
    assert len(seen) == 3 and [r["id"] for r in done.records] == ["a/0", "a/1"] and not done.skipped
    assert go(data, tmp_path).records == done.records and len(seen) == 3
    with ThreadPoolExecutor(1) as pool:
        threaded = go(data, tmp_path / "b", executor=pool)
    assert [r["metrics"] for r in threaded.records] == [r["metrics"] for r in done.records]
    assert [len(r["metrics"]["md"]) for r in done.records] == [1, 2]
    one = done.records[1]
    assert {"m_md", "regiondrag_md", "dai_5", "input_outside_ssim", "answer_inside_psnr"} <= set(one["metrics"])
    assert "released_dai_5" not in one["metrics"] and "if" not in one["metrics"]
    cost = one["cost"]
    assert cost["seconds_with_lora"] == pytest.approx(cost["seconds"] + cost["lora_seconds"], abs=1e-3)
    assert cost["seconds_a_point"] == cost["seconds"] / 2 and cost["measuring_seconds"] > 0
    assert cost["peak_gib" if "peak_gib" in cost else "process_peak_gib"] > 0
    assert {"dragnoise", "torch", "diffusers", "python", "device"} == set(one["versions"])


def test_another_sample_config_or_protocol_is_run_again(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counted(monkeypatch)
    first = Dataset(data.samples[:1])
    go(first, tmp_path)
    turned = dataclasses.replace(first.samples[0], drags=(Drag((5, 6), (9, 9)),))
    for again in (
        lambda: go(Dataset((turned,)), tmp_path),
        lambda: go(first, tmp_path, dataclasses.replace(PROTOCOL, seed=1)),
        lambda: go(first, tmp_path, editors={"dragnoise": {"preset": "dragnoise", "lr": 0.5}}),
    ):
        count = len(seen)
        again()
        again()
        assert len(seen) == count + 1
    (record,) = runner.records(tmp_path)
    assert record["config"]["lr"] == 0.5


def test_editors_are_presets_configs_and_changes(data: Dataset, tmp_path: Path, small: Model) -> None:
    given = {"default": "default", "a config, slow": DragConfig(lr=0.001), "changed": {"lr": 0.2}}
    done = go(Dataset(data.samples[:1]), tmp_path, editors=given)
    found = {r["editor"]: r["config"] for r in done.records}
    assert found["a config, slow"]["lr"] == 0.001 and found["changed"]["lr"] == 0.2
    assert found["default"]["lr"] == small.default_config.lr and all(c["steps"] == 4 for c in found.values())
    assert (tmp_path / "a-config-slow" / "a" / "0" / "edited.png").is_file()
    for bad, told in (
        (["nobody"], "no preset"), ("dragnoise", "must be a list"), (["firm", "firm"], "each of which differs"),
        ([], "one or more"), ({"a/b": "firm"}, "'a/b'"), ({"..": "firm"}, "'..'"), ({"a": 3}, "not 3"),
        ({"a, b": "firm", "a-b": "firm"}, "each of which differs"), ({3: "firm"}, "not 3"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=told):
            go(data, tmp_path, editors=bad)


def test_what_is_measured_on_request(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "load_lpips", lambda: lambda a, b: (a - b).abs().mean())
    monkeypatch.setattr(runner, "load_lpips", lambda: None)
    area = Area(MASK, np.roll(MASK, 3, 1), np.array([[1.0, 0, 3], [0, 1, 0]]))
    two = dataclasses.replace(data.samples[1], areas=(area,))
    everything = dataclasses.replace(PROTOCOL, lpips=True, released_dai=True, drag_back=True, lora_steps=1)
    plain, full = go(Dataset((two,)), tmp_path / "a"), go(Dataset((two,)), tmp_path / "b", everything)
    new = set(full.records[0]["metrics"]) - set(plain.records[0]["metrics"])
    assert {"if", "if_bg", "if_s2t", "if_s2s", "drag_back_mse", "drag_back_psnr", "drag_back_if"} <= new
    found, cost = full.records[0]["metrics"], full.records[0]["cost"]
    assert found["released_dai_5"] == found["dai_5"] / 2 and found["drag_back_mse"] > 0
    assert cost["lora_seconds"] > 0 and cost["seconds_with_lora_a_point"] == cost["seconds_with_lora"] / 2
    assert any(name.startswith("lora_") and name.endswith("peak_gib") for name in cost)


def test_drag_back_edits_the_result_with_the_points_exchanged(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = measuring._edited

    def edited(job: Any, picture: Any, drags: Any) -> Any:
        seen.append((picture, drags))
        return real(job, picture, drags)

    monkeypatch.setattr(measuring, "_edited", edited)
    sample = data.samples[1]
    job = measuring.Job(sample, "e", DragConfig(**CHANGES), dataclasses.replace(PROTOCOL, drag_back=True))
    result, _ = measuring.edit_sample(job)
    (_, there), (picture, back) = seen
    assert there == sample.drags and back == tuple(Drag(d.objective, d.anchor) for d in sample.drags)
    assert picture.tobytes() == result.tobytes()


def test_as_published_each_samples_noise_follows_on_those_before_it(data: Dataset, tmp_path: Path) -> None:
    """Results depend on the place in the data set, and not on which of them were there already."""
    published = dataclasses.replace(PROTOCOL, as_published=True)
    found = [r["metrics"]["regiondrag_md"] for r in go(data, tmp_path, published).records]
    whole = {r["id"]: r["metrics"] for r in runner.records(tmp_path)}
    (tmp_path / "dragnoise" / "a" / "1" / "result.json").unlink()
    assert [r["metrics"]["regiondrag_md"] for r in go(data, tmp_path, published).records] == found
    job = measuring.Job(data.samples[1], "dragnoise", DragConfig(**CHANGES), published)
    before = dataclasses.replace(job, earlier=(data.samples[0].image.size,))
    pictures = [data.samples[1].image] * 2
    first, second = (measuring._features(j, *pictures)[0] for j in (job, before))
    assert not np.allclose(first, second)
    assert whole.keys() == {"a/0", "a/1"}
    seeded = dataclasses.replace(job, protocol=PROTOCOL)
    assert np.allclose(*(measuring._features(seeded, *pictures)[0] for _ in range(2)))


def test_what_cannot_be_edited_is_told_and_a_full_disk_stops(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "edit_sample", lambda *_: (_ for _ in ()).throw(ValueError("no mask.")))
    done = go(data, tmp_path)
    assert done.skipped[0] == "a/0 with dragnoise is left out (no mask)." and not done.records
    monkeypatch.setattr(runner, "edit_sample", lambda *_: (smooth_picture(8, 8), {}))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr("dragnoise.atomic_write.os.fsync", full)
    with pytest.raises(OSError) as caught:
        go(data, tmp_path)
    assert_one_sentence(caught.value, "cannot be written")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_disk_that_is_full_for_the_record_leaves_no_picture_and_no_old_record(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(data, tmp_path)

    def full(path: Path, text: str) -> Path:
        if path.name == "result.json":
            raise OSError(f"{path} cannot be written (no space).")
        return write_text(path, text)

    monkeypatch.setattr(runner, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        go(data, tmp_path, dataclasses.replace(PROTOCOL, seed=7))
    assert not any((tmp_path / "dragnoise" / "a" / "0").iterdir())
    assert len(runner.records(tmp_path)) == 1


class Broken(Executor):
    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("A process in the process pool was terminated abruptly."))
        return future


def test_a_killed_worker_is_one_sentence(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        go(data, tmp_path, executor=Broken())
    assert_one_sentence(caught.value, "a worker was killed", "what is done is kept", "run again")


def test_without_lpips_a_run_stops_before_its_first_edit(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ImportError("IF needs the package lpips.")

    seen = counted(monkeypatch)
    monkeypatch.setattr(runner, "load_lpips", missing)
    with pytest.raises(ImportError, match="lpips"):
        go(data, tmp_path, dataclasses.replace(PROTOCOL, lpips=True))
    assert not seen and not list(tmp_path.iterdir())


def test_progress_is_tqdms_choice_of_bar_or_widget(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.tqdm is tqdm
    bench.run(Dataset(data.samples[:1]), ["dragnoise"], tmp_path, protocol=PROTOCOL)
    assert "bench: 100%" in capsys.readouterr().err


def test_the_command_reads_editors_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def noted(data: str, editors: Any, out: str, **given: Any) -> bench.Run:
        asked.append((data, editors, given))
        return bench.Run((), ())

    monkeypatch.setattr(runner, "run", noted)
    file = tmp_path / "editors.json"
    file.write_text(json.dumps({"slow": {"preset": "dragnoise", "lr": 0.001}}))
    usual = ["run", "--data", "toyland", "--out", str(tmp_path / "o"), "--editor", "firm"]
    command.main([*usual, "--editors-file", str(file), "--workers", "2", "--as-published", "--feature-side", "768"])
    ((data, editors, given),) = asked
    assert data == "toyland" and editors == {"firm": "firm", "slow": {"preset": "dragnoise", "lr": 0.001}}
    assert given["workers"] == 2 and given["protocol"].as_published and given["protocol"].dift.side == 768
    for text in ("[]", "{"):
        file.write_text(text)
        with pytest.raises(SystemExit, match="editors-file"):
            command.main([*usual, "--editors-file", str(file)])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to all processes of a console")
def test_ctrl_c_stops_two_processes_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    quick = {"steps": 6, "edit_from": 3, "refine_from": 0, "drag_steps": 1, "step_iterations": 1}
    (tmp_path / "editors.json").write_text(json.dumps({"quick": quick}))
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "dragnoise.bench", "run", "--data", "toyland:1", "--editors-file",
        str(tmp_path / "editors.json"), "--ensemble", "1", "--workers", "2", "--out", str(out),
    ]  # fmt: skip
    run = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip
    until = time.monotonic() + 300
    while not list(out.rglob("result.json")) and run.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does, to all of them
    said = run.communicate(timeout=120)[0]
    stopped = {path: path.read_bytes() for path in out.rglob("result.json")}
    assert run.returncode and 0 < len(stopped) < 8, said
    assert "Traceback" not in said and "go" in said.splitlines()[-1], said
    assert all(json.loads(text)["id"] for text in stopped.values())
    assert not [path for path in out.rglob("*") if path.is_file() and path.name.startswith(".")], "leftovers"
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert len(list(out.rglob("result.json"))) == 8, again.stdout + again.stderr
    assert all(path.read_bytes() == text for path, text in stopped.items()), "what was there is not made again"


@pytest.mark.slow
def test_two_processes_finish_a_run_on_toyland(tmp_path: Path) -> None:
    """And each has its model once: what they made is what one process makes."""
    quick = {"steps": 6, "edit_from": 3, "refine_from": 0, "drag_steps": 1, "step_iterations": 1}
    protocol = Protocol(dift=Dift(ensemble=1), changes=quick)
    toys = Dataset(bench.read_dataset("toyland:1").samples[:3])
    done = bench.run(toys, ["default"], tmp_path / "two", protocol=protocol, workers=2, progress=False)
    here = bench.run(toys, ["default"], tmp_path / "one", protocol=protocol, progress=False)
    assert not done.skipped and len(list(tmp_path.rglob("result.json"))) == 6
    for one, other in zip(here.records, done.records, strict=True):
        assert one["metrics"]["md"] == pytest.approx(other["metrics"]["md"], abs=2)
