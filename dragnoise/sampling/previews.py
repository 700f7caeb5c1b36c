"""Previews: fast decoders of latents to pictures, fitted to a VAE by least squares, or a small VAE of their own.

A VAE's decoder takes about as long as an iteration, and a picture in every iteration may take a fifth of one.  Two
approximations are here.  `fitted` makes both: a linear map from the 3x3 neighbourhood of a latent pixel to the f x f
picture pixels that it stands for, and the same after one layer of random features, which resembles the decoder more
and needs more pixels to be fitted to (Huang et al. 2006, extreme learning machines: the first layer is random and
fixed, the last one is the solution of a ridge regression).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Preview = Callable[[Tensor], Tensor]
"""Latent (1, C, h, w), scaled as the U-Net's -> picture (1, 3, H, W) float32, about -1..1."""

FEATURES = 32
"""Random features of the larger map; with 32 of them it takes some 4 ms on one core for a latent of 32x32."""

RIDGE = 1e-2
"""Weight of the squared coefficients, relative to the mean square of each input, so that scale does not matter."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """p = W * [relu(R * z / s + b), z] + c, the last convolution's outputs being the pixels of one latent pixel.

    random: (n, C, 3, 3), bias: (n,), of the first layer, n = 0 for a linear map; spread: s, a latent's deviation.
    weight: (3 f^2, n + C, 3, 3), offset: (3 f^2,), of the second; factor: f.  Both repeat the border's values.
    """

    random: Tensor
    bias: Tensor
    spread: float
    weight: Tensor
    offset: Tensor
    factor: int

    def __call__(self, z: Tensor) -> Tensor:
        """Latent (1, C, h, w) -> picture (1, 3, h f, w f) float32, about -1..1, on the latent's device."""
        inputs = _bordered(_features(z.float(), self.random.to(z.device), self.bias.to(z.device), self.spread))
        pixels = F.conv2d(inputs, self.weight.to(z.device), self.offset.to(z.device))
        return F.pixel_shuffle(pixels, self.factor)


def fitted(latents: Sequence[Tensor], pictures: Sequence[Tensor], *, features: int = FEATURES) -> Fitted:
    """The map that gives pictures, (1, 3, H, W) in -1..1, for their latents, (1, C, h, w), with the least squares.

    features: random ones between latent and picture; 0 for a linear map.  The pictures' sides are the latents' times
    the same whole number f; a side that falls short of it, by a VAE that rounds up, is repeated at its end.
    """
    z = [latent.detach().float().cpu() for latent in latents]
    (height, width), (h, w) = pictures[0].shape[-2:], z[0].shape[-2:]
    factor = max(-(-height // h), -(-width // w))
    rng = torch.Generator().manual_seed(0)
    channels = z[0].shape[1]
    random = torch.randn(features, channels, 3, 3, generator=rng) / 3
    bias = torch.randn(features, generator=rng) / 2
    spread = max(float(z[0].std()), 1e-6)
    rows, wanted = [], []
    for latent, picture in zip(z, pictures, strict=True):
        size = (latent.shape[-2] * factor, latent.shape[-1] * factor)
        rows.append(F.unfold(_bordered(_features(latent, random, bias, spread)), 3)[0].T)
        wanted.append(F.pixel_unshuffle(_filled(picture.detach().float().cpu(), size), factor)[0].flatten(1).T)
    solution, offset = ridge(torch.cat(rows).double(), torch.cat(wanted).double(), RIDGE)
    weight = solution.T.reshape(-1, features + channels, 3, 3).float()
    return Fitted(random, bias, spread, weight, offset.float(), factor)


def ridge(inputs: Tensor, outputs: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """argmin over W, c of mean |X W + c - Y|^2 + weight * sum_i (deviation of X_i)^2 |W_i|^2.

    inputs: X, (n, i) float64.  outputs: Y, (n, o) float64 -> W, (i, o), and c, (o,); inputs that are constant get 0.
    """
    mean_in, mean_out = inputs.mean(0), outputs.mean(0)
    x = inputs - mean_in
    deviation = x.square().mean(0).sqrt()
    x = torch.where(deviation > 1e-9, x / deviation.clamp(min=1e-9), 0.0)
    normal = x.T @ x / len(x) + weight * torch.eye(x.shape[1], dtype=x.dtype)
    solution = torch.linalg.solve(normal, x.T @ (outputs - mean_out) / len(x))
    solution = torch.where(deviation[:, None] > 1e-9, solution / deviation.clamp(min=1e-9)[:, None], 0.0)
    return solution, mean_out - mean_in @ solution


def of_vae(vae: torch.nn.Module) -> Preview:
    """The decoder of a small VAE that stands where it stays, such as an AutoencoderTiny."""

    @torch.no_grad()
    def preview(z: Tensor) -> Tensor:
        at = next(vae.parameters())
        scaled = z.float() / vae.config.scaling_factor  # type: ignore[union-attr, operator]
        decoded: Tensor = vae.decode(scaled.to(at.device, at.dtype)).sample.float()  # type: ignore[operator]
        return decoded

    return preview


def variations(z: Tensor) -> list[Tensor]:
    """A latent, (1, C, h, w), and others of its kind, so that a fit knows more than one picture's neighbourhoods.

    These are it mirrored in both directions, and it smoothed, for what is predicted in one step is smooth.
    """
    return [z, z.flip(3), z.flip(2), F.avg_pool2d(_bordered(z), 3, 1)]


def _features(z: Tensor, random: Tensor, bias: Tensor, spread: float) -> Tensor:
    if not len(random):
        return z
    return torch.cat([F.relu(F.conv2d(_bordered(z) / spread, random, bias)), z], 1)


def _bordered(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")


def _filled(picture: Tensor, size: tuple[int, int]) -> Tensor:
    below, right = (wanted - there for wanted, there in zip(size, picture.shape[-2:], strict=True))
    return F.pad(picture, (0, right, 0, below), mode="replicate") if below > 0 or right > 0 else picture
