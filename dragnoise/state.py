"""What a session holds beside its model, as one value: what is branched, saved and opened."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dragnoise.config import DragConfig
from dragnoise.geometry import Drag, Frame
from dragnoise.history import HISTORY_LIMIT, History
from dragnoise.identity import ModelInfo
from dragnoise.lora import Lora
from dragnoise.lora.files import pack, unpack
from dragnoise.model import Model

EMPTY = History()
UNKNOWN = ModelInfo()


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """A session without its model, immutable.

    image: RGB, as given; frame: the sizes it passes through.
    trajectory: latents of inversion steps 0..edit_from, (1, C, h, w) float32 each; empty when not inverted.
    anchors: (m, 2) float64, image pixels: where they are after the last iteration, if that is known.
    origin: name and iteration that it was branched from.  history_limit: in bytes.
    made_with: the model.
    """

    image: Image.Image
    prompt: str
    config: DragConfig
    frame: Frame
    drags: tuple[Drag, ...] = ()
    mask: np.ndarray | None = None
    lora: Lora | None = None
    trajectory: tuple[Tensor, ...] = ()
    history: History = EMPTY
    anchors: np.ndarray | None = None
    name: str = "main"
    origin: tuple[str, int] | None = None
    history_limit: float = HISTORY_LIMIT
    made_with: ModelInfo = UNKNOWN

    def require_made_with(self, model: Model) -> None:
        """Raise ValueError when what it holds was made with another model than this one; warn of another precision."""
        made, given = self.made_with, model.info
        if not (self.trajectory or self.lora):
            return
        if not made.is_same(given):
            differs = (
                f"predicts {given.prediction!r} instead of {made.prediction!r}"
                if given.prediction != made.prediction
                else "has other weights or another noise schedule"
            )
            raise ValueError(
                f"this session was made with the model {made}, and {given} {differs}, so it cannot go on with it; load "
                "that model, or start afresh with this one by DragSession.open(path, model, afresh=True)."
            )
        if made.fingerprint and (made.dtype, made.device) != (given.dtype, given.device):
            warnings.warn(
                f"this session was made in {made.dtype} on {made.device} and goes on in {given.dtype} on "
                f"{given.device}: what comes is close to what would have come there, and not the same to the bit.",
                UserWarning,
                stacklevel=3,
            )

    def afresh(self) -> State:
        """The same without what a model has made: the picture, its prompt, the drags, the mask and the numbers."""
        return dataclasses.replace(self, lora=None, trajectory=(), history=EMPTY, anchors=None)

    def require_fit(self, model: Model) -> None:
        """Raise ValueError, naming both shapes, unless this state can go on with the model."""
        if self.trajectory:
            self._require_shapes(model)
        if self.lora is not None:
            self.lora.require_fit(model)

    def on(self, device: torch.device) -> State:
        """The same with the LoRA and the trajectory on a device."""
        lora = self.lora
        if lora is not None:
            tensors, numbers = pack(lora)
            lora = unpack({name: tensor.to(device) for name, tensor in tensors.items()}, numbers)
        return dataclasses.replace(self, lora=lora, trajectory=tuple(z.to(device) for z in self.trajectory))

    def _require_shapes(self, model: Model) -> None:
        mine = model.frame(self.image.size, self.config)
        if mine != self.frame:
            raise self._mismatch(model, "pictures are {}x{} pixels".format(*self.frame.working), mine.working)
        latents = tuple(self.trajectory[0].shape)
        width, height = mine.working
        made: tuple[int, ...] = (1, model.unet.unet.config.in_channels, height // model.factor, width // model.factor)
        near = all(0 <= given - least <= 1 for given, least in zip(latents[2:], made[2:], strict=True))
        if latents[:2] != made[:2] or not near:  # an autoencoder may round up
            raise self._mismatch(model, f"latents have shape {latents}", made)
        made = model.unet.bottleneck_shape(latents)
        for snapshot in self.history:
            if snapshot.is_whole and (shape := tuple(snapshot.bottleneck.shape)) != made:
                raise self._mismatch(model, f"bottlenecks have shape {shape}", made)

    def _mismatch(self, model: Model, what: str, its: tuple[int, ...]) -> ValueError:
        by = f", {self.made_with.name!r}" if self.made_with.name else ""
        return ValueError(
            f"this session's {what}, while the model {model.name!r} makes them {its}; use the model that the session "
            f"was made with{by}."
        )
