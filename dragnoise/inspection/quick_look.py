"""Quick looks: the picture predicted in one step after each iteration, made beside a run and kept within a limit.

    looks = QuickLooks(model)                  # or QuickLooks(model, preview_vae="madebyollin/taesd")
    for snapshot in session.optimize():
        picture = looks.look(session)          # (h, w, 3) uint8, or None when this one is skipped
    looks.of(session.history[12])              # a kept one, or None

A quick look is the clean latent of `Editor.predicted`, which runs an iteration's forward on to the noise, decoded by
`preview_vae` if there is one.  Otherwise as in video coding: now and then a key picture is decoded by the model's VAE,
as often as the time allows, and the others are the last key picture and what a linear map, fitted to the given picture,
makes of the change of the latent since.  Where decoding is dear, by a full VAE on a CPU, the linear map stands alone.

It reads the session and changes nothing of it: losses and latents are the same bits with and without.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dragnoise.geometry import Frame
from dragnoise.images.pictures import padded_picture, picture_tensor
from dragnoise.interrupts import is_out_of_memory
from dragnoise.models import loading
from dragnoise.models.model import Model, require_model
from dragnoise.sampling import previews
from dragnoise.sampling.previews import LinearMap, Preview
from dragnoise.session import stages
from dragnoise.session.history import Snapshot
from dragnoise.session.session import DragSession
from dragnoise.session.state import SessionState
from dragnoise.validation import as_integer, as_number

SHARE = 0.15
"""Time budget of quick looks, as a share of the iterations' time."""

KEPT = 64 * 2**20
"""Bytes of quick looks that are kept: 1300 of 128x128, 85 of 512x512."""

KEYS = 0.75
"""Share of that budget for key pictures."""

PICTURES = 4
"""Number of pictures whose linear map and key picture are kept."""


@dataclass(frozen=True, eq=False)
class Coding:
    """How the looks of one picture are decoded.

    image, frame: which picture, in which sizes.  linear: its linear map.  rest: residual of the last key
    picture, that is the picture minus the linear map of its latent, (1, 3, H, W), or None.  seconds: to decode it.
    """

    image: Image.Image
    frame: Frame
    linear: LinearMap
    rest: Tensor | None = None
    seconds: float = 0.0


class QuickLooks:
    """Pictures predicted in one step after the iterations of sessions of one model, made, and kept by iteration.

    preview_vae: a small VAE to decode with, as a hub id, a folder or an AutoencoderTiny, of the model's family.
    share: looks are skipped when they would take more than this share of the iterations' time; math.inf skips none.
    limit: bytes of looks that are kept, the oldest are let go.  side: longest side of a look in pixels.

    May be used from several threads.  Raises TypeError or ValueError for wrong arguments and a VAE of other latents,
    and OSError for one that cannot be read.
    """

    def __init__(
        self, model: Model, *, preview_vae: Any = None, share: float = SHARE, limit: float = KEPT, side: int = 512
    ) -> None:
        from diffusers import AutoencoderTiny

        require_model(model)
        self.model = model
        self._dear = model.device.type == "cpu" and not isinstance(model.vae, AutoencoderTiny)
        self.share = share if share == math.inf else as_number("share", share, above=True)
        self.limit = limit if limit == math.inf else as_number("limit", limit)
        self.side = as_integer("side", side, 16)
        self._small = None if preview_vae is None else _small_vae(preview_vae, model)
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by id of the snapshot's anchors, which it holds
        self._codings: list[Coding] = []
        self._worked = self._spent = self._last = 0.0
        self._off = False

    def look(self, session: DragSession, *, skip: bool = True) -> np.ndarray | None:
        """The quick look of the session's last iteration, (h, w, 3) uint8; call it after each iteration.

        The shape is the working picture's, at most `side` long.  None before any iteration, in a session without a
        model, when it is skipped to keep within `share`, and for good once memory has run out; the run goes on.
        skip: may it be?  False for an iteration of before, while nothing runs, whose time then counts for nothing.
        Raises ValueError for a session of another model.
        """
        if self._off or session.model is None:
            return None
        if session.model is not self.model:
            raise ValueError(
                f"these quick looks are of the model {self.model.name!r} and this session has another one; make "
                "QuickLooks(session.model)."
            )
        history = session.history
        if not history:
            return None
        snapshot = history[-1]
        if (known := self.of(snapshot)) is not None:
            return known
        first = not self._last
        if skip:
            self._worked += snapshot.seconds
            if not first and self._spent + self._last > self.share * self._worked:
                return None
        started = time.perf_counter()
        try:
            z = stages.predicted(session.store)
            made = None if z is None else _picture(self._decoded(z, session, skip), session.state.frame, self.side)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._off = True
            return None
        if made is None:
            return None
        took = time.perf_counter() - started
        if not skip:
            pass
        elif first:  # it fits the map and decodes the first key picture, and tells nothing of the next ones
            self._last = 1e-9
        else:
            self._spent += took
            self._last = took if self._last == 1e-9 else min(self._last, took)
        self._keep(snapshot, made)
        return made

    def of(self, snapshot: Snapshot) -> np.ndarray | None:
        """The look made after an iteration, on any branch, or None; do not modify it."""
        with self._lock:
            found = self._kept.get(id(snapshot.anchors))
        return None if found is None else found[1]

    @property
    def nbytes(self) -> int:
        """Memory that the kept looks take."""
        with self._lock:
            return sum(picture.nbytes for _, picture in self._kept.values())

    def clear(self) -> None:
        """Let go of the kept looks."""
        with self._lock:
            self._kept.clear()

    def _decoded(self, z: Tensor, session: DragSession, skip: bool) -> Tensor:
        """A latent as a picture (1, 3, H, W), about -1..1; a key picture where time allows or does not count."""
        if self._small is not None:
            return self._small(z)
        coding = self._coding(session.state)
        linear = coding.linear(z).cpu()
        due = coding.rest is None or not skip or self._spent + coding.seconds <= KEYS * self.share * self._worked
        if due and not self._dear:
            started = time.perf_counter()
            key = self.model.decode_latents(z)
            coding = dataclasses.replace(coding, rest=key - linear, seconds=time.perf_counter() - started)
            self._remember(coding)
            return key
        return linear if coding.rest is None else linear + coding.rest

    def _coding(self, state: SessionState) -> Coding:
        with self._lock:
            for coding in self._codings:
                if coding.image is state.image and coding.frame == state.frame:
                    return coding
        pixels = picture_tensor(padded_picture(state.image, state.frame), state.frame.padded)
        coding = Coding(state.image, state.frame, previews.linear_map(state.trajectory[0], pixels))
        self._remember(coding)
        return coding

    def _remember(self, coding: Coding) -> None:
        with self._lock:
            others = [one for one in self._codings if one.image is not coding.image or one.frame != coding.frame]
            self._codings = [coding, *others][:PICTURES]

    def _keep(self, snapshot: Snapshot, picture: np.ndarray) -> None:
        picture.flags.writeable = False
        with self._lock:
            self._kept[id(snapshot.anchors)] = (snapshot.anchors, picture)
            size = sum(kept.nbytes for _, kept in self._kept.values())
            while size > self.limit and self._kept:
                size -= self._kept.pop(next(iter(self._kept)))[1].nbytes


def _small_vae(vae: Any, model: Model) -> Preview:
    given = loading.read_vae(vae, model.dtype, configs=model.name)
    loading.require_same_latents(given.config, model.unet.unet.config)  # type: ignore[arg-type]
    return previews.of_vae(given.eval().requires_grad_(False).to(model.device))


def _picture(pixels: Tensor, frame: Frame, side: int) -> np.ndarray | None:
    """(1, 3, h, w) in -1..1 of the padded picture -> the picture, (h', w', 3) uint8; None if numbers are not finite."""
    size = [round(there * seen / covered) for there, seen, covered in
            zip(pixels.shape[-2:], frame.working[::-1], frame.padded[::-1], strict=True)]  # fmt: skip
    shown = pixels[..., : size[0], : size[1]]
    if max(size) > side:
        smaller = [max(round(length * side / max(size)), 1) for length in size]
        shown = F.interpolate(shown, smaller, mode="area")
    levels = ((shown[0].permute(1, 2, 0) + 1) * 127.5).round().cpu()
    return levels.clamp(0, 255).to(torch.uint8).numpy() if bool(torch.isfinite(levels).all()) else None
