"""A JupyterLab of our own, with nothing of the user's, and the kernel behind a page."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import nbformat
from jupyter_client import BlockingKernelClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PATIENCE = 150
"""Seconds that anything may take, on a machine that is busy with something else."""


def chromium() -> str | None:
    """The system's Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


class Lab:
    """`jupyter lab` as a subprocess, in `folder`, with copies of the notebooks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self.runtime = folder / "runtime"
        shutil.copytree(NOTEBOOKS, self.notebooks, ignore=shutil.ignore_patterns(".*"))
        settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(
            json.dumps({"fetchNews": "false", "checkForUpdates": False})
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Lab:
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        arguments = [
            "--no-browser", "--allow-root", f"--port={self.port}", "--ServerApp.port_retries=0", "--ip=127.0.0.1",
            f"--ServerApp.root_dir={self.notebooks}", "--IdentityProvider.token=",
        ]  # fmt: skip
        self.log = (self.folder / "lab.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments],
            env=os.environ | {name: str(self.folder / path) for name, path in folders.items()},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api/status", timeout=5):
                    return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.__exit__(None, None, None)
                    raise RuntimeError((self.folder / "lab.log").read_text()) from None
                time.sleep(0.2)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def write_notebook(self, name: str, *cells: str) -> None:
        """A notebook of code cells beside the copied ones."""
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
        )
        nbformat.write(notebook, self.notebooks / name)

    def kernel(self) -> Kernel:
        """The kernel that was started last, once its file is written to the end."""
        end = time.monotonic() + PATIENCE
        while not (files := [path for path in self.runtime.glob("kernel-*.json") if path.read_text().endswith("}")]):
            assert time.monotonic() < end, "no kernel was started"
            time.sleep(0.1)
        return Kernel(max(files, key=lambda path: path.stat().st_mtime))


class Kernel:
    """Asks a running kernel what its variables are, beside the page that shows them."""

    def __init__(self, connection: Path) -> None:
        self.client = BlockingKernelClient(connection_file=str(connection))
        self.client.load_connection_file()
        self.client.start_channels()
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.client.wait_for_ready(timeout=PATIENCE)
                return
            except RuntimeError:  # no heartbeat for a second, as on a busy machine
                if time.monotonic() > end:
                    raise

    def ask(self, expression: str) -> Any:
        """The value of an expression of plain things (numbers, texts, lists, None) in the kernel."""
        reply = self.client.execute(
            "", silent=True, store_history=False,
            user_expressions={"it": f"__import__('json').dumps({expression})"}, reply=True, timeout=PATIENCE,
        )["content"]["user_expressions"]["it"]  # fmt: skip
        assert reply["status"] == "ok", reply
        return json.loads(eval(reply["data"]["text/plain"]))

    def run(self, code: str) -> None:
        """Run statements in the kernel."""
        reply = self.client.execute(code, silent=True, store_history=False, reply=True, timeout=PATIENCE)["content"]
        assert reply["status"] == "ok", reply

    def until(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Ask again until the answer is true, and give it."""
        end = time.monotonic() + seconds
        while not (answer := self.ask(expression)):
            assert time.monotonic() < end, f"{expression} did not come true; it is {answer!r}"
            time.sleep(0.1)
        return answer

    def close(self) -> None:
        self.client.stop_channels()
