"""Last stage of the recipe: the pipeline folder that `load_model` reads, and a sheet of samples."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from dragnoise.atomic_write import write_bytes, write_picture, write_text
from dragnoise.models.model_folder import CONFIG_FILE
from dragnoise.toyland.detector import WEIGHTS as JUDGE
from dragnoise.toyland.scenes import SIZE, caption, sample_scene
from recipes.toyland import networks
from recipes.toyland.denoiser import load_denoiser
from recipes.toyland.recipe import Recipe

DEFAULT_CONFIG: dict[str, object] = {
    "edit_from": 28,
    "refine_from": 6,
    "lr": 0.3,
    "eps": 0.1,
    "r1": 4,
    "mask_weight": 3.0,
    "reach": 0.2,
    "propagation": "delta",
    "max_iterations": 40,
    "latent_noise": 0.08,
}
"""Fields of `DragConfig` recommended for the embedded model; chosen on the suite's tuning scenes."""

SAMPLE_SEED = 90_000_000


def export(run: Path, weights: Path, recipe: Recipe) -> None:
    """Write the averaged weights as a diffusers folder, the judge beside it, and a sheet of samples in `run`."""
    unet, text_encoder, tokenizer = load_denoiser(run, recipe)
    vae = AutoencoderTiny.from_pretrained(str(run / "vae")).eval().requires_grad_(False)
    networks.save_pipeline(weights, vae, tokenizer, text_encoder, unet)
    config = DEFAULT_CONFIG if len(recipe.widths) > 2 else DEFAULT_CONFIG | {"supervision_block": 1}
    write_text(weights / CONFIG_FILE, json.dumps(config, indent=1) + "\n")
    judge = run / JUDGE.name
    write_bytes(weights / JUDGE.name, (judge if judge.exists() else JUDGE).read_bytes())
    write_picture(run / "samples.png", sample_sheet(vae, unet, text_encoder, tokenizer))


def sample_sheet(
    vae: AutoencoderTiny, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer,
    *, count: int = 24,
) -> Image.Image:  # fmt: skip
    """Pictures made from noise and captions, eight in a row."""
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=networks.build_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    prompts = [caption(sample_scene(SAMPLE_SEED + i)) for i in range(count)]
    made = pipeline(
        prompts, num_inference_steps=50, guidance_scale=1.0, generator=torch.Generator().manual_seed(0)
    ).images
    page = Image.new("RGB", (8 * SIZE, -(-count // 8) * SIZE))
    for i, picture in enumerate(made):
        page.paste(picture, (i % 8 * SIZE, i // 8 * SIZE))
    return page
