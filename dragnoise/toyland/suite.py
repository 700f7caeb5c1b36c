"""The proof: drags with known answers, and where the dragged content really ended up.

    python -m dragnoise.toyland.suite                # the held-out cases, results.json and sheet.png
    python -m dragnoise.toyland.suite --split tune   # other scenes, to choose settings on

The judge that measures is a landmark regressor which never saw the diffusion model.  The *oracle*
puts the true answer's bottleneck in place of an optimised one: what the model could do at best.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

from dragnoise import ddim
from dragnoise.config import DragConfig
from dragnoise.model import Model, load_model
from dragnoise.session import DragSession
from dragnoise.toyland.cases import KINDS, TEST_SEED, TUNE_SEED, DragCase, drag_cases
from dragnoise.toyland.judge import judge
from dragnoise.toyland.scenes import caption, render

SPLITS = {"test": TEST_SEED, "tune": TUNE_SEED}


@dataclass(frozen=True, eq=False)
class Result:
    """One case measured; distances are picture pixels from the objectives, mean over the case's drags.

    before: of the anchors.  after, oracle: of where the judge finds the dragged landmarks in the
    edit and in the oracle's picture.  psnr: dB between the given picture and the edit outside the
    region that the ground truth changes.
    """

    kind: str
    before: float
    after: float
    oracle: float
    psnr: float
    oracle_psnr: float
    iterations: int
    status: str
    seconds: float
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # given, edit, oracle, answer

    def numbers(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "pictures"}


def measure(model: Model, case: DragCase, config: DragConfig | None = None) -> Result:
    """Edit one case with its drags and its mask, prompted with its caption."""
    given, answer = render(case.scene), render(case.answer)
    session = DragSession(model, given, prompt=caption(case.scene), config=config)
    session.drags, session.mask = case.drags, case.mask
    edit = np.asarray(session.run(progress=False))
    best = np.asarray(oracle(session, answer))
    return Result(
        kind=case.kind,
        before=float(np.mean([np.linalg.norm(np.subtract(d.anchor, d.objective)) for d in case.drags])),
        after=_missed(case, edit),
        oracle=_missed(case, best),
        psnr=_psnr(given, edit, ~case.mask),
        oracle_psnr=_psnr(given, best, ~case.mask),
        iterations=session.history[-1].iteration,
        status=session.status,
        seconds=sum(snapshot.seconds for snapshot in session.history),
        pictures=(given, edit, best, answer),
    )


def oracle(session: DragSession, answer: np.ndarray) -> Image.Image:
    """Denoise the session's picture with the bottleneck of another picture at the edit timestep."""
    config, model = session.config, session.model
    other = DragSession(model, answer, prompt=session.prompt, config=config)
    true, own = other.bottleneck, session.branch(0).bottleneck
    states = list(
        ddim.denoise(
            model,
            session.latents.to(model.device),
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


def summary(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """A row per kind and one for all: what the model card's table holds."""
    rows = {}
    for kind in (*KINDS, "all"):
        some = [r for r in results if kind in (r.kind, "all")]
        if not some:
            continue
        before, after, best = (np.array([getattr(r, name) for r in some]) for name in ("before", "after", "oracle"))
        rows[kind] = {
            "cases": len(some),
            "before": float(before.mean()),
            "after": float(after.mean()),
            "oracle": float(best.mean()),
            "median_share": float(np.median(after / before)),
            "mean_share": float(after.mean() / before.mean()),
            "halved": float((after <= before / 2).mean()),
            "oracle_median_share": float(np.median(best / before)),
            "oracle_halved": float((best <= before / 2).mean()),
            "psnr": float(np.mean([r.psnr for r in some])),
            "oracle_psnr": float(np.mean([r.oracle_psnr for r in some])),
            "iterations": float(np.mean([r.iterations for r in some])),
            "reached": float(np.mean([r.status == "reached" for r in some])),
        }
    return rows


def table(rows: dict[str, dict[str, float]]) -> str:
    """The summary as a Markdown table."""
    lines = [
        "| kind | cases | before px | after px | oracle px | median after/before | halved | oracle halved "
        "| PSNR outside dB | iterations |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, r in rows.items():
        lines.append(
            f"| {kind} | {r['cases']:.0f} | {r['before']:.1f} | {r['after']:.1f} | {r['oracle']:.1f} "
            f"| {r['median_share']:.0%} | {r['halved']:.0%} | {r['oracle_halved']:.0%} | {r['psnr']:.1f} "
            f"| {r['iterations']:.0f} |"
        )
    return "\n".join(lines)


def sheet(results: Sequence[Result], cases: Sequence[DragCase], *, columns: int = 3, zoom: int = 2) -> Image.Image:
    """Before / edit / ground truth side by side, the drags drawn on the first."""
    side = 128 * zoom
    rows = -(-len(results) // columns)
    page = Image.new("RGB", (columns * (3 * side + 12), rows * (side + 8)), "white")
    for i, (result, case) in enumerate(zip(results, cases, strict=True)):
        x, y = i % columns * (3 * side + 12), i // columns * (side + 8)
        given, edit, _, answer = (
            Image.fromarray(p).resize((side, side), Image.Resampling.LANCZOS) for p in result.pictures
        )
        draw = ImageDraw.Draw(given)
        for drag in case.drags:
            a, b = (tuple((v + 0.5) * zoom for v in point) for point in (drag.anchor, drag.objective))
            draw.line([a, b], fill="black", width=4)
            draw.line([a, b], fill="white", width=2)
            draw.ellipse([b[0] - 4, b[1] - 4, b[0] + 4, b[1] + 4], fill="#2a7de1", outline="white")
            draw.ellipse([a[0] - 4, a[1] - 4, a[0] + 4, a[1] + 4], fill="#e8412f", outline="white")
        for j, picture in enumerate((given, edit, answer)):
            page.paste(picture, (x + j * side, y))
    return page


def run(
    *,
    split: str = "test",
    each: int = 16,
    kinds: Sequence[str] = KINDS,
    workers: int = 2,
    model: str | None = None,
    **changes: Any,
) -> tuple[list[DragCase], list[Result]]:
    """Measure `each` cases of every kind with the model's default config, changed as asked."""
    cases = [case for kind in kinds for case in drag_cases(kind, each, SPLITS[split])]
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(model, changes)) as pool:
        results = list(tqdm(pool.map(_work, cases), "toyland suite", len(cases)))
    return cases, results


_worker: tuple[Model, DragConfig]


def _start_worker(name: str | None, changes: dict[str, Any]) -> None:
    global _worker
    torch.set_num_threads(1)
    model = load_model(name or "toyland")
    _worker = model, model.default_config.replace(**changes)


def _work(case: DragCase) -> Result:
    return measure(_worker[0], case, _worker[1])


def _missed(case: DragCase, picture: np.ndarray) -> float:
    found = judge(picture)
    misses = [np.linalg.norm(np.subtract(found[n], d.objective)) for n, d in zip(case.names, case.drags, strict=True)]
    return float(np.mean(misses))


def _psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = np.square(a[where].astype(float) - b[where]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--each", type=int, default=16, help="cases of every kind (default 16)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", default=None, help="a pipeline folder (default: the embedded model)")
    parser.add_argument("--out", type=Path, default=Path("toyland-suite"))
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="DragConfig fields to change")
    args = parser.parse_args()
    changes = {}
    for pair in args.set:
        name, value = pair.split("=", 1)
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    cases, results = run(
        split=args.split, each=args.each, kinds=args.kinds, workers=args.workers, model=args.model, **changes
    )
    rows = summary(results)
    args.out.mkdir(parents=True, exist_ok=True)
    config = load_model(args.model or "toyland").default_config.replace(**changes)
    report = {"config": dataclasses.asdict(config), "summary": rows, "cases": [r.numbers() for r in results]}
    (args.out / "results.json").write_text(json.dumps(report, indent=1))
    sheet(results, cases).save(args.out / "sheet.png")
    print(table(rows))


if __name__ == "__main__":
    main()
