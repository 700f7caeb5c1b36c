"""`python -m benchmarks run`: every phase of an edit, ours beside plain: counts, times in turns, peak memory."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.measuring import report
from benchmarks.measuring.counting import counted, counting
from benchmarks.measuring.timing import ceiling, in_turns, peak
from benchmarks.phases import OURS, Bench, Work
from benchmarks.shapes import SHAPES
from dragnoise.config import EDITORS
from dragnoise.models.arguments import as_dtype


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", default="sd15", choices=list(SHAPES))
    parser.add_argument("--side", type=int, help="of the picture in pixels, default the shape's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default=None, help="default float16 on CUDA, float32 elsewhere")
    parser.add_argument("--editors", nargs="*", default=[], choices=list(EDITORS), help="a unit of work of each, too")
    parser.add_argument("--steps", type=int, default=7, help="of the inversion and of the rendering")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--phases", nargs="*", default=None, help="some of them, such as iteration rendering")
    parser.add_argument("--no-times", action="store_true", help="counts alone, which take no memory and any machine")
    parser.add_argument("--no-counts", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--folder", default="benchmarks/results", help="for the numbers; the table is beside it")
    parser.add_argument("--peaks", default="", help=argparse.SUPPRESS)


def main(given: argparse.Namespace, command: str) -> None:
    """Measure, tell and write."""
    dtype = as_dtype(given.dtype, default=torch.float16 if given.device.startswith("cuda") else torch.float32)
    if given.peaks:
        print(json.dumps(peaks(given, dtype)))
        return
    result = measure(given, dtype) | {"command": command}
    path = report.write(result, given.folder)
    print(report.table(result))
    print(f"\nWritten to {path}; the table of all results is in {report.update(given.folder)}.")


def measure(given: argparse.Namespace, dtype: torch.dtype) -> dict[str, Any]:
    """The numbers as they are written."""
    phases: dict[str, dict[str, dict[str, Any]]] = {}
    if not given.no_counts:
        for name, works in chosen(given, torch.float32, device="meta"):
            phases[name] = {side: {"counts": dataclasses.asdict(count(work))} for side, work in works.items()}
            told(name, "counted")
    result: dict[str, Any] = {
        "shape": given.shape, "side": given.side or SHAPES[given.shape].side, "device": given.device,
        "dtype": str(dtype).removeprefix("torch."), "steps": given.steps, "rounds": given.rounds,
        "machine": report.machine(given.device), "versions": report.versions(), "date": time.strftime("%Y-%m-%d"),
        "phases": phases,
    }  # fmt: skip
    if given.no_times:
        return result
    by_clock, by_processor = ceiling(given.device, dtype)
    result["ceiling"] = {"flops_per_second": by_clock, "flops_per_processor_second": by_processor}
    for name, works in chosen(given, dtype, device=given.device):
        for side, times in in_turns(works, given.rounds, device=given.device).items():
            phases.setdefault(name, {}).setdefault(side, {})["seconds"] = times.clock
            phases[name][side]["processor"] = times.processor
        told(name, "timed")
    if not given.no_memory:
        for side in ("ours", "plain"):
            for name, found in in_a_child(given, side).items():
                for which, size in found.items():
                    phases.setdefault(name, {}).setdefault(which, {})["peak"] = size
    return result


def chosen(given: argparse.Namespace, dtype: torch.dtype, *, device: str) -> Iterator[tuple[str, dict[str, Work]]]:
    """The phases that are asked for; those on "meta" are prepared under a counter, which reads what has no data."""

    def prepared() -> Iterator[tuple[str, dict[str, Work]]]:
        bench = Bench(given.shape, side=given.side, steps=given.steps, device=device, dtype=dtype)
        yield from bench.all(wanted=given.phases)
        for editor in given.editors:
            yield f"editor {editor}", {OURS: bench.editors([editor])[editor]}

    phases = prepared()
    while True:
        gc.collect()
        if device == "meta":
            with counting():
                found = next(phases, None)
        else:
            found = next(phases, None)
        if found is None:
            return
        yield found


def count(work: Work) -> Any:
    """Counts of a third run; the first two make what is made once."""
    with counting():
        for _ in range(2):
            work()
    return counted(work)


# ---------------------------------------------------------------------------------------- memory


def in_a_child(given: argparse.Namespace, side: str) -> dict[str, dict[str, int]]:
    """Peak bytes of ours or of plain by phase, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "run", "--peaks", side]
    for name in ("shape", "device", "dtype", "steps", "side"):
        if (value := getattr(given, name)) is not None:
            command += [f"--{name}", str(value)]
    if given.phases:
        command += ["--phases", *given.phases]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"No memory of {side}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def peaks(given: argparse.Namespace, dtype: torch.dtype) -> dict[str, dict[str, int]]:
    """Peak bytes of every phase of one side, weights and everything else included."""
    found: dict[str, dict[str, int]] = {}
    for name, works in chosen(given, dtype, device=given.device):
        which = [side for side in works if side.split(",")[0] == given.peaks]
        for side in which:
            works[side]()
            with peak(given.device) as bytes_:
                works[side]()
            found.setdefault(name, {})[side] = bytes_[0]
    return found


def told(name: str, what: str) -> None:
    print(f"{name}: {what}", file=sys.stderr, flush=True)
