"""Quick looks: the picture predicted in one step after each iteration, made beside a run and kept within a limit.

    looks = QuickLooks(model)                  # or QuickLooks(model, preview_vae="madebyollin/taesd")
    looks.prepare(session)                     # if wished, when a picture is opened: 0.5 s on the miniature
    for snapshot in session.optimize():
        picture = looks.look(session)          # (h, w, 3) uint8, or None when this one is skipped
    looks.of(session.history[12])              # a kept one, or None

A quick look is the clean latent of `Editor.predicted`, which runs an iteration's forward on to the noise, decoded by
the first of these that is there: `preview_vae`; the model's own VAE, once it has proved fast enough; a map fitted to
that VAE's pictures, where decoding a few is cheap (`AutoencoderTiny`, or a GPU); a linear map fitted to the given
picture.  It reads the session and changes nothing of it: losses and latents are the same bits with and without.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dragnoise.geometry import Frame
from dragnoise.images.pictures import padded_picture, picture_tensor
from dragnoise.interrupts import OutOfMemory, is_out_of_memory
from dragnoise.models import loading
from dragnoise.models.model import Model, require_model
from dragnoise.sampling import previews
from dragnoise.sampling.previews import Preview
from dragnoise.session.history import Snapshot
from dragnoise.session.session import DragSession
from dragnoise.validation import as_integer, as_number

SHARE = 0.2
"""Time that quick looks may take, in shares of the iterations' own."""

KEPT = 64 * 2**20
"""Bytes of quick looks that are kept: 1300 of 128x128, 85 of 512x512."""

FITS = 4
"""Pictures whose fitted map is kept."""


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
        require_model(model)
        self.model = model
        self.share = share if share == math.inf else as_number("share", share, above=True)
        self.limit = limit if limit == math.inf else as_number("limit", limit)
        self.side = as_integer("side", side, 16)
        self._small = None if preview_vae is None else _small_vae(preview_vae, model)
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by id of the snapshot's anchors, which it holds
        self._fits: list[tuple[Image.Image, Frame, Preview, float]] = []
        self._worked = self._spent = self._last = 0.0

    def look(self, session: DragSession) -> np.ndarray | None:
        """The quick look of the session's last iteration, (h, w, 3) uint8; call it after each iteration.

        The shape is the working picture's, at most `side` long.  None before any iteration, when it is skipped to keep
        within `share`, and when memory is short.  Raises ValueError for a session of another model.
        """
        history = session.history
        if not history or session.model is None:
            return None
        snapshot = history[-1]
        if (known := self.of(snapshot)) is not None:
            return known
        first = not self._last
        self._worked += snapshot.seconds
        if not first and self._spent + self._last > self.share * self._worked:
            return None
        try:
            self.prepare(session)
            started = time.perf_counter()
            made = self._make(session)
        except OutOfMemory:
            return None
        if made is None:
            return None
        self._last = time.perf_counter() - started
        self._spent += 0.0 if first else self._last
        self._keep(snapshot, made)
        return made

    def prepare(self, session: DragSession) -> None:
        """Fit the map that decodes this session's looks, once a picture; `look` does it when it has not been done."""
        if session.model is not self.model:
            raise ValueError(
                f"these quick looks are of the model {self.model.name!r} and this session has another one; make "
                "QuickLooks(session.model)."
            )
        if self._small is None and self._fit_of(session) is None:
            state = session.state
            z = state.trajectory[0] if state.trajectory else session.latents.to(self.model.device)
            preview, seconds = _fit(self.model, z, state.image, state.frame)
            with self._lock:
                self._fits = [(state.image, state.frame, preview, seconds), *self._fits][:FITS]

    def of(self, snapshot: Snapshot) -> np.ndarray | None:
        """The look that was made of an iteration, whatever its branch, or None; do not write on it."""
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

    def _make(self, session: DragSession) -> np.ndarray | None:
        z = session.predicted()
        if z is None:
            return None
        pixels = self._preview(session)(z)
        return _picture(pixels, session.frame, self.side)

    def _preview(self, session: DragSession) -> Preview:
        if self._small is not None:
            return self._small
        found = self._fit_of(session)
        assert found is not None
        _, _, preview, seconds = found
        return self.model.decode_latents if seconds < self.share * session.history[-1].seconds / 2 else preview

    def _fit_of(self, session: DragSession) -> tuple[Image.Image, Frame, Preview, float] | None:
        state = session.state
        with self._lock:
            return next((fit for fit in self._fits if fit[0] is state.image and fit[1] == state.frame), None)

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


def _fit(model: Model, z: Tensor, image: Image.Image, frame: Frame) -> tuple[Preview, float]:
    """The map for a picture and its latent, and the seconds that the model's own VAE takes to decode it.

    Where decoding is dear, no more is asked of the VAE: a linear map is fitted to the picture itself.
    """
    from diffusers import AutoencoderTiny

    if isinstance(model.vae, AutoencoderTiny) or model.device.type != "cpu":
        try:
            latents, pictures, seconds = previews.variations(z), [], math.inf
            for latent in latents:
                started = time.perf_counter()
                pictures.append(model.decode_latents(latent))
                seconds = min(seconds, time.perf_counter() - started)
            return previews.fitted(latents, pictures), seconds
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    return previews.fitted([z], [picture_tensor(padded_picture(image, frame), frame.padded)], features=0), math.inf


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
