"""A session as one file: all of it, to the bit; whole at any moment; and nothing broken gets in."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import QUICK, assert_one_sentence, assert_same_snapshots, fingerprint, quick_session, smooth_picture
from PIL import Image
from pipelines import build_three_block
from properties import given, settings, st

from dragnoise import DragSession, Model, ModelInfo, atomic_write, load_model
from dragnoise.archive import ArchiveError
from dragnoise.archive.documents import LARGEST
from dragnoise.interrupts import OutOfMemory
from dragnoise.lora.files import pack
from dragnoise.models import fingerprint as model_fingerprint
from dragnoise.plots import plot_anchor_motion, plot_bottleneck, plot_latents, plot_loss, plot_trajectory


@pytest.fixture(scope="module")
def saved(small: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of four iterations, one of them thinned, with a LoRA whose fit could go on."""
    session = quick_session(small)
    next(session.fit_lora(2, rank=1, batch_size=1))
    session.step()
    session.step()
    session.config = session.config.replace(lr=0.05)
    session.mask = None
    session.step()
    session.step()
    session.history_limit = 4 * session.history[1].nbytes
    return session.branch(name="saved").save(tmp_path_factory.mktemp("saved") / "edit.drag")


def assert_same(one: DragSession, other: DragSession) -> None:
    for name in ("drags", "config", "prompt", "name", "origin", "history_limit", "inverted", "status", "frame"):
        assert getattr(one, name) == getattr(other, name), name
    np.testing.assert_array_equal(np.asarray(one.image), np.asarray(other.image))
    np.testing.assert_array_equal(one.mask, other.mask)
    assert len(one.trajectory) == len(other.trajectory)
    assert all(torch.equal(a, b) for a, b in zip(one.trajectory, other.trajectory, strict=True))
    assert (one.lora is None) == (other.lora is None)
    if one.lora is not None and other.lora is not None:
        (mine, numbers), (its, others) = pack(one.lora), pack(other.lora)
        assert numbers == others and mine.keys() == its.keys()
        assert all(torch.equal(mine[name], its[name]) for name in its)
    assert_same_snapshots(one.history, other.history)
    assert [s.is_whole for s in one.history] == [s.is_whole for s in other.history]
    assert [s.seconds for s in one.history] == [s.seconds for s in other.history]


# ---- all of it, to the bit


def test_going_on_gives_the_bits_of_a_session_never_closed(small: Model, tmp_path: Path) -> None:
    whole = quick_session(small, 6)
    session = quick_session(small, 3)
    session.save(tmp_path / "edit.drag")
    opened = DragSession.open(tmp_path / "edit.drag", small)
    assert_same(opened, session)
    for _ in range(3):
        opened.step()
    assert_same_snapshots(opened.history, whole.history)
    np.testing.assert_array_equal(opened.anchors, whole.anchors)
    np.testing.assert_array_equal(np.asarray(opened.render()), np.asarray(whole.render()))
    opened.rewind(1)
    opened.step()
    assert torch.equal(opened.bottleneck, whole.history[2].bottleneck)


def test_a_model_may_come_later(small: Model, tmp_path: Path) -> None:
    whole = quick_session(small, 4)
    opened = DragSession.open(quick_session(small, 3).save(tmp_path / "edit.drag"))
    assert opened.model is None
    opened.model = small
    opened.step()
    assert_same_snapshots(opened.history, whole.history)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: DragSession(model, smooth_picture(50, 40)),
        lambda model: DragSession(model, smooth_picture(1, 1), "\ud800 ∞\n", history_limit=math.inf, name="ein Zweig"),
        lambda model: DragSession(model, Image.new("RGBA", (301, 7), (1, 2, 3, 4)), config=QUICK.replace(side=72)),
        lambda model: quick_session(model, 1).branch(0),
        lambda model: quick_session(model, 5, history_limit=1),
        lambda model: quick_session(model, 7),
    ],
    ids=["bare", "odd text", "odd picture", "branch", "thinned", "finished"],
)
def test_everything_comes_back(small: Model, tmp_path: Path, make: Callable[[Model], DragSession]) -> None:
    session = make(small)
    path = session.save(tmp_path / "edit.drag")
    for model in (None, small):
        opened = DragSession.open(path, model)
        assert_same(opened, session)
        np.testing.assert_array_equal(opened.anchors, session.anchors)
        assert opened.save(tmp_path / "again.drag").read_bytes() == path.read_bytes()


def test_an_inverted_session_without_drags(small: Model, tmp_path: Path) -> None:
    session = DragSession(small, smooth_picture(30, 30), config=QUICK)
    list(session.invert())
    opened = DragSession.open(session.save(tmp_path / "edit.drag"), small)
    opened.invert = lambda: pytest.fail("the inversion was saved")  # type: ignore[method-assign]
    np.testing.assert_array_equal(np.asarray(opened.reconstruct()), np.asarray(session.reconstruct()))


def test_a_half_done_inversion_is_not_kept(small: Model, tmp_path: Path) -> None:
    session = DragSession(small, smooth_picture(30, 30), config=QUICK)
    next(session.invert())
    assert not DragSession.open(session.save(tmp_path / "edit.drag")).inverted


def test_the_lora_goes_with_it(small: Model, tmp_path: Path) -> None:
    session = quick_session(small)
    steps = session.fit_lora(3, rank=2, batch_size=1)
    next(steps), next(steps)
    session.lora_weight = 0.5
    session.step()
    opened = DragSession.open(session.save(tmp_path / "edit.drag"), small)
    assert_same(opened, session)
    assert opened.lora is not None and session.lora is not None
    assert opened.lora_weight == 0.5 and opened.lora.losses == session.lora.losses
    for one in (session, opened):
        one.step()
    assert_same_snapshots(opened.history, session.history)
    for one in (session, opened):  # and the fit itself goes on where it was
        assert len(list(one.fit_lora(3, rank=2, batch_size=1))) == 1
    mine, its = opened.lora.adapters, session.lora.adapters
    assert all(
        torch.equal(mine[name].up, its[name].up) and torch.equal(mine[name].down, its[name].down) for name in its
    )


def test_looking_needs_no_model(saved: Path, tmp_path: Path) -> None:
    session = DragSession.open(saved)
    assert len(session.history) == 5 and session.bottleneck.shape == session.history[0].bottleneck.shape
    assert session.latents.shape == session.trajectory[-1].shape
    for plot in (plot_loss, plot_anchor_motion, plot_trajectory, plot_bottleneck, plot_latents):
        np.asarray(plot(session)).flat[0].figure.draw_without_rendering()
    assert len(session.branch(2).history) == 3
    session.rewind(2)
    np.testing.assert_array_equal(session.anchors, session.history[2].anchors)
    session.save(tmp_path / "rewound.drag")
    assert len(DragSession.open(tmp_path / "rewound.drag").history) == 3


NEEDS_MODEL: dict[str, Callable[[DragSession], Any]] = {
    "step": lambda s: s.step(),
    "optimize": lambda s: list(s.optimize()),
    "invert": lambda s: list(s.invert()),
    "denoise": lambda s: list(s.denoise()),
    "render": lambda s: s.render(),
    "reconstruct": lambda s: s.reconstruct(),
    "run": lambda s: s.run(progress=False),
    "picture_of": lambda s: s.picture_of(torch.zeros(1, 4, 16, 16)),
    "fit_lora": lambda s: list(s.fit_lora(1)),
    "load_lora": lambda s: s.load_lora("lora.safetensors"),
    "a thinned snapshot": lambda s: s.snapshot(1),
    "into a gap": lambda s: s.rewind(1),
    "other numbers": lambda s: setattr(s, "config", s.config.replace(edit_from=1)),
}


@pytest.mark.parametrize("name", NEEDS_MODEL)
def test_going_on_needs_one(saved: Path, name: str) -> None:
    session = DragSession.open(saved)
    before = fingerprint(session)
    with pytest.raises(RuntimeError) as caught:
        NEEDS_MODEL[name](session)
    assert_one_sentence(caught.value, "session.model =", "model= to DragSession.open()")
    assert fingerprint(session) == before


def test_another_kind_of_model_is_refused(saved: Path, sd15: Any, small: Model) -> None:
    other = Model(sd15, name="another")
    with pytest.raises(ValueError) as caught:
        DragSession.open(saved, other)
    assert_one_sentence(caught.value, "'another'", repr(small.name))
    session = DragSession.open(saved)
    before = fingerprint(session)
    with pytest.raises(ValueError, match="another"):
        session.model = other
    with pytest.raises(TypeError, match="load_model"):
        session.model = "sd15"  # type: ignore[assignment]
    assert fingerprint(session) == before and session.model is None


def small_model(dtype: torch.dtype = torch.float32, *, seed: int = 0, **scheduler: Any) -> Model:
    """One of the shapes of `small`, with other weights for another seed."""
    pipeline = build_three_block().to(dtype)
    if seed:
        with torch.no_grad():
            next(iter(pipeline.unet.mid_block.parameters())).mul_(1.001)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **scheduler)
    return Model(pipeline, name="given")


OTHERS: dict[str, tuple[Callable[[], Model], str]] = {
    "weights": (lambda: small_model(seed=1), "other weights"),
    "a VAE": (lambda: with_other_vae(small_model()), "other weights"),
    "another prediction": (lambda: small_model(prediction_type="v_prediction"), "'v_prediction' instead of 'epsilon'"),
    "another schedule": (lambda: small_model(beta_end=0.02), "noise schedule"),
}


def with_other_vae(model: Model) -> Model:
    with torch.no_grad():
        next(model.vae.parameters()).neg_()
    return model


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_of_the_same_shapes_is_refused(saved: Path, small: Model, name: str) -> None:
    make, said = OTHERS[name]
    other, looked_at = make(), DragSession.open(saved)
    before = fingerprint(looked_at)
    for give in (lambda: DragSession.open(saved, other), lambda: setattr(looked_at, "model", other)):
        with pytest.raises(ValueError) as caught:
            give()
        assert_one_sentence(caught.value, "'given'", repr(small.name), said, "afresh=True")
    assert fingerprint(looked_at) == before and looked_at.model is None
    assert len(looked_at.history) == 5  # looking is always possible
    session = DragSession.open(saved, other, afresh=True)
    assert session.drags == looked_at.drags and session.config == looked_at.config
    assert not session.state.inverted and not session.history and session.lora is None
    session.step()
    assert DragSession.open(session.save(saved.parent / "afresh.drag")).made_with == other.info


def test_a_lora_is_not_put_on_another_model_either(small: Model, tmp_path: Path) -> None:
    session = quick_session(small)
    next(session.fit_lora(1, rank=1, batch_size=1))
    path = session.save(tmp_path / "edit.drag")
    with pytest.raises(ValueError, match="other weights"):
        DragSession.open(path, small_model(seed=1))
    bare = DragSession.open(path)
    bare.lora = None
    bare.model = small_model(seed=1)  # now it holds nothing that a model has made
    assert bare.step().iteration == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_weights_in_another_dtype_go_on_with_a_warning(saved: Path, dtype: torch.dtype) -> None:
    with pytest.warns(UserWarning) as warned:
        session = DragSession.open(saved, small_model(dtype))
    (warning,) = warned
    assert_one_sentence(warning.message, "float32 on cpu", f"{str(dtype).removeprefix('torch.')} on cpu")
    assert session.step().iteration == 5
    with pytest.raises(ValueError, match="other weights"):
        DragSession.open(saved, with_other_vae(small_model(dtype)))


def test_the_same_weights_on_another_device_go_on_with_a_warning(saved: Path, small: Model, tmp_path: Path) -> None:
    path = change(saved, tmp_path / "gpu.drag", *told("model", "device", value="cuda"))
    with pytest.warns(UserWarning, match="float32 on cuda and goes on in float32 on cpu"):
        assert DragSession.open(path, small).step().iteration == 5


@pytest.mark.filterwarnings("error")
def test_the_same_model_made_again_goes_on_in_silence(saved: Path) -> None:
    assert DragSession.open(saved, small_model()).step().iteration == 5


@pytest.mark.filterwarnings("error")
def test_files_without_a_fingerprint_open_as_before(saved: Path, tmp_path: Path) -> None:
    for model in ({"name": "old", "fingerprint": ""}, {"name": "old"}):
        path = change(saved, tmp_path / "old.drag", *told("model", value=model))
        assert DragSession.open(path).made_with == ModelInfo(name="old")
        assert DragSession.open(path, small_model(seed=1)).step().iteration == 5


def test_a_file_says_how_to_load_its_model(tmp_path: Path) -> None:
    pipeline = build_three_block()
    pipeline.save_pretrained(tmp_path / "model")
    pipeline.vae.save_pretrained(tmp_path / "vae")
    model = load_model(tmp_path / "model", device="cpu", vae=tmp_path / "vae", prediction="v_prediction")
    path = quick_session(model, 1).save(tmp_path / "edit.drag")
    info = DragSession.open(path).made_with
    assert info == model.info
    assert info.name == str(tmp_path / "model") and (info.dtype, info.device) == ("float32", "cpu")
    assert info.options == {"vae": str(tmp_path / "vae"), "prediction": "v_prediction"}
    again = DragSession.open(path, load_model(info.name, dtype=info.dtype, **info.options))
    assert again.made_with == info and again.step().iteration == 2
    given = load_model(tmp_path / "model", device="cpu", vae=pipeline.vae, memory="low")
    assert given.info.options == {"memory": "low"} and given.info.prediction == "epsilon"


def test_a_fingerprint_is_made_once_and_looks_at_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    digests = model_fingerprint.digests
    monkeypatch.setattr(model_fingerprint, "digests", lambda model: (calls.append(1), digests(model))[1])
    model = small_model()
    session = quick_session(model)
    for _ in range(3):
        session.branch()
        assert session.made_with == model.info
    assert calls == [1]
    seen = digests(model)
    for part in ("unet", "vae", "text_encoder"):
        for name, tensor in getattr(model.pipeline, part).state_dict().items():
            if tensor.is_floating_point() and tensor.numel():
                kept = tensor.flatten()[0].clone()
                tensor.view(-1)[0] = -1 - kept.abs()
                now = digests(model)
                assert now[0] != seen[0] and (now[1] != seen[1] or kept < 0), (part, name)
                tensor.view(-1)[0] = kept
    assert digests(model) == seen


def test_another_model_in_a_session_starts_afresh(small: Model, sd15: Any) -> None:
    session = quick_session(small, 2)
    session.model = Model(sd15)
    assert not session.state.inverted and not session.history and len(session.drags) == 2
    assert session.step().iteration == 1 and session.render().size == (50, 40)


def test_numbers_of_numpy_can_be_saved(small: Model, tmp_path: Path) -> None:
    session = quick_session(small)
    numbers = {"lr": np.float32(0.1), "r1": np.int64(1), "mask_weight": np.float64(0.5), "side": np.int32(64)}
    session.config = session.config.replace(**numbers)
    session.step()
    assert DragSession.open(session.save(tmp_path / "edit.drag")).config == session.config


# ---- the file is whole at any moment


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills and limits a child process")


def in_child(work: Callable[[], int]) -> int:
    """The pid of a copy of this process that does the work and no more."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = work()
        finally:
            os._exit(code)
    return pid


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_at_any_moment_leaves_a_whole_file(small: Model, tmp_path: Path) -> None:
    sessions = {n: quick_session(small, n) for n in (2, 4)}
    for session in sessions.values():
        assert session.anchors is not None  # so that saving computes nothing
    path = sessions[2].save(tmp_path / "edit.drag")
    contents = [path.read_bytes(), sessions[4].save(path).read_bytes()]
    started = time.perf_counter()
    sessions[4].save(path)
    takes = time.perf_counter() - started  # much longer on a busy machine

    def keep_saving() -> int:
        while True:
            for session in sessions.values():
                session.save(path)

    rng, seen, until = random.Random(7), set(), time.monotonic() + 12
    for _ in range(80):
        child = in_child(keep_saving)
        time.sleep(rng.uniform(0, 4 * takes))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.add(contents.index(path.read_bytes()))  # one of the two, and nothing in between
        if time.monotonic() > until:
            break
    assert seen == {0, 1} and len(DragSession.open(path).history) in (3, 5)
    sessions[2].save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["edit.drag"]  # what the killed ones left is gone


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_full_disk_leaves_the_old_file(small: Model, tmp_path: Path) -> None:
    import resource

    small_one, large = quick_session(small, 1), quick_session(small, 5)
    path = small_one.save(tmp_path / "edit.drag")
    old, size = path.read_bytes(), large.save(tmp_path / "large.drag").stat().st_size
    (tmp_path / "large.drag").unlink()

    def save_with(limit: int) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            large.save(path)
        except OSError as error:
            assert_one_sentence(error, "edit.drag", "still there")
            return 3
        return 0

    for limit in (0, 1, 100, size // 2, size - 1):
        _, status = os.waitpid(in_child(lambda limit=limit: save_with(limit)), 0)  # type: ignore[misc]
        assert os.waitstatus_to_exitcode(status) == 3
        assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["edit.drag"]
    _, status = os.waitpid(in_child(lambda: save_with(size)), 0)
    assert os.waitstatus_to_exitcode(status) == 0 and len(DragSession.open(path).history) == 6


def mount_small_disk(folder: Path, size: int) -> bool:
    """Put a file system of so many bytes on a folder, for this process alone; False where that is not allowed."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, new_user, private = 0x20000, 0x10000000, 0x44000
    if not hasattr(libc, "unshare") or libc.unshare(new_mounts | (0 if os.geteuid() == 0 else new_user)):
        return False
    libc.mount(b"none", b"/", None, private, None)
    return libc.mount(b"none", bytes(folder), b"tmpfs", 0, f"size={size}".encode()) == 0


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_small_file_system_that_is_full_keeps_the_old_file(small: Model, tmp_path: Path) -> None:
    small_one, large = quick_session(small, 1), quick_session(small, 5)
    sizes = [s.save(tmp_path / f"{i}.drag").stat().st_size for i, s in enumerate((small_one, large))]
    disk = tmp_path / "disk"
    disk.mkdir()

    def fill() -> int:
        if not mount_small_disk(disk, sizes[0] + sizes[1] - 8192):
            return 4
        old = small_one.save(disk / "edit.drag").read_bytes()
        for _ in range(3):
            try:
                large.save(disk / "edit.drag")
            except OSError as error:
                assert_one_sentence(error, "No space left", "still there")
            else:
                return 5
            if (disk / "edit.drag").read_bytes() != old or len(list(disk.iterdir())) != 1:
                return 6
        (disk / "edit.drag").unlink()  # room again
        large.save(disk / "edit.drag")
        return 3 if len(DragSession.open(disk / "edit.drag").history) == 6 else 7

    _, status = os.waitpid(in_child(fill), 0)
    if (code := os.waitstatus_to_exitcode(status)) == 4:
        pytest.skip("this system lets nobody mount a small file system")
    assert code == 3 and not list(disk.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_while_writing_leaves_nothing(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    session = quick_session(small, 2)
    path = session.save(tmp_path / "edit.drag")
    old = path.read_bytes()
    written, real = 0, zipfile.ZipFile.writestr
    for fails_at in range(6):

        def write(self: zipfile.ZipFile, *given: Any, fails_at: int = fails_at) -> None:
            nonlocal written
            written += 1
            if written > fails_at:
                raise error
            real(self, *given)

        written = 0
        monkeypatch.setattr(zipfile.ZipFile, "writestr", write)
        with pytest.raises(type(error)):
            session.save(path)
        assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_links_and_strange_names(small: Model, tmp_path: Path) -> None:
    session = quick_session(small)
    real = tmp_path / "new folder" / "a [b] *.drag"
    assert session.save(real) == real
    (tmp_path / "link.drag").symlink_to(real)
    session.name = "through the link"
    session.save(str(tmp_path / "link.drag"))
    assert (tmp_path / "link.drag").is_symlink() and DragSession.open(real).name == "through the link"
    (real.parent / f".{real.name}.0123.part").write_bytes(b"of a killed writer")
    session.save(real)
    assert list(real.parent.iterdir()) == [real]


@pytest.mark.skipif(atomic_write.fcntl is None, reason="this system has no such locks")
@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_without_locks_what_is_a_day_old_is_swept(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic_write.fcntl, "flock", flock)
    path, old, young = (tmp_path / name for name in ("edit.drag", ".edit.drag.01.part", ".edit.drag.02.part"))
    for part, age in ((old, 25), (young, 23)):
        part.write_bytes(b"of a writer")
        os.utime(part, (time.time() - age * 3600,) * 2)
    quick_session(small).save(path)
    assert sorted(tmp_path.iterdir()) == [young, path]


@pytest.mark.skipif(atomic_write.fcntl is None, reason="this system has no such locks")
def test_what_is_being_written_is_not_swept_however_old(small: Model, tmp_path: Path) -> None:
    path, part = tmp_path / "edit.drag", tmp_path / ".edit.drag.01.part"
    with part.open("wb") as writer:
        atomic_write.fcntl.flock(writer, atomic_write.fcntl.LOCK_EX)
        os.utime(part, (0, 0))
        quick_session(small).save(path)
        assert sorted(tmp_path.iterdir()) == [part, path]
    quick_session(small).save(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", [3, None, b"edit.drag", "", "a\0b", "."])
def test_what_is_no_path(small: Model, path: Any) -> None:
    session = quick_session(small)
    for call in (session.save, DragSession.open):
        with pytest.raises((TypeError, ValueError, OSError)) as caught:
            call(path)
        assert_one_sentence(caught.value, repr(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        DragSession.open(tmp_path / "nothing.drag")
    assert_one_sentence(caught.value, "nothing.drag", "session.save()")


# ---- saving by itself


def test_autosave(small: Model, tmp_path: Path) -> None:
    path = tmp_path / "edit.drag"
    session = quick_session(small, autosave=path, every=2)
    list(session.invert())
    assert DragSession.open(path).inverted
    for wanted in (0, 2, 2, 4, 4, 6):  # 6 iterations are all
        session.step()
        assert len(DragSession.open(path).history) - 1 == wanted
    assert session.branch().store.autosaved is None
    session.autosave(None)
    path.unlink()
    session.step()
    assert not path.exists()


def test_autosave_never_stops_the_edit(small: Model, tmp_path: Path) -> None:
    session = quick_session(small, 1)
    session.autosave(tmp_path, every=1)  # a folder cannot be written
    with pytest.warns(RuntimeWarning, match=r"the edit goes on.*folder"):
        session.step()
    assert len(session.history) == 3


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=repr)
def test_opening_without_memory_does_not_call_the_file_broken(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = quick_session(small, 1).save(tmp_path / "edit.drag")

    def full(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch, pytest.raises(OutOfMemory) as caught:
        patch.setattr("dragnoise.archive.decoding._trajectory", full)
        DragSession.open(path)
    assert_one_sentence(caught.value, "edit.drag", "memory is used up")
    assert len(DragSession.open(path, small).history) == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory is used up"), (torch.cuda.OutOfMemoryError("CUDA out of memory"), "memory is used up"),
        (RuntimeError("no such luck."), "no such luck"), (ValueError("too large."), "too large"),
    ],
)  # fmt: skip
def test_autosave_never_stops_the_edit_whatever_fails(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    session = quick_session(small, 1, autosave=tmp_path / "edit.drag", every=1)

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.warns(RuntimeWarning, match=f"the edit goes on: .*{said}"):
        assert session.step().iteration == 2
    with pytest.warns(RuntimeWarning, match="the edit goes on"):
        assert len(list(session.fit_lora(1, rank=1, batch_size=1))) == 1
    assert session.lora is not None and session.lora.steps == 1


def test_autosave_keeps_a_fit(small: Model, tmp_path: Path) -> None:
    path = tmp_path / "edit.drag"
    session = quick_session(small, autosave=path, every=2)
    kept = []
    for _ in session.fit_lora(5, rank=1, batch_size=1):
        lora = DragSession.open(path).lora if path.exists() else None
        kept.append(lora.steps if lora else 0)
    assert kept == [0, 2, 2, 4, 5]
    going_on = DragSession.open(path, small)
    assert [s.step for s in going_on.fit_lora(6, rank=1, batch_size=1)] == [6]


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", None, True])
def test_autosave_wants_a_number(small: Model, tmp_path: Path, every: Any) -> None:
    session = quick_session(small)
    session.autosave(tmp_path / "edit.drag", every=3)
    with pytest.raises(ValueError) as caught:
        session.autosave(tmp_path / "other.drag", every=every)
    assert_one_sentence(caught.value, repr(every))
    assert session.store.autosaved is not None
    assert (session.store.autosaved.path, session.store.autosaved.every) == (tmp_path / "edit.drag", 3)


# ---- broken and hostile files


def change(saved: Path, to: Path, entry: str, change: Callable[[bytes], bytes | None]) -> Path:
    """A copy with one entry changed, added (its old bytes are empty) or left out (None)."""
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(to, "w") as new:
        names = old.namelist() + [entry] * (entry not in old.namelist())
        for name in names:
            data: bytes | None = old.read(name) if name in old.namelist() else b""
            if name == entry:
                data = change(data or b"")
            if data is not None:
                new.writestr(zipfile.ZipInfo(name), data)
    return to


def told(*path: Any, value: Any) -> tuple[str, Callable[[bytes], bytes]]:
    """Change a value in session.json."""

    def edit(data: bytes) -> bytes:
        whole = json.loads(data)
        inner = whole
        for key in path[:-1]:
            inner = inner[key]
        if value is DELETED:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        return json.dumps(whole).encode()

    return "session.json", edit


DELETED = object()


def tensors(name: str, **changes: Callable[[Any], Any]) -> tuple[str, Callable[[bytes], bytes]]:
    """Change tensors of a safetensors entry, or leave them out (None)."""

    def edit(data: bytes) -> bytes:
        held = safetensors.torch.load(data)
        for key, function in changes.items():
            held[key] = function(held.get(key))
        return safetensors.torch.save({k: x.contiguous() for k, x in held.items() if x is not None})

    return name, edit


def with_value(number: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def put(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x.view(-1)[-1] = number
        return x

    return put


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 255 if mode == "L" else None).save(buffer, "PNG")
    return buffer.getvalue()


def grey_png(width: int, height: int, value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), value).save(buffer, "PNG")
    return buffer.getvalue()


def huge_png(data: bytes) -> bytes:
    """The same data, said to be 2**30 pixels wide and high."""
    header = bytearray(data)
    header[16:24] = (2**30).to_bytes(4, "big") * 2
    import zlib

    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    return bytes(header)


IT = "iterations/4.safetensors"
HOSTILE: dict[str, tuple[tuple[str, Callable[[bytes], bytes | None]], str]] = {
    "another version": (told("version", value=3), "version 3"),
    "a version before the first": (told("version", value=0), "version 0"),
    "a version of another layout": (told("version", value=1), "loss"),
    "an unknown field": (told("colour", value="red"), "'colour'"),
    "an unknown field of an iteration": (told("history", 2, "colour", value="red"), "'colour'"),
    "a loss too few": (told("history", 2, "losses", value={"mask": 1.0}), "losses"),
    "a loss that is text": (told("history", 2, "losses", "mask", value="1.0"), "mask"),
    "anchors that are text": (told("history", 2, "anchors", value=[["1", 1], [2, 3]]), "anchors"),
    "an origin too short": (told("origin", value=["main"]), "origin"),
    "a step below the schedule": (told("history", 2, "state", "step", value=-1), "step"),
    "a version that is none": (told("version", value="1"), "version"),
    "another format": (told("format", value="zip"), "'zip'"),
    "no numbers": (("session.json", lambda _: None), "session.json"),
    "numbers that are none": (("session.json", lambda _: b"\xff{"), "broken"),
    "deep numbers": (("session.json", lambda _: b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "deep"),
    "endless numbers": (("session.json", lambda d: d + b" " * 2**25), "bytes"),
    "a list": (("session.json", lambda _: b"[]"), "session.json"),
    "NaN": (("session.json", lambda d: d.replace(b'"seconds": ', b'"seconds": NaN, "x": ')), "NaN"),
    "infinity": (told("history", 2, "loss", value=1e999), "Infinity"),
    "a number too large": (told("history", 2, "loss", value=10**400), "loss"),
    "no prompt": (told("prompt", value=DELETED), "prompt"),
    "a prompt that is no text": (told("prompt", value=["a"]), "prompt"),
    "a drag outside": (told("drags", 0, 0, value=[50.0, 1.0]), "outside the picture"),
    "a drag that is none": (told("drags", 0, value=[[1, 1]]), "broken"),
    "too many drags": (told("drags", value=[[[1, 1], [2, 2]]] * 3), "anchors"),
    "no drags": (told("drags", value=[]), "drags"),
    "a wrong number": (told("configs", 0, "lr", value=-1), "lr=-1"),
    "an unknown number": (told("configs", 0, "power", value=9000), "power"),
    "no such config": (told("config", value=7), "config"),
    "a negative config": (told("history", 1, "config", value=-1), "config"),
    "no such mask": (told("mask", value=7), "mask"),
    "many masks": (told("masks", value=10**9), "masks"),
    "another frame": (told("frame", "working", value=[64, 999]), "frame"),
    "a huge frame": (told("frame", "working", value=[10**9, 10**9]), "frame"),
    "another size": (told("frame", "given", value=[51, 40]), "frame"),
    "an unknown status": (told("history", 2, "status", value="done"), "status"),
    "iterations out of order": (told("history", 2, "iteration", value=3), "iteration 3"),
    "no anchors": (told("history", 2, "anchors", value=[]), "anchors"),
    "anchors that are none": (told("history", 2, "anchors", value=[["a", 1], [2, 3]]), "anchors"),
    "ragged anchors": (told("history", 2, "anchors", value=[[1], [2, 3]]), "anchors"),
    "distances that are none": (told("history", 2, "distances", value=[1.0]), "distances"),
    "a loss that is none": (told("history", 2, "loss", value=None), "loss"),
    "no updates": (told("history", 4, "state", "count", value=0), "count"),
    "the last one thinned": (told("history", 4, "state", "tensors", value=None), "last"),
    "a whole one that is not there": (told("history", 1, "state", "tensors", value=["bottleneck"]), "iterations/1"),
    "no latents": (told("latents", value=0), "latents"),
    "too few latents": (tensors("latents.safetensors", latents=lambda x: x[1:]), "latents"),
    "flat latents": (tensors("latents.safetensors", latents=lambda x: x.flatten(1)), "latents"),
    "half latents": (tensors("latents.safetensors", latents=lambda x: x.half()), "float16"),
    "NaN latents": (tensors("latents.safetensors", latents=with_value(math.nan)), "finite"),
    "an infinite bottleneck": (tensors(IT, bottleneck=with_value(math.inf)), "finite"),
    "another bottleneck": (tensors(IT, bottleneck=lambda x: x[:, 1:]), "shapes"),
    "all of another shape": (
        tensors(IT, **{k: lambda x: x[:, 1:] for k in ("bottleneck", "adam.first", "adam.second")}), "different shapes",
    ),
    "no moments": (tensors(IT, **{"adam.first": lambda _: None}), "'adam.first'"),
    "a tensor too many": (tensors(IT, third=lambda _: torch.zeros(3)), "'third'"),
    "whole numbers": (tensors(IT, **{"adam.first": lambda x: x.long()}), "int64"),
    "no tensors": ((IT, lambda _: None), IT),
    "tensors that are none": ((IT, lambda d: d[:-4]), IT),
    "a header without end": ((IT, lambda d: (2**60).to_bytes(8, "little") + d[8:]), IT),
    "no picture": (("picture.png", lambda _: None), "picture.png"),
    "a picture that is none": (("picture.png", lambda _: b"GIF89a"), "picture.png"),
    "half a picture": (("picture.png", lambda d: d[: len(d) // 2]), "picture.png"),
    "a huge picture": (("picture.png", huge_png), "1073741824"),
    "a grey picture": (("picture.png", lambda _: png(50, 40, "L")), "mode 'L'"),
    "another picture": (("picture.png", lambda _: png(51, 40)), "frame"),
    "a mask of another size": (("masks/0.png", lambda _: png(40, 50, "L")), "masks/0.png"),
    "no mask": (("masks/0.png", lambda _: None), "masks/0.png"),
    "a way out": (("../../outside.txt", lambda _: b"x"), "../../outside.txt"),
    "an absolute name": (("/etc/passwd", lambda _: b"x"), "/etc/passwd"),
    "a pickle": (("history.pkl", lambda _: b"cos\nsystem\n(S'true'\ntR."), "history.pkl"),
    "a black mask": (("masks/0.png", lambda _: grey_png(50, 40, 0)), "empty"),
    "a mask of nobody": (told("masks", value=2), "masks/1.png"),
    "no model": (told("model", value=None), "model"),
    "a model without a name": (told("model", "name", value=DELETED), "name"),
    "a model's name that is none": (told("model", "name", value=3), "name"),
    "a fingerprint that is none": (told("model", "fingerprint", value=[1]), "fingerprint"),
    "a dtype that is none": (told("model", "dtype", value=None), "dtype"),
    "options that are none": (told("model", "options", value=["vae"]), "options"),
    "an unknown option": (told("model", "options", value={"trust_remote_code": "1"}), "trust_remote_code"),
    "an option that is no text": (told("model", "options", value={"vae": {"a": 1}}), "vae"),
    "a LoRA that is none": (told("lora", value={"scales": {}}), "lora"),
    "no LoRA": (("lora.safetensors", lambda _: None), "lora.safetensors"),
    "a LoRA's numbers alone": (told("lora", value=None), "lora.safetensors"),
    "a LoRA's fit without losses": (told("lora", "losses", value=[]), "losses"),
    "a LoRA's fit of nothing": (told("lora", "key", value=None), "key"),
    **{
        f"a loss scale of {value!r}": (told("lora", "loss_scale", value=value), "loss_scale")
        for value in (0.0, -1.0, 0.5, 2.0**17, 10**400, "1", None, True, [1.0])
    },
    "a loss scale that is no number": (
        ("session.json", lambda d: d.replace(b'"loss_scale": 1.0', b'"loss_scale": NaN')), "NaN",
    ),
    "a loss scale beyond a float": (
        ("session.json", lambda d: d.replace(b'"loss_scale": 1.0', b'"loss_scale": 1e999')), "loss_scale",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_named_and_refused(saved: Path, tmp_path: Path, name: str) -> None:
    (entry, how), said = HOSTILE[name]
    path = change(saved, tmp_path / "hostile.drag", entry, how)
    with pytest.raises(ArchiveError) as caught:
        DragSession.open(path)
    assert_one_sentence(caught.value, "hostile.drag", said)
    assert list(tmp_path.iterdir()) == [path]


def test_an_unchanged_copy_is_not_refused(saved: Path, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    for entry, how in (("session.json", lambda d: d), told("name", value="copy"), tensors(IT)):
        DragSession.open(change(saved, tmp_path / "copy.drag", entry, how))  # type: ignore[arg-type]


def test_two_entries_of_one_name(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.drag"
    path.write_bytes(saved.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("session.json", b"{}")
    with pytest.raises(ArchiveError, match=r"'session.json' twice"):
        DragSession.open(path)


def test_a_bomb_by_actual_size(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.drag"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("session.json", b" " * 2**26)
    with pytest.raises(ArchiveError, match="compressed"):
        DragSession.open(path)


def test_a_bomb_by_declared_size(saved: Path, tmp_path: Path) -> None:
    """Both sizes of an entry in the central directory say 3 GiB."""
    data = bytearray(saved.read_bytes())
    where = data.rindex(b"PK\x01\x02")
    data[where + 20 : where + 28] = (3 * 2**30).to_bytes(4, "little") * 2
    path = tmp_path / "bomb.drag"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="larger than the file"):
        DragSession.open(path)


def second_mask(saved: Path, to: Path, name: str = "masks/1.png") -> Path:
    """A copy with one mask more, that an iteration may have or not."""
    return change(
        change(saved, to.with_suffix(".one"), name, lambda _: grey_png(50, 40, 255)), to, *told("masks", value=2)
    )


def test_a_mask_that_nobody_has_is_refused(saved: Path, tmp_path: Path) -> None:
    path = second_mask(saved, tmp_path / "masks.drag")
    with pytest.raises(ArchiveError) as caught:
        DragSession.open(path)
    assert_one_sentence(caught.value, "masks/1.png")
    used = change(path, tmp_path / "used.drag", *told("history", 3, "mask", value=1))
    assert DragSession.open(used).history[3].mask.all()  # type: ignore[union-attr]


def test_more_masks_than_memory_has_are_refused_before_one_is_decoded(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = change(second_mask(saved, tmp_path / "a.drag"), tmp_path / "masks.drag", *told("mask", value=1))
    monkeypatch.setitem(LARGEST, "masks", 2 * 50 * 40)
    session = DragSession.open(path)
    assert len(session.history) == 5
    monkeypatch.setitem(LARGEST, "masks", 2 * 50 * 40 - 1)
    with pytest.raises(ValueError) as unsaved:
        session.save(tmp_path / "again.drag")
    assert_one_sentence(unsaved.value, "2 masks", "rewind")
    decoded: list[int] = []
    frombytes = Image.frombytes
    monkeypatch.setattr(Image, "frombytes", lambda mode, *given: (decoded.append(mode), frombytes(mode, *given))[1])
    with pytest.raises(ArchiveError) as caught:
        DragSession.open(path)
    assert_one_sentence(caught.value, "2 masks of 50x40 pixels")
    assert decoded == ["RGB"]


@settings(max_examples=300)
@given(st.data())
def test_flipped_bytes_give_the_same_or_the_error(saved: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        directory = data.draw(st.booleans())  # half of them where the zip's own fields are
        low = content.rindex(b"PK\x01\x02") - 400 if directory and b"PK\x01\x02" in content else 0
        where = data.draw(st.integers(max(low, 0), len(content) - 1))
        content[where] ^= data.draw(st.integers(1, 255))
    assert_same_or_refused(saved, bytes(content))


@settings(max_examples=60)
@given(st.data())
def test_truncated_files_give_the_error(saved: Path, data: st.DataObject) -> None:
    content = saved.read_bytes()
    where = data.draw(st.integers(0, len(content) - 1))
    path = saved.parent / "mutant.drag"
    path.write_bytes(content[:where])
    with pytest.raises(ArchiveError) as caught:
        DragSession.open(path)
    assert_one_sentence(caught.value, "mutant.drag")


def assert_same_or_refused(saved: Path, content: bytes) -> None:
    path = saved.parent / "mutant.drag"
    path.write_bytes(content)
    try:
        opened = DragSession.open(path)
    except ArchiveError as error:
        assert_one_sentence(error, "mutant.drag")
    else:
        assert_same(opened, DragSession.open(saved))


def test_saving_and_opening_never_unpickle(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    for name in ("loads", "load", "dumps", "dump", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("a pickle"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle"))
    DragSession.open(quick_session(small, 2).save(tmp_path / "edit.drag"), small)
