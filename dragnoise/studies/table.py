"""The table of editors by kinds of drag on toyland, with bootstrap intervals.

    python -m dragnoise.studies.table                  # one held-out case a kind; editors.md and editors.json
    python -m dragnoise.studies.table --each 4         # goes on: what is measured already is read from the folder
    python -m dragnoise.studies.table --only firm dragnoise --workers 2

Every case is edited with its caption, its drags and its mask by each of `ROWS`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dragnoise.atomic_write import write_text
from dragnoise.config import DragConfig
from dragnoise.models.model import Model, load_model
from dragnoise.session.session import DragSession
from dragnoise.studies.bootstrap import Interval, interval
from dragnoise.studies.sweep import sweep
from dragnoise.toyland.cases import KINDS, drag_cases
from dragnoise.toyland.measures import quality
from dragnoise.toyland.scenes import caption, render
from dragnoise.toyland.suite import PAPER, SEED_STRIDE, SPLITS

SEED = 5
"""Of the held-out split's ten; no setting was chosen on it."""

TOYLAND = {"edit_from": 28, "latent_noise": 0.08}
"""Numbers of the embedded model that every editor at one high timestep gets in place of the published ones: from the
published timesteps (35, 38) on it invents another scene."""

ROWS: dict[str, dict[str, Any]] = {
    "firm": {},
    "dragnoise": PAPER,
    "dragnoise, published numbers": {"preset": "dragnoise"},
    "dragdiffusion": {"preset": "dragdiffusion", **TOYLAND},
    "gooddrag": {"preset": "gooddrag", **TOYLAND},
    "freedrag": {"preset": "freedrag", **TOYLAND},
    "dragondiffusion": {"preset": "dragondiffusion", "latent_noise": 0.08},
    "fastdrag": {"preset": "fastdrag", "latent_noise": 0.08},
    "fastdrag, nearest anchor": {"preset": "fastdrag", "latent_noise": 0.08, "blend": "nearest"},
    "regiondrag": {"preset": "regiondrag", "latent_noise": 0.08},
}
"""Row -> a preset with changes; without "preset", changes of the embedded model's own numbers."""

HIGHER_IS_BETTER = {"left": False, "halved": True, "inside": True, "outside": True, "whole": True}
STATISTICS = {"left": np.median, "iterations": np.median, "seconds": np.median}
"""Of a column; the mean of all others."""


def config_of(row: Mapping[str, Any], model: Model) -> DragConfig:
    """The numbers of one of `ROWS`."""
    changes = dict(row)
    preset = changes.pop("preset", None)
    return model.default_config.replace(**changes) if preset is None else DragConfig.preset(preset, **changes)


def tasks(rows: Iterable[str], *, each: int, seed: int = SEED, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """The tasks of the table, case by case, so that rows have the same cases wherever a run ends."""
    return {
        f"{row.replace(', ', '-').replace(' ', '-')}.{kind}.{i}.{seed}": {
            "row": row, "changes": ROWS[row], "kind": kind, "case": i, "seed": seed,
        }
        for i in range(each) for kind in kinds for row in rows
    }  # fmt: skip


@cache
def _model() -> Model:
    torch.set_num_threads(1)
    return load_model()


def measure(task: Mapping[str, Any]) -> dict[str, Any]:
    """One row's edit of one case: the columns of the table, as JSON values.

    left: distance of the dragged landmarks from their objectives, by the judge, in shares of what it was.
    """
    model = _model()
    first = SPLITS["test"] + SEED_STRIDE * task["seed"]
    case = drag_cases(task["kind"], task["case"] + 1, first)[task["case"]]
    given, answer = render(case.scene), render(case.answer)
    session = DragSession(model, given, prompt=caption(case.scene), config=config_of(task["changes"], model))
    session.drags, session.mask = case.drags, case.mask
    started = time.perf_counter()
    picture = np.asarray(session.run(progress=False))
    seconds = time.perf_counter() - started
    found = quality(case, picture, given, answer)
    before = float(np.mean([np.linalg.norm(np.subtract(d.anchor, d.objective)) for d in case.drags]))
    return {
        "row": task["row"], "kind": case.kind, "before": before, "missed": found.missed, "left": found.missed / before,
        "halved": found.missed <= before / 2, "inside": found.inside, "outside": found.outside, "ssim": found.ssim,
        "whole": found.whole, "lost": list(found.lost), "iterations": session.history[-1].iteration,
        "status": session.status, "seconds": seconds,
    }  # fmt: skip


def summary(results: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Interval]]:
    """Row -> column -> its statistic and interval over the cases of `measure`."""
    by_row: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_row.setdefault(result["row"], []).append(result)
    columns = ("left", "halved", "inside", "outside", "whole", "iterations", "seconds")
    return {
        row: {c: interval([float(r[c]) for r in some], STATISTICS.get(c, np.mean)) for c in columns}
        for row, some in by_row.items()
    }


def by_kind(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Row -> kind -> median of the share of the distance that is left."""
    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        found.setdefault(result["row"], {}).setdefault(result["kind"], []).append(result["left"])
    return {row: {kind: float(np.median(v)) for kind, v in kinds.items()} for row, kinds in found.items()}


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Both tables: all kinds together with 95 % intervals, the best of a column in bold, and the distance by kind."""
    rows, kinds = summary(results), by_kind(results)
    best = {c: (max if high else min)(r[c].value for r in rows.values()) for c, high in HIGHER_IS_BETTER.items()}
    heads = ("editor", "cases", "left", "halved", "inside dB", "outside dB", "whole", "iterations", "seconds")
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row, columns in rows.items():
        cells = [row, str(sum(r["row"] == row for r in results))]
        for column, found in columns.items():
            form = {"left": ".0%", "halved": ".0%", "whole": ".0%", "iterations": ".0f"}.get(column, ".1f")
            text = format(found.value, form)
            text = f"**{text}**" if found.value == best.get(column) else text
            cells.append(f"{text} ({found.low:{form}} to {found.high:{form}})")
        lines.append(_line(cells))
    names = [kind for kind in KINDS if any(kind in row for row in kinds.values())]
    lines += ["", _line(["left, median", *names]), _line(["---"] * (1 + len(names)))]
    for row, shares in kinds.items():
        lines.append(_line([row, *(f"{shares[kind]:.0%}" if kind in shares else "" for kind in names)]))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=1, help="cases of every kind (default 1)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"which held-out cases, 0 to 9 (default {SEED})")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="rows of the table")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("toyland-editors"), help="folder to go on in")
    args = parser.parse_args(arguments)
    asked = tasks(args.only, each=args.each, seed=args.seed, kinds=args.kinds)
    if args.workers == 1:
        results = sweep(measure, asked, folder=args.out / "cases")
    else:
        with ProcessPoolExecutor(args.workers) as pool:
            results = sweep(measure, asked, folder=args.out / "cases", executor=pool)
    found = list(results.values())
    print(markdown(found), flush=True)
    write_text(args.out / "editors.md", markdown(found) + "\n")
    configs = {row: dataclasses.asdict(config_of(ROWS[row], _model())) for row in args.only}
    report = {"summary": {r: {c: list(i) for c, i in cs.items()} for r, cs in summary(found).items()}}
    write_text(args.out / "editors.json", json.dumps(report | {"cases": found, "configs": configs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
