"""What fits: parts that visit the accelerator, and what happens when its memory runs out."""

from __future__ import annotations

import functools
import gc
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from diffusers import AutoencoderKL, DiffusionPipeline

from dragnoise.config import DragConfig
from dragnoise.geometry import Frame

Memory = Literal["normal", "low"]

TILE = 512
"""Side of the VAE's tiles in picture pixels, in low memory."""

P = ParamSpec("P")
R = TypeVar("R")


class OutOfMemory(torch.cuda.OutOfMemoryError):
    """The device's memory is used up; the message says what to try, the most effective first.

    What was being done is undone, and the session can be used as it was before.
    """


# ---------------------------------------------------------------------------------- low memory


@contextmanager
def visit(part: torch.nn.Module, device: torch.device) -> Iterator[torch.device]:
    """A part of a pipeline that lives on the CPU and comes to the device for as long as it works."""
    part.to(device)
    try:
        yield device
    finally:
        part.to("cpu")
        if device.type != "cpu":
            release()


def economise(pipeline: DiffusionPipeline, device: torch.device) -> None:
    """Bring a pipeline into the shape of `memory="low"`.

    All but the U-Net goes to the CPU, the VAE works in tiles, and while gradients flow the U-Net keeps
    its layers' inputs alone and runs them again on the way back: the numbers are the same.  Attention
    is sliced where the device has no fused attention, which needs less memory than slices do.
    """
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module) and part is not pipeline.unet:
            part.to("cpu")
    vae = pipeline.vae
    for switch in ("enable_slicing", "enable_tiling"):
        getattr(vae, switch, lambda: None)()
    if isinstance(vae, AutoencoderKL) and vae.tile_sample_min_size > TILE:
        vae.tile_sample_min_size = TILE
        vae.tile_latent_min_size = TILE // 2 ** (len(vae.config.block_out_channels) - 1)
    pipeline.unet.enable_gradient_checkpointing()
    if device.type == "mps":
        pipeline.unet.set_attention_slice("auto")


def release() -> None:
    """Give unused memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


# ------------------------------------------------------------------------------- out of memory


def guarded(method: Callable[P, R]) -> Callable[P, R]:
    """A `DragSession` method or generator that raises `OutOfMemory`, with advice, when memory runs out.

    The session has to be as it was before by then.
    """
    if inspect.isgeneratorfunction(method):

        @functools.wraps(method)
        def steps(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            with _rescued(args[0]):
                yield from method(*args, **kwargs)

        return steps  # type: ignore[return-value]

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _rescued(args[0]):
            return method(*args, **kwargs)

    return call


def _rescued(session: Any) -> rescue:
    def undo() -> str:
        session._ahead = None  # its graph is the largest thing a session holds
        return advice(session.model, session._frame, session.config)

    return rescue(undo)


class rescue:
    """Within it, any sign of exhausted memory becomes one `OutOfMemory(say())`, and what can be freed is freed.

    The failed frames are emptied: what they held hangs on the exception otherwise, and a notebook
    keeps the last one.
    """

    def __init__(self, say: Callable[[], str]) -> None:
        self._say = say

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            return
        traceback.clear_frames(frames)
        error.__traceback__ = frames = None  # a cleared frame still knows its function, and that its closure
        sentence = self._say()
        release()
        raise OutOfMemory(sentence) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Does this error mean that memory is used up?  Devices say so in several ways."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in said for sign in SIGNS)


SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


def advice(model: Any, frame: Frame, config: DragConfig) -> str:
    """One sentence: what is used up, and what to try, in the order of effect."""
    width, height = frame.working
    given = min(frame.working) if config.resize == "shorter" else max(frame.working)
    smaller = f"side={max(given * 3 // 4 // 64 * 64, 64)}"
    if config.resize == "never":
        smaller = f'resize="longer", {smaller}'
    tries = [f"a smaller picture with session.config = session.config.replace({smaller})"]
    if model.memory != "low":
        tries.append('load_model(..., memory="low")')
    if model.dtype in (torch.float32, torch.float64):
        tries.append("load_model(..., dtype=torch.float16)")
    return (
        f"the memory of {str(model.device)!r} is used up at {width}x{height} pixels, and the session stands where it "
        f"stood before: try {', then '.join(tries)}."
    )
