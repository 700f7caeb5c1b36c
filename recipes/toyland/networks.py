"""The untrained parts of the small Stable Diffusion, and the folder they are saved to.

An ordinary diffusers `StableDiffusionPipeline`: a tiny autoencoder (32x32x4 latents), a CLIP text
encoder of two layers, a U-Net of two or three levels with cross-attention and a DDIM scheduler with Stable
Diffusion's own noise schedule.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dragnoise.toyland.scenes import COATS, HATS, KINDS

TOKENS = 16
"""Length of a tokenised caption, start and end included."""

_WORDS = ("a", "an", "with", "hat", "by", "at", "day", "dawn", "dusk", "night", *COATS, *KINDS, *HATS[1:])


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 2.1's DDIM scheduler."""
    return DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer whose known words are a token each; other words fall apart into letters."""
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[str] = []
    for word in sorted(_WORDS, key=len, reverse=True):  # so that no short word's merges break up a longer one
        left = word[0] if len(word) > 1 else ""
        for i in range(1, len(word)):
            right = word[i] + ("</w>" if i == len(word) - 1 else "")
            if f"{left} {right}" not in merges:
                merges.append(f"{left} {right}")
                tokens.append(left + right)
            left += right
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocab, rules = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab.write_text(json.dumps({token: i for i, token in enumerate(dict.fromkeys(tokens))}))
        rules.write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        return CLIPTokenizer(str(vocab), str(rules), model_max_length=TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers, 96 wide."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=96,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(widths: tuple[int, ...] = (64, 64, 192)) -> UNet2DConditionModel:
    """A level for each of `widths`, from 32x32 down, with attention at the lowest only.

    Of three levels the bottleneck is (192, 8, 8), of two (widths[1], 16, 16).
    Of the skips only those at full resolution are read (see `cut_skips`).  The widths are to be such
    that no group of a group norm holds both a skip's channels and others; raises ValueError otherwise.
    """
    unet = UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * (len(widths) - 1) + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * (len(widths) - 1),
        cross_attention_dim=96,
        attention_head_dim=4,
    )
    for resnet, kept in skip_readers(unet):
        if kept % (resnet.in_channels // resnet.norm1.num_groups):
            raise ValueError(f"widths={widths} mix a skip's channels with others in a group norm; try (64, 64, 192).")
    with torch.no_grad():
        cut_skips(unet)
    return unet


def cut_skips(unet: UNet2DConditionModel) -> None:
    """Set the weights that read a skip to zero, all but those at full resolution, in place.

    Structure then has one way into the picture, the bottleneck; the noisy latent itself, which
    predicting the noise needs, still arrives through the first block.
    """
    for resnet, kept in skip_readers(unet):
        resnet.conv1.weight[:, kept:] = 0
        resnet.norm1.weight[kept:] = 0
        resnet.norm1.bias[kept:] = 0
        assert resnet.conv_shortcut is not None
        resnet.conv_shortcut.weight[:, kept:] = 0


def skip_readers(unet: UNet2DConditionModel) -> Iterator[tuple[ResnetBlock2D, int]]:
    """(residual block, channels before the skip's) of every up block but the last, at full resolution."""
    skips = [unet.config.block_out_channels[0]]
    for block in unet.down_blocks:
        skips += [resnet.out_channels for resnet in block.resnets]
        skips += [resnet.out_channels for resnet in block.resnets[-1:] if block.downsamplers]
    for resnet in [resnet for block in unet.up_blocks[:-1] for resnet in block.resnets]:
        yield resnet, resnet.in_channels - skips.pop()


def save_pipeline(
    folder: Path,
    vae: AutoencoderTiny,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
) -> None:
    """Write the diffusers folder with fp16 safetensors."""
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=build_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    pipeline.to(dtype=torch.float32)
