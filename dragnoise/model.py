"""One frozen diffusers pipeline, and everything the method reads off it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DDIMScheduler, DiffusionPipeline
from PIL import Image
from torch import Tensor

from dragnoise.config import DragConfig
from dragnoise.geometry import picture_tensor
from dragnoise.unet import CutUNet, Decoded, Encoded

TOYLAND = Path(__file__).parent / "toyland" / "weights"
CONFIG_FILE = "drag_config.json"
"""A pipeline folder may hold its recommended `DragConfig` fields in this file."""


class Model:
    """A Stable Diffusion pipeline, frozen and cut at its bottleneck.

    Made by `load_model`, or from a pipeline you built: `Model(pipeline)`.  Holds no state of an edit,
    so any number of sessions may share one.

    name: for people.  device, dtype: of the U-Net.  factor: picture pixels per latent pixel.
    native: side in pixels of the pictures it was trained on.  prediction: "epsilon", "v_prediction"
    or "sample".  default_config: the recommended `DragConfig`.

    Raises ValueError for a pipeline that has no U-Net with a bottleneck, or wants other inputs.
    """

    def __init__(
        self, pipeline: DiffusionPipeline, *, name: str = "", default_config: DragConfig | None = None
    ) -> None:
        for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
            if getattr(pipeline, part, None) is None:
                raise ValueError(
                    f"{type(pipeline).__name__} has no {part}, so DragNoise cannot use it; pipelines with a U-Net that "
                    "has a mid block work: Stable Diffusion 1.x, 2.x and models of their shape."
                )
        self.pipeline = pipeline
        self.name = name or type(pipeline).__name__
        self.unet = CutUNet(pipeline.unet)
        self.vae = pipeline.vae
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.eval().requires_grad_(False)
        self.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        self.prediction: str = self.scheduler.config.prediction_type
        self.default_config = default_config or DragConfig()
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        side = pipeline.unet.config.sample_size
        self.native = self.factor * (side if isinstance(side, int) else max(side))

    def __repr__(self) -> str:
        return f"Model({self.name!r}, device={str(self.device)!r}, dtype={self.dtype})"

    @property
    def device(self) -> torch.device:
        return self.pipeline.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.pipeline.unet.dtype

    # ---- picture <-> latent

    @torch.no_grad()
    def encode_picture(self, picture: Image.Image, size: tuple[int, int]) -> Tensor:
        """RGB picture, brought to (width, height) -> latent (1, C, height/f, width/f) float32 on the device.

        The mean of the VAE's posterior, times its scaling factor.
        """
        x = picture_tensor(picture, size).to(self.vae.device, self.vae.dtype)
        encoded = self.vae.encode(x)
        z = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
        return (z.float() * self.vae.config.scaling_factor).to(self.device)

    @torch.no_grad()
    def decode_latents(self, z: Tensor) -> Tensor:
        """Latent (1, C, h, w) -> picture (1, 3, h f, w f) float32, about -1..1, on the CPU."""
        z = z.float() / self.vae.config.scaling_factor
        return self.vae.decode(z.to(self.vae.device, self.vae.dtype)).sample.float().cpu()

    # ---- text

    @torch.no_grad()
    def embed(self, prompt: str) -> Tensor:
        """A prompt -> (1, tokens, width) on the device; longer prompts are cut, as everywhere."""
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        ids = tokenizer(
            prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids
        return encoder(ids.to(encoder.device))[0].to(self.device, self.dtype)

    # ---- U-Net

    def encode(self, z: Tensor, t: int, text: Tensor) -> Encoded:
        """`CutUNet.encode` in the model's dtype and on its device."""
        return self.unet.encode(z.to(self.device, self.dtype), t, text)

    def decode(self, bottleneck: Tensor, encoded: Encoded, *, upto: int | None = None) -> Decoded:
        """`CutUNet.decode` in the model's dtype; gradients reach the bottleneck as it was given."""
        return self.unet.decode(bottleneck.to(self.device, self.dtype), encoded, upto=upto)

    def predict(self, bottleneck: Tensor, encoded: Encoded) -> Tensor:
        """The decoder run to its end: the U-Net's prediction (1, C, h, w) in float32."""
        noise = self.decode(bottleneck, encoded).noise
        assert noise is not None
        return noise.float()


def load_model(name: str | Path = "toyland", *, device: Any = None, dtype: torch.dtype | None = None) -> Model:
    """The embedded model, or any Stable Diffusion 1.x / 2.x from the Hugging Face hub or a local folder.

    name: "toyland", the miniature that comes with dragnoise (offline, runs on a CPU); a hub id such
        as "stable-diffusion-v1-5/stable-diffusion-v1-5"; or a diffusers pipeline folder.
    device: default "cuda", else "mps", else "cpu", the first there is; toyland stays on the CPU.
    dtype: default float16 on CUDA, float32 elsewhere.

    Weights are read from safetensors only.  Raises OSError when they cannot be found or fetched, and
    ValueError for a pipeline of a kind that has no bottleneck to drag.
    """
    embedded = str(name) == "toyland"
    source = TOYLAND if embedded else Path(name)
    if device is None:
        device = "cpu" if embedded else _best_device()
    device = torch.device(device)
    if dtype is None:
        dtype = torch.float16 if device.type == "cuda" and not embedded else torch.float32
    pipeline = _read_pipeline(str(source) if source.is_dir() else str(name), dtype)
    config_file = source / CONFIG_FILE
    default = DragConfig(**json.loads(config_file.read_text())) if config_file.is_file() else None
    pipeline.to(device)
    return Model(pipeline, name=str(name), default_config=default)


def _read_pipeline(source: str, dtype: torch.dtype) -> DiffusionPipeline:
    try:
        with _quiet():
            return DiffusionPipeline.from_pretrained(
                source, torch_dtype=dtype, use_safetensors=True, safety_checker=None, requires_safety_checker=False
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if Path(source).exists():
            raise OSError(
                f"{source!r} cannot be read as a diffusers pipeline with safetensors weights ({reason}); pass a folder "
                "that holds model_index.json, or load_model() for the embedded model."
            ) from error
        raise OSError(
            f"{source!r} is no local folder and could not be fetched from the hub ({reason}); pass the path of a "
            "diffusers folder that you have, or load_model(), which needs no network."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no advice from the loaders for a moment; what went wrong is raised anyway."""
    logs = (diffusers.utils.logging, transformers.utils.logging)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    try:
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
