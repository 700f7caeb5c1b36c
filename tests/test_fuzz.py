"""Two thousand random bad calls of every public entry: a documented error in one sentence each, and nothing changes."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import (
    CONFIG,
    DRAGS,
    MASKS,
    NOWHERE,
    PICTURES,
    Entry,
    Of,
    are_numbers,
    bad_call,
    complaint,
    described,
    empty,
    is_iteration,
    is_latent,
    is_mask,
    is_number,
    is_path,
    is_picture,
    is_positive,
    never,
    number,
    text,
    whole,
    word,
)
from helpers import QUICK, assert_one_sentence, fingerprint, quick_session, smooth_picture
from matplotlib.figure import Figure
from PIL import Image

from dragnoise import DragConfig, DragSession, Lora, LoraCache, Model, load_model, plots
from dragnoise.images.pictures import as_picture
from dragnoise.inspection import feature_maps
from dragnoise.lora import Adapter
from dragnoise.plots import branches
from dragnoise.toyland import drag_cases, judge

CALLS = 2000


def set_to(name: str) -> Callable[..., Any]:
    return lambda w, value: setattr(w.session, name, value)


PATHS = Of("edit.drag", lambda v: isinstance(v, str | Path) and str(v) in ("x", "nan"), (*NOWHERE[1:], "\ud800"))
MISSING = Of("edit.drag", never, NOWHERE)
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
    "lora.at": Entry(lambda w, weight: w.dressed.lora.at(weight), {"weight": number(1.0, -2, 2)}),
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
        lambda w, one, ax: branches.plot_branches(w.session, w.session if one is None else one, ax=ax),
        {"one": Of(None, lambda v: v is None), "ax": AXES},
    ),
    "plot_before_after": Entry(
        lambda w, one, ax: branches.plot_before_after(w.session, w.session if one is None else one, ax=ax),
        {"one": Of(None, lambda v: v is None), "ax": AXES},
    ),
    "fork": Entry(lambda w, one: branches.fork(w.session, one), {"one": Of(None)}),
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
