"""memory="low", and sessions that outlive an exhausted memory."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from helpers import assert_one_sentence, smooth_picture
from pipelines import build_sd15, build_sdxl, build_three_block

from benchmarks import memory as bench
from benchmarks.measuring.counting import Live
from dragnoise import DragConfig, DragSession, Model, load_model
from dragnoise.interrupts import OutOfMemory, advice, is_out_of_memory
from dragnoise.models import arguments
from dragnoise.models.offload import enable_low_memory, on_device

QUICK = DragConfig(steps=4, edit_from=3, refine_from=1, max_iterations=6, lr=0.1)


def session_of(model: Model, config: DragConfig = QUICK) -> DragSession:
    session = DragSession(model, smooth_picture(75, 91), "a fox", config)
    session.drags = [((10, 10), (60, 80)), ((70, 5), (12, 40))]
    return session


# ---------------------------------------------------------------------------------- low memory


@pytest.mark.parametrize("build", [build_sd15, build_sdxl])
def test_low_memory_gives_the_same_edit(build: Callable[[], Any]) -> None:
    edits = []
    for memory in ("normal", "low"):
        model = Model(build(), memory=memory)
        session = session_of(model, QUICK.replace(supervision_block=1))
        edits.append((np.asarray(session.run(progress=False)), session.bottleneck, session.anchors))
    (picture, bottleneck, anchors), (lean_picture, lean_bottleneck, lean_anchors) = edits
    torch.testing.assert_close(lean_bottleneck, bottleneck, rtol=0, atol=0)
    np.testing.assert_array_equal(lean_anchors, anchors)
    np.testing.assert_array_equal(lean_picture, picture)


def test_a_model_says_how_it_is_loaded() -> None:
    lean = load_model(memory="low")
    assert lean.memory == "low" and 'memory="low"' in repr(lean)
    assert load_model().memory == "normal" and "memory" not in repr(load_model())


def saved_for_backward(model: Model) -> int:
    """Bytes that one iteration's forward keeps for its backward, tensors counted once."""
    session = session_of(model)
    for _ in session.invert():
        pass
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in model.pipeline.unet.parameters()}
    variable = session.store.engine.editor(session.state).variable
    leaf = variable.original.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        decoded = variable.forward(leaf, upto=session.config.supervision_block)
        alive = sum(size for place, size in kept.items() if place not in own)
    assert decoded.feature.requires_grad
    return alive


def test_an_iteration_keeps_less() -> None:
    normal, lean = (saved_for_backward(Model(build_sd15(), memory=memory)) for memory in ("normal", "low"))
    assert 0 < lean < normal / 3


def test_large_pictures_pass_the_vae_in_tiles() -> None:
    pipeline = build_sdxl()
    pipeline.vae.tile_sample_min_size, pipeline.vae.tile_latent_min_size = 1024, 128  # SDXL's
    calls: list[tuple[int, int]] = []
    pipeline.vae.decoder.register_forward_pre_hook(lambda module, inputs: calls.append(tuple(inputs[0].shape[-2:])))
    model = Model(pipeline, memory="low")
    picture = model.decode_latents(torch.randn(1, 4, 80, 96, generator=torch.Generator().manual_seed(0)))
    assert picture.shape == (1, 3, 640, 768)
    assert len(calls) > 1 and all(max(shape) <= 64 for shape in calls)
    calls.clear()
    model.decode_latents(torch.zeros(1, 4, 64, 64))
    assert calls == [(64, 64)]  # Stable Diffusion 1.5's native size goes as a whole, without seams


@pytest.mark.parametrize("size", [(64, 64), (52, 76), (512, 512), (560, 600)])
def test_a_tiny_autoencoder_in_low_memory(size: tuple[int, int]) -> None:
    """Up to a tile the same numbers to the bit; beyond it tiles, which differ along their seams alone."""
    normal, lean = Model(build_three_block()), Model(build_three_block(), memory="low")
    calls: list[int] = []
    lean.vae.encoder.register_forward_pre_hook(lambda module, inputs: calls.append(max(inputs[0].shape[-2:])))
    picture = smooth_picture(*size)
    z, lean_z = normal.encode_picture(picture, size), lean.encode_picture(picture, size)
    assert z.shape == lean_z.shape == (1, 4, size[1] // 4, size[0] // 4)
    decoded, lean_decoded = normal.decode_latents(z), lean.decode_latents(z)
    assert decoded.shape == lean_decoded.shape
    if max(size) <= 512:
        assert torch.equal(z, lean_z) and torch.equal(decoded, lean_decoded) and calls == [max(size)]
    else:
        assert len(calls) > 1 and max(calls) <= 512
        assert float((z - lean_z).abs().mean()) < 0.05 * float(z.std())
    enable_low_memory(lean.pipeline, torch.device("cpu"))  # once more changes nothing
    assert torch.equal(lean.decode_latents(z), lean_decoded)


class Elsewhere(torch.nn.Module):
    """A part that tells where it was sent and when it was used."""

    def __init__(self, log: list[str], name: str, inner: Any = None) -> None:
        super().__init__()
        self.log, self.name, self.inner = log, name, inner
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def to(self, *args: Any, **kwargs: Any) -> Elsewhere:  # type: ignore[override]
        self.log.append(f"{self.name} to {torch.device(args[0]).type}")
        return self


def test_parts_visit_the_device_for_their_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no accelerator here: "meta" stands for it, and the moves are written down."""
    moves: list[str] = []
    model = Model(build_sd15(), memory="low")
    vae, text_encoder = Elsewhere(moves, "vae"), Elsewhere(moves, "text encoder")
    monkeypatch.setattr(Model, "device", torch.device("meta"))
    for part in (vae, text_encoder):
        with pytest.raises(KeyError), model.on_device(part) as device:
            assert device == torch.device("meta")
            moves.append("at work")
            raise KeyError  # it goes back also after a failure
    names = ("vae", "text encoder")
    assert moves == [move for name in names for move in (f"{name} to meta", "at work", f"{name} to cpu")]
    normal = Model(build_sd15())
    with normal.on_device(vae):
        pass
    assert len(moves) == 6


def test_a_part_stays_while_anybody_uses_it() -> None:
    """Two sessions of one model in two threads, of which the first is done while the second works."""
    moves: list[str] = []
    part, device = Elsewhere(moves, "vae"), torch.device("meta")
    both, first_is_done = threading.Barrier(2, timeout=20), threading.Event()
    seen: list[int] = []

    def first() -> None:
        with on_device(part, device):
            both.wait()
        first_is_done.set()

    def second() -> None:
        with on_device(part, device):
            both.wait()
            assert first_is_done.wait(20)
            seen.append(len(moves))

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [1] and moves == ["vae to meta", "vae to cpu"]


def test_a_part_that_the_device_cannot_hold_goes_back() -> None:
    class Full(Elsewhere):
        def to(self, *args: Any, **kwargs: Any) -> Elsewhere:  # type: ignore[override]
            super().to(*args)
            if torch.device(args[0]).type != "cpu":
                raise ERRORS[0]
            return self

    moves: list[str] = []
    part = Full(moves, "vae")
    for _ in range(2):
        with pytest.raises(torch.cuda.OutOfMemoryError), on_device(part, torch.device("meta")):
            pytest.fail("it is not there")
    assert moves == ["vae to meta", "vae to cpu"] * 2


@pytest.mark.parametrize(
    "given",
    [
        {}, {"memory": "low"}, {"memory": "low", "dtype": "bfloat16"}, {"dtype": "bf16"}, {"dtype": torch.float64},
        {"device": "cpu"}, {"prediction": "v_prediction"}, {"vae": "object"}, {"vae": "object", "memory": "low"},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_edits_a_picture(given: dict[str, Any]) -> None:
    if "vae" in given:
        given = given | {"vae": build_three_block().vae}
    session = DragSession(
        load_model(**given), smooth_picture(60, 44), "", QUICK.replace(steps=2, edit_from=1, refine_from=0)
    )
    session.drags = [((10, 10), (40, 30))]
    assert session.step().grad_norm > 0 and session.render().size == (60, 44)


def test_everything_but_the_unet_is_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, sent = build_sdxl(), []
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            monkeypatch.setattr(part, "to", lambda *args, name=name: sent.append((name, *map(str, args))))
    sliced: list[str] = []
    monkeypatch.setattr(pipeline.unet, "set_attention_slice", sliced.append)
    enable_low_memory(pipeline, torch.device("cuda"))
    assert sorted(sent) == [("text_encoder", "cpu"), ("text_encoder_2", "cpu"), ("vae", "cpu")]
    assert pipeline.vae.use_tiling and pipeline.vae.use_slicing and sliced == []
    enable_low_memory(pipeline, torch.device("mps"))  # no fused attention there
    assert sliced == ["auto"]


def test_the_benchmark_counts_what_is_alive() -> None:
    weight = torch.zeros(100, 100)
    with Live([weight]) as live:
        first = weight.t() + 1  # 40,000 bytes; the view is none
        second = first * 2
        del first
        third = second[:50].clone()  # 20,000
        assert live.now == 60_000 and third.shape == (50, 100)
        del second, third
    assert live.now == 0 and live.peak == 80_000


def test_low_memory_on_the_real_architecture() -> None:
    """The documented figures: an iteration of SD 1.5 at 512 keeps a third; slices take more than fused attention."""
    weights, inversion, iteration = bench.unet_peaks(bench.SD15, 512, 2, low=False, sliced=False)
    _, lean_inversion, lean_iteration = bench.unet_peaks(bench.SD15, 512, 2, low=True, sliced=False)
    _, sliced_inversion, sliced_iteration = bench.unet_peaks(bench.SD15, 512, 2, low=True, sliced=True)
    assert weights == pytest.approx(2 * 859.52e6, rel=1e-3)  # Stable Diffusion 1.5's
    assert lean_inversion == inversion and lean_iteration < 0.5 * iteration
    assert sliced_inversion > lean_inversion and sliced_iteration > lean_iteration


def test_what_a_fit_needs_on_the_real_architecture() -> None:
    """The order of the advice when memory runs out: checkpointing gains more than half the batch does."""
    weights, usual = bench.fit_peak(bench.SD15, 512, batch=4, checkpointing=False)
    _, checkpointed = bench.fit_peak(bench.SD15, 512, batch=4, checkpointing=True)
    _, half = bench.fit_peak(bench.SD15, 512, batch=2, checkpointing=False)
    assert weights == pytest.approx(2 * 859.52e6, rel=1e-3)
    assert 3 * 2**30 < usual < 4 * 2**30  # beside the weights what the smallest cards have
    assert checkpointed < 0.3 * usual and 0.45 * usual < half < 0.55 * usual
    adapters = 4 * 3_188_736  # rank 16 on every attention, float32
    assert checkpointed > 5 * adapters  # with gradients, moments and a copy


# ------------------------------------------------------------------------------- out of memory


ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to"),
    MemoryError(),
]


@contextlib.contextmanager
def exhausted(module: torch.nn.Module, after: int, error: BaseException) -> Iterator[None]:
    """The module's forward number `after` from now raises the error."""
    calls = {"left": after}

    def fail(*_: Any) -> None:
        calls["left"] -= 1
        if calls["left"] < 0:
            raise error

    hook = module.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


def state_of(session: DragSession) -> list[Any]:
    return [session.state.inverted, len(session.history), *(s.bottleneck.clone() for s in session.history)]


def same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True)
    )


PARTS: dict[str, Callable[[Any], torch.nn.Module]] = {
    "first up block": lambda unet: unet.up_blocks[0],
    "an attention": lambda unet: unet.up_blocks[1].attentions[0].transformer_blocks[0].attn1,
    "a convolution": lambda unet: unet.up_blocks[2].resnets[1].conv2,
}


@pytest.fixture(scope="module", params=["normal", "low"])
def undisturbed(request: pytest.FixtureRequest) -> DragSession:
    """Four iterations with as much memory as they want."""
    session = session_of(Model(build_sd15(), memory=request.param))
    for _ in range(4):
        session.step()
    return session


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("after", [0, 1, 2, 3, 5])
def test_an_iteration_without_memory_is_undone(undisturbed: DragSession, part: str, after: int) -> None:
    model = undisturbed.model
    session = session_of(model)
    session.step()
    with exhausted(PARTS[part](model.pipeline.unet), after, ERRORS[after % len(ERRORS)]):
        while True:
            before = state_of(session)
            try:
                session.step()
            except OutOfMemory:
                break
    assert same(state_of(session), before)
    assert session.render().size == (75, 91)
    while len(session.history) < 5:
        session.step()
    assert torch.equal(session.history[4].bottleneck, undisturbed.history[4].bottleneck)


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_a_pipeline_that_the_device_cannot_hold_goes_back(monkeypatch: pytest.MonkeyPatch, memory: Any) -> None:
    """There is no accelerator here: the moves are written down, and the U-Net's fails."""
    pipeline, sent = build_sd15(), []
    monkeypatch.setattr(arguments, "as_device", torch.device)

    def move(name: str, device: Any) -> None:
        sent.append((name, str(device)))
        if (name, torch.device(device).type) == ("unet", "cuda"):
            raise ERRORS[0]

    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            monkeypatch.setattr(
                part, "to", lambda *args, name=name, **kw: move(name, args[0] if args else kw["device"])
            )
    with pytest.raises(OutOfMemory) as caught:
        Model(pipeline, name="it", device="cuda", memory=memory)
    assert_one_sentence(caught.value, "'cuda'", "'it'", "dtype=torch.float16", "restart")
    assert ('memory="low"' in str(caught.value)) == (memory == "normal")
    assert ("unet", "cuda") in sent and dict(sent) == dict.fromkeys(("vae", "text_encoder", "unet"), "cpu")


def test_loading_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionPipeline, "from_pretrained", full)
        with pytest.raises(OutOfMemory) as reading:
            load_model(dtype="bf16")
    assert_one_sentence(reading.value, "'cpu'", "'toyland'", 'memory="low"')
    assert "dtype" not in str(reading.value)
    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(OutOfMemory) as already:
        load_model()
    assert_one_sentence(already.value, "'cpu'", "before anything was loaded")


def wrapped(error: Exception) -> Exception:
    """As diffusers does with whatever goes wrong while it reads weights."""
    try:
        try:
            raise error
        except Exception as cause:
            raise OSError("Unable to load weights from checkpoint file") from cause
    except OSError as outer:
        return outer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), OSError("Cannot allocate memory (os error 12)"),
        RuntimeError("unable to mmap 4000 bytes from file <x>: Cannot allocate memory (12)"),
        RuntimeError("std::bad_alloc"), wrapped(MemoryError()), wrapped(RuntimeError("out of memory")),
        OSError("The paging file is too small for this operation to complete. (os error 1455)"),
    ],
    ids=repr,
)  # fmt: skip
def test_memory_that_runs_out_while_reading_is_no_unreadable_folder(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", full)
    with pytest.raises(OutOfMemory) as caught:
        load_model()
    assert_one_sentence(caught.value, "'cpu'", "'toyland'", "used up by loading")


def test_a_session_without_a_model_has_advice_too(sd15: Any) -> None:
    session = session_of(Model(sd15))
    sentence = advice(None, session.state.frame, session.config)
    assert_one_sentence(Exception(sentence), "'cpu'", "104x128", "side=64")
    assert "load_model" not in sentence


def test_a_session_inside_inference_mode_says_so(sd15: Any) -> None:
    session = session_of(Model(sd15))
    with torch.inference_mode():
        lean = load_model()
        for call in (session.step, lambda: list(session.invert()), session.render):
            with pytest.raises(RuntimeError) as caught:
                call()
            assert_one_sentence(caught.value, "torch.inference_mode()", "torch.no_grad()")
        with pytest.raises(ValueError) as made_inside:
            Model(build_three_block())
    assert_one_sentence(made_inside.value, "inference_mode()", "make it outside")
    assert not session.state.inverted
    with torch.no_grad():
        assert session.step().grad_norm > 0
    assert session_of(lean, QUICK.replace(steps=2, edit_from=1, refine_from=0)).step().grad_norm > 0


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_lora_or_a_model_for_which_there_is_no_memory(
    sd15: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    session, other = session_of(model := Model(sd15)), session_of(model)
    list(session.fit_lora(1, rank=1, batch_size=1, cache=tmp_path / "cache"))
    lora, path = session.lora, session.save_lora(tmp_path)
    session.step()
    before = state_of(session)

    def full(*_: Any) -> None:
        raise error

    monkeypatch.setattr("dragnoise.lora.files.checked_adapter", full)
    with pytest.raises(OutOfMemory) as loading_it:
        session.load_lora(path)
    with pytest.raises(OutOfMemory) as taking_it:
        list(other.fit_lora(1, rank=1, batch_size=1, cache=tmp_path / "cache"))
    with monkeypatch.context() as patch, pytest.raises(OutOfMemory) as setting_it:
        patch.setattr("dragnoise.session.state.SessionState.on", full)
        session.model = Model(sd15)
    assert session.model is model
    for caught in (loading_it, taking_it, setting_it):
        assert_one_sentence(caught.value, "'cpu'", "side=")
    assert session.lora is lora and same(state_of(session), before) and other.lora is None
    monkeypatch.undo()
    assert [s.step for s in other.fit_lora(1, rank=1, batch_size=1, cache=tmp_path / "cache")] == [1]
    assert other.lora is not None and other.lora.training is None  # it was in the cache still
    session.load_lora(path)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda s: list(s.invert()), "down_blocks.1"),
        (lambda s: list(s.optimize()), "up_blocks.1"),
        (lambda s: s.step(), "up_blocks.1"),
        (lambda s: list(s.denoise()), "down_blocks.0"),
        (lambda s: s.render(), "vae"),
        (lambda s: s.reconstruct(), "down_blocks.0"),
        (lambda s: s.run(progress=False), "vae"),
        (lambda s: (s.store.restore(dataclasses.replace(s.state, anchors=None)), s.anchors), "up_blocks.0"),
    ],
    ids=["invert", "optimize", "step", "denoise", "render", "reconstruct", "run", "anchors"],
)
def test_whatever_was_being_done(sd15: Any, call: Callable[[DragSession], Any], part: str, error: Exception) -> None:
    session = session_of(Model(sd15))
    session.step()
    session.store.engine.release()  # as after a rewind: the next look needs a forward
    module = sd15.vae.decoder if part == "vae" else sd15.unet.get_submodule(part)
    with exhausted(module, 0, error), pytest.raises(OutOfMemory) as caught:
        call(session)
    assert isinstance(caught.value, torch.cuda.OutOfMemoryError)
    assert_one_sentence(caught.value, "'cpu'", "128", "pixels", "session.config.replace(side=64)")
    assert session.step().iteration >= 1 and session.render().size == (75, 91)


def test_what_to_try_in_the_order_of_effect(sd15: Any) -> None:
    def sentence(model: Model, config: DragConfig) -> str:
        session = session_of(model, config)
        with exhausted(model.pipeline.unet.mid_block, 0, ERRORS[0]), pytest.raises(OutOfMemory) as caught:
            session.step()
        return str(caught.value)

    said = sentence(Model(sd15), QUICK)
    assert said.index("side=64") < said.index('memory="low"') < said.index("dtype=torch.bfloat16")
    assert "104x128 pixels" in said
    assert 'memory="low"' not in sentence(Model(build_sd15(), memory="low"), QUICK)
    assert "dtype" not in sentence(Model(build_sd15().to(torch.bfloat16)), QUICK)
    assert "side=192" in sentence(Model(sd15), QUICK.replace(side=256))
    assert "side=192" in sentence(Model(sd15), QUICK.replace(side=256, resize="shorter"))
    assert 'replace(resize="longer", side=64)' in sentence(Model(sd15), QUICK.replace(resize="never"))


def test_the_advice_works(sd15: Any) -> None:
    session = session_of(Model(sd15))
    session.step()
    large = session.latents.shape
    session.config = session.config.replace(side=64)
    assert not session.state.inverted and session.step().iteration == 1
    assert session.latents.shape[-2:] == (8, 8) and large[-2:] == (16, 13)
    assert session.render().size == (75, 91)


def test_memory_is_free_again_while_the_error_is_kept(sd15: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook keeps the last exception; what the failed frames held must not hang on it."""
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    session = session_of(Model(sd15))
    session.step()
    seen: list[weakref.ref[torch.Tensor]] = []
    watch = sd15.unet.up_blocks[0].register_forward_hook(lambda *args: seen.append(weakref.ref(args[-1])))
    session.store.engine.release()
    with exhausted(sd15.unet.up_blocks[1], 0, ERRORS[0]), pytest.raises(OutOfMemory) as caught:
        session.step()
    watch.remove()
    gc.collect()
    assert emptied and len(seen) == 1
    assert caught.value is not None and seen[0]() is None


def test_a_fit_gets_the_memory_that_the_session_can_do_without(sd15: Any) -> None:
    """The forward that looks ahead, the worn model and, when it fails, all that was being trained."""
    session, alone = session_of(Model(sd15)), session_of(Model(sd15))
    for one in (session, alone):
        list(one.fit_lora(1, rank=1, batch_size=1))
        one.step()
    worn = weakref.ref(session.store.engine.worn(session.state))
    leaf = weakref.ref(session.store.engine.editor(session.state)._look.decoded.feature)
    assert worn() is not None and leaf() is not None
    seen: list[Any] = []

    def watch(block: torch.nn.Module, _: Any) -> None:
        gc.collect()
        trained = [x for x in block.parameters() if x.requires_grad]  # a copy's, which has the hook too
        seen.append((worn() is None, leaf() is None, [weakref.ref(x) for x in trained]))

    hook = sd15.unet.mid_block.register_forward_pre_hook(watch)
    with exhausted(sd15.unet.up_blocks[1], 0, ERRORS[0]), pytest.raises(OutOfMemory) as caught:
        list(session.fit_lora(2, rank=2, batch_size=1))
    hook.remove()
    gc.collect()
    ((no_worn, no_leaf, trained),) = seen
    assert no_worn and no_leaf and len(trained) == 2 * 8
    assert caught.value is not None and not any(ref() is not None for ref in trained)
    assert session.lora is not None and session.lora.rank == 1
    for one in (session, alone):  # the edit goes on as if nothing had been
        one.step()
    assert torch.equal(session.bottleneck, alone.bottleneck)


def test_other_errors_pass_as_they_are(sd15: Any) -> None:
    session = session_of(Model(sd15))
    for error in (RuntimeError("something else"), KeyboardInterrupt()):
        with exhausted(sd15.unet.up_blocks[0], 0, error), pytest.raises(type(error)) as caught:
            session.step()
        assert caught.value is error
    assert not is_out_of_memory(ValueError("out of memory")) and all(map(is_out_of_memory, ERRORS))


def test_generating_without_memory(sd15: Any) -> None:
    with exhausted(sd15.unet.mid_block, 2, ERRORS[0]), pytest.raises(OutOfMemory) as caught:
        DragSession.from_prompt(Model(sd15), "a fox", steps=3, progress=False)
    assert_one_sentence(caught.value, "generating 128x128", "smaller size", 'memory="low"')
