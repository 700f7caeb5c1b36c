"""What memory="low" and a fit's settings gain and cost: peak memory by count, time by the clock.

    python -m benchmarks memory                # counted on the real architectures, timed on a smaller one
    python -m benchmarks memory --cuda FOLDER  # besides, on a CUDA device with a model that you have

Memory is counted on the real architectures in float16 with tensors that have shapes and no data: every
operation's outputs are followed until they are freed, so neither weights nor an accelerator are needed.
What a device adds of its own (workspaces, fragmentation, its context) is not in these figures; --cuda
measures it.  Times are medians of alternating runs in one process, given as a ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.measuring.counting import Live
from benchmarks.shapes import SD15, SHAPES, VAE
from dragnoise.lora import LoraSettings, training
from dragnoise.models.offload import TILE
from dragnoise.models.text import Conditioning
from dragnoise.models.unet import CutUNet

MODELS = {SHAPES[name].title: SHAPES[name] for name in ("sd15", "sdxl")}


def built(kind: Callable[..., torch.nn.Module], dtype: torch.dtype, **config: Any) -> Any:
    torch.set_default_dtype(dtype)
    try:
        return kind(**config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def weights(module: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def unet_peaks(config: dict[str, Any], side: int, block: int, *, low: bool, sliced: bool) -> tuple[int, int, int]:
    """Bytes: the U-Net's weights, and what an inversion step and an iteration need beside them at their peak."""
    with FakeTensorMode():
        unet = built(UNet2DConditionModel, torch.float16, **config)
        if sliced:
            unet.set_attention_slice("auto")
        if low:
            unet.enable_gradient_checkpointing()
        cut, (z, text) = CutUNet(unet), inputs(config, side, torch.float16)
        with Live(unet.parameters()) as inversion, torch.no_grad():
            encoded = cut.encode(z, 681, text)
            cut.decode(encoded.bottleneck, encoded)
        leaf = encoded.bottleneck.clone().requires_grad_()
        kept = [leaf, *encoded.skips, encoded.time, encoded.text]
        with Live([*unet.parameters(), *kept]) as iteration:
            one_iteration(cut, leaf, encoded, block)
        return weights(unet), inversion.peak, iteration.peak + sum(t.untyped_storage().nbytes() for t in kept)


def inputs(config: dict[str, Any], side: int, dtype: torch.dtype) -> tuple[Tensor, Any]:
    z = torch.randn(1, 4, side // 8, side // 8).to(dtype)
    text = torch.randn(1, 77, config["cross_attention_dim"]).to(dtype)
    if config.get("addition_embed_type") is None:
        return z, text
    return z, Conditioning(text, torch.randn(1, 1280).to(dtype)).sized(side, side)


def one_iteration(cut: CutUNet, leaf: Tensor, encoded: Any, block: int) -> None:
    feature = cut.decode(leaf, encoded, upto=block).feature
    torch.autograd.grad(feature.float().abs().mean(), leaf)


def vae_peaks(side: int, *, low: bool) -> tuple[int, int]:
    """Bytes in float32: the VAE's weights, and what encoding and decoding need beside them at their peak."""
    with FakeTensorMode():
        vae = built(AutoencoderKL, torch.float32, sample_size=side, **VAE)
        if low:
            vae.enable_tiling()
            vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // 8
        with Live(vae.parameters()) as live, torch.no_grad():
            vae.encode(torch.zeros(1, 3, side, side))
            vae.decode(torch.zeros(1, 4, side // 8, side // 8))
        return weights(vae), live.peak


def fit_peak(config: dict[str, Any], side: int, *, batch: int, checkpointing: bool) -> tuple[int, int]:
    """Bytes: the U-Net's weights, and what a step of a LoRA's fit at rank 16 needs beside them at its peak.

    Adapters, gradients, AdamW's moments and the LoRA that is handed out count.  Mixed precision is
    that of the CPU, which keeps a little less in float32 than CUDA's.
    """
    with FakeTensorMode():
        unet = built(UNet2DConditionModel, torch.float16, **config)
        own, (z, text) = weights(unet), inputs(config, side, torch.float16)
        with patch.object(torch.nn.Module, "to", lambda self, *_, **__: self):  # peft moves what cannot be moved here
            halves = [half for pair in training.attach(unet, LoraSettings()).values() for half in pair]
        with Live(unet.parameters()) as live:
            optimiser = torch.optim.AdamW(halves, lr=1e-4)
            if checkpointing:
                unet.train()
                unet.enable_gradient_checkpointing()
            cut, seen = CutUNet(unet), torch.zeros(batch, *z.shape[1:], dtype=torch.float16)
            with torch.autocast("cpu", torch.float16):
                encoded = cut.encode(seen, torch.full((batch,), 500), text)
                noise = cut.decode(encoded.bottleneck, encoded).noise
                assert noise is not None
                loss = noise.float().square().mean()
            del encoded
            for half, gradient in zip(halves, torch.autograd.grad(loss, halves), strict=True):
                half.grad = gradient
            optimiser.step()
            handed_out = [x.clone() for half in halves for x in (half, *optimiser.state[half].values())]
        del handed_out
        return own, live.peak + sum(half.numel() * half.element_size() for half in halves)


def fit_table() -> None:
    """What a step of a fit needs, in the order of its settings' effect."""
    print("\nGiB of a LoRA's fit, beside the U-Net's weights: a step at its peak\n")
    print(f"{'':36}{'kept':>12}{'checkpointed':>16}")
    for name, shape in MODELS.items():
        side = shape.side
        for batch in (4, 2, 1):
            peaks = [fit_peak(shape.unet, side, batch=batch, checkpointing=on)[1] / 2**30 for on in (False, True)]
            print(f"{f'{name} {side}, batch {batch}':36}{peaks[0]:12.2f}{peaks[1]:16.2f}")


def table() -> None:
    """Peak memory of every stage, with everything that lies on the device at that time."""
    print("GiB, float16 with the VAE in float32; U-Net, VAE and text encoders as far as they are on the device\n")
    print(f"{'':36}{'inversion':>12}{'iteration':>12}{'VAE':>12}{'largest':>12}")
    for name, shape in MODELS.items():
        side, text = shape.side, int(2 * shape.text_parameters)
        for label, low, sliced in (
            ("normal", False, False),
            ("low", True, False),
            ("low, attention sliced", True, True),
        ):
            unet, inversion, iteration = unet_peaks(shape.unet, side, shape.block, low=low, sliced=sliced)
            vae, coding = vae_peaks(side, low=low)
            resting = 0 if low else vae + text
            stages = [unet + resting + inversion, unet + resting + iteration, unet + (vae if low else resting) + coding]
            stages.append(max(stages))
            print(f"{f'{name} {side}, {label}':36}" + "".join(f"{stage / 2**30:12.2f}" for stage in stages))


def time_ratio(rounds: int) -> float:
    """How many times as long an iteration takes in low memory: a U-Net of SD 1.5's shape, half as wide, at 256."""
    config = SD15 | {"block_out_channels": (160, 320, 640, 640)}
    unet = built(UNet2DConditionModel, torch.float32, **config)
    z, text = inputs(config, 256, torch.float32)
    cut = CutUNet(unet)
    with torch.no_grad():
        encoded = cut.encode(z, 681, text)
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for taken, switch in zip(
            times, (unet.disable_gradient_checkpointing, unet.enable_gradient_checkpointing), strict=True
        ):
            switch()
            leaf = encoded.bottleneck.clone().requires_grad_()
            started = time.perf_counter()
            one_iteration(cut, leaf, encoded, 2)
            if round_:
                taken.append(time.perf_counter() - started)
    return statistics.median(times[1]) / statistics.median(times[0])


def on_cuda(name: str) -> None:
    """Peak memory and seconds of a short edit, inversion to picture, as the device itself counts them."""
    from PIL import Image

    from dragnoise import DragSession, load_model

    for memory in ("normal", "low"):
        model = load_model(name, memory=memory)
        config = model.default_config.replace(max_iterations=10, tolerance=0.01)
        session = DragSession(model, Image.effect_mandelbrot((512, 512), (-2, -1.5, 1, 1.5), 60), config=config)
        session.drags = [((150, 150), (300, 300))]
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        session.run(progress=False)
        taken, peak = time.perf_counter() - started, torch.cuda.max_memory_allocated()
        print(f"{name}, {memory}: {peak / 2**30:.2f} GiB at most, {taken:.1f} s for inversion, 10 iterations, picture")
        del model, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cuda", metavar="MODEL", help="measure with this model on a CUDA device too")
    parser.add_argument("--rounds", type=int, default=7, help="alternating runs that are timed")


def main(given: argparse.Namespace, command: str) -> None:
    table()
    fit_table()
    print(f"\nan iteration in low memory takes {time_ratio(given.rounds):.2f} times as long on this CPU")
    if given.cuda:
        on_cuda(given.cuda)
