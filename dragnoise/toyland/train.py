"""The recipe of the embedded model, from nothing to the weights in the package.

    python -m dragnoise.toyland.train                    # every stage, hours on two cores
    python -m dragnoise.toyland.train denoiser --steps 20000
    python -m dragnoise.toyland.train export             # write dragnoise/toyland/weights

Stages: pictures, autoencoder, latents, judge, denoiser, export.  Each goes on from its last
checkpoint in the run folder, so a run may be killed at any moment and started again; giving more
steps trains on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch.multiprocessing.spawn import spawn
from transformers import CLIPTextModel, CLIPTokenizer

from dragnoise.atomic_write import atomic_write, require_writable, write_bytes, write_picture, write_text
from dragnoise.model import CONFIG_FILE, TOYLAND
from dragnoise.toyland import networks
from dragnoise.toyland.autoencoder import encode_all, train_autoencoder
from dragnoise.toyland.denoiser import load_denoiser, train_denoiser
from dragnoise.toyland.judge import save_judge, train_judge
from dragnoise.toyland.pictures import pictures
from dragnoise.toyland.scenes import caption, sample_scene

STAGES = ("pictures", "autoencoder", "latents", "judge", "denoiser", "export")
STEPS = {"autoencoder": 2000, "judge": 3500, "denoiser": 14_000}

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)} (default: all)")
    parser.add_argument("--run", type=Path, default=Path("toyland-run"), help="folder of pictures and checkpoints")
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--steps", type=int, help="updates of the trained stage, when only one is asked for")
    parser.add_argument("--processes", type=int, default=2, help="that share each batch of the denoiser's training")
    parser.add_argument("--weights", type=Path, default=TOYLAND, help="where export writes")
    args = parser.parse_args()
    stages = args.stages or list(STAGES)
    for stage in stages:
        if stage not in STAGES:
            parser.error(f"there is no stage {stage!r}; choose of {', '.join(STAGES)}")
    for path in (args.run / "samples.png", *([args.weights / CONFIG_FILE] if "export" in stages else [])):
        require_writable(path)  # before hours of training
    steps = STEPS | ({stages[0]: args.steps} if args.steps and len(stages) == 1 else {})
    for stage in stages:
        run_stage(stage, args.run, args.pictures, steps, args.weights, args.processes)


def run_stage(stage: str, run: Path, count: int, steps: dict[str, int], weights: Path, processes: int = 1) -> None:
    """One stage; reads what earlier stages left in `run`."""
    if stage == "denoiser":
        train_in_processes(run, steps[stage], processes)
    elif stage == "export":
        export(run, weights)
    else:
        scenes = pictures(run, count)
        if stage == "autoencoder":
            train_autoencoder(scenes, run, steps=steps[stage]).save_pretrained(str(run / "vae"))
        elif stage == "latents":
            _save_array(run / "latents.npy", encode_all(_vae(run), scenes))
            _save_array(run / "changed_latents.npy", encode_all(_vae(run), pictures(run, count, changed=True)))
        elif stage == "judge":
            save_judge(train_judge(scenes, run, steps=steps[stage]), run / "judge.safetensors")


def train_in_processes(run: Path, steps: int, processes: int) -> None:
    """The denoiser's training, each batch shared among processes of one core each, which is the faster way."""
    if processes == 1:
        train_denoiser(_latents(run, "latents"), _latents(run, "changed_latents"), run, steps=steps)
        return
    with tempfile.TemporaryDirectory() as meeting:
        spawn(_train_share, (processes, meeting, run, steps), nprocs=processes)


def _train_share(rank: int, processes: int, meeting: str, run: Path, steps: int) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    dist.init_process_group("gloo", init_method=f"file://{meeting}/meet", rank=rank, world_size=processes)
    train_in_processes(run, steps, 1)
    dist.destroy_process_group()


def export(run: Path, weights: Path) -> None:
    """Write the averaged weights as a diffusers folder, the judge beside it, and a sheet of samples in `run`."""
    unet, text_encoder, tokenizer = load_denoiser(run)
    vae = _vae(run)
    networks.save_pipeline(weights, vae, tokenizer, text_encoder, unet)
    write_text(weights / CONFIG_FILE, json.dumps(DEFAULT_CONFIG, indent=1) + "\n")
    judge = run / "judge.safetensors"
    if judge.exists():
        write_bytes(weights / judge.name, judge.read_bytes())
    write_picture(run / "samples.png", sample_sheet(vae, unet, text_encoder, tokenizer))


def _save_array(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as file:
        np.save(file, array)


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
    page = Image.new("RGB", (8 * 128, -(-count // 8) * 128))
    for i, picture in enumerate(made):
        page.paste(picture, (i % 8 * 128, i // 8 * 128))
    return page


def _vae(run: Path) -> AutoencoderTiny:
    return AutoencoderTiny.from_pretrained(str(run / "vae")).eval().requires_grad_(False)


def _latents(run: Path, name: str, held_out: int = 500) -> np.ndarray:
    """Scaled latents of the training pictures, without the last `held_out`."""
    scale = _vae(run).config.scaling_factor
    latents = np.load(run / f"{name}.npy")[:-held_out]
    for i in range(0, len(latents), 1000):  # in float32, a part at a time
        latents[i : i + 1000] = latents[i : i + 1000].astype(np.float32) * scale
    return latents


if __name__ == "__main__":
    main()
