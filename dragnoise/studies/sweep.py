"""Sweeps: one function over many tasks, in parallel through any executor, with the results so far in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from dragnoise.atomic_write import write_text
from dragnoise.validation import shown


def sweep(
    work: Callable[[Any], Any],
    tasks: Mapping[str, Any],
    *,
    folder: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """{name: work(task)} in the order of the tasks.

    work: a function at the top level of a module, so that processes can be sent it; tasks and results are JSON values.
    folder: of one file a task, "<name>.json".  What is there of the same task is not computed again; a result of
        another task under that name is replaced.
    executor: any of `concurrent.futures`, default this thread.  A task that fails ends the sweep after those under
        way; the results before it are in the folder.

    Raises ValueError for a name that is no file name, and whatever `work` raises.
    """
    for name in tasks:
        if not name or Path(name).name != name:
            raise ValueError(f"a task's name becomes a file's, which {shown(name)} cannot be; leave out the slashes.")
    plain = {name: json.loads(json.dumps(task)) for name, task in tasks.items()}
    kept = None if folder is None else Path(folder)
    done = {} if kept is None else {n: r for n, task in plain.items() if (r := _read(kept, n, task)) is not None}
    left = {name: task for name, task in plain.items() if name not in done}
    with tqdm(total=len(plain), initial=len(done), desc="sweep", disable=not progress) as bar:

        def keep(name: str, result: Any) -> None:
            done[name] = json.loads(json.dumps(result))
            if kept is not None:
                write_text(kept / f"{name}.json", json.dumps({"task": plain[name], "result": result}, indent=1) + "\n")
            bar.update()

        if executor is None:
            for name, task in left.items():
                keep(name, work(task))
        else:
            futures = {executor.submit(work, task): name for name, task in left.items()}
            try:
                for future in as_completed(futures):
                    keep(futures[future], future.result())
            finally:
                for future in futures:
                    future.cancel()
    return {name: done[name] for name in plain}


def _read(folder: Path, name: str, task: Any) -> Any:
    """The result of a task that the folder has; None without one, also where the file is of another task or spoilt."""
    try:
        record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return record["result"] if record["task"] == task else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
