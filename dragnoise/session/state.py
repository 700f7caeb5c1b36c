"""SessionState: everything a session holds beside its model, as one value, and what each change forgets."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dragnoise.config import FIELDS, DragConfig
from dragnoise.editors.base import Status
from dragnoise.geometry import Drag, Frame, short_drags
from dragnoise.identity import Identity
from dragnoise.images.masks import mask_remarks
from dragnoise.lora import Lora
from dragnoise.lora.files import pack, unpack
from dragnoise.models.fingerprint import ModelInfo
from dragnoise.models.model import Model
from dragnoise.session.history import HISTORY_LIMIT, History
from dragnoise.validation import as_text, shown

EMPTY = History()
UNKNOWN = ModelInfo()

FORGETS: dict[str, tuple[str, ...]] = {
    "prompt": ("trajectory", "history"),
    "lora": ("trajectory", "history"),
    "trajectory": ("history",),
    "drags": ("history",),
    "history": ("anchors",),
}
"""Changed field -> fields that become invalid; for `config` the metadata of its own fields say which."""

RENDERING = tuple(
    name for name, i in FIELDS.items() if i.group in ("Schedule", "Rendering") and i.forgets in ("nothing", "editor")
)
"""Fields of `DragConfig` that change the picture rendered from an iteration, but not the iteration."""

FORGOTTEN: dict[str, Any] = {"trajectory": (), "history": EMPTY, "anchors": None}

INPUTS = ("prompt", "config", "drags", "mask", "lora", "trajectory", "history")
"""Fields that an iteration is computed from: a change of one while it is computed overtakes it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SessionState:
    """All that is asked of a session and all that it has made, without its model, immutable.

    image: RGB, as given; frame: the sizes that it passes through on its way to the model.
    trajectory: latents of inversion steps 0.., (1, C, h, w) float32 each; complete with `config.edit_from` + 1 of them.
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

    @property
    def inverted(self) -> bool:
        """Has the picture been inverted up to `config.edit_from`?"""
        return len(self.trajectory) == self.config.edit_from + 1

    @property
    def status(self) -> Status:
        """Status of the last iteration; "running" before any, and when a raised limit allows more iterations."""
        if not self.history:
            return "running"
        last = self.history[-1]
        more = last.status == "max_iterations" and last.iteration < self.config.most_iterations
        return "running" if more else last.status

    @property
    def rendering(self) -> tuple[Any, ...]:
        """Hashable cache key of what the picture of an iteration depends on beside the iteration itself."""
        config = self.config
        numbers = tuple(getattr(config, name) for name in RENDERING)
        if config.hold == "nothing":
            return numbers
        return (*numbers, config.reach, self.drags) if self.mask is None else (*numbers, Identity(self.mask))

    @property
    def remarks(self) -> list[str]:
        """One sentence for each thing about mask and drags that is probably not meant, and what to change."""
        return [*mask_remarks(self.mask, self.drags), *short_drags(self.drags, self.frame, self.config)]

    @property
    def summary(self) -> str:
        """Size, drags, and how far it is, as "128x128, 1 drags, inverted, iteration 3"."""
        stands = f"iteration {self.history[-1].iteration}" if self.history else "not optimised"
        inverted = "inverted" if self.inverted else "not inverted"
        return f"{self.image.width}x{self.image.height}, {len(self.drags)} drags, {inverted}, {stands}"

    def changed(self, **changes: Any) -> SessionState:
        """A copy with some fields changed; fields that this makes invalid are reset unless they are given too."""
        lost = {name for field in changes for name in FORGETS.get(field, ())}
        if "config" in changes:
            level = self.config.forgets(changes["config"])
            lost |= {"inversion": {"trajectory", "history"}, "optimisation": {"history"}}.get(level, set())
        if "drags" in changes and self.history and _same_anchors(self.drags, changes["drags"]):
            lost -= {"history"}
            changes = {"history": self.history.reopened(), "anchors": self.anchors} | changes
        lost |= {name for field in lost for name in FORGETS.get(field, ())}
        return dataclasses.replace(self, **({name: FORGOTTEN[name] for name in lost} | changes))

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
                stacklevel=5,  # whoever sets session.model
            )

    def afresh(self) -> SessionState:
        """A copy without anything a model computed: only picture, prompt, drags, mask and config."""
        return dataclasses.replace(self, lora=None, **FORGOTTEN)

    def require_fit(self, model: Model) -> None:
        """Raise ValueError, naming both shapes, unless this state can go on with the model."""
        if self.trajectory:
            self._require_shapes(model)
        if self.lora is not None:
            self.lora.require_fit(model)

    def on(self, device: torch.device) -> SessionState:
        """The same with the LoRA and the trajectory on a device."""
        lora = self.lora
        if lora is not None:
            tensors, numbers = pack(lora)
            lora = unpack({name: tensor.to(device) for name, tensor in tensors.items()}, numbers)
        return dataclasses.replace(self, lora=lora, trajectory=tuple(z.to(device) for z in self.trajectory))

    def _require_shapes(self, model: Model) -> None:
        mine = model.frame(self.image.size, self.config)
        if (
            dataclasses.replace(mine, padded=self.frame.padded, grid=self.frame.grid) != self.frame
        ):  # old files pad nothing
            raise self._mismatch(model, "pictures are {}x{} pixels".format(*self.frame.working), mine.working)
        latents = tuple(self.trajectory[0].shape)
        width, height = mine.working
        made: tuple[int, ...] = (1, model.unet.unet.config.in_channels, height // model.factor, width // model.factor)
        near = all(0 <= given - least <= 1 for given, least in zip(latents[2:], made[2:], strict=True))
        if latents[:2] != made[:2] or not near:  # an autoencoder may round up
            raise self._mismatch(model, f"latents have shape {latents}", made)
        shapes = {"bottleneck": model.unet.bottleneck_shape(latents), "latent": latents}
        for snapshot in self.history:
            for name, tensor in snapshot.state.tensors.items():
                if name in shapes and (shape := tuple(tensor.shape)) != shapes[name]:
                    raise self._mismatch(model, f"{name}s have shape {shape}", shapes[name])

    def _mismatch(self, model: Model, what: str, its: tuple[int, ...]) -> ValueError:
        by = f", {self.made_with.name!r}" if self.made_with.name else ""
        return ValueError(
            f"this session's {what}, while the model {model.name!r} makes them {its}; use the model that the session "
            f"was made with{by}."
        )


def checked_config(config: Any) -> DragConfig:
    """A `DragConfig`; raises TypeError for anything else."""
    if not isinstance(config, DragConfig):
        raise TypeError(f"config must be a DragConfig, not {shown(config)}.")
    return config


def checked_name(name: object) -> str:
    """A branch's name; raises TypeError if it is no text, and ValueError if it is empty."""
    text = as_text("a branch's name", name)
    if not text.strip():
        raise ValueError(f"a branch's name must not be empty, as {shown(name)} is.")
    return text


def _same_anchors(one: tuple[Drag, ...], other: tuple[Drag, ...]) -> bool:
    return [drag.anchor for drag in one] == [drag.anchor for drag in other]
