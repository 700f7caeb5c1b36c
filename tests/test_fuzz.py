"""Two thousand random bad calls of every public entry: a documented error in one sentence each, and nothing changes."""

from __future__ import annotations

import decimal
import fractions
import inspect
import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import QUICK, assert_one_sentence, fingerprint, quick_session, smooth_picture
from matplotlib.figure import Figure
from PIL import Image

from dragnoise import (
    Drag,
    DragConfig,
    DragSession,
    Lora,
    LoraCache,
    Model,
    compare,
    feature_maps,
    load_model,
    plots,
)
from dragnoise.given import shown
from dragnoise.lora import Adapter
from dragnoise.pictures import as_picture
from dragnoise.toyland import drag_cases, judge

DOCUMENTED = (ValueError, TypeError, IndexError, RuntimeError, OSError, FloatingPointError)
BARE = (UnicodeError, RecursionError, NotImplementedError)
"""Kinds of the documented errors that Python and torch raise by themselves; nobody here means them."""

CALLS = 2000

JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 10**9, 10**400, -(10**400), 10**5000, 0.0, -0.5, 1.5, 1e300, math.nan, math.inf,
    -math.inf, 1 + 2j, fractions.Fraction(1, 3), fractions.Fraction(10**400, 3), decimal.Decimal("0.1"), "", " ", "x",
    "nan", "\0", "a\0b", "\ud800", "x" * 5000, "../..", b"", b"\xff", [], [None], [[1, 2], [3, 4]], [1, [2, [3]]], (),
    (1,), (1, 2), (1, 2, 3), ("a", "b"), {}, {"a": 1}, {1, 2}, object(), object, len, iter([1, 2]), range(3), slice(1),
    np.zeros(()), np.zeros(0), np.zeros(3), np.zeros((3, 3)), np.ones((2, 2, 2)), np.full((40, 50), math.nan),
    np.array(["a"]), np.array([None, object()]), np.array([1j]), np.bool_(True), np.int64(-5), np.float32("nan"),
    np.datetime64("2024-01-01"), torch.zeros(()), torch.zeros(3), torch.zeros(2, 3), torch.zeros(1, 4, 16, 16),
    torch.full((1, 4, 16, 16), math.nan), torch.zeros(1, 3, 0, 4), torch.zeros(4, 4, dtype=torch.int64), torch.float64,
    Image.new("RGB", (3, 3)), Image.new("L", (50, 40)), SimpleNamespace(), Drag((1, 2), (3, 4)), QUICK, Path("/"),
    Drag(None, ((),)), inspect, pytest, lambda *_: 1 / 0,
]  # fmt: skip


def is_number(value: Any) -> bool:
    """A finite real number that fits into a float."""
    try:
        return isinstance(value, int | float | fractions.Fraction | np.floating | np.integer) and (
            not isinstance(value, bool) and math.isfinite(float(value))
        )
    except OverflowError:
        return False


def is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def never(value: Any) -> bool:
    return False


@dataclass(frozen=True)
class Of:
    """An argument: a good value, which values are good too, and bad ones beside the junk that everything gets."""

    good: Any
    also: Callable[[Any], bool] = never
    bad: Iterable[Any] = ()

    def pool(self) -> list[Any]:
        return [*(value for value in JUNK if not self.also(value)), *self.bad]


@dataclass(frozen=True)
class Entry:
    """Something public, and how it is called with its arguments by name."""

    call: Callable[..., Any]
    of: dict[str, Of] = field(default_factory=dict)


def whole(good: int, low: int, high: float = math.inf, bad: Iterable[Any] = ()) -> Of:
    return Of(good, lambda v: is_whole(v) and low <= v <= high, bad)


def number(good: float, low: float = -math.inf, high: float = math.inf, *, strict: bool = False) -> Of:
    return Of(good, lambda v: is_number(v) and low <= float(v) <= high and not (strict and float(v) == low))


def text(good: str = "a fox", also: Callable[[str], bool] = lambda _: True) -> Of:
    return Of(good, lambda v: isinstance(v, str) and also(v))


def word(*allowed: str) -> Of:
    return Of(allowed[0], lambda v: v.__class__ is str and v in allowed, ("REPLACE", allowed, [allowed[0]]))


def set_to(name: str) -> Callable[..., Any]:
    return lambda w, value: setattr(w.session, name, value)


def is_picture(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        shape, kind = value.shape, value.dtype.kind
        ok = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
        return ok and 0 not in shape and kind in "buif" and bool(np.isfinite(value).all())
    return isinstance(value, Image.Image)


def is_mask(value: Any) -> bool:
    return value is None or (isinstance(value, Image.Image) and value.size == (50, 40) and value.getbbox() is not None)


def is_path(value: Any) -> bool:
    """A path that one could write to."""
    return isinstance(value, str | Path) and str(value) in ("x", "nan", "../..", "/")


def are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(is_number, value))


def is_iteration(value: Any) -> bool:
    return is_whole(value) and 0 <= value <= 2


NOWHERE = ("nothing/there", "/dev/null/x", "y" * 300, "~nobody-of-this-name/x")
PICTURES = (
    *NOWHERE, "https://example.org/x.png", np.zeros((0, 3)), np.zeros((3, 3, 2)), np.zeros((2, 2), "M8[s]"),
    np.zeros((2, 2), np.complex64), np.array([[object()]]), np.full((2, 2), np.inf), Image.new("RGB", (0, 4)),
    np.zeros((3, 3), [("a", int)]), np.zeros((3, 3), "U3"), Image.new("LAB", (3, 3)),
)  # fmt: skip
MASKS = (*PICTURES, np.zeros((40, 50)), np.ones((50, 40)), np.ones((40, 50, 3)), Image.new("L", (40, 50), 255),
         np.array([["a"] * 50] * 40), np.ones((40, 50), complex))  # fmt: skip
DRAGS = (
    3, [(1, 2)], [((1, 2), (1, 2))], [((1, 2), (1, math.nan))], [((1, 2), (50, 3))], [((-1e-9, 2), (5, 3))],
    [((1, 2), (5, 3)), None], [((1, 2), (10**400, 3))], [(("1", 2), (5, 3))], [((True, 2), (5, 3))], ["ab"],
    [["a", "b"]],
    [((1, 2), (5, 3), (1, 2))], [((1 + 0j, 2), (5, 3))], {"a": 1}, np.zeros((2, 2)), np.zeros((1, 2, 2)), [[[1, 2]]],
    np.full((1, 2, 2), np.nan), torch.zeros(1, 2, 2), [Drag((1, 2), "x")], [Drag(None, None)], [{1: 2, 3: 4}], [set()],
    [((fractions.Fraction(10**400), 1), (2, 3))], [((decimal.Decimal(1), 1), (2, 3))], [((np.zeros(2), 1), (2, 3))],
    [((1, 2), (5, 3))] * 5 + [((1, 2), (5, 40))], np.zeros((3, 2, 2), object),
)  # fmt: skip
PATHS = Of("edit.drag", lambda v: isinstance(v, str | Path) and str(v) in ("x", "nan"), (*NOWHERE[1:], "\ud800"))
MISSING = Of("edit.drag", never, NOWHERE)
CONFIG: dict[str, Of] = {
    "steps": whole(4, 2, 1000, (1001, 3.0)), "edit_from": whole(2, 1, 4, (5,)), "refine_from": whole(0, 0, 2, (3,)),
    "lr": number(0.01, 0, strict=True), "eps": number(1e-8, 0, strict=True), "max_iterations": whole(6, 1),
    "r1": whole(1, 0), "r2": whole(3, 1), "mask_weight": number(0.1, 0), "reach": number(0.0, 0),
    "tolerance": number(1.0, 0, strict=True),
    "supervision_block": whole(2, 0), "supervision_scale": number(0.5, 0, 1, strict=True),
    "seed": whole(0, 0, 2**63 - 1),
    "side": Of(64, lambda v: v is None or (is_whole(v) and 64 <= v <= 2**14), (63, 2**14 + 1, 64.0)),
    "latent_noise": number(0.0, 0), "propagation": word("replace", "delta"), "inversion": word("source", "target"),
    "resize": word("longer", "shorter", "never"), "convention": word("paper", "released"),
}  # fmt: skip
KEY = Of("0123", lambda v: isinstance(v, str) and v in ("x", "nan"), ("../x", "..", ".", "a/b", "a\\b", "é", "y" * 201))
FIT = {
    "steps": whole(1, 1), "rank": whole(1, 1, 2**14), "lr": number(1e-4, 0, 1, strict=True),
    "batch_size": whole(1, 1, 2**14), "seed": whole(0, 0), "cache": Of(None, lambda v: v is None or is_path(v)),
    "gradient_checkpointing": Of(None, lambda v: v is None or isinstance(v, bool), ("no", "yes")),
}  # fmt: skip
DEVICE = Of("cpu", lambda v: v is None, ("gpu", "cuda:99", "meta", "xla", "hpu", torch.device("meta"), 99))
GENERATION = {
    "prompt": text(), "negative_prompt": text(""), "seed": whole(0, 0, 2**63 - 1, (2**64,)), "steps": whole(2, 2, 1000),
    "guidance": number(7.5, 0), "config": Of(None, lambda v: v is None or isinstance(v, DragConfig)),
    "size": Of((64, 64), lambda v: v is None,
               ((0, 64), (64, 63), (64, 64, 64), (64.0, 64), (2**50, 2**50), "ab", {64, 127})),
}  # fmt: skip
LOADING = {
    "name": Of("toyland", never, (*NOWHERE, "model.ckpt", "a b c", "toy/land/x", "x.safetensors")),
    "device": DEVICE,
    "dtype": Of("float32", lambda v: v is None or v is torch.float64, ("int8", torch.int64, "half", np.float32)),
    "vae": Of(None, lambda v: v is None, (*NOWHERE, "vae.ckpt", "x.safetensors", torch.nn.Linear(1, 1))),
    "memory": word("normal", "low"), "prediction": Of(None, lambda v: v is None, ("v", "EPSILON")),
    "config": Of(None, lambda v: v is None, ("nothing/there",)),
    "variant": Of(None, lambda v: v is None or isinstance(v, str)),
}  # fmt: skip
GOOD_LATENT = torch.zeros(1, 4, 16, 16)
AXES = Of(None, lambda v: v is None, (Figure(), Figure().subplots(1, 5), [Figure().subplots(), 3]))


def plotted(function: Callable[..., Any], **more: Of) -> Entry:
    """A plot of the session, unless another source is given."""
    return Entry(
        lambda w, source, **given: function(w.session if source is None else source, **given),
        {"source": Of(None, lambda v: v is None, ([None], [[]], (1, 2))), "ax": AXES, **more},
    )


ENTRIES: dict[str, Entry] = {
    "DragSession": Entry(
        lambda w, model, **given: DragSession(w.model if model is None else model, **given),
        {
            "model": Of(None, lambda v: v is None), "image": Of(smooth_picture(50, 40), is_picture, PICTURES),
            "prompt": text(), "config": Of(QUICK, lambda v: v is None or isinstance(v, DragConfig)),
            "name": text("main", lambda v: bool(v.strip())), "history_limit": Of(1e9, lambda v: is_positive(v)),
            "autosave": Of(None, lambda v: v is None or is_path(v)),
        },
    ),
    "from_prompt": Entry(
        lambda w, model, **given: DragSession.from_prompt(w.model if model is None else model, progress=False, **given),
        {"model": Of(None, lambda v: v is None), **GENERATION},
    ),
    "session.drags": Entry(set_to("drags"), {"value": Of([((1, 2), (3, 4))], lambda v: empty(v), DRAGS)}),
    "session.mask": Entry(set_to("mask"), {"value": Of(None, is_mask, MASKS)}),
    "session.config": Entry(set_to("config"), {"value": Of(QUICK, lambda v: v is QUICK, ({}, DragConfig, "released"))}),
    "session.prompt": Entry(set_to("prompt"), {"value": text()}),
    "session.name": Entry(set_to("name"), {"value": text("main", lambda v: bool(v.strip()))}),
    "session.model": Entry(set_to("model"), {"value": Of(None, never)}),
    "session.lora": Entry(set_to("lora"), {"value": Of(None, lambda v: v is None, ({}, "lora"))}),
    "session.lora_weight": Entry(set_to("lora_weight"), {"value": Of(1.0, never, (0.5,))}),  # it wears none
    "session.history_limit": Entry(set_to("history_limit"), {"value": Of(1e9, lambda v: is_positive(v))}),
    "session.watch": Entry(lambda w, value: w.session.watch(value), {"value": Of(print, callable)}),
    "session.rewind": Entry(lambda w, k: w.session.rewind(k), {"k": Of(2, is_iteration, (3, -3, 2.0, "2"))}),
    "session.snapshot": Entry(lambda w, k: w.session.snapshot(k), {"k": Of(2, is_iteration, (3, 2.0))}),
    "session.branch": Entry(
        lambda w, k, name: w.session.branch(k, name=name),
        {"k": Of(2, lambda v: v is None or is_iteration(v), (3, 2.0)),
         "name": Of(None, lambda v: v is None or (isinstance(v, str) and bool(v.strip())))},
    ),
    "session.history[k]": Entry(
        lambda w, k: w.session.history[k],
        {"k": Of(2, lambda v: isinstance(v, slice) or (isinstance(v, int | np.integer) and -3 <= v <= 2), (3, -4))},
    ),
    "session.picture_of": Entry(
        lambda w, latents: w.session.picture_of(latents),
        {"latents": Of(GOOD_LATENT, lambda v: is_latent(v), (torch.zeros(1, 3, 8, 8), torch.zeros(4, 8, 8)))},
    ),
    "session.save": Entry(lambda w, path: w.session.save(path), {"path": PATHS}),
    "session.autosave": Entry(
        lambda w, path, every: w.session.autosave(path, every=every),
        {"path": Of(None, lambda v: v is None or is_path(v)),
         "every": whole(10, 1)},
    ),
    "DragSession.open": Entry(
        lambda w, path, **given: DragSession.open(w.saved if path is MISSING.good else path, **given),
        {"path": MISSING, "model": Of(None, lambda v: v is None),
         "afresh": Of(False, lambda v: isinstance(v, bool))},
    ),
    "session.fit_lora": Entry(lambda w, **given: w.session.fit_lora(**given), FIT),
    "session.save_lora": Entry(lambda w, path: w.session.save_lora(path), {"path": Of("", never, NOWHERE)}),
    "dressed.save_lora": Entry(lambda w, path: w.dressed.save_lora(path), {"path": Of("x", is_path, ("/dev/null/x",))}),
    "session.load_lora": Entry(lambda w, path: w.session.load_lora(path), {"path": MISSING}),
    "LoraCache": Entry(
        lambda w, folder, limit: LoraCache(folder, limit=limit),
        {"folder": Of("x", is_path), "limit": Of(1e9, lambda v: is_positive(v))},
    ),
    "cache.get": Entry(
        lambda w, key, model: LoraCache(".").get(key, w.model if model is None else model),
        {"key": KEY, "model": Of(None, lambda v: v is None)},
    ),
    "cache.put": Entry(
        lambda w, key, lora: LoraCache(".").put(key, w.dressed.lora if lora is None else lora),
        {"key": KEY, "lora": Of(None, lambda v: v is None)},
    ),
    "Lora": Entry(
        lambda w, **given: Lora(**given),
        {"adapters": Of({"x": Adapter(torch.zeros(1, 2), torch.zeros(2, 1))}), "weight": number(1.0, 0, 1),
         "losses": Of((0.5,), are_numbers, ((0.5, math.nan), (0.5, True), ["0.5"])),
         "training": Of(None, lambda v: v is None)},
    ),
    "lora.to": Entry(lambda w, device: w.dressed.lora.to(device), {"device": DEVICE}),
    "lora.at": Entry(lambda w, weight: w.dressed.lora.at(weight), {"weight": number(1.0, 0, 1)}),
    "DragConfig": Entry(lambda w, **given: DragConfig(**given), CONFIG),
    "DragConfig.released": Entry(lambda w, **given: DragConfig.released(**given), CONFIG),
    "config.replace": Entry(lambda w, **given: QUICK.replace(**given), CONFIG),
    "config.replace, unknown": Entry(
        lambda w, name: QUICK.replace(**{name: 1}), {"name": Of("lr", lambda v: not isinstance(v, str), ("Lr", "step"))}
    ),
    "load_model": Entry(lambda w, **given: load_model(**given), LOADING),
    "Model": Entry(
        lambda w, pipeline, **given: Model(w.model.pipeline if pipeline is None else pipeline, **given),
        {"pipeline": Of(None, lambda v: v is None), "memory": word("normal", "low"),
         "device": Of("cpu", lambda v: v is None, ("gpu", "cuda:99", "meta", 99)),
         "default_config": Of(None, lambda v: v is None or isinstance(v, DragConfig), ({},))},
    ),
    "model.embed": Entry(lambda w, prompt: w.model.embed(prompt), {"prompt": text()}),
    "model.embed_negative": Entry(lambda w, prompt: w.model.embed_negative(prompt), {"prompt": text()}),
    "model.encode_picture": Entry(
        lambda w, picture, size: w.model.encode_picture(picture, size),
        {"picture": Of(smooth_picture(50, 40), is_picture, PICTURES),
         "size": Of((64, 64), bad=((0, 64), (64, 3), (64, 64, 64), (64.0, 64), (2**50, 2**50), "ab", {64, 127}))},
    ),
    "model.decode_latents": Entry(
        lambda w, z: w.model.decode_latents(z),
        {"z": Of(GOOD_LATENT, lambda v: isinstance(v, torch.Tensor) and v.shape == (1, 4, 16, 16),
                 (torch.zeros(1, 3, 8, 8), torch.zeros(4, 8, 8), torch.zeros(2, 4, 8, 8)))},
    ),
    "plot_loss": plotted(plots.plot_loss),
    "plot_anchor_motion": plotted(
        plots.plot_anchor_motion, tolerance=Of(None, lambda v: v is None or (is_number(v) and float(v) >= 0))
    ),
    "plot_trajectory": plotted(
        plots.plot_trajectory,
        image=Of(None, lambda v: v is None or (isinstance(v, Image.Image) and v.size == (50, 40)), PICTURES),
        drags=Of(None, lambda v: v is None, (*DRAGS, [((1, 2), (3, 4))])),
    ),
    "plot_bottleneck": plotted(plots.plot_bottleneck),
    "plot_latents": plotted(
        plots.plot_latents, step=Of(None, lambda v: v is None or is_iteration(v)),
        source=Of(None, lambda v: v is None or is_latent(v), ([None], [[]], (1, 2))),
    ),
    "plot_similarity": plotted(
        plots.plot_similarity, iteration=Of(None, lambda v: v is None or is_iteration(v)),
        drags=Of(None, lambda v: v is None, (*DRAGS, [((1, 2), (3, 4))])),
    ),
    "plot_pictures": Entry(
        lambda w, pictures, ax: plots.plot_pictures(pictures, ax=ax),
        {"pictures": Of({"a": smooth_picture(5, 5)}, never, ([smooth_picture(5, 5)], {"a": 3}, {"a": "nothing/there"})),
         "ax": AXES},
    ),
    "plot_branches": Entry(
        lambda w, one, ax: compare.plot_branches(w.session, w.session if one is None else one, ax=ax),
        {"one": Of(None, lambda v: v is None), "ax": AXES},
    ),
    "plot_before_after": Entry(
        lambda w, one, ax: compare.plot_before_after(w.session, w.session if one is None else one, ax=ax),
        {"one": Of(None, lambda v: v is None), "ax": AXES},
    ),
    "fork": Entry(lambda w, one: compare.fork(w.session, one), {"one": Of(None)}),
    "feature_maps.measure": Entry(
        lambda w, source, k: feature_maps.measure(w.session if source is None else source, k),
        {"source": Of(None, lambda v: v is None), "k": Of(None, lambda v: v is None or is_iteration(v), (3,))},
    ),
    "judge": Entry(lambda w, picture: judge(picture), {"picture": Of(smooth_picture(128, 128), never, PICTURES)}),
    "drag_cases": Entry(
        lambda w, kind: drag_cases(kind, 1, 0),
        {"kind": Of("sun", lambda v: isinstance(v, np.ndarray | torch.Tensor | int), ("Sun", "moon"))},
    ),
}  # fmt: skip


def is_positive(value: Any) -> bool:
    """A number above 0, which may be infinite or beyond a float."""
    number = isinstance(value, int | float | fractions.Fraction | np.floating | np.integer)
    return number and not isinstance(value, bool) and bool(value > 0)


def is_latent(value: Any) -> bool:
    latent = isinstance(value, torch.Tensor) and value.ndim == 4 and value.shape[:2] == (1, 4)
    return latent and bool(value.isfinite().all())


def empty(value: Any) -> bool:
    """No drags at all, which is nothing bad."""
    if isinstance(value, np.ndarray):
        return value.shape == (0,)
    return isinstance(value, list | tuple | type(iter([]))) and not list(value)


@pytest.fixture(scope="module")
def world(small: Model, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A session after two iterations, one that wears a LoRA, and an empty folder to work in."""
    folder = tmp_path_factory.mktemp("fuzz")
    session, dressed = quick_session(small, 2), quick_session(small)
    next(dressed.fit_lora(1, rank=1, batch_size=1))
    saved = session.save(tmp_path_factory.mktemp("saved") / "edit.drag")
    return SimpleNamespace(model=small, session=session, dressed=dressed, saved=saved, folder=folder)


def weights_sum(model: Model) -> float:
    return float(sum(p.double().abs().sum() for p in model.pipeline.unet.parameters()))


def bad_call(entry: Entry, rng: random.Random) -> dict[str, Any]:
    """Arguments of which one at least is bad."""
    given = {name: of.good for name, of in entry.of.items()}
    for name in rng.sample(sorted(given), min(len(given), rng.choice((1, 1, 1, 2, 3)))):
        given[name] = rng.choice(entry.of[name].pool())
    return given


def described(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={shown(value)}" for name, value in given.items())


def complaint(call: Callable[[], Any]) -> str:
    """What is wrong with how a bad call ends; nothing for a documented error of one sentence."""
    try:
        call()
    except DOCUMENTED as error:
        try:
            assert_one_sentence(error)
        except AssertionError:
            return f"{type(error).__name__}: {error!s:.300}"
        return f"a bare {type(error).__name__}: {error}" if isinstance(error, BARE) else ""
    except Exception as error:
        return f"an undocumented {type(error).__name__}: {error!s:.300}"
    return "was accepted"


def test_two_thousand_bad_calls(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    rng, wrong, before = random.Random(4), [], fingerprint(world.session)
    weights, drawn = weights_sum(world.model), torch.get_rng_state()
    for _, (name, entry) in zip(range(CALLS), itertools.cycle(ENTRIES.items()), strict=False):
        given = bad_call(entry, rng)
        said = complaint(lambda entry=entry, given=given: entry.call(world, **given))  # type: ignore[misc]
        if fingerprint(world.session) != before:
            said, before = f"{said} and changed the session", fingerprint(world.session)
        if said:
            wrong.append(f"{name}({described(given)}): {said}")
    assert not wrong, f"{len(wrong)} of {CALLS} calls:\n" + "\n".join(sorted(wrong))
    assert weights_sum(world.model) == weights and torch.equal(torch.get_rng_state(), drawn)
    assert not list(world.folder.iterdir())
    assert world.session.step().iteration == 3  # and it goes on as if nothing had been
    whole = quick_session(world.model, 3)
    assert torch.equal(world.session.bottleneck, whole.bottleneck)
    world.session.rewind(2)


@pytest.mark.parametrize("prompt", ["\ud800", "a\0b", "x" * 100_000, "狐 🦊", "\n\n"])
def test_any_text_is_a_prompt(small: Model, prompt: str) -> None:
    session = quick_session(small)
    session.prompt = prompt
    assert session.step().iteration == 1 and session.prompt == prompt


REFUSED = ("session.model", "session.lora_weight", "session.save_lora", "session.load_lora", "fork")
"""Entries that the session of these tests can give nothing good."""


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in REFUSED])
def test_the_good_values_are_good(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Else the calls above might fail for another reason than the bad value."""
    monkeypatch.chdir(tmp_path)
    good = {argument: of.good for argument, of in ENTRIES[name].of.items()}
    ENTRIES[name].call(SimpleNamespace(**vars(world) | {"session": world.session.branch(2)}), **good)


@pytest.mark.filterwarnings("ignore")  # PIL's about what it finds
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO"])
def test_broken_picture_files(kind: str, tmp_path: Path) -> None:
    """Bytes flipped, cut off or put in: a picture, or one sentence; whole, and opened by PIL before it was broken."""
    rng, path = random.Random(kind), tmp_path / "picture"
    smooth_picture(40, 32).save(path, kind)
    whole = path.read_bytes()
    for i in range(40):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 10))):
            data[rng.randrange(min(len(data), rng.choice((64, 10**6))))] = rng.choice((0, 1, 255, rng.randrange(256)))
        path.write_bytes(data[: rng.randrange(len(data))] if i % 3 == 0 else data)
        try:
            assert as_picture(path).mode == "RGB"
        except ValueError as error:
            assert_one_sentence(error, "picture")
        try:
            opened = Image.open(path)
        except Exception:  # PIL's own affair, before anything is given
            continue
        try:
            as_picture(opened)
        except ValueError as error:
            assert_one_sentence(error, "picture")
