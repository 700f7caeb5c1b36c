"""Checks of a model's weights: scaled low-precision files, missing tensors, numbers that are not finite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dragnoise.validation import said

SCALES = (
    "scale_weight", "weight_scale", "weight_scale_2", "scale_input", "input_scale", "comfy_quant", "scaled_fp8",
    "absmax", "quant_map", "quant_state", "nested_absmax", "qweight", "qzeros", "g_idx", "SCB", "_scale", "_data",
)  # fmt: skip
"""Last parts of the names of tensors that stand beside scaled or quantised weights."""

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"""Plain floating-point types of weights, in safetensors' names."""


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its shape, its type in safetensors' name, and perhaps its `first_values`."""

    shape: tuple[int, ...]
    dtype: str
    first: tuple[float, ...] = ()


def entries(path: str, *, first: bool = False) -> tuple[dict[str, Entry], dict[str, str]]:
    """Tensors of a .safetensors file by name, and its metadata; no weights are read but, if asked for, the first.

    Raises OSError, saying what to do, for a file that is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = {}
            for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                part = file.get_slice(name)
                shape = tuple(part.get_shape())
                values = first_values(part, len(shape)) if first and shape and 0 not in shape else ()
                found[name] = Entry(shape, part.get_dtype(), values)
            return found, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise OSError(f"{path!r} is no safetensors file, or a damaged one ({said(error)}); get it again.") from None


def first_values(tensor: Any, ndim: int) -> tuple[float, ...]:
    """Four values of a vector, four columns of the first row of a matrix, the kernels at those of a convolution."""
    some = tensor[:4] if ndim == 1 else tensor[:1, :4]
    return tuple(some.flatten().double().tolist())


def refuse_scaled(source: str, held: Mapping[str, Entry], metadata: Mapping[str, str]) -> None:
    """Raise ValueError, naming a tensor, for weights that are scaled or quantised, which would be read wrong."""
    marks = (name for name in held if _is_scale(name))
    odd = (name for name, entry in held.items() if name.endswith(".weight") and entry.dtype not in FLOATS)
    mark = next(marks, None) or next(odd, None)
    mark = mark or next((key for key in metadata if "quantization" in key.lower()), None)
    if mark is not None:
        raise ValueError(
            f"{source!r} holds scaled or quantised weights (it has {mark!r}), which would be read wrong; get the "
            "model in float16, bfloat16 or float32."
        )


def _is_scale(name: str) -> bool:
    """Whether a name is of such a tensor; bitsandbytes appends a part, as in "weight.quant_state.bitsandbytes__nf4"."""
    return not SCALES_SET.isdisjoint(name.split(".")[-2:])


SCALES_SET = frozenset(SCALES)


def require_all(
    source: str,
    part: str,
    wanted: Mapping[str, tuple[int, ...]],
    held: Mapping[str, Entry],
    *,
    names: Collection[str] | None,
) -> None:
    """Raise OSError when tensors of a part are not in the file, as `lacking` finds them.

    names: of those that it holds, as in `wanted`, so that the sentence can name one that it lacks; None if unknown.
    """
    if missing := lacking(wanted, held):
        unnamed = [name for name in wanted if name not in names] if names is not None else []
        example = f", such as {unnamed[0]!r}" if unnamed else ""
        raise OSError(
            f"{source!r} lacks {len(missing)} {'tensor' if len(missing) == 1 else 'tensors'} of its {part}{example}; "
            "get it again."
        )


def lacking(wanted: Mapping[str, tuple[int, ...]], held: Mapping[str, Entry]) -> list[str]:
    """Names among `wanted` whose shapes the file does not hold often enough.

    Shapes are compared, not names, since loaders rename tensors; trailing ones count for nothing.
    """
    missing = Counter(map(_core, wanted.values())) - Counter(_core(entry.shape) for entry in held.values())
    found = []
    for name in sorted(wanted, key=lambda name: name in held):  # those that it does not name first
        if missing[_core(wanted[name])] > 0:
            missing[_core(wanted[name])] -= 1
            found.append(name)
    return found


def _core(shape: Iterable[int]) -> tuple[int, ...]:
    core = list(shape)
    while core and core[-1] == 1:
        core.pop()
    return tuple(core)


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of a module's parameters by name, shared ones once."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def require_read(source: str, part: str, module: nn.Module, held: Mapping[str, Entry]) -> None:
    """Raise OSError for weights of a part that are none of its files': loaders fill those at random, in silence.

    held: with first values.  A weight is known by its shape and its first values, since loaders rename them.
    """
    require_all(source, part, shapes(module), held, names=held)
    known: dict[torch.dtype, set[str]] = {}
    for name, parameter in module.named_parameters():
        dtype = parameter.dtype
        if dtype not in known:
            known[dtype] = {_sign(e.shape, torch.tensor(e.first, dtype=torch.float64).to(dtype)) for e in held.values()}
        first = first_values(parameter.detach(), parameter.ndim) if parameter.ndim else ()
        if _sign(parameter.shape, torch.tensor(first, dtype=torch.float64)) not in known[dtype]:
            raise OSError(
                f"{source!r} holds the weights of its {part} under names that the installed libraries do not know, "
                f"such as {name!r}; upgrade transformers and diffusers, or get it again."
            )


def _sign(shape: Iterable[int], first: Tensor) -> str:
    """Text, in which NaN is equal to NaN."""
    return repr((_core(shape), first.double().tolist()))


def require_loaded(source: str, parts: Mapping[str, Any]) -> None:
    """Raise OSError for parts of a pipeline some of whose weights were in no file and have no values."""
    for part, module in parts.items():
        if isinstance(module, nn.Module):
            empty = [name for name, parameter in module.named_parameters() if parameter.is_meta]
            require_all(source, part, dict.fromkeys(empty, ()), {}, names=())


@torch.no_grad()
def require_finite(source: str, parts: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Raise ValueError, naming a tensor, for weights that hold NaN or infinity; one read of all weights."""
    for part, module in parts.items():
        if not isinstance(module, nn.Module):
            continue
        named = [(name, p) for name, p in module.named_parameters() if p.is_floating_point() and not p.is_meta]
        if not named:
            continue
        sums = torch.stack([p.sum(dtype=torch.float32).to(named[0][1].device) for _, p in named])
        if not bool(sums.isfinite().all()):
            name = named[int((~sums.isfinite()).nonzero()[0, 0])][0]
            again = "" if dtype != torch.float16 else " load it with dtype=torch.float32 or torch.bfloat16, or"
            raise ValueError(
                f"the weights of {source!r} hold numbers that are not finite ({part}.{name});{again} get it again, "
                "or another model."
            )
