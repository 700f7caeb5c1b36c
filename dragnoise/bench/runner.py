"""The runner: samples x editors on any executor, each result written atomically, resumed where it stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from dragnoise.atomic_write import require_writable, write_picture, write_text
from dragnoise.bench.datasets import Dataset, read_dataset
from dragnoise.bench.measuring import Editor, Job, Protocol, config_of, edit_sample
from dragnoise.images.perceptual import load_lpips
from dragnoise.validation import as_integer, said, shown


@dataclass(frozen=True)
class Run:
    """Records of all results, by sample and editor, and a sentence for each sample that was left out."""

    records: tuple[dict[str, Any], ...]
    skipped: tuple[str, ...]


def run(
    data: str | Path | Dataset,
    editors: Sequence[str] | Mapping[str, Editor],
    out: str | Path,
    *,
    protocol: Protocol | None = None,
    workers: int = 0,
    executor: Executor | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Run:
    """Edit and measure every sample with every editor; results that are in `out` already are kept.

    data: a folder, "toyland", "toyland:N" or a `Dataset`.  editors: presets of `DragConfig` and "default", or names
    with what they stand for (`measuring.Editor`), such as `studies.table.ROWS`.
    workers: processes, 0 for this one; with CUDA each gets the next card.  executor: any other.  scheduler: the address
    of a Dask cluster, such as "tcp://10.0.0.1:8786", whose workers see `data` and `out` under the same paths; one
    worker a GPU, each loads the model once, and what a lost worker had begun is given to another one.
    out: `<editor>/<sample>/{result.json, edited.png}`.  A result of another sample, protocol or config is replaced.
    progress: a bar, in a notebook a widget; Dask's own dashboard is named on it.
    A sample that cannot be edited is reported; an error of writing stops the run, and what is done stays.

    Raises ValueError or TypeError for an unknown editor, ImportError where LPIPS or `scheduler` is asked for and its
    package is missing, OSError in one sentence when nothing can be written or no scheduler answers, and RuntimeError
    when a process of `workers` was killed.
    """
    if sum(given not in (None, 0) for given in (workers, executor, scheduler)) > 1:
        raise ValueError("workers, executor and scheduler exclude each other; give one of them.")
    protocol, workers = protocol or Protocol(), as_integer("workers", workers, 0)
    configs = {name: config_of(editor, protocol) for name, editor in named(editors).items()}
    if protocol.lpips:
        load_lpips()
    dataset = data if isinstance(data, Dataset) else read_dataset(data)
    require_writable(Path(out) / "result.json")
    sizes = tuple(sample.image.size for sample in dataset.samples) if protocol.as_published else ()
    jobs = [
        (Job(sample, name, config, protocol, sizes[:i]), Path(out) / folder_of(name) / sample.id)
        for i, sample in enumerate(dataset.samples)
        for name, config in configs.items()
    ]
    left = [(job, folder) for job, folder in jobs if stored(folder, job) is None]
    skipped = list(dataset.skipped)
    with ExitStack() as stack:
        pool, doing = executor, "bench"
        if scheduler is not None:
            client = stack.enter_context(connected(scheduler))
            pool, doing = client.get_executor(pure=False), f"bench, {client.dashboard_link}"
        elif workers and left:
            pool = stack.enter_context(process_pool(min(workers, len(left))))
        bar = stack.enter_context(
            tqdm(total=len(jobs), initial=len(jobs) - len(left), disable=not progress, desc=doing)
        )
        for sentences in _done(pool, left):
            skipped += sentences
            bar.update()
    records = (stored(folder, job) for job, folder in jobs)
    return Run(tuple(record for record in records if record is not None), tuple(skipped))


def named(editors: Sequence[str] | Mapping[str, Editor]) -> dict[str, Editor]:
    """{name: editor}; raises TypeError for a bare text, ValueError for none or for names that share a folder."""
    if isinstance(editors, str):
        raise TypeError(f"editors must be a list of names or a dict, not {shown(editors)}; give [{shown(editors)}].")
    found: dict[str, Editor] = dict(editors) if isinstance(editors, Mapping) else {name: name for name in editors}
    folders = [folder_of(name) for name in found]
    if not found or len(set(folders)) < len(folders) or len(found) < len(editors):
        raise ValueError(f"editors={shown(list(editors))} must be one or more names, each of which differs.")
    return found


def folder_of(editor: str) -> str:
    """The name of an editor's folder; raises ValueError for a name that cannot be one, TypeError for no text."""
    if not isinstance(editor, str):
        raise TypeError(f"an editor's name must be text, not {shown(editor)}.")
    folder = editor.replace(", ", "-").replace(" ", "-")
    if not folder.strip(".") or set(folder) & set('/\\:*?"<>|\0'):
        raise ValueError(f"an editor's name becomes a folder's, which {shown(editor)} cannot be; give another.")
    return folder


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of `workers` processes on this machine, which share its CPU cores and its GPUs, if it has any."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        workers, spawn, initializer=_begin, initargs=(spawn.Value("i", 0), workers, torch.cuda.device_count())
    )


def _begin(count: Any, workers: int, cards: int) -> None:
    """Initialise a process of the pool: set its number of CPU threads and its GPU before it uses them."""
    with count.get_lock():
        index, count.value = count.value, count.value + 1
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if cards:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(cards)))
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index % cards]


def _done(pool: Executor | None, jobs: Sequence[tuple[Job, Path]]) -> Iterator[list[str]]:
    """Results of `_work` as the jobs end; jobs that have not begun are cancelled when the iteration is left early."""
    if pool is None:
        yield from (_work(*job) for job in jobs)
        return
    futures: list[Future[list[str]]] = [pool.submit(_work, *job) for job in jobs]
    try:
        yield from (future.result() for future in as_completed(futures))
    except BrokenExecutor as error:
        raise RuntimeError(
            f"a worker was killed, perhaps because memory ran out ({said(error)}); what is done is kept, so give fewer "
            "workers and run again."
        ) from error
    finally:
        for future in futures:
            future.cancel()


def connected(address: str) -> Any:
    """A client of the Dask cluster with this scheduler address; the caller closes it, and the cluster keeps running."""
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


def stored(folder: Path, job: Job | None = None) -> dict[str, Any] | None:
    """The record of a result's folder; None where there is none, or it is not of that job."""
    try:
        record: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if job is not None and any(record.get(k) != v for k, v in json.loads(json.dumps(job.key)).items()):
            return None
    except (OSError, ValueError, AttributeError):
        return None
    return record


def records(out: str | Path) -> list[dict[str, Any]]:
    """All records below a folder, by path."""
    found = (stored(path.parent) for path in sorted(Path(out).rglob("result.json")))
    return [record for record in found if record is not None]


def _work(job: Job, folder: Path) -> list[str]:
    """Edit, measure and write a sample, its record last; a sentence if it could not be edited."""
    try:
        picture, record = edit_sample(job)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        return [f"{job.sample.id} with {job.editor} is left out ({said(error)})."]
    (folder / "result.json").unlink(missing_ok=True)  # an earlier record is not of this picture
    write_picture(folder / "edited.png", picture)
    try:
        write_text(folder / "result.json", json.dumps(record, indent=1) + "\n")
    except OSError:
        (folder / "edited.png").unlink(missing_ok=True)
        raise
    return []
