"""The command `python -m dragnoise.bench`: run, report, compare, worth and scaling."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dragnoise.atomic_write import write_bytes
from dragnoise.bench import runner, scaling, worth
from dragnoise.bench.measuring import Editor, Protocol
from dragnoise.bench.metrics.features import Dift
from dragnoise.bench.reports.comparison import compare_runs
from dragnoise.bench.reports.report import report
from dragnoise.bench.reports.tables import FORMATS


def main(arguments: list[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    try:
        args.go(args)
    except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to go on.")


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m dragnoise.bench", description=__doc__)
    verbs = whole.add_subparsers(dest="verb", required=True)
    go = verbs.add_parser("run", help="edit and measure; what is in --out already is kept")
    go.add_argument("--data", required=True, help="a data set's folder, 'toyland' or 'toyland:N'")
    go.add_argument("--editor", nargs="+", default=[], metavar="NAME", help="presets, or 'default'")
    go.add_argument(
        "--editors-file", metavar="FILE", help='JSON {name: {"preset": ..., FIELD: VALUE}}, beside --editor'
    )
    go.add_argument("--model", default="toyland", help="as load_model takes it")
    go.add_argument("--featurizer", help="the model of MD's features (default: --model)")
    go.add_argument("--out", required=True)
    go.add_argument("--workers", type=int, default=0, help="processes (default 0: this one)")
    go.add_argument("--scheduler", help="address of a Dask cluster's scheduler, instead of --workers")
    go.add_argument("--seed", type=int, default=42)
    go.add_argument("--as-published", action="store_true", help="MD with one seed a run, as DragBench's program")
    go.add_argument(
        "--feature-side", type=int, help="bring pictures to this side for MD's features (default: their own)"
    )
    go.add_argument("--ensemble", type=int, default=Dift.ensemble, help="draws of noise that MD's features average")
    go.add_argument("--lora-steps", type=int, default=0)
    go.add_argument("--lpips", action="store_true", help="measure IF, which needs the package lpips and its weights")
    go.add_argument("--released-dai", action="store_true", help="DAI also as GoodDrag's released file has it")
    go.add_argument("--drag-back", action="store_true", help="edit each result back, too")
    go.set_defaults(go=_run)
    tell = verbs.add_parser("report", help="a table of a run per category and overall, and its figure")
    tell.add_argument("out")
    tell.add_argument("--metrics", nargs="+")
    tell.add_argument("--figure", metavar="PNG", help="draw distance against fidelity into this file")
    tell.add_argument("--distance", default="md", help="of the figure (default md)")
    tell.add_argument("--fidelity", default="if", help="of the figure (default if; without LPIPS input_ssim)")
    tell.set_defaults(go=_report)
    two = verbs.add_parser("compare", help="two runs, or two editors' folders, sample by sample")
    two.add_argument("out")
    two.add_argument("other")
    two.add_argument("--metrics", nargs="+")
    two.add_argument("--figure", metavar="PNG", help="draw the pictures that differ most into this file")
    two.add_argument("--most", type=int, default=6, help="pictures in the figure")
    two.add_argument("--data", help="what was run, to draw the given pictures too")
    two.set_defaults(go=_compare)
    weigh = verbs.add_parser("worth", help="rank correlations of the metrics with the truth, of a run on toyland")
    weigh.add_argument("out")
    weigh.add_argument("--data", default="toyland", help="what was run: 'toyland' or 'toyland:N'")
    weigh.add_argument("--figure", metavar="PNG", help="draw them into this file")
    weigh.set_defaults(go=_worth)
    more = verbs.add_parser("scaling", help="how long a run's jobs take on more workers, from the seconds it took")
    more.add_argument("out")
    more.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    more.add_argument("--start", type=float, default=0.0, help="seconds in which a worker loads the model")
    more.set_defaults(go=_scaling)
    for verb in (tell, two, weigh, more):
        verb.add_argument("--format", choices=FORMATS, default="text")
    tell.add_argument("--csv", action="store_const", const="csv", dest="format", help="the same as --format csv")
    return whole


def _run(args: argparse.Namespace) -> None:
    protocol = Protocol(
        args.model, args.featurizer, Dift(ensemble=args.ensemble, side=args.feature_side), seed=args.seed,
        as_published=args.as_published, lora_steps=args.lora_steps, lpips=args.lpips, released_dai=args.released_dai,
        drag_back=args.drag_back,
    )  # fmt: skip
    editors = _editors(args.editor, args.editors_file)
    where = {"workers": args.workers, "scheduler": args.scheduler}
    done = runner.run(args.data, editors, args.out, protocol=protocol, **where)
    print("\n".join([f"{len(done.records)} results are in {args.out}.", *done.skipped]))


def _editors(names: Sequence[str], file: str | None) -> Sequence[str] | Mapping[str, Editor]:
    if file is None:
        return names
    try:
        told: Any = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--editors-file {file} is no JSON ({error}).") from error
    if not isinstance(told, dict):
        raise ValueError(f'--editors-file {file} must hold {{name: {{"preset": ..., FIELD: VALUE}}}}.')
    return {name: name for name in names} | told


def _report(args: argparse.Namespace) -> None:
    found = report(args.out, args.metrics)
    print(found.table(args.format), end="")
    if args.figure:
        _draw(found.figure(args.distance, args.fidelity), args.figure)


def _compare(args: argparse.Namespace) -> None:
    found = compare_runs(args.out, args.other, args.metrics)
    print(found.table(args.format), end="")
    if args.figure:
        _draw(found.figure(found.metrics[0], most=args.most, data=args.data), args.figure)


def _worth(args: argparse.Namespace) -> None:
    found = worth.worth(args.out, args.data)
    print(worth.worth_table(found, args.format), end="")
    if args.figure:
        _draw(worth.plot_worth(found), args.figure)


def _scaling(args: argparse.Namespace) -> None:
    seconds = scaling.measured_seconds(report(args.out).records)
    print(scaling.scaling(seconds, args.workers, start=args.start, form=args.format), end="")


def _draw(figure: Figure, path: str) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix[1:] or "png", dpi=110)
    write_bytes(path, buffer.getvalue())


if __name__ == "__main__":
    main()
