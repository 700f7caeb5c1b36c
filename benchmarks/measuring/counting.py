"""Counts that depend on no clock: operations, blocking reads, transfers, allocations and memory that is alive.

The meta device stands in for an accelerator: tensors there have shapes and no data, so that a whole edit of the real
architecture is counted in seconds and without memory.  Reads from it give ones.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

T = TypeVar("T")

COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


def _group_norm(x: Tensor, weight: Any, bias: Any, n: int, c: int, hw: int, groups: int, eps: float) -> Any:
    return torch.empty_like(x), x.new_empty(n, groups), x.new_empty(n, groups)


def _group_norm_backward(gradient: Tensor, x: Tensor, mean: Any, rstd: Any, weight: Any, *rest: Any) -> Any:
    wanted = rest[-1]
    parts = (x, weight, weight)
    return tuple(torch.empty_like(part) if asked else None for part, asked in zip(parts, wanted, strict=True))


def _layer_norm(x: Tensor, shape: list[int], weight: Any, bias: Any, eps: float) -> Any:
    rows = (*x.shape[: x.ndim - len(shape)], *(1,) * len(shape))
    return torch.empty_like(x), x.new_empty(rows), x.new_empty(rows)


def _layer_norm_backward(
    gradient: Tensor, x: Tensor, shape: Any, mean: Any, rstd: Any, weight: Any, bias: Any, wanted: Any
) -> Any:
    parts = (x, weight, bias)
    return tuple(torch.empty_like(part) if asked else None for part, asked in zip(parts, wanted, strict=True))


SHAPES_ALONE: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.native_group_norm.default: _group_norm,
    torch.ops.aten.native_group_norm_backward.default: _group_norm_backward,
    torch.ops.aten.native_layer_norm.default: _layer_norm,
    torch.ops.aten.native_layer_norm_backward.default: _layer_norm_backward,
}  # fmt: skip
"""Shapes of what norms give, which torch works out slowly on meta, by steps in Python."""


@dataclass
class Counts:
    """What a piece of work does on an accelerator and between it and the computer.

    flops: multiply-adds counted twice.  reads: times that the computer waits for the device's numbers; blocking
    uploads: times that it waits because it sends some; posted: transfers either way that nobody waits for.
    bytes_down, bytes_up: of all of them.  allocations, bytes_allocated: of new tensors on the device.
    """

    flops: int = 0
    reads: int = 0
    blocking_uploads: int = 0
    posted: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    allocations: int = 0
    bytes_allocated: int = 0

    def __sub__(self, other: Counts) -> Counts:
        mine, its = dataclasses.astuple(self), dataclasses.astuple(other)
        return Counts(*(a - b for a, b in zip(mine, its, strict=True)))


class Counter(TorchDispatchMode):
    """Counts operations by the formulas of torch's `FlopCounterMode`, transfers from and to a device, and allocations.

    That mode itself follows modules by hooks, which `torch.autograd.grad` does not allow.

    kind: type of the device, such as "cuda", or "meta" as a stand-in, whose numbers are read as ones.
    """

    def __init__(self, counts: Counts, kind: str) -> None:
        super().__init__()
        self.counts, self.kind = counts, kind
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and self._there(args[0]):
            self.counts.reads += 1
            self.counts.bytes_down += args[0].element_size()
            return _one(args[0].dtype) if self.kind == "meta" else func(*args, **kwargs)
        if func in COPIES:
            return self._copied(func, args, kwargs)
        short = SHAPES_ALONE.get(func) if self.kind == "meta" else None
        out = func(*args, **kwargs) if short is None else short(*args)
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.counts.flops += int(formula(*args, **kwargs, out_val=out))
        for tensor in tree_leaves(out):
            if self._there(tensor):
                self._allocated(tensor)
        return out

    def _there(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and tensor.device.type == self.kind

    def _copied(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A copy, which may be a transfer; from the stand-in it gives ones."""
        to_copy = func is COPIES[0]
        source = args[0] if to_copy else args[1]
        posted = kwargs.get("non_blocking") or (not to_copy and len(args) > 2 and args[2])
        target = torch.device(kwargs.get("device") or source.device).type if to_copy else args[0].device.type
        there, comes = target == self.kind, source.device.type == self.kind
        size = source.numel() * source.element_size()
        if comes and not there:
            self.counts.bytes_down += size
            self.counts.posted += bool(posted)
            self.counts.reads += not posted
        elif there and not comes:
            self.counts.bytes_up += size
            self.counts.posted += bool(posted)
            self.counts.blocking_uploads += not posted
        if comes and not there and self.kind == "meta":
            if not to_copy:
                return args[0].fill_(1)
            return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        out = func(*args, **kwargs)
        if to_copy and there:
            self._allocated(out)
        return out

    def _allocated(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._seen and tensor._base is None and not _is_view(tensor):
            self._seen[key] = weakref.ref(storage, lambda _: self._seen.pop(key, None))
            self.counts.allocations += 1
            self.counts.bytes_allocated += storage.nbytes()


def _is_view(tensor: Tensor) -> bool:
    """A tensor that is smaller than its storage was not made as such."""
    return tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes()


def _one(dtype: torch.dtype) -> Any:
    return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1


class Live(TorchDispatchMode):
    """Bytes of the tensors that are alive, and their peak; those given at the start do not count."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._given = [tensor.untyped_storage() for tensor in given]
        self._seen: dict[int, Any] = {id(storage): None for storage in self._given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and id(storage := tensor.untyped_storage()) not in self._seen:
                self._follow(storage, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _follow(self, storage: Any, size: int) -> None:
        key = id(storage)

        def gone(_: Any) -> None:
            self.now -= size
            self._seen.pop(key, None)

        self.now += size
        self._seen[key] = weakref.ref(storage, gone)


@contextmanager
def counting(kind: str = "meta") -> Iterator[Counts]:
    """Counts of what is done inside; kind: see `Counter`."""
    counts = Counts()
    with Counter(counts, kind):
        yield counts


def counted(work: Callable[[], T], kind: str = "meta") -> Counts:
    """Counts of a function's work."""
    with counting(kind) as counts:
        work()
    return counts
