"""Atomic writing: whole files after a kill or on a full disk, permissions, links, and leftovers of killed writers."""

from __future__ import annotations

import errno
import io
import os
import random
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence, quick_session
from PIL import Image

from dragnoise import Model
from dragnoise.atomic_write import (
    SUFFIX,
    atomic_write,
    fcntl,
    require_writable,
    write_bytes,
    write_picture,
    write_text,
)

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions and signals")


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_writer_leaves_a_whole_file_and_its_leftovers_are_swept(tmp_path: Path) -> None:
    path, rng = tmp_path / "file.bin", random.Random(1)
    write_bytes(path, b"a" * 300_000)
    contents, left = {b"a" * 300_000, b"b" * 300_000}, 0
    for _ in range(20):
        child = os.fork()
        if child == 0:
            try:
                while True:
                    for content in contents:
                        write_bytes(path, content)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.read_bytes() in contents
        left = max(left, len(list(tmp_path.iterdir())) - 1)
    assert left <= 1, "each writer sweeps what the one before has left"
    write_bytes(tmp_path / "another.bin", b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["another.bin", "file.bin"], "whichever file was written"


def writers(small: Model) -> dict[str, Callable[[Path], Any]]:
    """Each way in which the package writes a file."""
    session = quick_session(small)
    list(session.fit_lora(1, rank=1, batch_size=1))
    return {
        "edit.drag": session.save,
        "picture.png": lambda path: write_picture(path, Image.new("RGB", (9, 9))),
        "lora.safetensors": session.save_lora,
        "text.json": lambda path: write_text(path, "new"),
    }


@pytest.mark.parametrize("name", ["edit.drag", "picture.png", "lora.safetensors", "text.json"])
@pytest.mark.parametrize("fails", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_full_disk_leaves_the_old_file(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fails: BaseException
) -> None:
    write = writers(small)[name]
    path = tmp_path / name
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise fails

    with monkeypatch.context() as patch, pytest.raises(type(fails)) as caught:
        patch.setattr(os, "fsync", fail)
        write(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    if isinstance(fails, OSError):
        assert_one_sentence(caught.value, name, "No space left")
    write(path)
    assert path.read_bytes() != b"old" and list(tmp_path.iterdir()) == [path]


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_a_normal_write(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "atomic", b"")
        (tmp_path / "normal").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "normal").stat().st_mode


@posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666, 0o755])
def test_a_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = write_bytes(tmp_path / "file", b"old")
    path.chmod(mode)
    write_bytes(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everything")
def test_a_file_without_write_permission_is_refused(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "file", b"old")
    path.chmod(0o444)
    with pytest.raises(OSError, match="Permission denied"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"


@posix
def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real = write_bytes(tmp_path / "folder" / "real", b"old")
    link, dangling, loop = (tmp_path / name for name in ("link", "dangling", "loop"))
    link.symlink_to(real)
    dangling.symlink_to(tmp_path / "folder" / "not yet")
    loop.symlink_to(loop)
    write_bytes(link, b"new")
    write_bytes(dangling, b"made")
    assert link.is_symlink() and real.read_bytes() == b"new"
    assert dangling.is_symlink() and (tmp_path / "folder" / "not yet").read_bytes() == b"made"
    with pytest.raises(OSError) as caught:
        write_bytes(loop, b"")
    assert caught.value.errno == errno.ELOOP


@posix
def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        kind = stat.S_IFMT(path.stat().st_mode)
        with pytest.raises(OSError):
            write_bytes(path, b"new")
        assert stat.S_IFMT(path.stat().st_mode) == kind


@pytest.mark.parametrize("name", ["a [b] *.txt", "ä" * 100, "x" * 255, ".hidden", "no suffix"])
def test_every_name_and_folder_works(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / "folder" / name
    assert write_text(path, "text ∞").read_text(encoding="utf-8") == "text ∞"
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as one:
        one.write(b"one")
        with atomic_write(path) as two:
            two.write(b"two")
        assert path.read_bytes() == b"two"
    assert path.read_bytes() == b"one" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(fcntl is None, reason="this system has no such locks")
def test_only_leftovers_are_swept(tmp_path: Path) -> None:
    old = time.time() - 25 * 3600
    swept = [tmp_path / f".other.bin.0a1b{SUFFIX}", tmp_path / ".lora.safetensors.0a1b2c.part"]
    kept = [tmp_path / name for name in (".download.part", ".lora.safetensors.young_01", "lora.part")]
    folders = [tmp_path / ".lora.safetensors.abcd_123", tmp_path / ".lora.safetensors.young_01"]
    for folder in folders:
        folder.mkdir()
        (folder / "lora.safetensors").write_bytes(b"half")
    os.utime(folders[0], (old, old))
    for path in (*swept, kept[0], kept[2]):
        path.write_bytes(b"of somebody")
    write_bytes(tmp_path / "lora.safetensors", b"new")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "lora.safetensors"])


def test_save_lora_leaves_no_folders(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = quick_session(small)
    list(session.fit_lora(1, rank=1, batch_size=1))
    made: list[object] = []
    monkeypatch.setattr("tempfile.mkdtemp", lambda *given, **_: made.append(given))
    path = session.save_lora(tmp_path / "lora.safetensors")
    assert session.lora is not None
    assert session.lora.to_bytes() == path.read_bytes() and not made


def test_pictures_get_the_format_of_their_suffix(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    for name, kind in (("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP")):
        assert Image.open(write_picture(tmp_path / name, picture)).format == kind
    for name in ("a.txt", "a", "a.drag"):
        with pytest.raises(ValueError) as caught:
            write_picture(tmp_path / name, picture)
        assert_one_sentence(caught.value, name, ".png")
    with pytest.raises(OSError, match="cannot be written"):
        write_picture(tmp_path / "b.jpg", picture.convert("RGBA"))
    assert not (tmp_path / "b.jpg").exists()


def test_a_place_that_cannot_be_written_is_told_beforehand(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "file")
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").write_bytes(b"old")
    for path in (tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="cannot be written"):
            require_writable(path)
    require_writable(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_program_that_measures_looks_at_its_output_first_and_prints_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dragnoise.toyland import suite

    measured: list[object] = []

    def run(**given: Any) -> tuple[list[Any], list[Any]]:
        measured.append(given)
        return [], []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(suite, "run", run)
    monkeypatch.setattr(suite, "summary", lambda _: {})
    monkeypatch.setattr(suite, "table", lambda _: "THE TABLE")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["suite", "--out", str(tmp_path / "file")])
    with pytest.raises(OSError, match="cannot be written"):
        suite.main()
    assert not measured
    monkeypatch.setattr(sys, "argv", ["suite", "--out", str(tmp_path / "out")])
    monkeypatch.setattr(suite, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        suite.main()
    assert measured and "THE TABLE" in capsys.readouterr().out


def test_the_block_may_read_what_it_has_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as file:
        file.write(b"abc")
        file.seek(0, io.SEEK_SET)
        assert file.read() == b"abc"
