"""Model: one frozen diffusers pipeline, cut at its bottleneck; and `load_model`."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch
from PIL import Image
from torch import Tensor

from dragnoise.config import DragConfig
from dragnoise.geometry import Frame
from dragnoise.images.pictures import as_picture, picture_tensor
from dragnoise.interrupts import loading_advice, memory_guard
from dragnoise.models import arguments, fingerprint, loading, text, weights
from dragnoise.models.fingerprint import ModelInfo
from dragnoise.models.model_folder import recommended_config
from dragnoise.models.noise_models import as_ddim
from dragnoise.models.offload import Memory, enable_low_memory, on_device
from dragnoise.models.text import Conditioning, Text
from dragnoise.models.unet import Cut, CutUNet, Decoded, Encoded
from dragnoise.validation import LONGEST, as_integer, as_pair, as_text, shown

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

TOYLAND = Path(__file__).parents[1] / "toyland" / "weights"


class Model:
    """A Stable Diffusion pipeline, frozen and cut at its bottleneck.

    Made by `load_model`, or from a pipeline you built: `Model(pipeline)`.  Holds no state of an edit,
    so any number of sessions may share one.

    name: for people.  device, dtype: of the U-Net.  factor: picture pixels per latent pixel.
    native: side in pixels of the pictures it was trained on.  prediction: "epsilon", "v_prediction"
    or "sample".  default_config: the recommended `DragConfig`.  memory: "normal" or "low".
    options: what `load_model` was given of vae, config, variant and prediction.

    A VAE that asks for it (`force_upcast`, as SDXL's does, for it overflows) works in float32 where
    the U-Net works in float16.

    device: where to bring it, default: where it is.  With memory="low" the VAE and the text encoders
    stay on the CPU and come for their work alone, large pictures pass the VAE in tiles, and the
    decoder's layers are computed again on an iteration's way back instead of kept.
    `python -m benchmarks memory` counts what that gains (SDXL at 1024x1024 in float16: 5.9 GiB instead of
    9.6) and times what it costs (an iteration takes about half as long again).

    Raises ValueError for a pipeline that has no U-Net with a bottleneck, or wants other inputs, and
    `OutOfMemory`, after which the pipeline is on the device where it was.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        *,
        name: str = "",
        default_config: DragConfig | None = None,
        device: torch.device | str | None = None,
        memory: Memory = "normal",
    ) -> None:
        for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
            if getattr(pipeline, part, None) is None:
                raise ValueError(
                    f"{type(pipeline).__name__} has no {part}, so DragNoise cannot use it; pipelines with a U-Net that "
                    "has a mid block work: Stable Diffusion 1.x, 2.x, SDXL and models of their shape."
                )
        arguments.require_memory(memory)
        self.pipeline = pipeline
        self.name = name or type(pipeline).__name__
        self.options: dict[str, Any] = {}
        self.memory: Memory = memory
        self.unet = CutUNet(pipeline.unet)
        self.vae = pipeline.vae
        loading.require_same_latents(self.vae.config, pipeline.unet.config)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                if any(parameter.is_inference() for parameter in part.parameters()):
                    raise ValueError(
                        "this pipeline was made inside torch.inference_mode(), so that no gradient can pass it; make "
                        "it outside, or under torch.no_grad()."
                    )
                part.eval().requires_grad_(False)
        self.scheduler = as_ddim(pipeline.scheduler, what=f"{self.name!r}")
        self.prediction: str = self.scheduler.config.prediction_type
        if default_config is not None and not isinstance(default_config, DragConfig):
            raise TypeError(f"default_config must be a DragConfig, not {shown(default_config)}.")
        self.default_config = default_config or _usual_config(self.unet)
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        side = pipeline.unet.config.sample_size
        self.native = self.factor * (side if isinstance(side, int) else max(side))
        self._place(self.device if device is None else arguments.as_device(device))
        weights.require_finite(self.name, pipeline.components, self.dtype)

    def __repr__(self) -> str:
        low = ', memory="low"' if self.memory == "low" else ""
        return f"Model({self.name!r}, device={str(self.device)!r}, dtype={self.dtype}{low})"

    @property
    def device(self) -> torch.device:
        return self.unet.typical.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.typical.dtype

    @property
    def info(self) -> ModelInfo:
        """What a session's file says of this model: how to load it again, and how to tell it from others."""
        return fingerprint.info(self)

    @cached_property
    def digests(self) -> tuple[bytes, bytes]:
        """See `fingerprint.digests`; made once, for weights do not change: some 0.1 s for Stable Diffusion 1.5."""
        return fingerprint.digests(self)

    def frame(self, size: tuple[int, int], config: DragConfig) -> Frame:
        """The sizes that a picture of (width, height) passes through on its way to this model."""
        return Frame.of(size, config, native=self.native, multiple=self.factor)

    def on_device(self, part: torch.nn.Module) -> AbstractContextManager[torch.device]:
        """Context manager for using the VAE or a text encoder: yields its device; low memory moves it there."""
        if self.memory == "low":
            return on_device(part, self.device)
        return nullcontext(next(part.parameters()).device)

    def _place(self, device: torch.device) -> None:
        before = self.device

        def undo() -> str:
            for part in self.pipeline.components.values():
                if isinstance(part, torch.nn.Module):
                    part.to(before)
            return loading_advice(self.name, device, self.dtype, self.memory)

        with memory_guard(undo):
            if self.memory == "low":
                self.pipeline.unet.to(device)
                enable_low_memory(self.pipeline, device)
            elif device != self.device:
                self.pipeline.to(device)
            if self.vae.dtype == torch.float16 and self.vae.config.get("force_upcast"):
                torch.nn.Module.to(self.vae, torch.float32)  # diffusers' own warns of modules that it need not keep

    # ---- picture <-> latent

    def encode_picture(self, picture: Image.Image, size: tuple[int, int]) -> Tensor:
        """Picture, brought to (width, height) -> latent (1, C, height/f, width/f) float32 on the device.

        The mean of the VAE's posterior, times its scaling factor.  Raises as `posterior` does.
        """
        return self.posterior(picture, size)[0]

    @torch.no_grad()
    def posterior(self, picture: Image.Image, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the VAE's posterior, scaled: (1, C, height/f, width/f) float32 each.

        The deviation is zero for a VAE that has none.  Both are on the device.  Raises ValueError or
        TypeError if it is not a picture, or no size in pixels from the VAE's factor to `LONGEST`.
        """
        pixels = picture_tensor(as_picture(picture), _checked_size(size, self.factor))
        with self.on_device(self.vae) as device:
            encoded = self.vae.encode(pixels.to(device, self.vae.dtype))
            if hasattr(encoded, "latent_dist"):
                mean, deviation = encoded.latent_dist.mean, encoded.latent_dist.std
            else:
                mean, deviation = encoded.latents, torch.zeros_like(encoded.latents)
            scale = self.vae.config.scaling_factor
            return (mean.float() * scale).to(self.device), (deviation.float() * scale).to(self.device)

    @torch.no_grad()
    def decode_latents(self, z: Tensor) -> Tensor:
        """Latent (1, C, h, w) -> picture (1, 3, h f, w f) float32, about -1..1, on the CPU.

        Raises TypeError or ValueError if it is not such a latent.
        """
        channels = self.unet.unet.config.in_channels
        if not isinstance(z, Tensor):
            raise TypeError(f"latents must be a tensor (1, {channels}, h, w), not {shown(z)}.")
        if z.ndim != 4 or z.shape[:2] != (1, channels) or 0 in z.shape:
            raise ValueError(f"latents must have shape (1, {channels}, h, w), not {tuple(z.shape)}.")
        z = z.float() / self.vae.config.scaling_factor
        with self.on_device(self.vae) as device:
            return self.vae.decode(z.to(device, self.vae.dtype)).sample.float().cpu()

    # ---- text

    def embed(self, prompt: str) -> Text:
        """A prompt as the U-Net wants it, on the device; longer prompts are cut, as everywhere, with a warning.

        (1, tokens, width), or SDXL's `Conditioning`: hand it to `encode` unopened.  Raises TypeError for
        what is no text.
        """
        as_text("the prompt", prompt)
        return text.moved(text.embed(self.pipeline, prompt, self.on_device), self.device, self.dtype)

    def embed_negative(self, prompt: str = "") -> Text:
        """The embedding of a negative prompt for classifier-free guidance, in the form of `embed`."""
        as_text("the prompt", prompt)
        return text.moved(text.negative(self.pipeline, prompt, self.on_device), self.device, self.dtype)

    # ---- U-Net

    def with_unet(self, unet: torch.nn.Module) -> Model:
        """This model around another U-Net of the same shape, device and dtype; all else is shared, `pipeline` too."""
        other = copy.copy(self)
        other.unet = CutUNet(unet)
        return other

    def encode(self, z: Tensor, t: int | Tensor, text: Text, **cut: Unpack[Cut]) -> Encoded:
        """`CutUNet.encode` in the model's dtype and on its device; text from `embed`, for one sample or for each."""
        if isinstance(text, Conditioning):
            text = text.sized(z.shape[-2] * self.factor, z.shape[-1] * self.factor)
        return self.unet.encode(z.to(self.device, self.dtype), t, text, **cut)

    def decode(self, bottleneck: Tensor, encoded: Encoded, *, upto: int | None = None) -> Decoded:
        """`CutUNet.decode` in the model's dtype; gradients reach the bottleneck as it was given."""
        return self.unet.decode(bottleneck.to(self.device, self.dtype), encoded, upto=upto)

    def predict(self, bottleneck: Tensor, encoded: Encoded) -> Tensor:
        """The decoder run to its end: the U-Net's prediction (1, C, h, w) in float32."""
        noise = self.decode(bottleneck, encoded).noise
        assert noise is not None
        return noise.float()


def load_model(
    name: str | Path = "toyland",
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    vae: Any = None,
    memory: Memory = "normal",
    config: str | Path | None = None,
    variant: str | None = None,
    prediction: str | None = None,
) -> Model:
    """The embedded model, or any Stable Diffusion 1.x, 2.x or XL: hub id, diffusers folder or single file.

    name: "toyland", the miniature that comes with dragnoise (offline, runs on a CPU); a hub id such
        as "stable-diffusion-v1-5/stable-diffusion-v1-5"; a diffusers pipeline folder; or a checkpoint
        in one .safetensors file, as communities share them.
    device: default "cuda", else "mps", else "cpu", the first there is; toyland stays on the CPU.
    dtype: torch.float32, bfloat16 or float16, or such a name; default float16 on CUDA, float32 elsewhere.
    vae: another VAE, as a hub id, a folder, a .safetensors file or an AutoencoderKL or AutoencoderTiny.
    memory: "low" for small cards, at the price of time; see `Model`.
    config: for a single file, which holds weights alone: the hub id or the folder of a diffusers
        pipeline of its family, of which only the small JSON and tokenizer files are read; default
        the family's original on the hub, from the cache when it is there.
    variant: which files of a repository or folder, such as "fp16" to fetch half as much; default the
        full ones, and "fp16" where there are no others.
    prediction: "epsilon" or "v_prediction", for a checkpoint that does not say what it predicts.

    Weights are read from safetensors only.  Raises OSError when they cannot be found or fetched,
    ValueError for a pickle, a wrong argument, and a pipeline that has no bottleneck to drag or wants
    more than a text, such as an inpainting model, and `OutOfMemory`.
    """
    found = arguments.as_source(name, name="name", what="a model, or its hub id")
    embedded = found == "toyland"
    source = TOYLAND if embedded else Path(found)
    arguments.require_memory(memory)
    on = arguments.as_device("cpu" if embedded and device is None else device)
    half = on.type == "cuda" and not embedded
    kind = arguments.as_dtype(dtype, default=torch.float16 if half else torch.float32)
    default = recommended_config(source)
    with torch.inference_mode(False):  # weights made inside it let no gradient pass
        with memory_guard(lambda: loading_advice(str(name), "cpu", kind, memory)):  # where everything is read first
            pipeline = loading.read_pipeline(
                str(source) if embedded else found, kind, vae=vae, config=config, variant=variant, prediction=prediction
            )
        model = Model(pipeline, name=str(name), default_config=default, device=on, memory=memory)
    asked = {"vae": vae, "config": config, "variant": variant, "prediction": prediction}
    model.options = {key: value for key, value in asked.items() if value is not None}
    return model


def require_model(model: object) -> None:
    """Raise TypeError if it is not a `Model`."""
    if not isinstance(model, Model):
        raise TypeError(f"model must come from dragnoise.load_model(), not be a {type(model).__name__}.")


def _checked_size(size: Any, low: int) -> tuple[int, int]:
    try:
        width, height = as_pair(size)
    except (TypeError, ValueError):
        raise ValueError(f"size={shown(size)} must be (width, height) in pixels.") from None
    return as_integer("width", width, low, LONGEST), as_integer("height", height, low, LONGEST)


def _usual_config(unet: CutUNet) -> DragConfig:
    """The paper's numbers; SDXL's decoder reaches the same resolution and width one block earlier."""
    return DragConfig(supervision_block=1) if unet.unet.config.addition_embed_type else DragConfig()
