"""Previews: a linear map of latents to pictures, fitted by least squares, and small VAEs of their own.

A VAE's decoder may take as long as an iteration.  The linear map takes a latent pixel and its eight neighbours to the
f x f picture pixels that it stands for; fitted to one picture and its latent it knows that picture's colours, on any
model, which the 4 x 3 numbers that are passed round for Stable Diffusion do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Preview = Callable[[Tensor], Tensor]
"""Latent (1, C, h, w), scaled as the U-Net's -> picture (1, 3, H, W) float32, about -1..1."""

RIDGE = 1e-2
"""Weight of the squared coefficients, relative to the mean square of each input, so that scale does not matter."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A 3x3 convolution whose outputs are the picture pixels of one latent pixel; the border's values are repeated.

    weight: (3 f^2, C, 3, 3); offset: (3 f^2,); factor: f.
    """

    weight: Tensor
    offset: Tensor
    factor: int

    def __call__(self, z: Tensor) -> Tensor:
        """Latent (1, C, h, w) -> picture (1, 3, h f, w f) float32, about -1..1, on the latent's device."""
        pixels = F.conv2d(_bordered(z.float()), self.weight.to(z.device), self.offset.to(z.device))
        return F.pixel_shuffle(pixels, self.factor)


def linear_map(latent: Tensor, picture: Tensor) -> LinearMap:
    """The map that makes a picture, (1, 3, H, W) in -1..1, of its latent, (1, C, h, w), with the least squares.

    H and W are h and w times the same whole number f; a side that falls short of it, by a VAE that rounds up, is
    repeated at its end.
    """
    z, p = latent.detach().float().cpu(), picture.detach().float().cpu()
    (height, width), (h, w) = p.shape[-2:], z.shape[-2:]
    factor = max(-(-height // h), -(-width // w))
    p = F.pad(p, (0, w * factor - width, 0, h * factor - height), mode="replicate")
    inputs, outputs = F.unfold(_bordered(z), 3)[0].T, F.pixel_unshuffle(p, factor)[0].flatten(1).T
    solution, offset = ridge(inputs.double(), outputs.double(), RIDGE)
    return LinearMap(solution.T.reshape(-1, z.shape[1], 3, 3).float(), offset.float(), factor)


def ridge(inputs: Tensor, outputs: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """argmin over W, c of mean |X W + c - Y|^2 + weight * sum_i (deviation of X_i)^2 |W_i|^2.

    inputs: X, (n, i) float64.  outputs: Y, (n, o) float64 -> W, (i, o), and c, (o,); inputs that are constant get 0.
    """
    mean_in, mean_out = inputs.mean(0), outputs.mean(0)
    x = inputs - mean_in
    deviation = x.square().mean(0).sqrt()
    varies, divisor = deviation > 1e-9, deviation.clamp(min=1e-9)
    x = torch.where(varies, x / divisor, 0.0)
    normal = x.T @ x / len(x) + weight * torch.eye(x.shape[1], dtype=x.dtype)
    solution = torch.linalg.solve(normal, x.T @ (outputs - mean_out) / len(x))
    solution = torch.where(varies[:, None], solution / divisor[:, None], 0.0)
    return solution, mean_out - mean_in @ solution


def of_vae(vae: torch.nn.Module) -> Preview:
    """The decoder of a small VAE such as an AutoencoderTiny, on the device that the VAE is on."""

    @torch.no_grad()
    def preview(z: Tensor) -> Tensor:
        at = next(vae.parameters())
        scaled = z.float() / vae.config.scaling_factor  # type: ignore[union-attr, operator]
        decoded: Tensor = vae.decode(scaled.to(at.device, at.dtype)).sample.float()  # type: ignore[operator]
        return decoded

    return preview


def _bordered(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")
