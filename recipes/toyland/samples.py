"""What one update of the denoiser's training sees: noisy latents, what their bottleneck comes from, the answer.

An edit is followed along its whole way.  Denoising perfectly towards x from
sqrt(a_e) z0 + sqrt(1 - a_e) n, the latent in which it began, DDIM keeps the noise
n + sqrt(a_e / (1 - a_e)) (z0 - x) and lowers its share, so at timestep t the latent is
sqrt(a_t) x + sqrt(1 - a_t) (that noise): what remains of z0 can be told from x by the bottleneck
alone.  No network denoises perfectly, and what it leaves of z0 at one step it is shown at the next: so
that it does not drift back, x holds up to `BEHIND` of z0 on this way, while the answer stays the
changed scene.  Inversion also leaves an imprint of the picture in its noise, about 0.3 z0 at
timestep 681 in the first model trained here, so n is given up to 0.5 of it.  Semantic propagation
(section 3.2 of the paper) asks exactly this of the decoder.

A *carried* edit takes the way itself instead of a formula: a few denoising steps without gradient, each
with its own bottleneck plus the change that the edit made where it began (delta propagation).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MAX_GAIN = 6.0
"""An error of the velocity counts 1, but that of a little noisy timestep less, so that the error of the clean latent
it makes never counts more than this often."""
EDITS, LED = 0.5, 0.125
"""Shares of a batch, see `training_sample`."""
LOWEST = 200
"""Below this timestep the latent shows all, and the bottleneck adds nothing."""
INVERTED = 0.5
"""Most of a picture's latent that the simulated noise of its inversion holds."""

BEHIND = 0.7
"""Most of the way back to the given picture that an edit's latent may be behind."""

CARRIED_FROM, CARRIED_TO = (400, 800), 100
"""Timesteps in which a carried edit begins, and the lowest to which it goes."""


class Sample(NamedTuple):
    """What a step needs: the noisy latent z_t at timesteps t (B,), the latent that the bottleneck is made from with
    its own timesteps, the velocity to predict, the weights (B,) and those of each place
    (B, 1, h, w); latents are (B, 4, h, w)."""

    z_t: Tensor
    t: Tensor
    z_lead: Tensor
    lead: Tensor
    velocity: Tensor
    weight: Tensor
    place: Tensor


def training_sample(
    z0: Tensor, changed: Tensor, alphas: Tensor, rng: torch.Generator, *, edits: int | None = None
) -> Sample:
    """One batch of latents z0 and of the same scenes changed, both (B, 4, h, w), and alphas (1000,).

    The first `edits` rows (a share of `EDITS` unless given) are edits: the lead shows the changed scene,
    z_t is on its way there from z0, so that its noise holds what is left of z0 (see the module's text).
    Then come `LED` of the rows with the same picture at a less noisy timestep and noise of its own,
    and the rest are usual, z_lead = z_t.
    """
    batch, device = len(z0), z0.device
    first = int(EDITS * batch) if edits is None else edits
    edit, usual = slice(0, first), slice(first + int(LED * batch), batch)
    u = torch.rand(3, batch, generator=rng, device=device)
    t = (u[0] * len(alphas)).long()
    t[: usual.start] = (LOWEST + u[0] * (len(alphas) - LOWEST)).long()[: usual.start]
    start = t.clone()  # where the edit began
    low = t[edit].clamp(min=300)
    start[edit] = (low + (950 - low).clamp(min=0) * u[1, edit]).long()
    lead = (start * (0.2 + 0.8 * u[2])).long()
    noise, own = (torch.randn(z0.shape, generator=rng, device=device) for _ in range(2))
    shown = z0.clone()
    shown[edit] = changed[edit]
    imprint = INVERTED * torch.rand(2, len(low), 1, 1, 1, generator=rng, device=device)
    noise[edit] = (1 - imprint[0] / 2) * noise[edit] + imprint[0] * z0[edit]
    own[edit] = (1 - imprint[1] / 2) * own[edit] + imprint[1] * shown[edit]
    behind = torch.rand(2, len(low), 1, 1, 1, generator=rng, device=device)
    behind = BEHIND * behind[0] * (behind[1] < 0.6)
    way = shown.clone()
    way[edit] += behind * (z0 - shown)[edit]
    noise = noise + (alphas[start] / (1 - alphas[start])).sqrt()[:, None, None, None] * (z0 - way)
    lead[usual], own[usual] = t[usual], noise[usual]
    alpha = alphas[t][:, None, None, None]
    error = noise + (alpha / (1 - alpha)).sqrt() * (way - shown)
    return Sample(
        z_t=add_noise(way, noise, alphas[t]),
        t=t,
        z_lead=add_noise(shown, own, alphas[lead]),
        lead=lead,
        velocity=alpha.sqrt() * error - (1 - alpha).sqrt() * shown,
        weight=weight_of(alphas[t]),
        place=places(z0, shown),
    )


def places(z0: Tensor, shown: Tensor) -> Tensor:
    """How much the error in each place counts, (B, 1, h, w): 1, and more where the two latents differ.

    All that differs counts about as much as the whole picture, however little it is, but no place more
    than nine times.
    """
    differs = (z0 - shown).abs().amax(1, keepdim=True)
    differs = differs / (differs + 0.3)
    return 1 + differs * (1 / differs.mean((1, 2, 3), keepdim=True).clamp(min=1e-3)).clamp(max=8)


def small_places(points: Tensor, side: int) -> Tensor:
    """Bumps of height 1 round points (B, k, 2) in picture pixels -> (B, 1, side, side); a latent cell is 4 pixels."""
    cells = torch.arange(side, device=points.device, dtype=points.dtype) * 4 + 1.5
    x, y = ((points[..., i, None] - cells).square() for i in (0, 1))  # (B, k, side) each
    distance = y[..., :, None] + x[..., None, :]
    return torch.exp(-distance / (2 * 5.0**2)).amax(1, keepdim=True)


def carried_start(
    z0: Tensor, changed: Tensor, alphas: Tensor, rng: torch.Generator, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Where carried edits begin: latents of the given and of the changed scenes, and the timesteps of their way.

    Both latents (B, 4, h, w) have about the same noise, as two inversions of similar pictures have, the
    timesteps are (steps + 1, B), from the first to the one that is trained on.
    """
    batch, device = len(z0), z0.device
    u = torch.rand(4, batch, generator=rng, device=device)
    noise, own = (torch.randn(z0.shape, generator=rng, device=device) for _ in range(2))
    imprint, apart = (part[:, None, None, None] for part in (INVERTED * u[0], (u[1] < 0.5).float()))
    own = (1 - apart) * noise + apart * own
    low, high = CARRIED_FROM
    start = low + u[2] * (high - low)
    end = CARRIED_TO + u[3] * (start - CARRIED_TO)
    way = torch.stack([start + (end - start) * i / steps for i in range(steps + 1)]).long()
    return (
        add_noise(z0, (1 - imprint / 2) * noise + imprint * z0, alphas[way[0]]),
        add_noise(changed, (1 - imprint / 2) * own + imprint * changed, alphas[way[0]]),
        way,
    )


def ddim_step(z: Tensor, velocity: Tensor, alpha: Tensor, alpha_to: Tensor) -> Tensor:
    """z (B, 4, h, w) moved from one noise level to another by its predicted velocity; alphas (B,)."""
    a, b = alpha[:, None, None, None], alpha_to[:, None, None, None]
    clean, noise = a.sqrt() * z - (1 - a).sqrt() * velocity, (1 - a).sqrt() * z + a.sqrt() * velocity
    return b.sqrt() * clean + (1 - b).sqrt() * noise


def velocity_to(clean: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
    """The velocity that makes a latent of z, all (B, 4, h, w); alpha (B,)."""
    a = alpha[:, None, None, None]
    return (a.sqrt() * z - clean) / (1 - a).sqrt()


def weight_of(alpha: Tensor) -> Tensor:
    """How much the squared error of the velocity counts at a noise level."""
    return (MAX_GAIN * (1 - alpha)).clamp(max=1)


def add_noise(z0: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """z_t = sqrt(alpha) z0 + sqrt(1 - alpha) noise, alpha (B,)."""
    alpha = alpha[:, None, None, None]
    return alpha.sqrt() * z0 + (1 - alpha).sqrt() * noise
