"""`python -m benchmarks rows`: what the embedded model and the history have to reach on a CPU.

Loading and an edit are timed in processes of their own, by the clock and by the processor's time; growth is the
processor's time of an iteration against the smallest setting, taken in turns.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import report
from benchmarks.measuring.counting import counted, counting
from benchmarks.measuring.timing import in_turns, resident
from benchmarks.phases import OURS, Bench
from benchmarks.shapes import SHAPES
from dragnoise import DragConfig, DragSession
from dragnoise.editors import EditState
from dragnoise.session.history import HISTORY_LIMIT, History, Snapshot

ITERATIONS = 500
"""Of a long history."""

Row = tuple[str, str, str]

STAGES = """
import json, sys, time
def now(): return time.perf_counter(), time.process_time()
marks = [("start", now())]
import torch
torch.set_num_threads(int(sys.argv[1]))
marks.append(("import torch", now()))
import dragnoise
from dragnoise.inspection.quick_look import QuickLooks
from dragnoise.toyland import drag_cases, caption, render
case = drag_cases("head", 1, 3_000_000)[0]
marks.append(("import dragnoise", now()))
model = dragnoise.load_model()
marks.append(("load_model()", now()))
session = dragnoise.DragSession(model, render(case.scene), caption(case.scene))
session.drags, session.mask = case.drags, case.mask
list(session.invert())
marks.append(("inversion", now()))
iterations = session.optimize()
next(iterations)
assert QuickLooks(model).look(session) is not None
marks.append(("first iteration and quick look", now()))
for _ in range(39):
    next(iterations, None)
count = len(session.history) - 1
marks.append(("the other iterations", now()))
session.render()
marks.append(("the picture", now()))
print(json.dumps([count, marks]))
"""
"""A process from its start to an edited picture, by stages."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=3, help="processes that are timed")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS))
    parser.add_argument("--folder", default="benchmarks/results")


def main(given: argparse.Namespace, command: str) -> None:
    rows: list[Row] = []
    for name, section in SECTIONS.items():
        if given.only is None or name in given.only:
            found = section(given)
            rows += found
            for row in found:
                print(": ".join(cell for cell in row if cell), flush=True)
    result = {
        "title": f"Rows: {', '.join(given.only or SECTIONS)}", "shape": "rows", "side": "-".join(given.only or ["all"]),
        "device": "cpu", "dtype": "float32", "command": command, "date": time.strftime("%Y-%m-%d"),
        "machine": report.machine("cpu"), "rows": rows,
    }  # fmt: skip
    print(f"Written to {report.write(result, given.folder)} and {report.update(given.folder)}.")


# ---------------------------------------------------------------------------------------- sections


def stages(given: argparse.Namespace) -> list[Row]:
    """Loading, and a picture to its edited one, each stage in seconds: the best run by the processor's time."""
    runs = []
    for _ in range(given.runs):
        command = [sys.executable, "-c", STAGES, str(torch.get_num_threads())]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    count = runs[0][0]
    rows: list[Row] = []
    sums = [0.0, 0.0]
    for i, (name, _) in enumerate(runs[0][1][1:], start=1):
        took = [tuple(run[1][i][1][k] - run[1][i - 1][1][k] for k in (0, 1)) for run in runs]
        clock, processor = min(took, key=lambda pair: pair[1])
        rows.append((name, f"{clock:.2f} s, {processor:.2f} s of the processor", "<= 3 s" if "load" in name else ""))
        if i > 3:
            sums = [sums[0] + clock, sums[1] + processor]
    rows.append((
        f"picture to edited picture, {count} iterations", f"{sums[0]:.2f} s, {sums[1]:.2f} s of the processor", "<= 4 s"
    ))  # fmt: skip
    return rows


def growth(given: argparse.Namespace) -> list[Row]:
    """An iteration of the embedded model against points, r2 and history, the processor's time."""
    bench, rows = Bench("toyland"), []
    points = {str(n): prepared(bench, points=n) for n in (1, 2, 4, 8, 16, 32)}
    rows.append(("points", grown(points, given.rounds), "nearly free"))
    windows = {str(n): prepared(bench, r2=n) for n in (1, 3, 6, 12)}
    rows.append(("r2", grown(windows, given.rounds), "nearly free"))
    sessions = {str(n): prepared(bench, iterations=n) for n in (10, 100, 500)}
    rows.append(("iterations in the history", grown(sessions, given.rounds), "nearly free"))
    return rows


def prepared(bench: Bench, *, points: int = 1, iterations: int = 2, **changes: Any) -> DragSession:
    session = bench.session(bench.config(**changes), points=points)
    for _ in range(iterations):
        session.step()
    return session


def grown(sessions: dict[str, DragSession], rounds: int) -> str:
    """Times as long as the first one takes."""
    times = in_turns({name: session.step for name, session in sessions.items()}, rounds, warmup=2)
    first = next(iter(times.values())).work
    return ", ".join(f"{name}: {t.work / first:.2f}" for name, t in times.items()) + f" ({first * 1000:.0f} ms)"


def sides(given: argparse.Namespace) -> list[Row]:
    """Operations of an iteration of SD 1.5 against those of its decoder, by the picture's side."""
    found = []
    for side in (256, 512, 768, 1024):
        with counting():
            bench = Bench("sd15", side=side, steps=1, device="meta")
            session = bench.session(bench.config())
            session.step()
        mine = counted(session.step).flops
        with counting() as counts, torch.no_grad():
            encoded = session.store.engine.first_pass(session.state)()
            before = counts.flops
            bench.model.decode(encoded.bottleneck, encoded, upto=2)
        found.append(f"{side}: {mine / 1e9:,.0f} GFLOP, {mine / (counts.flops - before):.2f} decoders")
    return [("side", "; ".join(found), "as the decoder grows")]


def sessions(given: argparse.Namespace) -> list[Row]:
    """Memory of a process over sessions that are made, run and let go."""
    bench, sizes = Bench("toyland", steps=4), []
    for i in range(given.sessions):
        session = bench.session(bench.config(max_iterations=4), masked=i % 2 == 0)
        session.run(progress=False)
        del session
        gc.collect()
        sizes.append(resident() / 2**20)
    half = sizes[given.sessions // 2 :]
    middle = f"{statistics.median(sizes[5:15]):.0f} MiB after 10, {statistics.median(half[-5:]):.0f} at the end"
    slope = (statistics.median(half[-5:]) - statistics.median(half[:5])) / max(len(half) - 5, 1)
    return [(f"{given.sessions} sessions in a process", f"{middle}, {slope * 1024:+.0f} KiB a session", "no growth")]


def history(given: argparse.Namespace) -> list[Row]:
    """Memory that 500 snapshots of a shape take, with tensors as its bottleneck is, thinned as a session does it."""
    rows = []
    for name in ("sd15", "sd21", "sdxl"):
        with counting():
            bench = Bench(name, steps=1, device="meta")
        latents = (1, 4, bench.side // 8, bench.side // 8)
        shape = bench.model.unet.bottleneck_shape(latents)
        before, history = resident(), History()
        for i in range(ITERATIONS + 1):
            tensors = {tensor: torch.full(shape, float(i)) for tensor in ("bottleneck", "adam.first", "adam.second")}
            history = history.then(snapshot(i, tensors if i else {"bottleneck": tensors["bottleneck"]}))
            history = history.within(HISTORY_LIMIT)
        grown, kept = resident() - before, sum(each.is_whole for each in history)
        rows.append((
            f"{ITERATIONS} iterations of {SHAPES[name].title}, {bench.side}x{bench.side}",
            f"{history.nbytes / 2**30:.2f} GiB, tensors of {kept} kept"
            + (f"; the process grew by {grown / 2**30:.2f}" if name == "sd15" else ""),
            "<= 1 GB" if name == "sd15" else "",
        ))  # fmt: skip
        del history, tensors
        gc.collect()
    return rows


def snapshot(i: int, tensors: dict[str, torch.Tensor]) -> Snapshot:
    """Iteration i with these tensors, and what else there is of one drag."""
    points, config = np.zeros((1, 2)), DragConfig()
    state = EditState(tensors, torch.zeros(1, 2, dtype=torch.float64), step=config.edit_from, count=i)
    return Snapshot(i, {"total": 1.0}, points, points[:, 0], 1.0, state, "running", 0.1, config)


def precision(given: argparse.Namespace) -> list[Row]:
    """An iteration in bfloat16 against float32 on this processor: the decoder's own forward and backward."""
    benches = {str(dtype).removeprefix("torch."): Bench("sd15", side=128, steps=1, dtype=dtype) for dtype in HALVES}
    works = {name: bench.iterations(only=())[OURS] for name, bench in benches.items()}
    times = in_turns(works, 5)
    ratio = times["bfloat16"].work / times["float32"].work
    return [("SD 1.5 at 128x128, bfloat16 against float32", f"{ratio:.2f} times as long", "< 1, or not the default")]


HALVES = (torch.float32, torch.bfloat16)

SECTIONS = {
    "stages": stages, "growth": growth, "sides": sides, "sessions": sessions, "history": history,
    "precision": precision,
}  # fmt: skip
