"""What one iteration costs, against a plain implementation of the same equations.

    python benchmarks/iteration.py            # operations on Stable Diffusion 1.5 and times on toyland

Operations are counted on the real architecture with tensors that have shapes and no data, so
neither weights nor an accelerator are needed.  Times are medians of alternating runs in one
process, given as a ratio.

The plain implementation does what a first version would: the whole U-Net with autograd through
everything, weights included, the feature resized to half the picture as a whole, and a masking
term on the denoised latent, as the authors' program has it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dragnoise import semantics
from dragnoise.models.unet import CutUNet

SD15 = {
    "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8, "block_out_channels": (320, 640, 1280, 1280)
}  # fmt: skip


def ours(unet: UNet2DConditionModel, z: Tensor, text: Tensor, grid: tuple[int, int]) -> Callable[[], None]:
    """One iteration of the engine: decoder up to the supervision feature, forward and backward, both losses' points."""
    cut = CutUNet(unet)
    unet.requires_grad_(False)
    with torch.no_grad():
        encoded = cut.encode(z, 681, text)
    leaf = encoded.bottleneck.clone().requires_grad_()
    anchors, objectives, initial = _points(z, grid, channels=cut.decode(leaf, encoded, upto=2).feature.shape[1])

    def iteration() -> None:
        feature = cut.decode(leaf, encoded, upto=2).feature[0]
        with torch.no_grad():
            semantics.nearest_place(feature.detach(), initial, semantics.tracking_places(anchors, 3), grid)
        semantics.alignment_loss(feature, anchors, objectives, 1, grid).backward()

    return iteration


def plain(unet: UNet2DConditionModel, z: Tensor, text: Tensor, grid: tuple[int, int]) -> Callable[[], None]:
    """The same equations without the cut, one full pass with autograd over everything and the map resized whole."""
    unet.requires_grad_(True)
    kept: dict[str, Tensor] = {}
    unet.up_blocks[2].register_forward_hook(lambda module, inputs, output: kept.update(feature=output))

    def iteration() -> None:
        noise = unet(z, 681, text).sample
        whole = F.interpolate(kept["feature"], grid[::-1], mode="bilinear", align_corners=False)[0]
        patch = whole[:, 10:13, 10:13]
        loss = (patch.detach() - whole[:, 10:13, 11:14]).abs().sum() + 0.1 * noise.abs().sum()
        unet.zero_grad(set_to_none=True)
        loss.backward()

    return iteration


def _points(z: Tensor, grid: tuple[int, int], *, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors and objectives, which the engine keeps on the CPU, and the features of the initial anchors."""
    one = torch.ones(1, 2, device="cpu", dtype=torch.float64)
    return one * grid[0] / 3, one * grid[0] / 2, torch.zeros(1, channels, device=z.device)


def operations(make: Callable[..., Callable[[], None]], config: dict, side: int) -> float:
    """Multiply-adds counted twice, in GFLOP, of one iteration at side x side pixels."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config).eval()
        z = torch.empty(1, 4, side // 8, side // 8)
        text = torch.empty(1, 77, config["cross_attention_dim"])
        iteration = make(unet, z, text, (side // 2, side // 2))
        with FlopCounterMode(display=False) as counter:
            iteration()
    return counter.get_total_flops() / 1e9


def median_times(side: int = 32, rounds: int = 15) -> tuple[float, float]:
    """Median seconds of ours and of the plain iteration on the embedded model's U-Net, taken in turns."""
    from dragnoise import load_model

    pair = []
    for make in (ours, plain):
        unet = load_model().pipeline.unet
        z, text = torch.randn(1, 4, side, side), torch.randn(1, 16, unet.config.cross_attention_dim)
        pair.append(make(unet, z, text, (2 * side, 2 * side)))
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 2):
        for taken, iteration in zip(times, pair, strict=True):
            started = time.perf_counter()
            iteration()
            if round_ > 1:
                taken.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    counted, full = operations(ours, SD15, 512), operations(plain, SD15, 512)
    print(f"SD 1.5, 512x512: {counted:,.0f} GFLOP an iteration, plain {full:,.0f}: {full / counted:.2f} times as many")
    fast, slow = median_times()
    print(f"toyland, 128x128: plain takes {slow / fast:.2f} times as long (medians of alternating runs)")
