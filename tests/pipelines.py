"""Small pipelines of Stable Diffusion's shapes with random weights, built from scratch; nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported where a pipeline is built, so that tests without one start at once
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionPipeline, StableDiffusionXLPipeline

TEXT_WIDTH = 24


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights that keep the signal's size on its way through, and no bias or norm left at its neutral value."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=rng)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + (0 if name.endswith("bias") else 1))


def build_pipeline(
    vae: AutoencoderKL | AutoencoderTiny, unet: dict[str, Any], scheduler: Any, seed: int
) -> StableDiffusionPipeline:
    """A random pipeline around a VAE and the U-Net of these arguments."""
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from recipes.toyland.networks import TOKENS, build_tokenizer, skip_readers

    tokenizer = build_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=TOKENS, projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    net = UNet2DConditionModel(**({"sample_size": 16, "cross_attention_dim": TEXT_WIDTH, "norm_num_groups": 8} | unet))
    for i, module in enumerate((vae, text_encoder, net)):
        randomise(module, seed + i)
    with torch.no_grad():
        for resnet, bottleneck_channels in skip_readers(net):  # what comes up from the bottleneck shall be well seen
            resnet.norm1.weight[bottleneck_channels:] *= 0.2
            resnet.conv_shortcut.weight[:, bottleneck_channels:] *= 0.2
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=net, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def build_kl() -> AutoencoderKL:
    """Stable Diffusion's kind of autoencoder, f = 8."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, norm_num_groups=4, sample_size=128,
    )  # fmt: skip


FOUR_LEVELS: dict[str, Any] = {
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
}


def build_sd15(**unet: Any) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5's shape and scheduler: four levels, 8 heads everywhere, epsilon."""
    from diffusers import PNDMScheduler

    scheduler = PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    return build_pipeline(build_kl(), FOUR_LEVELS | {"attention_head_dim": 8} | unet, scheduler, seed=15)


def build_sd21() -> StableDiffusionPipeline:
    """Stable Diffusion 2.1's shape: linear projections, heads per level, v-prediction."""
    from recipes.toyland.networks import build_scheduler

    heads = {"attention_head_dim": [2, 4, 4, 8], "use_linear_projection": True}
    return build_pipeline(build_kl(), FOUR_LEVELS | heads, build_scheduler(), seed=21)


def build_three_block() -> StableDiffusionPipeline:
    """Three levels and a tiny autoencoder, f = 4, as the embedded miniature has; epsilon."""
    from diffusers import AutoencoderTiny

    from recipes.toyland.networks import build_scheduler

    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1), upsampling_scaling_factor=2, scaling_factor=0.5,
    )  # fmt: skip
    unet = {
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 4,
    }
    scheduler = type(build_scheduler()).from_config(build_scheduler().config, prediction_type="epsilon")
    return build_pipeline(vae, unet, scheduler, seed=3)


def build_text_encoder(kind: Any, width: int, *, layers: int = 2) -> Any:
    """A CLIP text model of the toy tokenizer."""
    from transformers import CLIPTextConfig

    from recipes.toyland.networks import TOKENS, build_tokenizer

    tokenizer = build_tokenizer()
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
            num_attention_heads=2, max_position_embeddings=TOKENS, projection_dim=width,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def build_sdxl(**unet: Any) -> StableDiffusionXLPipeline:
    """SDXL's shape: three levels, the first without attention, two text encoders, a pooled text and sizes."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel
    from transformers import CLIPTextModelWithProjection as CLIPTextProjection

    from recipes.toyland.networks import build_tokenizer

    text_encoder, text_encoder_2 = build_text_encoder(CLIPTextModel, 24), build_text_encoder(CLIPTextProjection, 32)
    net = UNet2DConditionModel(**({
        "sample_size": 16, "cross_attention_dim": 24 + 32, "norm_num_groups": 8, "block_out_channels": (32, 64, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 2,
        "attention_head_dim": [2, 4, 8], "transformer_layers_per_block": [1, 2, 3], "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    } | unet))  # fmt: skip
    vae = AutoencoderKL.from_config(build_kl().config, scaling_factor=0.13025)
    for i, module in enumerate((vae, text_encoder, text_encoder_2, net)):
        randomise(module, 31 + i)
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, timestep_spacing="leading"
    )
    return StableDiffusionXLPipeline(
        vae=vae, text_encoder=text_encoder, text_encoder_2=text_encoder_2, tokenizer=build_tokenizer(),
        tokenizer_2=build_tokenizer(), unet=net, scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip
