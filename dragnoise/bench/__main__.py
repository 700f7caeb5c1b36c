"""The command `python -m dragnoise.bench`: run edits and measures, report prints tables, worth weighs the metrics."""

from __future__ import annotations

import argparse
import sys

from dragnoise.bench import report, runner, worth
from dragnoise.bench.measuring import Protocol

METRICS = ("md", "m_md", "regiondrag_md", "dai_10", "input_outside_psnr", "answer_inside_psnr", "if", "seconds")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dragnoise.bench", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    go = verbs.add_parser("run", help="edit and measure; what is in --out already is kept")
    go.add_argument("--data", required=True, help="a data set's folder, 'toyland' or 'toyland:N'")
    go.add_argument("--editor", nargs="+", required=True, help="presets, or 'default'")
    go.add_argument("--model", default="toyland", help="as load_model takes it")
    go.add_argument("--featurizer", help="the model of MD's features (default: --model)")
    go.add_argument("--out", required=True)
    go.add_argument("--workers", type=int, default=0, help="processes (default 0: this one)")
    go.add_argument("--scheduler", help="address of a Dask cluster's scheduler, instead of --workers")
    go.add_argument("--seed", type=int, default=42)
    go.add_argument("--lora-steps", type=int, default=0)
    go.add_argument("--lpips", action="store_true", help="measure IF, which needs the package lpips")
    tell = verbs.add_parser("report", help="tables of a run")
    tell.add_argument("out")
    tell.add_argument("--csv", action="store_true")
    tell.add_argument("--metrics", nargs="+", default=list(METRICS))
    weigh = verbs.add_parser("worth", help="rank correlations of the metrics with the truth, of a run on toyland")
    weigh.add_argument("out")
    weigh.add_argument("--data", default="toyland", help="what was run: 'toyland' or 'toyland:N'")
    args = parser.parse_args(arguments)
    try:
        if args.verb == "run":
            protocol = Protocol(
                args.model, args.featurizer, seed=args.seed, lora_steps=args.lora_steps, lpips=args.lpips
            )
            where = {"workers": args.workers, "scheduler": args.scheduler}
            done = runner.run(args.data, args.editor, args.out, protocol=protocol, **where)
            print("\n".join([f"{len(done.records)} results are in {args.out}.", *done.skipped]))
        elif args.verb == "worth":
            print(worth.table(worth.worth(args.out, args.data)), end="")
        else:
            rows = report.rows(runner.records(args.out), args.metrics)
            print((report.as_csv if args.csv else report.markdown)(rows, args.metrics), end="")
    except (OSError, ValueError, TypeError, ImportError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to go on.")


if __name__ == "__main__":
    main()
