"""What the notebook layer costs: a mouse move on the canvas, and the studio round an iteration.

    python -m benchmarks widgets              # the embedded model on this machine's processor

A move is timed in the kernel, from the message that the page sends to the drawing commands that go
back.  The studio is timed against the bare generator on two sessions of the same edit, some
iterations of one and of the other in turns; the ratio is of the medians.  The processor's time is
given beside the clock's, which means little on a machine that has other things to do.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

import numpy as np

from dragnoise import DragSession, Model, load_model
from dragnoise_widgets import DragCanvas, DragStudio
from dragnoise_widgets.panels.source import example

MOVES = 60
"""Messages of one drag, as a browser sends them."""


def move_times(model: Model, drags: int = 5) -> list[float]:
    """Seconds of each move of some drags through the canvas's own message handler."""
    session = example(model)
    canvas = DragCanvas(session.image, drags=session.drags, mask=session.mask)
    width, height = canvas.view.canvas
    taken = []
    for n in range(drags):
        send(canvas, "mouse_down", 0.2 * width, (0.1 + 0.15 * n) * height)
        for k in range(MOVES):
            started = time.perf_counter()
            send(canvas, "mouse_move", (0.2 + 0.6 * k / MOVES) * width, (0.1 + 0.15 * n) * height)
            taken.append(time.perf_counter() - started)
        send(canvas, "mouse_up", 0.8 * width, (0.1 + 0.15 * n) * height)
    assert len(canvas.drags) == drags + len(session.drags)
    return taken


def send(canvas: DragCanvas, event: str, x: float, y: float) -> None:
    """What the page sends when the mouse does something."""
    canvas.canvas._canvases[-1]._handle_custom_msg({"event": event, "x": x, "y": y}, [])


def iteration_times(model: Model, *, rounds: int = 12, each: int = 10, seen: bool = True) -> np.ndarray:
    """Median seconds of an iteration, (2, 2): bare and in a studio, by the clock and by the processor.

    seen: is the inspector unfolded, so that its figures are drawn too?  Previews are off: they are
    asked for, and cost what they are allowed to.
    """
    bare, studio = endless(example(model)), DragStudio(endless(example(model)))
    studio.preview.every.value = 0
    studio.inspector.visible = seen
    studio.prepare()
    list(bare.invert())
    studio.wait()
    done = threading.Event()
    studio.break_when(lambda snapshot: done.set() if snapshot.iteration % each == 0 else None)
    marks = []
    for _ in range(rounds + 1):
        began = now()
        for _ in range(each):
            bare.step()
        halfway = now()
        done.clear()
        studio.step(each)
        done.wait()
        marks.append((began, halfway, now()))
        studio.wait()
    assert (bare.history[-1].bottleneck == studio.session.history[-1].bottleneck).all()
    studio.close()
    return np.median(np.diff(marks[1:], axis=1) / each, axis=0)


def now() -> tuple[float, float]:
    """The clock, and the processor's time that this process has taken."""
    return time.perf_counter(), time.process_time()


def endless(session: DragSession) -> DragSession:
    """The same, which does not end before the benchmark does."""
    session.config = session.config.replace(
        max_iterations=100_000, start="inverted", target="current", schedule="single"
    )
    return session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def main(given: argparse.Namespace, command: str) -> None:
    toyland = load_model()
    moves = move_times(toyland)
    print(f"a mouse move in the kernel: {1000 * statistics.median(moves):.2f} ms (median of {len(moves)}; wanted: 10)")
    for seen in (False, True):
        (clock, processor), (clock_in_studio, processor_in_studio) = iteration_times(toyland, seen=seen)
        print(
            f"an iteration on toyland, inspector {'open' if seen else 'folded'}: {1000 * clock:.1f} ms bare, "
            f"{1000 * clock_in_studio:.1f} ms in the studio: {100 * (clock_in_studio / clock - 1):+.1f} % "
            f"(of the processor's time {100 * (processor_in_studio / processor - 1):+.1f} %; wanted: 10)"
        )
