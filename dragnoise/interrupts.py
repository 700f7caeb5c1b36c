"""Exhausted memory and Ctrl-C: cleaning up, and advice on what to try."""

from __future__ import annotations

import errno
import gc
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError

from dragnoise.config import DragConfig
from dragnoise.geometry import Frame

DEVICES = ("cpu", "cuda", "mps")
"""Kinds of devices that mixed precision may be on for."""


class OutOfMemory(torch.cuda.OutOfMemoryError):
    """The device's memory is used up; the message says what to try, the most effective first.

    What was being done is undone, and the session can be used as it was before.
    """


class memory_guard:
    """Context manager: turns any out-of-memory error into `OutOfMemory(say())`, and frees what can be freed.

    The failed frames are emptied: what they held hangs on the exception otherwise, and a notebook
    keeps the last one.  Ctrl-C may come while torch is about to leave a block without gradients, or
    one of mixed precision; what was switched for the thread is then switched back.
    """

    def __init__(self, say: Callable[[], str]) -> None:
        self._say = say

    def __enter__(self) -> None:
        self._modes = Modes.now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._modes.restore()
        if error is None or isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            return
        traceback.clear_frames(frames)
        error.__traceback__ = frames = None  # a cleared frame still knows its function, and that its closure
        sentence = self._say()
        release()
        raise OutOfMemory(sentence) from None


@dataclass(frozen=True)
class Modes:
    """torch's modes of a thread: gradients and autocast.

    gradients: are they recorded?  autocast: of each kind of device, whether mixed precision is on and its dtype.
    depth: of autocast blocks that are open; while there is one, weights cast for a use are kept for the next.
    """

    gradients: bool
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    depth: int

    @classmethod
    def now(cls) -> Modes:
        autocast = tuple((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in DEVICES)
        return cls(torch.is_grad_enabled(), autocast, _autocast_depth())

    def restore(self) -> None:
        torch.set_grad_enabled(self.gradients)
        for kind, enabled, dtype in self.autocast:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)
        for _ in range(_autocast_depth() - self.depth):
            torch.autocast_decrement_nesting()
        if self.depth == 0:
            torch.clear_autocast_cache()


def _autocast_depth() -> int:
    """torch has no function for it.  Both calls are made by C code: Ctrl-C cannot come between and leave it raised."""
    _, depth = map(methodcaller("__call__"), (torch.autocast_increment_nesting, torch.autocast_decrement_nesting))
    return depth


def is_out_of_memory(error: BaseException) -> bool:
    """Does this error mean that memory is used up?  Devices say so in several ways."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower()
    kinds = (RuntimeError, OSError, SafetensorError)  # a file is mapped into memory, too
    return isinstance(error, kinds) and any(sign in said for sign in SIGNS)


SIGNS = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed",
    "bad_alloc", "bad allocation", "paging file is too small", "insufficient memory",
)  # fmt: skip
"""Parts of what devices and libraries say when memory is used up, in lower case."""


def halved(device: object, dtype: torch.dtype) -> list[str]:
    """Advice to load weights in half precision, in the dtype that is fast on the device; empty if they already are."""
    if dtype not in (torch.float32, torch.float64):
        return []
    return [f"load_model(..., dtype={torch.bfloat16 if str(device) == 'cpu' else torch.float16})"]


def loading_advice(name: str, device: object, dtype: torch.dtype, memory: str) -> str:
    """One sentence about a model that is being loaded."""
    tries = halved(device, dtype)
    if memory != "low":
        tries.append('load_model(..., memory="low")')
    tries.append("a restart that lets go of the models loaded before, or a smaller model")
    return f"the memory of {str(device)!r} is used up by loading {name!r}: try {', then '.join(tries)}."


def advice(model: Any, frame: Frame, config: DragConfig) -> str:
    """One sentence: what is used up, and what to try, in the order of effect; model may be None."""
    width, height = frame.working
    given = min(frame.working) if config.resize == "shorter" else max(frame.working)
    smaller = f"side={max(given * 3 // 4 // 64 * 64, 64)}"
    if config.resize == "never":
        smaller = f'resize="longer", {smaller}'
    tries = [f"a smaller picture with session.config = session.config.replace({smaller})"]
    if model is not None and model.memory != "low":
        tries.append('load_model(..., memory="low")')
    tries += [] if model is None else halved(model.device, model.dtype)
    device = "cpu" if model is None else str(model.device)
    return (
        f"the memory of {device!r} is used up at {width}x{height} pixels, and the session stands where it "
        f"stood before: try {', then '.join(tries)}."
    )


def release() -> None:
    """Give unused memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
