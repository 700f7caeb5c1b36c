"""Wrong arguments for everything public of the widgets: one clear sentence, and nothing changes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import traitlets
from fuzzing import (
    CONFIG,
    DRAGS,
    MASKS,
    PICTURES,
    Entry,
    Of,
    bad_call,
    complaint,
    described,
    empty,
    is_iteration,
    is_mask,
    is_number,
    is_path,
    is_picture,
    is_whole,
    number,
    whole,
    word,
)
from helpers import assert_one_sentence, fingerprint, quick_session, smooth_picture

from dragnoise import Model
from dragnoise_widgets import DragCanvas, DragStudio, Runner
from dragnoise_widgets.runner import breakpoints

CALLS = 1000

JSONS = (
    "{", "[]", "{}", '{"size": [50, 40]}', '{"size": [50, 40], "drags": [{"anchor": [1, 2]}]}',
    '{"size": [5, 4], "drags": []}', '{"size": [50, 40], "drags": [{"anchor": [1, 2], "objective": [99, 2]}]}',
    '{"size": [50, 40], "drags": [], "mask": "no"}', '{"size": [50, 40], "drags": [], "pending": [1]}',
    '{"size": [50, 40], "drags": [], "mask": 3}', '{"size": [50, 40], "drags": [], "pending": [NaN, 2]}',
)  # fmt: skip

K = Of(1, lambda v: v is None or is_iteration(v), (3, -3, 2.0, "2"))
WRITE = Of("x.png", lambda v: is_path(v) and str(v) not in ("../..", "/"), ("/dev/null/x",))


def trait(name: str) -> Callable[..., Any]:
    return lambda w, value: setattr(w.canvas, name, value)


def is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_trajectory(value: Any) -> bool:
    if isinstance(value, str | bytes | dict):
        return False
    try:
        return all(np.shape(one) == (0,) or np.shape(one)[1:] == (2,) for one in list(value))
    except Exception:
        return False


def are_iterations(value: Any) -> bool:
    """None, or iterations that there are; whoever reads an iterator uses it up."""
    return value is None or (
        isinstance(value, list | tuple | range) and len(value) > 0 and all(map(is_iteration, value))
    )


ENTRIES: dict[str, Entry] = {
    "DragStudio": Entry(
        lambda w, session, **given: DragStudio(w.other if session is None else session, inline=True, **given).close(),
        {"session": Of(None, lambda v: v is None), "autosave": Of(None, lambda v: v is None or is_path(v)),
         "every": whole(5, 1)},
    ),
    "studio.session": Entry(lambda w, value: setattr(w.studio, "session", value), {"value": Of(None)}),
    "studio.prepare": Entry(
        lambda w, lora: w.studio.prepare(lora),
        {"lora": Of({}, lambda v: v is None or v.__class__ is dict)},
    ),
    "studio.step": Entry(lambda w, n: w.studio.step(n), {"n": whole(1, 1, bad=(10.0,))}),
    "studio.show": Entry(lambda w, k: w.studio.show(k), {"k": K}),
    "studio.rewind": Entry(lambda w, k: w.studio.rewind(k), {"k": K}),
    "studio.go_on": Entry(lambda w, k: w.studio.go_on(k), {"k": K}),
    "studio.branch": Entry(lambda w, k: w.studio.branch(k), {"k": K}),
    "studio.configure": Entry(lambda w, **given: w.studio.configure(**given), CONFIG),
    "studio.break_when": Entry(lambda w, predicate: w.studio.break_when(predicate)(), {"predicate": Of(len, callable)}),
    "studio.wait": Entry(
        lambda w, timeout: w.studio.wait(timeout),
        {"timeout": Of(0, lambda v: v is None or (is_number(v) and 0 <= float(v) < 1e9))},
    ),
    "studio.code": Entry(lambda w, folder: w.studio.code(folder), {"folder": Of("x", is_path, ("/dev/null/x",))}),
    "studio.save_picture": Entry(
        lambda w, path: w.studio.save_picture(path), {"path": Of("x.png", bad=("/dev/null/x.png", "x.nothing"))}
    ),
    "studio.save_drags": Entry(lambda w, path: w.studio.save_drags(path), {"path": WRITE}),
    "studio.save_gif": Entry(
        lambda w, path, iterations: w.studio.save_gif(path, iterations),
        {"path": WRITE, "iterations": Of([0], are_iterations)},
    ),
    "studio.render_gif": Entry(
        lambda w, iterations: w.studio.render_gif(iterations), {"iterations": Of([0], are_iterations)}
    ),
    "Runner": Entry(lambda w, session: Runner(session), {"session": Of(None)}),
    "runner.step": Entry(lambda w, n: w.studio.runner.step(n), {"n": whole(1, 1)}),
    "runner.rewind": Entry(lambda w, k: w.studio.runner.rewind(k), {"k": Of(1, is_iteration, (3, -3, 2.0))}),
    "runner.call": Entry(lambda w, function: w.studio.runner.call(function), {"function": Of(len)}),
    "runner.observe": Entry(lambda w, callback: w.studio.runner.observe(callback)(), {"callback": Of(len, callable)}),
    "runner.preview_every": Entry(
        lambda w, every: setattr(w.studio.runner, "preview_every", every),
        {"every": Of(0, lambda v: isinstance(v, int) and not is_flag(v) and v >= 0)},
    ),
    "runner.look": Entry(
        lambda w, look: setattr(w.studio.runner, "look", look), {"look": Of(len, lambda v: v is None or callable(v))}
    ),
    "DragCanvas": Entry(
        lambda w, **given: DragCanvas(**given).close(),
        {"image": Of(smooth_picture(50, 40), lambda v: v is None or is_picture(v), PICTURES),
         "drags": Of([], empty, DRAGS), "mask": Of(None, is_mask, MASKS), "view_only": Of(False, is_flag)},
    ),
    "canvas.image": Entry(
        trait("image"), {"value": Of(smooth_picture(50, 40), lambda v: v is None or is_picture(v), PICTURES)}
    ),
    "canvas.drags": Entry(trait("drags"), {"value": Of([((1, 2), (3, 4))], empty, DRAGS)}),
    "canvas.mask": Entry(trait("mask"), {"value": Of(None, is_mask, MASKS)}),
    "canvas.trajectory": Entry(trait("trajectory"), {"value": Of([np.zeros((1, 2))], is_trajectory)}),
    "canvas.tool": Entry(trait("tool"), {"value": word("drag", "paint", "erase")}),
    "canvas.brush_size": Entry(trait("brush_size"), {"value": number(16.0, 1, 25)}),
    "canvas.opacity": Entry(trait("opacity"), {"value": number(0.5, 0, 1)}),
    "canvas.selected": Entry(trait("selected"), {"value": Of(-1, lambda v: isinstance(v, int) and v in (-1, 0))}),
    "canvas.view_only": Entry(trait("view_only"), {"value": Of(False, lambda v: isinstance(v, int) and v in (0, 1))}),
    "canvas.load_mask": Entry(
        lambda w, png: w.canvas.load_mask(png), {"png": Of(b"", bad=(b"\x89PNG\r\n\x1a\n", b"x" * 10000))}
    ),
    "canvas.from_json": Entry(lambda w, text: w.canvas.from_json(text), {"text": Of("", bad=JSONS)}),
    "canvas.link": Entry(lambda w, session: w.canvas.link(session), {"session": Of(None)}),
    "canvas.nudge": Entry(
        lambda w, dx, dy: w.canvas.nudge(dx, dy), {"dx": number(0), "dy": number(0)}
    ),
    "canvas.delete": Entry(
        lambda w, index: w.canvas.delete(index), {"index": Of(-1, lambda v: v is None or (is_whole(v) and v >= -1))}
    ),
    "reached": Entry(lambda w, within: breakpoints.reached(within), {"within": number(1.0, 0, strict=True)}),
    "jumped": Entry(lambda w, r2: breakpoints.jumped(r2), {"r2": number(1.0, 0, strict=True)}),
    "stuck": Entry(lambda w, n: breakpoints.stuck(n), {"n": whole(3, 1)}),
    "rising": Entry(lambda w, n: breakpoints.rising(n), {"n": whole(3, 1)}),
    "at": Entry(lambda w, n: breakpoints.at(n), {"n": whole(3, 1)}),
}  # fmt: skip


@pytest.fixture
def world(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small, "name", "somebody/small")  # code must be able to name it
    session = quick_session(small, 2)
    studio, canvas = DragStudio(session, inline=True), DragCanvas(smooth_picture(50, 40), drags=[((1, 2), (30, 20))])
    yield SimpleNamespace(studio=studio, canvas=canvas, session=session, other=quick_session(small))
    studio.close()


def drawn(canvas: DragCanvas) -> tuple[Any, ...]:
    return (canvas.to_json(), canvas.tool, canvas.brush_size, canvas.opacity, canvas.selected, canvas.view_only,
            len(canvas.trajectory), canvas.image.tobytes())  # fmt: skip


def said_of(call: Callable[[], Any]) -> str:
    """As `complaint`; traitlets has an error of its own, and a Future holds one."""

    def waited() -> Any:
        try:
            done = call()
            return done.result(0) if isinstance(done, Future) else done
        except traitlets.TraitError as error:
            raise TypeError(str(error).split("\n")[0].rstrip(".") + ".") from None

    return complaint(waited)


def test_a_thousand_bad_calls(world: Any) -> None:
    rng, wrong = random.Random(11), []
    before = fingerprint(world.session), drawn(world.canvas), world.studio.iteration
    for _, (name, entry) in zip(range(CALLS), itertools.cycle(ENTRIES.items()), strict=False):
        given = bad_call(entry, rng)
        said = said_of(lambda entry=entry, given=given: entry.call(world, **given))
        now = fingerprint(world.session), drawn(world.canvas), world.studio.iteration
        if now != before:
            said, before = f"{said} and changed something", now
        if said:
            wrong.append(f"{name}({described(given)}): {said}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)
    assert world.studio.session is world.session


@pytest.mark.parametrize("name", ENTRIES)
def test_the_good_arguments_are_good(world: Any, name: str) -> None:
    """Or all of the above would prove nothing."""
    entry = ENTRIES[name]
    given = {name: of.good for name, of in entry.of.items()}
    if name in NEED_SOMETHING:
        with pytest.raises((TypeError, ValueError)) as caught:
            entry.call(world, **given)
        assert_one_sentence(caught.value)
    else:
        entry.call(world, **given)


NEED_SOMETHING = ("studio.session", "Runner", "canvas.link", "canvas.load_mask", "canvas.from_json")
"""Entries that have no good argument which could be written down beside them."""
