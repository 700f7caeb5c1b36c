"""`python -m benchmarks`: what an edit costs; `python -m benchmarks run --help` for each command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "run": "every phase of an edit, ours beside plain: operations, times, memory, transfers",
    "gpu": "what only a GPU can show, in under ten minutes",
    "rows": "what the embedded model has to reach on a CPU: loading, an edit, growth, memory of many sessions",
    "memory": "peak memory on the real architectures by count, and what memory='low' gains",
    "photograph": "a whole edit on a pipeline of full size, from the folder to the saved session",
    "widgets": "a mouse move on the canvas, and the studio round an iteration",
    "lora": "what a LoRA does for pictures that the embedded model was not trained on",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parts = parser.add_subparsers(dest="command", required=True)
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name, about in COMMANDS.items():
        part = parts.add_parser(name, help=about, description=about)
        if given[:1] == [name]:  # the others' libraries are not needed
            importlib.import_module(f"benchmarks.{name}").add_arguments(part)
    chosen = parser.parse_args(given)
    module = importlib.import_module(f"benchmarks.{chosen.command}")
    module.main(chosen, " ".join(["python -m benchmarks", *given]))


if __name__ == "__main__":
    main()
