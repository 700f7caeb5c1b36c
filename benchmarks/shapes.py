"""Pipelines of Stable Diffusion's real shapes with random weights, and a small one for tests; nothing is fetched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dragnoise import DragConfig, Model, load_model
from dragnoise.toyland.suite import PAPER
from recipes.toyland.networks import build_scheduler, build_tokenizer

SD15: dict[str, Any] = {
    "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8, "block_out_channels": (320, 640, 1280, 1280)
}  # fmt: skip
SD21 = SD15 | {
    "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True
}  # fmt: skip
SDXL: dict[str, Any] = {
    "sample_size": 128, "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20],
    "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
TINY: dict[str, Any] = {
    "sample_size": 16, "cross_attention_dim": 32, "attention_head_dim": 8, "block_out_channels": (32, 64, 64, 64),
    "norm_num_groups": 8,
}  # fmt: skip
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "layers_per_block": 2,
}  # fmt: skip
TINY_VAE = VAE | {"block_out_channels": (8, 16, 16, 16), "layers_per_block": 1, "norm_num_groups": 4}

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
CLIP_TINY = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@dataclass(frozen=True)
class Shape:
    """The architecture of a family.

    side: pixels of its pictures; block: the up block whose output is the supervision feature.  unet is empty for the
    embedded model, which has weights of its own.  text_parameters: of the text encoders with their whole vocabulary.
    """

    title: str
    side: int
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: tuple[dict[str, int], ...] = ()
    prediction: str = "epsilon"
    block: int = 2
    text_parameters: float = 0.0


SHAPES = {
    "sd15": Shape("SD 1.5", 512, SD15, VAE, (CLIP_L,), text_parameters=123.06e6),
    "sd21": Shape("SD 2.1", 768, SD21, VAE, (CLIP_H,), "v_prediction"),
    "sdxl": Shape("SDXL", 1024, SDXL, VAE | {"force_upcast": True}, (CLIP_L, BIG_G), block=1, text_parameters=817.72e6),
    "toyland": Shape("toyland", 128, {}, {}),
    "tiny": Shape("a tiny Stable Diffusion", 128, TINY, TINY_VAE, (CLIP_TINY,)),
}


def make_model(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Model:
    """The embedded model, or one of random weights; on "meta" its tensors have shapes and no data."""
    if SHAPES[name].unet:
        return Model(make_pipeline(name, dtype=dtype, device=device), name=name)
    if device == "meta":
        pipeline = load_model(dtype=dtype).pipeline
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            torch.nn.Module.to(part, "meta")
        return Model(pipeline, name=name, default_config=load_model().default_config)
    return load_model(device=device, dtype=dtype)


def paper_config(model: Model, **changes: Any) -> DragConfig:
    """The paper's method with the model's own numbers where it has some."""
    usual = model.default_config
    return (usual if usual.start == "inverted" else usual.replace(**PAPER)).replace(**changes)


def make_pipeline(name: str, *, dtype: torch.dtype, device: str = "cpu") -> Any:
    """A pipeline of the architecture `name` with random weights, the same for the same name."""
    torch.manual_seed(0)
    shape, home = SHAPES[name], "meta" if device == "meta" else "cpu"

    def part(make: Callable[[], torch.nn.Module]) -> Any:
        return random_module(make, dtype=dtype, device=home)

    parts: dict[str, Any] = {
        "unet": part(lambda: UNet2DConditionModel(**shape.unet)), "vae": part(lambda: AutoencoderKL(**shape.vae)),
        "text_encoder": part(lambda: text_encoder(CLIPTextModel, shape.text[0])), "tokenizer": tokenizer(),
        "scheduler": DDIMScheduler.from_config(build_scheduler().config, prediction_type=shape.prediction),
    }  # fmt: skip
    if len(shape.text) > 1:
        second = part(lambda: text_encoder(CLIPTextModelWithProjection, shape.text[1]))
        parts |= {"text_encoder_2": second, "tokenizer_2": tokenizer()}
        pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        checker: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(**parts, **checker)
    return pipeline if home == device else pipeline.to(device)


@torch.no_grad()
def random_module(make: Callable[[], torch.nn.Module], *, dtype: torch.dtype, device: str = "cpu") -> torch.nn.Module:
    """What `make` makes, with random weights that keep the signal's size on its way through; on "meta" without."""
    with torch.device("meta"):
        module = make()
    module = torch.nn.Module.to(module.eval().requires_grad_(False), dtype)  # diffusers' own warns of nothing
    if device == "meta":
        return module
    module = module.to_empty(device=device)
    for name, parameter in module.named_parameters():
        drawn = torch.empty(parameter.shape, dtype=torch.float32)  # the same weights in every dtype, but for rounding
        if parameter.ndim > 1:
            parameter.copy_(drawn.normal_(0, 1 / math.sqrt(parameter[0].numel())))
        else:
            parameter.copy_(drawn.normal_(0 if name.endswith("bias") else 1, 0.1))
    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]))
    return module


def tokenizer() -> Any:
    """The embedded model's small vocabulary, in texts of Stable Diffusion's length."""
    words = build_tokenizer()
    words.model_max_length = 77
    return words


def text_encoder(kind: Any, sizes: dict[str, int]) -> torch.nn.Module:
    """A CLIP of these sizes that reads them."""
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words), max_position_embeddings=words.model_max_length, projection_dim=sizes["hidden_size"],
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, **sizes,
    )  # fmt: skip
    return kind(config)
