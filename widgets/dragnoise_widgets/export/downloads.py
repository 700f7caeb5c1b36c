"""Download links and files: the picture, a GIF of the iterations, the drags as JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from dragnoise.plots.colours import COLOURS
from dragnoise.validation import shown
from dragnoise_widgets.runner.status_publisher import TimeEstimate, duration

if TYPE_CHECKING:
    from dragnoise import Drag, DragSession
    from dragnoise.session.history import History

FRAMES = 24
"""Iterations of a GIF at most, unless they are chosen."""

GIF_SIDE = 384
"""Pictures whose longer side is shorter are brought to this in a GIF, so that the points can be seen."""


def link(data: bytes, name: str, label: str, tooltip: str = "") -> str:
    """HTML of a link that looks like a button and saves `data` as a file `name`; it needs nothing of the kernel."""
    kind = {"png": "image/png", "gif": "image/gif", "json": "application/json"}.get(name.rpartition(".")[2])
    source = f"data:{kind or 'text/plain'};base64,{base64.b64encode(data).decode()}"
    classes = "lm-Widget jupyter-widgets jupyter-button widget-button"
    style = "display: block; width: auto; margin: 0; padding: 0 10px; text-decoration: none"
    return (
        f'<a class="{classes}" style="{style}" download="{name}" '
        f'title="{tooltip or f"Save as {name}"}" href="{source}"><i class="fa fa-download"></i> {label}</a>'
    )


def chosen_iterations(count: int, most: int = FRAMES) -> tuple[int, ...]:
    """At most `most` iterations out of `count`, evenly spread, the first and the last among them."""
    if count < 1 or most < 1:
        return ()
    return tuple(dict.fromkeys(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def iterations_of(history: History, iterations: Any = None) -> tuple[int, ...]:
    """The iterations of a GIF, None for `FRAMES` at most.  Raises IndexError for one that does not exist."""
    if iterations is None:
        return chosen_iterations(len(history))
    try:
        chosen = tuple(iterations)
    except TypeError:
        raise TypeError(f"iterations must be a list of them, not {shown(iterations)}.") from None
    for k in chosen:
        history.require(k)
    return chosen


def render_gif(
    call: Callable[[Callable[[DragSession], Any]], Future[Any]], iterations: Sequence[int], drags: Sequence[Drag],
    say: Callable[[str], Any], known: Callable[[int], Image.Image | None] = lambda k: None,
) -> Future[bytes]:  # fmt: skip
    """The GIF of these iterations, a denoising step at a time wherever `call` runs functions of the session.

    say: told how far it is.  known: pictures of iterations that there are; the others are rendered.
    The Future has what went wrong, and may be cancelled between two steps.
    """
    result: Future[bytes] = Future()
    frames: list[Image.Image] = []
    work: list[Iterator[Image.Image | None]] = []

    def one_step(session: DragSession) -> None:
        if result.done():  # given up
            return
        if not work:
            work.append(_frames(session, iterations, drags, say, known))
        try:
            frame = next(work[0])
        except StopIteration:
            whole = gif(frames)
            if not result.done():  # nobody has given it up
                result.set_result(whole)
        else:
            frames.extend([] if frame is None else [frame])

    def go_on(done: Future[Any] | None = None) -> None:
        while not result.done() and not (done is not None and done.cancelled()):
            if done is not None and (error := done.exception()) is not None:
                result.set_exception(error)
                return
            done = call(one_step)
            if not done.done():  # inline, it is done already, and many calls in one another would be too deep
                done.add_done_callback(go_on)
                return

    go_on()
    return result


def _frames(
    session: DragSession, iterations: Sequence[int], drags: Sequence[Drag], say: Callable[[str], Any],
    known: Callable[[int], Image.Image | None],
) -> Iterator[Image.Image | None]:  # fmt: skip
    """A frame for each iteration, and None for what is done on the way to it; the session stays as it is.

    Raises IndexError when there is no such iteration.
    """
    steps, pace = session.config.edit_from, TimeEstimate()
    for i, k in enumerate(iterations, 1):
        branch = session.branch(k)
        paths = np.stack([snapshot.anchors for snapshot in branch.history])
        if (picture := known(k)) is not None:
            say(f"frame {i} of {len(iterations)}")
            yield frame_picture(picture.resize(session.image.size), paths, drags)
            continue
        latents = branch.state.trajectory[-1]
        for state in branch.denoise():
            latents = state.latents
            done = i * steps - state.step
            left = pace.seconds_left("rendering", done, steps * len(iterations))
            say(f"frame {i} of {len(iterations)}" + (" …" if left is None else f", {duration(left)} left"))
            yield None
        yield frame_picture(branch.picture_of(latents, edited=True), paths, drags)


def frame_picture(picture: Image.Image, paths: np.ndarray, drags: Sequence[Drag]) -> Image.Image:
    """A frame of the GIF: the picture with the objectives, and the paths (n, m, 2) of the anchors."""
    scale = max(GIF_SIDE / max(picture.size), 1)
    size = (round(picture.width * scale), round(picture.height * scale))
    frame = picture.resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(frame)

    def place(point: Any) -> tuple[float, float]:
        return (point[0] + 0.5) * size[0] / picture.width, (point[1] + 0.5) * size[1] / picture.height

    for i, drag in enumerate(drags):
        colour, path = COLOURS[i % len(COLOURS)], [place(point) for point in paths[:, i]]
        x, y = place(drag.objective)
        diamond = [(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)]
        pen.polygon(diamond, fill="white", outline=colour, width=2)
        if len(path) > 1:
            pen.line(path, fill="white", width=5)
            pen.line(path, fill=colour, width=3)
        x, y = path[-1]
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour, outline="white", width=2)
    return frame


def gif(frames: Sequence[Image.Image], *, seconds: float = 4.0) -> bytes:
    """Frames -> an endless GIF that takes about so long and rests at its end.  Raises ValueError without frames."""
    if not frames:
        raise ValueError("a GIF needs at least one frame; run some iterations first.")
    each = max(round(1000 * seconds / len(frames) / 10) * 10, 40)
    buffer = io.BytesIO()
    # one palette a frame, undithered, so that what stays the same looks the same
    quantised = [f.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for f in frames]
    durations = [each] * (len(frames) - 1) + [each + 1200]
    quantised[0].save(buffer, "GIF", save_all=True, append_images=quantised[1:], duration=durations, loop=0, disposal=1)
    return buffer.getvalue()


def drags_json(drags: Sequence[Drag], size: tuple[int, int]) -> str:
    """Drags as text, beside the (width, height) of the picture that they are in the pixels of."""
    pairs = [{"anchor": list(d.anchor), "objective": list(d.objective)} for d in drags]
    return json.dumps({"size": list(size), "drags": pairs}, indent=1)
