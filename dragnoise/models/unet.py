"""The U-Net cut in two at its bottleneck, or at another block: `encode` once, `decode` as often as you like.

Nothing of diffusers is patched; its own blocks are called in its own order, and the two halves run
one after the other equal `UNet2DConditionModel.forward`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import torch
from torch import Tensor

from dragnoise.models.text import Conditioning, Text

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


MID = "mid"
"""The site of the bottleneck."""


class Cut(TypedDict, total=False):
    """Where to cut and what to leave out.

    site: see `CutUNet.sites`, default "mid".  instead: stands for the bottleneck, and the mid block does not run; for
    the site "mid" alone.
    """

    site: str
    instead: Tensor | None


@dataclass(frozen=True)
class Encoded:
    """What the encoder leaves for the decoder.

    bottleneck: (B, C, h', w') output at the cut; of the mid block, it is the paper's s_t.
    skips: outputs of the encoder, from conv_in to the lowest level, that the decoder has yet to consume.
    time: (B, E) time embedding, SDXL's other conditions added; text: (B, tokens, width).
    site: where the cut is, see `CutUNet.sites`.  features: outputs of the up blocks before it.
    """

    bottleneck: Tensor
    skips: tuple[Tensor, ...]
    time: Tensor
    text: Tensor
    site: str = MID
    features: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """What the decoder made of a bottleneck.

    features: output of every up block that ran, (B, C_k, h_k, w_k); the last one is `feature`.
    noise: (B, C, h, w), the U-Net's prediction (v for a v-prediction model), None unless run to the end.
    encoded: the encoder's part, from which `CutUNet.finish` goes on.
    """

    features: tuple[Tensor, ...]
    noise: Tensor | None
    encoded: Encoded

    @property
    def feature(self) -> Tensor:
        return self.features[-1]


class CutUNet:
    """A frozen diffusers U-Net in two halves.

    Raises ValueError for a U-Net without a mid block or one that wants other inputs than a latent,
    a timestep and a text, or SDXL's `Conditioning`.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        if getattr(unet, "mid_block", None) is None:
            raise ValueError(
                f"{type(unet).__name__} has no mid block, so there is no bottleneck to drag; Stable Diffusion "
                "1.x and 2.x, SDXL and other UNet2DConditionModel pipelines with a mid block work."
            )
        require_text_to_image(unet.config)
        self.unet = unet
        self._has_hooks = any(hasattr(module, "_diffusers_hook") for module in unet.modules())

    @property
    def typical(self) -> Any:
        """What device and dtype are read from: the first weight, or the whole U-Net if it has hooks of diffusers.

        diffusers' own properties look for such hooks in every module at every use.
        """
        return self.unet if self._has_hooks else next(self.unet.parameters())

    @property
    def blocks(self) -> int:
        """How many up blocks the decoder has."""
        return len(self.unet.up_blocks)

    @property
    def sites(self) -> tuple[str, ...]:
        """Where it can be cut: after a down block, "down.0" and so on, after the mid block, "mid", or an up block."""
        downs, ups = len(self.unet.down_blocks), len(self.unet.up_blocks)
        return (*(f"down.{i}" for i in range(downs)), MID, *(f"up.{i}" for i in range(ups)))

    def bottleneck_shape(self, latents: tuple[int, ...]) -> tuple[int, ...]:
        """The bottleneck's shape (B, C, h', w') for latents of shape (B, C, h, w); every level halves, rounding up."""
        height, width = latents[-2:]
        for block in self.unet.down_blocks:
            if block.downsamplers:
                height, width = (height + 1) // 2, (width + 1) // 2
        return (latents[0], self.unet.config.block_out_channels[-1], height, width)

    def encode(self, z: Tensor, t: int | Tensor, text: Text, **cut: Unpack[Cut]) -> Encoded:
        """Latent z (B, C, h, w), timestep t (an int, or (B,)), text (B or 1, tokens, width) -> Encoded.

        SDXL takes a `Conditioning` with its sizes as the text.
        """
        unet, site, instead = self.unet, cut.get("site", MID), cut.get("instead")
        if unet.config.center_input_sample:
            z = 2 * z - 1
        if isinstance(t, int):
            t = torch.full((), t, dtype=torch.int64, device=z.device)  # diffusers would send it and wait
        time = unet.time_embedding(unet.get_time_embed(z, t))
        added, text = self._split(text, len(z))
        if added:
            time = time + unet.get_aug_embed(time, text, added)
        if unet.time_embed_act is not None:
            time = unet.time_embed_act(time)
        x = unet.conv_in(z)
        skips = [x]
        for i, block in enumerate(unet.down_blocks):
            x, more = block(x, time, **_text(block, text))
            skips += more
            if site == f"down.{i}":
                return Encoded(x, tuple(skips), time, text, site)
        if site == MID and instead is not None:
            return Encoded(instead.to(x), tuple(skips), time, text)
        x = unet.mid_block(x, time, **_text(unet.mid_block, text))
        encoded = Encoded(x, tuple(skips), time, text)
        if site == MID:
            return encoded
        last = self.sites.index(site) - self.sites.index(MID) - 1
        *before, x = self.decode(x, encoded, upto=last).features
        left = len(skips) - sum(len(block.resnets) for block in unet.up_blocks[: last + 1])
        return Encoded(x, tuple(skips[:left]), time, text, site, tuple(before))

    def decode(self, bottleneck: Tensor, encoded: Encoded, *, upto: int | None = None) -> Decoded:
        """Decode a bottleneck with an encoder's skips: up to block `upto`, counted from 0, or to the noise.

        bottleneck has the shape of `encoded.bottleneck`.  Gradients flow to it alone.  Cut after a down block, it is
        that block's output for the next block and as a skip.
        """
        unet, x, done = self.unet, bottleneck, encoded.features
        kind, _, number = encoded.site.partition(".")
        if kind == "down":
            skips = [*encoded.skips[:-1], x]
            for block in unet.down_blocks[int(number) + 1 :]:
                x, more = block(x, encoded.time, **_text(block, encoded.text))
                skips += more
            x = unet.mid_block(x, encoded.time, **_text(unet.mid_block, encoded.text))
            encoded = dataclasses.replace(encoded, bottleneck=x, skips=tuple(skips), site=MID)
        elif kind == "up":
            done = (*done, x)
            if len(done) - 1 == upto:
                return Decoded(done, None, encoded)
        return self._run(x, done, encoded, upto)

    def finish(self, decoded: Decoded) -> Decoded:
        """A decoding that stopped at an up block, run on to the noise; one that did not is given back as it is."""
        if decoded.noise is not None:
            return decoded
        return self._run(decoded.feature, decoded.features, decoded.encoded, None)

    def _run(self, x: Tensor, done: tuple[Tensor, ...], encoded: Encoded, upto: int | None) -> Decoded:
        """The up blocks after those whose outputs are `done`, x being the input of the next one."""
        unet, skips, features = self.unet, list(encoded.skips), list(done)
        without_skips = len(encoded.features) + 1 if encoded.site.startswith("up.") else 0
        for i, block in enumerate(unet.up_blocks):
            if i < without_skips:
                continue
            own = tuple(skips[-len(block.resnets) :])
            del skips[-len(block.resnets) :]
            if i < len(done):
                continue
            # An odd-sized level was halved with rounding up: upsample to what the next skip has.
            size = skips[-1].shape[2:] if skips and block.upsamplers else None
            x = block(x, own, encoded.time, upsample_size=size, **_text(block, encoded.text))
            features.append(x)
            if i == upto:
                return Decoded(tuple(features), None, encoded)
        if unet.conv_norm_out is not None:
            x = unet.conv_act(unet.conv_norm_out(x))
        return Decoded(tuple(features), unet.conv_out(x), encoded)

    def _split(self, text: Text, batch: int) -> tuple[dict[str, Tensor], Tensor]:
        """What goes to the time embedding, and the words, each for every sample of the batch."""
        wanted = self.unet.config.addition_embed_type == "text_time"
        if wanted != isinstance(text, Conditioning):
            raise TypeError(
                f"this U-Net takes {'a Conditioning' if wanted else 'a tensor'} as the text, not a "
                f"{type(text).__name__}; give it what its own model.embed(prompt) returns."
            )
        if isinstance(text, Tensor):
            return {}, text.expand(batch, -1, -1)
        assert text.sizes is not None, "Conditioning.sized() comes first"
        added = {"text_embeds": text.pooled.expand(batch, -1), "time_ids": text.sizes.expand(batch, -1)}
        return added, text.text.expand(batch, -1, -1)


CONDITIONS = (
    "class_embed_type", "addition_embed_type", "encoder_hid_dim_type", "num_class_embeds", "time_cond_proj_dim",
)  # fmt: skip
"""Fields of a U-Net's config that ask for another condition; the last for the guidance of latent consistency models."""


def require_text_to_image(config: Mapping[str, Any]) -> None:
    """Raise ValueError, naming what is wrong, for the config of a U-Net that takes more than a latent and a text."""
    takes, gives = config.get("in_channels", 4), config.get("out_channels", 4)
    if takes != gives:
        kind = "an inpainting model's" if takes == 9 else "that of a model guided by a picture, a mask or a depth map"
        raise ValueError(
            f"this U-Net takes {takes} channels and gives {gives}, so it is {kind}; use the text-to-image model of "
            "its family, which takes and gives the same latents."
        )
    for name in (
        "class_embed_type",
        "addition_embed_type",
        "encoder_hid_dim_type",
        "num_class_embeds",
        "time_cond_proj_dim",
    ):
        if config.get(name) is not None and (name, config[name]) != ("addition_embed_type", "text_time"):
            raise ValueError(
                f"this U-Net asks for another condition ({name}={config[name]!r}); Stable Diffusion 1.x and 2.x, "
                "which take a text alone, and SDXL work."
            )


def _text(block: torch.nn.Module, text: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}


def sharing_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A module tree of its own whose parameters and buffers are the original's very tensors."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
