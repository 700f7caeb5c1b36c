"""Training of the embedded model, stage by stage, from nothing or from given weights.

    python -m recipes.toyland.train --run RUN --variant further      # every stage
    python -m recipes.toyland.train --run RUN --variant further autoencoder latents
    python -m recipes.toyland.train --run RUN --variant fresh --device cuda --minutes 25

Stages: pictures, autoencoder, latents, judge, denoiser, export.  Each goes on from its last
checkpoint in the run folder, so a run may be killed at any moment; the same command resumes it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny

from dragnoise.atomic_write import atomic_write
from dragnoise.toyland.detector import WEIGHTS as JUDGE
from recipes.toyland.autoencoder import encode_all, train_autoencoder
from recipes.toyland.denoiser import train_denoiser
from recipes.toyland.device import Device
from recipes.toyland.export import export
from recipes.toyland.judge import save_judge, train_judge
from recipes.toyland.pictures import landmark_table, pictures, small_things
from recipes.toyland.recipe import VARIANTS, Recipe, keep_recipe

STAGES = ("pictures", "autoencoder", "latents", "judge", "denoiser", "export")
ENCODED_AT_ONCE = 500


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)} (default: all)")
    parser.add_argument("--run", type=Path, default=Path("toyland-run"), help="folder of pictures and checkpoints")
    parser.add_argument("--pictures-in", type=Path, help="folder of rendered pictures (default: the run folder)")
    parser.add_argument("--variant", choices=VARIANTS, default="shipped")
    parser.add_argument("--set", nargs="*", default=[], metavar="SWITCH=VALUE", help="switches of the recipe to change")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, default=None, help="default: where it is faster"
    )
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--minutes", type=float, help="lower the denoiser's steps so that all ends within this time")
    parser.add_argument("--weights", type=Path, help="where export writes (default: weights in the run folder)")
    args = parser.parse_args(arguments)
    started = time.monotonic()
    stages = args.stages or list(STAGES)
    for stage in stages:
        if stage not in STAGES:
            parser.error(f"there is no stage {stage!r}; choose of {', '.join(STAGES)}")
    try:
        recipe = VARIANTS[args.variant].replace(**dict(map(parse_switch, args.set)))
        keep_recipe(args.run, recipe)
    except ValueError as error:
        parser.error(str(error))
    torch.set_num_threads(args.threads)
    run = Run(args.run, recipe, Device(args.device, args.bf16), args.pictures_in or args.run, args.workers)
    for stage in stages:
        if stage == "export":
            export(run.folder, args.weights or run.folder / "weights", recipe)
        elif stage == "denoiser" and args.minutes is not None:
            run.denoiser(seconds=60 * args.minutes - (time.monotonic() - started))
        else:
            getattr(run, stage)()


def parse_switch(pair: str) -> tuple[str, Any]:
    """ "name=value" -> name and value, read as JSON where it is JSON."""
    name, _, value = pair.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


class Run:
    """The stages of one run; each reads what earlier ones left in the folder."""

    def __init__(self, folder: Path, recipe: Recipe, device: Device, pictures_in: Path, workers: int = 1) -> None:
        self.folder, self.recipe, self.device, self._pictures_in, self._workers = (
            folder, recipe, device, pictures_in, workers,
        )  # fmt: skip

    def pictures(self) -> None:
        for changed in (False, True):
            self._pictures(changed)

    def autoencoder(self) -> None:
        scenes = self._pictures()
        centres = landmark_table(range(len(scenes)))[0]
        model = train_autoencoder(scenes, centres, self.folder, self.recipe, device=self.device)
        model.save_pretrained(str(self.folder / "vae"))

    def latents(self) -> None:
        model = self.vae().to(self.device.place)
        for name, changed in (("latents", False), ("changed_latents", True)):
            encode_to(self.folder / f"{name}.npy", model, self._pictures(changed))

    def judge(self) -> None:
        net = train_judge(self._pictures(), self.folder, steps=self.recipe.judge_steps, device=self.device)
        save_judge(net, self.folder / JUDGE.name)

    def denoiser(self, seconds: float | None = None) -> None:
        scale = self.vae().config.scaling_factor
        count = self.recipe.pictures - self.recipe.held_out
        latents, changed = (
            (np.load(self.folder / f"{name}.npy", mmap_mode="r")[:count].astype(np.float32) * scale).astype(np.float16)
            for name in ("latents", "changed_latents")
        )
        small = small_things(range(count)) if self.recipe.small_weight else None
        train_denoiser(latents, changed, self.folder, self.recipe, small=small, device=self.device, seconds=seconds)

    def vae(self) -> AutoencoderTiny:
        return AutoencoderTiny.from_pretrained(str(self.folder / "vae")).eval().requires_grad_(False)

    def _pictures(self, changed: bool = False) -> np.ndarray:
        return pictures(self._pictures_in, self.recipe.pictures, changed=changed, workers=self._workers)


def encode_to(path: Path, model: AutoencoderTiny, scenes: np.ndarray) -> None:
    """Write the latents of some pictures, in parts, so that a killed run goes on with the part that it was at."""
    parts = []
    for i in range(0, len(scenes), ENCODED_AT_ONCE):
        part = path.with_suffix(f".{i}.npy")
        if not part.exists():
            latents = encode_all(model, scenes[i : i + ENCODED_AT_ONCE])
            with atomic_write(part) as file:
                np.save(file, latents)
        parts.append(part)
    with atomic_write(path) as file:
        np.save(file, np.concatenate([np.load(part) for part in parts]))
    for part in parts:
        part.unlink()


if __name__ == "__main__":
    main()
