"""A drag on a Stable Diffusion of full size with random weights: does it fit, and what does each stage take?

    python benchmarks/full_size.py                # SD 1.5's architecture at 512x512 on the processor, in bfloat16
    python benchmarks/full_size.py SDXL --steps 2 # SDXL's at 1024x1024: 17 GB of memory, 7 GB of disk, some minutes
    python benchmarks/full_size.py --device cuda --dtype float16 --memory low

The pipeline is written as the diffusers folder of half-precision safetensors that hubs have, and everything goes
through it as through a real one: load, a step of a LoRA's fit, inversion, iterations, the picture, a saved
session that goes on with the same bits.  Only the pictures mean nothing.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)  # fmt: skip
from memory import MODELS, VAE
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dragnoise import DragSession, load_model
from dragnoise.toyland import render, sample_scene
from recipes.toyland.networks import build_scheduler, build_tokenizer

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}


@torch.no_grad()
def random_half(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """What `make` makes, in float16, with random weights that keep the signal's size on its way through."""
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device="cpu").half()
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.copy_(torch.randn(parameter.shape) / parameter[0].numel() ** 0.5)
        else:
            parameter.copy_(0.1 * torch.randn(parameter.shape) + (0 if name.endswith("bias") else 1))
    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]))
    return module


def text_encoder(kind: Any, sizes: dict[str, int]) -> torch.nn.Module:
    """A CLIP of these sizes that reads the embedded model's small vocabulary."""
    words = build_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words), max_position_embeddings=words.model_max_length, projection_dim=sizes["hidden_size"],
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, **sizes,
    )  # fmt: skip
    return random_half(lambda: kind(config))


def write(name: str, folder: Path) -> None:
    """A pipeline of the architecture `name`, as a folder."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "unet": random_half(lambda: UNet2DConditionModel(**MODELS[name][0])),
        "vae": random_half(lambda: AutoencoderKL(**VAE, force_upcast=name == "SDXL")),
        "text_encoder": text_encoder(CLIPTextModel, CLIP_L), "tokenizer": build_tokenizer(),
        "scheduler": DDIMScheduler.from_config(build_scheduler().config, prediction_type="epsilon"),
    }  # fmt: skip
    if name == "SDXL":
        parts |= {"text_encoder_2": text_encoder(CLIPTextModelWithProjection, BIG_G), "tokenizer_2": build_tokenizer()}
        StableDiffusionXLPipeline(**parts, add_watermarker=False).save_pretrained(folder, variant="fp16")
        return
    checker: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionPipeline(**parts, **checker).save_pretrained(folder, variant="fp16")


@contextmanager
def told(what: str, times: int = 1) -> Iterator[None]:
    """Print what it took."""
    started = time.perf_counter()
    yield
    each = (time.perf_counter() - started) / times
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{what}: {each:.1f} s{' each' if times > 1 else ''}, peak {peak:.1f} GiB of the computer's memory", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="SD 1.5", choices=list(MODELS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--memory", default="normal")
    parser.add_argument("--steps", type=int, default=6, help="of the inversion")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with told("write the random pipeline"):
            write(given.name, Path(folder))
        with told("load it"):
            model = load_model(folder, device=given.device, dtype=given.dtype, memory=given.memory)
        side = MODELS[given.name][1]
        session = DragSession(model, np.kron(render(sample_scene(1)), np.ones((side // 128, side // 128, 1), np.uint8)))
        session.drags = [((side // 4, side // 4), (side // 2, side // 4))]
        session.config = session.config.replace(steps=given.steps + 2, edit_from=given.steps, refine_from=1)
        with told("a step of a LoRA's fit with one picture"):
            list(session.fit_lora(1, batch_size=1))
        with told("a step of the inversion", given.steps):
            list(session.invert())
        with told("an iteration", 4):
            losses = [session.step().loss for _ in range(4)]
        with told("the picture, in as many steps as the inversion"):
            picture = session.render()
        with told("save and open"):
            again = DragSession.open(session.save(Path(folder) / "edit.drag"), model)
        assert picture.size == (side, side)
        assert np.isfinite(losses).all()
        same = again.step().loss == session.step().loss
        print(f"losses {', '.join(f'{loss:.4g}' for loss in losses)}; the opened session goes on with the same: {same}")


if __name__ == "__main__":
    main()
