"""The restricted unpickler: what data sets hold is read, and nothing else is looked up, called or allocated."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_one_sentence

from dragnoise.bench.unpickling import loads


class Trap:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("opened"),))


class Shell:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch opened",))


class Evaluated:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("open('opened', 'w')",))


def old_names(data: bytes) -> bytes:
    """As numpy 1 wrote it."""
    return data.replace(b"cnumpy._core.", b"cnumpy.core.")


@pytest.mark.parametrize("protocol", range(6))
def test_values_and_arrays_of_every_protocol(protocol: int) -> None:
    arrays = [
        (np.arange(12).reshape(3, 4) % 2).astype(np.uint8), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 2)), np.array([[True, False]]), np.arange(3, dtype=">i4"), np.arange(6)[::2],
    ]  # fmt: skip
    value = {"prompt": "a fox é", "points": [[1, 2.5], (3, -(2**40))], "none": None, "n": np.int64(7), "masks": arrays}
    for data in (pickle.dumps(value, protocol), old_names(pickle.dumps(value, protocol))):
        read = loads(data)
        for one, other in zip(read.pop("masks"), arrays, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype and one.flags.writeable
        assert read == {k: v for k, v in value.items() if k != "masks"}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "bad",
    [{"prompt": Trap()}, Shell(), [Evaluated()], {"mask": np.array([Trap()], object)}, os.system, {1: 2}, {"a": {1}},
     np.array(["text"]), np.zeros(2, [("x", float)]), np.datetime64("2020-01-01"), np.load, 1j],
    ids=["trap in a dict", "shell", "evaluated", "object array", "function", "int key", "set", "text array", "records",
         "date", "numpy function", "complex"],
)  # fmt: skip
def test_other_things_are_refused(bad: Any, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError) as caught:
        loads(pickle.dumps(bad, protocol))
    assert_one_sentence(caught.value, "pickle cannot be read")
    assert not any(tmp_path.iterdir())


HOSTILE = {
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "bytes": b"\x80\x05\x96\x00\x00\x00\x00\x08\x00\x00\x00.",
    "shape": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I4000000000\ntS'b'\ntR.",
    "getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'dumps'\ntR.",
    "other class": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nmemmap\n(I0\ntS'b'\ntR.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    "load": b"cnumpy\nload\n(S'x.npy'\nNI01\ntR.",
    "instance": b"(inumpy\ndtype\n.",
    "persistent": b"Pnumber\n.",
    "extension": b"\x80\x02\x82\x01.",
    "cut": pickle.dumps({"a": np.zeros(99)})[:-40],
    "nothing": b"",
    "text": b"hello",
    "npy": b"\x93NUMPY\x01\x00",
    "itself": b"]q\x00h\x00a.",
    "deep": b"(" * 0 + b"]" * 50 + b"a" * 49 + b".",
    "module": b"cos\nsystem\n(S'touch opened'\ntR.",
    "state of a function": b"cnumpy\ndtype\n(N}S'__code__'\nNstb.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=r"pickle cannot be read \(.*\); get the data set afresh\.$"):
        loads(HOSTILE[name])
    assert not any(tmp_path.iterdir())
    assert loads(pickle.dumps(np.ones(2))).sum() == 2


def test_numpys_own_object_file_is_refused() -> None:
    """The pickle inside an .npy file of objects."""
    file = io.BytesIO()
    np.save(file, np.array([Shell()], object), allow_pickle=True)
    with pytest.raises(pickle.UnpicklingError):
        loads(file.getvalue()[128:])
