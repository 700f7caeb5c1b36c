"""Numbers of the benchmarks as JSON files, one a run, and as a Markdown table of all of them."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

BEGIN, END = "<!-- measured -->", "<!-- end of what is measured -->"


def machine(device: str) -> str:
    """The processor's model, its cores and torch's threads, and the accelerator; no names of computers."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)):
        model = found[1]
    widest = torch.backends.cpu.get_cpu_capability()
    said = f"{model}, {os.cpu_count()} cores, {widest}, torch with {torch.get_num_threads()} threads"
    if device.startswith("cuda"):
        said += f"; {torch.cuda.get_device_name()}"
    return said


def versions() -> dict[str, str]:
    """Of Python and of the libraries that compute."""
    names = ("torch", "diffusers", "transformers", "peft")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def write(result: dict[str, Any], folder: str | Path) -> Path:
    """One run's numbers as a file; what an earlier run alone measured stays."""
    name = "-".join(str(result[key]) for key in ("shape", "side", "device", "dtype")).replace(":", "")
    path = Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and "phases" in result:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        phases = dict(earlier["phases"])
        for phase, sides in result["phases"].items():
            known = phases.get(phase, {})
            phases[phase] = known | {side: known.get(side, {}) | numbers for side, numbers in sides.items()}
        result = earlier | result | {"phases": phases}
        if earlier["command"] != result["command"]:
            result["command"] = "`, `".join(dict.fromkeys([*earlier["command"].split("`, `"), result["command"]]))
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def update(folder: str | Path) -> Path:
    """Write the tables of all files into RESULTS.md beside the folder, between its two marks."""
    path = Path(folder).parent / "RESULTS.md"
    tables = "\n\n".join(table(json.loads(p.read_text(encoding="utf-8"))) for p in sorted(Path(folder).glob("*.json")))
    text = path.read_text(encoding="utf-8") if path.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return path


def table(result: dict[str, Any]) -> str:
    """One run as Markdown."""
    if "rows" in result:
        return simple_table(result)
    ceiling = result.get("ceiling", {})
    lines = [
        f"### {result['shape']}, {result['side']}x{result['side']}, {result['device']}, {result['dtype']}",
        "",
        f"`{result['command']}`, {result['date']}, median of {result['rounds']} rounds taken in turns; "
        f"{result['machine']}; " + ", ".join(f"{name} {v}" for name, v in result["versions"].items()) + ".",
        "",
    ]
    if ceiling:
        lines += [f"Ceiling, a large matrix product: {ceiling['flops_per_second'] / 1e9:,.0f} GFLOP/s.", ""]
    lines += [
        "| phase | | GFLOP | s | s of the processor | times ours | share of the ceiling | peak GiB "
        "| reads | waiting uploads | posted | MB down, up | allocations |",
        "|---|---" + "|--:" * 11 + "|",
    ]
    for phase, sides in result["phases"].items():
        by = "seconds" if result["device"].startswith("cuda") else "processor"  # a CPU may have other things to do
        lines += [row(phase, side, numbers, sides.get("ours", {}), ceiling, by) for side, numbers in sides.items()]
    return "\n".join(lines)


def row(
    phase: str, side: str, numbers: dict[str, Any], ours: dict[str, Any], ceiling: dict[str, Any], by: str = "processor"
) -> str:
    """One side of a phase.  Ratios are of the processor's time or of the clock's ("seconds"), else of operations."""
    counts, seconds, processor = (numbers.get(key) for key in ("counts", "seconds", "processor"))
    flops = counts["flops"] if counts else None
    times = None
    if by in numbers and by in ours:
        times = statistics.median(numbers[by]) / max(statistics.median(ours[by]), 1e-12)
    elif flops and "counts" in ours:
        times = flops / ours["counts"]["flops"]
    achieved = None
    if flops and processor and seconds and ceiling:
        achieved = max(
            flops / statistics.median(processor) / ceiling["flops_per_processor_second"],
            flops / statistics.median(seconds) / ceiling["flops_per_second"],
        )
    cells = [
        shown(flops and flops / 1e9, ",.1f"), shown(seconds and statistics.median(seconds), ".3f"),
        shown(processor and statistics.median(processor), ".3f"), shown(times, ".2f"), shown(achieved, ".0%"),
        shown(numbers.get("peak") and numbers["peak"] / 2**30, ".2f"),
    ]  # fmt: skip
    if counts:
        moved = f"{counts['bytes_down'] / 1e6:.2f}, {counts['bytes_up'] / 1e6:.2f}"
        more = [counts["reads"], counts["blocking_uploads"], counts["posted"], moved, counts["allocations"]]
    else:
        more = [""] * 5
    return "| " + " | ".join([phase, side, *cells, *map(str, more)]) + " |"


def simple_table(result: dict[str, Any]) -> str:
    """A list of what was measured and found: rows of (what, found, wanted)."""
    lines = [f"### {result['title']}", "", f"`{result['command']}`, {result['date']}; {result['machine']}.", ""]
    lines += ["| | found | wanted |", "|---|--:|--:|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, cells)) + " |" for cells in result["rows"])])


def shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
