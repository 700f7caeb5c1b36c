"""The runner in a real kernel, of the ipykernel that is installed: tests/test_colab.py runs this with Colab's too."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipykernel
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

SETUP = f"""
import sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
import ipywidgets
from fake_session import FakeSession
from dragnoise_widgets.runner.runner import Runner

session = FakeSession(seconds=0.02)
session.config = session.config.replace(max_iterations=100_000)
runner = Runner(session)
bar = ipywidgets.IntText()
button = ipywidgets.Button(description="Stop")
button.on_click(lambda _: runner.stop())
runner.observe(lambda update: setattr(bar, "value", update.status.history_length))
print(bar.comm.comm_id, button.comm.comm_id)
"""


class Kernel:
    """A kernel of this very Python, whatever kernels are registered, and a client that speaks as a frontend does."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self.manager = KernelManager()
        self.manager._kernel_spec = KernelSpec(argv=command, display_name="tests", language="python")
        self.manager.start_kernel(env=os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"})
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def run(self, code: str, timeout: float = 120) -> str:
        """What a cell prints; its error fails the test."""
        printed, errors = [], []

        def note(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
            if message["msg_type"] == "error":
                errors.append("\n".join(message["content"]["traceback"]))

        reply = self.client.execute_interactive(code, timeout=timeout, output_hook=note)
        assert not errors, errors[0]
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(printed)

    def click(self, comm_id: str) -> None:
        """What the frontend sends when a button is clicked."""
        content = {"comm_id": comm_id, "data": {"method": "custom", "content": {"event": "click"}}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))

    def heard(self, comm_id: str, seconds: float) -> list[tuple[float, Any]]:
        """When and which values a widget sends within some time."""
        end, values = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            try:
                message = self.client.get_iopub_msg(timeout=left)
            except Exception:  # queue.Empty in all versions
                break
            content = message["content"]
            if message["msg_type"] == "comm_msg" and content["comm_id"] == comm_id and "state" in content["data"]:
                values.append((time.monotonic(), content["data"]["state"].get("value")))
        return values

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.fixture
def comms(kernel: Kernel) -> tuple[str, str]:
    """A new session with its runner, a number that it updates and a button that stops it: their comm ids."""
    bar, button = kernel.run(SETUP).split()
    return bar, button


def test_the_kernel_is_of_the_version_that_is_installed(kernel: Kernel) -> None:
    assert kernel.run("import ipykernel; print(ipykernel.__version__)").strip() == ipykernel.__version__
    assert ipykernel.version_info[0] in (6, 7)


def test_a_run_leaves_the_kernel_free_and_a_click_stops_it(kernel: Kernel, comms: tuple[str, str]) -> None:
    bar, button = comms
    started = time.monotonic()
    kernel.run("runner.run()")
    assert time.monotonic() - started < 5, "the cell ends while the run goes on"
    heard = kernel.heard(bar, 1.5)
    values = [value for _, value in heard]
    assert len(values) >= 3 and values == sorted(values)
    assert len(values) <= 1.5 * 10 + 3
    assert kernel.run("print(6 * 7, runner.state)") == "42 running\n"
    kernel.click(button)
    after = kernel.run("print(runner.wait(10), runner.state, session.history[-1].iteration, bar.value)").split()
    assert after[:2] == ["True", "idle"] and int(after[3]) == int(after[2]) + 1
    assert kernel.run("runner.step(2); runner.wait(10); print(len(session.history) - 1)") == f"{int(after[2]) + 2}\n"


def test_a_click_stops_an_inversion_too(kernel: Kernel, comms: tuple[str, str]) -> None:
    kernel.run("session.seconds = 0.5; runner.prepare()")
    kernel.click(comms[1])
    assert kernel.run("print(runner.wait(10), runner.state, session.state.inverted)") == "True idle False\n"
    assert kernel.run("session.seconds = 0; runner.step(); print(runner.wait(10), len(session.history))") == "True 2\n"


def test_running_the_cell_again_and_both_buttons_work(kernel: Kernel, comms: tuple[str, str]) -> None:
    kernel.run("first = runner; runner = Runner(session); first.run(); runner.run()")
    kernel.click(comms[1])
    assert kernel.run("print(runner.wait(10), first.state, runner.state, runner.error)") == "True idle idle None\n"


def test_interrupting_a_cell_that_waits_pauses_the_run(kernel: Kernel, comms: tuple[str, str]) -> None:
    kernel.run("runner.run()")
    sent = kernel.client.execute("runner.wait()", stop_on_error=False)
    time.sleep(0.5)
    kernel.manager.interrupt_kernel()
    reply = kernel.client.get_shell_msg(timeout=20)
    while reply["parent_header"].get("msg_id") != sent:
        reply = kernel.client.get_shell_msg(timeout=20)
    assert reply["content"].get("ename") == "KeyboardInterrupt"
    assert kernel.run("print(runner.wait(10), runner.state)") == "True paused\n"


def test_a_kernel_that_is_shut_down_in_the_middle_of_a_run_ends() -> None:
    kernel = Kernel()
    try:
        kernel.run(SETUP)
        kernel.run("runner.run()")
        kernel.client.shutdown()
        end = time.monotonic() + 20
        while kernel.manager.is_alive() and time.monotonic() < end:
            time.sleep(0.05)
        assert not kernel.manager.is_alive()
    finally:
        kernel.close()
