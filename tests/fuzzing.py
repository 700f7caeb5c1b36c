"""Bad arguments by the thousand: what a good one would be, and whether a bad one is refused in one sentence."""

from __future__ import annotations

import decimal
import fractions
import inspect
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import QUICK, assert_one_sentence
from PIL import Image

from dragnoise import Drag
from dragnoise.validation import shown

DOCUMENTED = (ValueError, TypeError, IndexError, RuntimeError, OSError, FloatingPointError)


BARE = (UnicodeError, RecursionError, NotImplementedError)
"""Kinds of the documented errors that Python and torch raise by themselves; nobody here means them."""


JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 10**9, 10**400, -(10**400), 10**5000, 0.0, -0.5, 1.5, 1e300, math.nan, math.inf,
    -math.inf, 1 + 2j, fractions.Fraction(1, 3), fractions.Fraction(10**400, 3), decimal.Decimal("0.1"), "", " ", "x",
    "nan", "\0", "a\0b", "\ud800", "x" * 5000, "../..", b"", b"\xff", [], [None], [[1, 2], [3, 4]], [1, [2, [3]]], (),
    (1,), (1, 2), (1, 2, 3), ("a", "b"), {}, {"a": 1}, {1, 2}, object(), object, len, iter([1, 2]), range(3), slice(1),
    np.zeros(()), np.zeros(0), np.zeros(3), np.zeros((3, 3)), np.ones((2, 2, 2)), np.full((40, 50), math.nan),
    np.array(["a"]), np.array([None, object()]), np.array([1j]), np.bool_(True), np.int64(-5), np.float32("nan"),
    np.datetime64("2024-01-01"), torch.zeros(()), torch.zeros(3), torch.zeros(2, 3), torch.zeros(1, 4, 16, 16),
    torch.full((1, 4, 16, 16), math.nan), torch.zeros(1, 3, 0, 4), torch.zeros(4, 4, dtype=torch.int64), torch.float64,
    Image.new("RGB", (3, 3)), Image.new("L", (50, 40)), SimpleNamespace(), Drag((1, 2), (3, 4)), QUICK, Path("/"),
    Drag(None, ((),)), inspect, pytest, lambda *_: 1 / 0,
]  # fmt: skip


def is_number(value: Any) -> bool:
    """A finite real number that fits into a float."""
    try:
        return isinstance(value, int | float | fractions.Fraction | np.floating | np.integer) and (
            not isinstance(value, bool) and math.isfinite(float(value))
        )
    except OverflowError:
        return False


def is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def never(value: Any) -> bool:
    return False


@dataclass(frozen=True)
class Of:
    """An argument: a good value, which values are good too, and bad ones beside the junk that everything gets."""

    good: Any
    also: Callable[[Any], bool] = never
    bad: Iterable[Any] = ()

    def pool(self) -> list[Any]:
        return [*(value for value in JUNK if not self.also(value)), *self.bad]


@dataclass(frozen=True)
class Entry:
    """Something public, and how it is called with its arguments by name."""

    call: Callable[..., Any]
    of: dict[str, Of] = field(default_factory=dict)


def whole(good: int, low: int, high: float = math.inf, bad: Iterable[Any] = ()) -> Of:
    return Of(good, lambda v: is_whole(v) and low <= v <= high, bad)


def number(good: float, low: float = -math.inf, high: float = math.inf, *, strict: bool = False) -> Of:
    return Of(good, lambda v: is_number(v) and low <= float(v) <= high and not (strict and float(v) == low))


def text(good: str = "a fox", also: Callable[[str], bool] = lambda _: True) -> Of:
    return Of(good, lambda v: isinstance(v, str) and also(v))


def word(*allowed: str) -> Of:
    return Of(allowed[0], lambda v: v.__class__ is str and v in allowed, ("REPLACE", allowed, [allowed[0]]))


def is_picture(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        shape, kind = value.shape, value.dtype.kind
        ok = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
        return ok and 0 not in shape and kind in "buif" and bool(np.isfinite(value).all())
    return isinstance(value, Image.Image)


def is_mask(value: Any) -> bool:
    return value is None or (isinstance(value, Image.Image) and value.size == (50, 40) and value.getbbox() is not None)


def is_path(value: Any) -> bool:
    """A path that one could write to."""
    return isinstance(value, str | Path) and str(value) in ("x", "nan", "../..", "/")


def are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(is_number, value))


def is_iteration(value: Any) -> bool:
    return is_whole(value) and 0 <= value <= 2


NOWHERE = ("nothing/there", "/dev/null/x", "y" * 300, "~nobody-of-this-name/x")


PICTURES = (
    *NOWHERE, "https://example.org/x.png", np.zeros((0, 3)), np.zeros((3, 3, 2)), np.zeros((2, 2), "M8[s]"),
    np.zeros((2, 2), np.complex64), np.array([[object()]]), np.full((2, 2), np.inf), Image.new("RGB", (0, 4)),
    np.zeros((3, 3), [("a", int)]), np.zeros((3, 3), "U3"),
)  # fmt: skip


MASKS = (*PICTURES, np.zeros((40, 50)), np.ones((50, 40)), np.ones((40, 50, 2)), Image.new("L", (40, 50), 255),
         np.array([["a"] * 50] * 40), np.ones((40, 50), complex))  # fmt: skip


DRAGS = (
    3, [(1, 2)], [((1, 2), (1, 2))], [((1, 2), (1, math.nan))], [((1, 2), (50, 3))], [((-1e-9, 2), (5, 3))],
    [((1, 2), (5, 3)), None], [((1, 2), (10**400, 3))], [(("1", 2), (5, 3))], [((True, 2), (5, 3))], ["ab"],
    [["a", "b"]],
    [((1, 2), (5, 3), (1, 2))], [((1 + 0j, 2), (5, 3))], {"a": 1}, np.zeros((2, 2)), np.zeros((1, 2, 2)), [[[1, 2]]],
    np.full((1, 2, 2), np.nan), torch.zeros(1, 2, 2), [Drag((1, 2), "x")], [Drag(None, None)], [{1: 2, 3: 4}], [set()],
    [((fractions.Fraction(10**400), 1), (2, 3))], [((decimal.Decimal(1), 1), (2, 3))], [((np.zeros(2), 1), (2, 3))],
    [((1, 2), (5, 3))] * 5 + [((1, 2), (5, 40))], np.zeros((3, 2, 2), object),
)  # fmt: skip


CONFIG: dict[str, Of] = {
    "steps": whole(4, 2, 1000, (1001, 3.0)), "edit_from": whole(2, 1, 4, (5,)), "refine_from": whole(0, 0, 2, (3,)),
    "lr": number(0.01, 0, strict=True), "eps": number(1e-8, 0, strict=True), "max_iterations": whole(6, 1),
    "r1": whole(1, 0), "r2": whole(3, 1), "mask_weight": number(0.1, 0), "reach": number(0.0, 0),
    "tolerance": number(1.0, 0, strict=True),
    "supervision_block": whole(2, 0), "supervision_scale": number(0.5, 0, 1, strict=True),
    "seed": whole(0, 0, 2**63 - 1),
    "side": Of(64, lambda v: v is None or (is_whole(v) and 64 <= v <= 2**14), (63, 2**14 + 1, 64.0)),
    "latent_noise": number(0.0, 0), "propagation": word("replace", "delta"), "inversion": word("source", "target"),
    "resize": word("longer", "shorter", "never"), "convention": word("paper", "released"),
}  # fmt: skip


def is_positive(value: Any) -> bool:
    """A number above 0, which may be infinite or beyond a float."""
    number = isinstance(value, int | float | fractions.Fraction | np.floating | np.integer)
    return number and not isinstance(value, bool) and bool(value > 0)


def is_latent(value: Any) -> bool:
    latent = isinstance(value, torch.Tensor) and value.ndim == 4 and value.shape[:2] == (1, 4)
    return latent and bool(value.isfinite().all())


def empty(value: Any) -> bool:
    """No drags at all, which is nothing bad."""
    if isinstance(value, np.ndarray):
        return value.shape == (0,)
    return isinstance(value, list | tuple | type(iter([]))) and not list(value)


def bad_call(entry: Entry, rng: random.Random) -> dict[str, Any]:
    """Arguments of which one at least is bad."""
    given = {name: of.good for name, of in entry.of.items()}
    for name in rng.sample(sorted(given), min(len(given), rng.choice((1, 1, 1, 2, 3)))):
        given[name] = rng.choice(entry.of[name].pool())
    return given


def described(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={shown(value)}" for name, value in given.items())


def complaint(call: Callable[[], Any]) -> str:
    """What is wrong with how a bad call ends; nothing for a documented error of one sentence."""
    try:
        call()
    except DOCUMENTED as error:
        try:
            assert_one_sentence(error)
        except AssertionError:
            return f"{type(error).__name__}: {error!s:.300}"
        return f"a bare {type(error).__name__}: {error}" if isinstance(error, BARE) else ""
    except Exception as error:
        return f"an undocumented {type(error).__name__}: {error!s:.300}"
    return "was accepted"
