"""Restricted unpickling: plain containers, numbers, text and numpy arrays of numbers, and nothing that can run."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from dragnoise.validation import said

LARGEST = 2**28
"""Bytes of a pickle at most."""

DEEPEST = 12
"""Containers within one another at most."""

_NAMES = (
    "PROTO STOP FRAME MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE "
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_DICT DICT SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL "
    "REDUCE BUILD"
)
OPCODES = frozenset(_NAMES.split())
"""Opcodes that values and arrays need; those for instances, persistent ids, extensions and sets are not among them."""

ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
BUFFER_MODULES = ("numpy.core.numeric", "numpy._core.numeric")


class _Array:
    """Stands for a numpy array until the pickle is read; holds no array before its bytes are there."""

    __slots__ = ("value",)

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.value = _array(data, kind, shape, "F" if fortran else "C")


class _Kind:
    """Stands for a numpy dtype of numbers or bools."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any) -> None:
        dtype = np.dtype(name) if isinstance(name, str) and len(name) <= 4 else None
        if dtype is None or dtype.kind not in "biuf" or dtype.hasobject:
            raise pickle.UnpicklingError(f"it holds an array of dtype {name!r:.40}, which is not one of numbers")
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("it holds an array of a dtype with fields, which is not one of numbers")
        self.dtype = self.dtype.newbyteorder(state[1])


def _array(data: Any, kind: Any, shape: Any, order: Any = "C") -> np.ndarray:
    if isinstance(data, str):  # protocols 0 to 2 of Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or not isinstance(kind, _Kind) or order not in ("C", "F"):
        raise pickle.UnpicklingError("it holds an array that is not made of bytes")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 4:
        raise pickle.UnpicklingError("it holds an array with an impossible shape")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        raise pickle.UnpicklingError("it holds an array whose shape does not fit its bytes")
    return np.frombuffer(bytes(data), kind.dtype).reshape(shape, order=order).copy()


def _allowed() -> dict[tuple[str, str], Any]:
    """(module, name) -> what stands for it; made anew for each file, so that no file leaves a trace."""
    ndarray = object()

    def reconstruct(kind: Any, *_: Any) -> _Array:
        if kind is not ndarray:
            raise pickle.UnpicklingError("it reconstructs something that is no array")
        return _Array()

    def frombuffer(data: Any, kind: Any, shape: Any, order: Any = "C", *_: Any) -> _Array:
        return _Array(_array(data, kind, shape, order))

    def scalar(kind: Any, data: Any) -> Any:
        return _array(data, kind, ()).item()

    def make_dtype(name: Any, *_: Any) -> _Kind:
        return _Kind(name)

    def encode(text: Any, coding: Any) -> bytes:
        if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("it encodes something that is no array's bytes")
        return text.encode("latin1")

    def no_bytes() -> bytes:
        return b""

    return (
        {("numpy", "ndarray"): ndarray, ("numpy", "dtype"): make_dtype, ("_codecs", "encode"): encode}
        | {(module, "bytes"): no_bytes for module in ("__builtin__", "builtins")}
        | {(module, "_reconstruct"): reconstruct for module in ARRAY_MODULES}
        | {(module, "scalar"): scalar for module in ARRAY_MODULES}
        | {(module, "_frombuffer"): frombuffer for module in BUFFER_MODULES}
    )


class _Restricted(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.allowed: dict[tuple[str, str], Callable[..., Any]] = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which is no array")
        return self.allowed[module, name]


def loads(data: bytes) -> Any:
    """The value of a pickle of protocol 0 to 5: None, bools, numbers, text, bytes, lists, tuples, dicts, arrays.

    Nothing of another kind is looked up or called, and no more memory is taken than the file's size accounts for.
    Raises pickle.UnpicklingError in one sentence for any other pickle and for broken ones.
    """
    try:
        if len(data) > LARGEST:
            raise pickle.UnpicklingError(f"it has {len(data)} bytes, and {LARGEST} are read at most")
        _scan(data)
        return _plain(_Restricted(data).load(), 0, {})
    except MemoryError:
        raise
    except Exception as error:  # a broken pickle can raise any exception
        raise pickle.UnpicklingError(f"the pickle cannot be read ({said(error)}); get the data set afresh.") from None


def _scan(data: bytes) -> None:
    """Refuse opcodes that no data needs, and places in the memo beyond the size of the file."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in OPCODES:
            raise pickle.UnpicklingError(f"it has the opcode {opcode.name}, which no array needs")
        if "PUT" in opcode.name and int(argument or 0) > len(data):
            raise pickle.UnpicklingError("its memo is larger than the file")


def _plain(value: Any, depth: int, done: dict[int, Any]) -> Any:
    """The value with arrays in the place of their stand-ins; a shared part is converted once."""
    if depth > DEEPEST:
        raise pickle.UnpicklingError("its containers are nested too deeply")
    if isinstance(value, bool | int | float | str | bytes | bytearray) or value is None:
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array) and value.value is not None:
        made: Any = value.value
    elif isinstance(value, list | tuple):
        made = type(value)(_plain(item, depth + 1, done) for item in value)
    elif isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise pickle.UnpicklingError("it has a dict whose keys are not text")
        made = {key: _plain(item, depth + 1, done) for key, item in value.items()}
    else:
        raise pickle.UnpicklingError("it holds something that is neither a plain value nor an array")
    done[id(value)] = made
    return made
