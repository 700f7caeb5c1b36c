"""The runner: samples x editors on any executor, each result written atomically, resumed where it stopped."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from dragnoise.atomic_write import require_writable, write_picture, write_text
from dragnoise.bench.datasets import Dataset, read_dataset
from dragnoise.bench.measuring import Protocol, config_of, edit_sample, worker_model
from dragnoise.bench.samples import Sample
from dragnoise.validation import as_integer, said, shown


@dataclass(frozen=True)
class Run:
    """Records of all results, by editor and sample, and a sentence for each sample that was left out."""

    records: tuple[dict[str, Any], ...]
    skipped: tuple[str, ...]


def run(
    data: str | Path | Dataset,
    editors: Sequence[str],
    out: str | Path,
    *,
    protocol: Protocol | None = None,
    workers: int = 0,
    executor: Executor | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Run:
    """Edit and measure every sample with every editor; results that are in `out` already are kept.

    data: a folder, "toyland", "toyland:N" or a `Dataset`.  editors: presets of `DragConfig`, or "default".
    workers: processes, 0 for this one.  executor: any other.  scheduler: the address of a Dask cluster, such as
    "tcp://10.0.0.1:8786", whose workers see `data` and `out` under the same paths; one worker a GPU, each loads the
    model once, and what a lost worker had begun is given to another one.
    out: `<editor>/<sample>/{result.json, edited.png}`.  A result of another protocol is replaced.
    A sample that cannot be edited is reported; an error of writing stops the run, and what is done stays.

    Raises ValueError for an unknown editor, ImportError where `scheduler` is given and the package distributed is
    missing, and OSError in one sentence when nothing can be written or no scheduler answers.
    """
    if sum(given not in (None, 0) for given in (workers, executor, scheduler)) > 1:
        raise ValueError("workers, executor and scheduler say where to work in three ways; give one of them.")
    protocol, workers = protocol or Protocol(), as_integer("workers", workers, 0)
    model = worker_model(protocol.model)
    for editor in editors:
        config_of(editor, model, protocol.changes)
    dataset = data if isinstance(data, Dataset) else read_dataset(data)
    require_writable(Path(out) / "result.json")
    jobs = [(sample, editor, Path(out) / editor / sample.id) for editor in editors for sample in dataset.samples]
    left = [job for job in jobs if stored(job[2], protocol) is None]
    skipped = list(dataset.skipped)
    with ExitStack() as stack:
        pool = executor
        if scheduler is not None:
            pool = stack.enter_context(connected(scheduler)).get_executor()
        elif workers:
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=spawn))
        bar = stack.enter_context(
            tqdm(total=len(jobs), initial=len(jobs) - len(left), disable=not progress, desc="bench")
        )
        for sentences in _done(pool, left, protocol):
            skipped += sentences
            bar.update()
    records = (stored(folder, protocol) for _, _, folder in jobs)
    return Run(tuple(record for record in records if record is not None), tuple(skipped))


def _done(pool: Executor | None, jobs: Sequence[tuple[Sample, str, Path]], protocol: Protocol) -> Iterator[list[str]]:
    """What `_work` says of each job, as they end; what has not begun is taken back where this is left."""
    if pool is None:
        yield from (_work(*job, protocol) for job in jobs)
        return
    futures: list[Future[list[str]]] = [pool.submit(_work, *job, protocol) for job in jobs]
    try:
        yield from (future.result() for future in as_completed(futures))
    finally:
        for future in futures:
            future.cancel()


def connected(address: str) -> Any:
    """A client, to be closed, of the Dask cluster whose scheduler is there; closing it leaves the cluster alone."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "scheduler= needs the package distributed; install it with: pip install 'dragnoise[bench]'."
        ) from error
    try:
        return Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(f"no Dask scheduler answers at {shown(address)} ({said(error)}).") from error


def stored(folder: Path, protocol: Protocol | None = None) -> dict[str, Any] | None:
    """The record of a result's folder; None where there is none, or it is of another protocol."""
    try:
        record: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if protocol is not None and record.get("protocol") != json.loads(json.dumps(dataclasses.asdict(protocol))):
        return None
    return record


def records(out: str | Path) -> list[dict[str, Any]]:
    """All records below a folder, by path."""
    found = (stored(path.parent) for path in sorted(Path(out).rglob("result.json")))
    return [record for record in found if record is not None]


def _work(sample: Sample, editor: str, folder: Path, protocol: Protocol) -> list[str]:
    """Edit, measure and write a sample, its record last; a sentence if it could not be edited."""
    try:
        picture, record = edit_sample(sample, editor, protocol)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        return [f"{sample.id} with {editor} is left out ({said(error)})."]
    write_picture(folder / "edited.png", picture)
    write_text(folder / "result.json", json.dumps(record, indent=1) + "\n")
    return []
