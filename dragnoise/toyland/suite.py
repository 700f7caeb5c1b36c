"""The suite: drags with known answers, edited and measured.

    python -m dragnoise.toyland.suite                # the held-out cases; results.json and sheet.png
    python -m dragnoise.toyland.suite --split tune   # other scenes, to choose settings on
    python -m dragnoise.toyland.suite --seed 3       # other held-out cases
    python -m dragnoise.toyland.suite --no-mask      # drags without a mask, as a newcomer begins

A picture is measured by `measures.quality`, with a judge that has no part in the diffusion model.  The
*oracle* puts the true answer's bottleneck in place of an optimised one: what the model could do at best.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dragnoise.atomic_write import require_writable, write_picture, write_text
from dragnoise.config import DragConfig
from dragnoise.models.model import Model, load_model
from dragnoise.sampling import ddim
from dragnoise.session import stages
from dragnoise.session.session import DragSession
from dragnoise.toyland.cases import KINDS, TEST_SEED, TUNE_SEED, DragCase, drag_cases
from dragnoise.toyland.measures import quality
from dragnoise.toyland.results import Result, sheet, summary, table
from dragnoise.toyland.scenes import caption, render
from dragnoise.validation import as_integer

PAPER: dict[str, Any] = {
    "start": "inverted", "target": "current", "schedule": "single", "hold": "nothing", "keep": "nothing",
    "edit_from": 28, "refine_from": 6,
}  # fmt: skip
"""Changes that turn the embedded model's default config into the paper's method, with numbers for this model."""

SPLITS = {"test": TEST_SEED, "tune": TUNE_SEED}
SEED_STRIDE, LAST_SEED = 1_000_000, 9
"""Scene seeds between the cases of two values of `--seed`, and the last value: the splits are ten million apart."""


def measure(model: Model, case: DragCase, config: DragConfig | None = None, *, mask: bool = True) -> Result:
    """Edit one case with its drags and, unless told otherwise, its mask, prompted with its caption."""
    given, answer = render(case.scene), render(case.answer)
    session = DragSession(model, given, prompt=caption(case.scene), config=config)
    session.drags = case.drags
    if mask:
        session.mask = case.mask
    edit = np.asarray(session.run(progress=False))
    best = np.asarray(oracle(session, answer))
    return Result(
        kind=case.kind,
        before=float(np.mean([np.linalg.norm(np.subtract(d.anchor, d.objective)) for d in case.drags])),
        edit=quality(case, edit, given, answer),
        oracle=quality(case, best, given, answer),
        unedited=quality(case, given, given, answer),
        iterations=session.history[-1].iteration,
        status=session.status,
        seconds=sum(snapshot.seconds for snapshot in session.history),
        pictures=(given, edit, best, answer),
    )


def oracle(session: DragSession, answer: np.ndarray) -> Image.Image:
    """Denoise the session's picture with the bottleneck of another picture at the edit timestep."""
    config, model = session.config, session.model
    other = DragSession(model, answer, prompt=session.prompt, config=config)
    stages.require_inverted(session.store)
    true = stages.bottleneck(other.store)
    own = session.store.engine.first_pass(session.state)().bottleneck.float().cpu()  # whatever the edit began with
    states = list(
        ddim.denoise(
            model,
            session.state.trajectory[-1],
            model.embed(session.prompt),
            ddim.Schedule(model, config.steps),
            config.edit_from,
            edited=true,
            original=own,
            refine_from=config.refine_from,
            propagation=config.propagation,
        )
    )
    pixels = model.decode_latents(states[-1].latents)
    return Image.fromarray(((pixels[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def run(
    *,
    split: str = "test",
    seed: int = 0,
    each: int = 16,
    mask: bool = True,
    kinds: Sequence[str] = KINDS,
    workers: int = 2,
    model: str | None = None,
    **changes: Any,
) -> tuple[list[DragCase], list[Result]]:
    """Measure `each` cases of every kind with the model's default config, changed as asked.

    seed: which cases of the split, 0..9; with the same numbers the cases are the same.
    """
    first = SPLITS[split] + SEED_STRIDE * as_integer("seed", seed, 0, LAST_SEED)
    cases = [case for kind in kinds for case in drag_cases(kind, each, first)]
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(model, changes, mask)) as pool:
        results = list(tqdm(pool.map(_work, cases), "toyland suite", len(cases)))
    return cases, results


_worker: tuple[Model, DragConfig, bool]


def _start_worker(name: str | None, changes: dict[str, Any], mask: bool) -> None:
    global _worker
    torch.set_num_threads(1)
    model = load_model(name or "toyland")
    _worker = model, model.default_config.replace(**changes), mask


def _work(case: DragCase) -> Result:
    model, config, mask = _worker
    return measure(model, case, config, mask=mask)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--seed", type=int, default=0, help="which cases of the split, 0 to 9 (default 0)")
    parser.add_argument("--no-mask", dest="mask", action="store_false", help="drag without a mask")
    parser.add_argument("--each", type=int, default=16, help="cases of every kind (default 16)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", default=None, help="a pipeline folder (default: the embedded model)")
    parser.add_argument("--out", type=Path, default=Path("toyland-suite"))
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="DragConfig fields to change")
    args = parser.parse_args(arguments)
    changes = {}
    for pair in args.set:
        name, value = pair.split("=", 1)
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    results_path, sheet_path = args.out / "results.json", args.out / "sheet.png"
    for path in (results_path, sheet_path):
        require_writable(path)  # before minutes of work
    config = load_model(args.model or "toyland").default_config.replace(**changes)
    cases, results = run(
        split=args.split, seed=args.seed, each=args.each, mask=args.mask, kinds=args.kinds, workers=args.workers,
        model=args.model, **changes,
    )  # fmt: skip
    rows = summary(results)
    print(table(rows), flush=True)  # before anything is written, so that a full disk loses no numbers
    asked = {"split": args.split, "seed": args.seed, "mask": args.mask}
    report = {"config": dataclasses.asdict(config), **asked, "summary": rows, "cases": [r.numbers() for r in results]}
    write_text(results_path, json.dumps(report, indent=1) + "\n")
    write_picture(sheet_path, sheet(results, cases))


if __name__ == "__main__":
    main()
