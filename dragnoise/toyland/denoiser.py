"""Second stage of the recipe: the U-Net and the text encoder, trained so that the bottleneck leads.

Two departures from how Stable Diffusion was trained, so that a network of this size shows what
DragNoise relies on in a large one, a bottleneck that carries the picture's structure:

* the decoder reads no skip but those at full resolution (`networks.cut_skips`), and
* half of every batch are *edits*: the bottleneck comes from a scene in which one or two things were
  changed, the noisy latent from the scene as it was, and the answer is the changed scene.

An edit is followed along its whole way.  Denoising perfectly towards x from
sqrt(a_e) z0 + sqrt(1 - a_e) n, the latent in which it began, DDIM keeps the noise
n + sqrt(a_e / (1 - a_e)) (z0 - x) and lowers its share, so at timestep t the latent is
sqrt(a_t) x + sqrt(1 - a_t) (that noise): what remains of z0 is to be told from x by the bottleneck
alone.  No network denoises perfectly, and what it leaves of z0 at one step it is shown at the next: so
that it does not drift back, x holds up to `BEHIND` of z0 on this way, while the answer stays the
changed scene.  Inversion besides leaves an imprint of the picture in its noise, about 0.3 z0 at
timestep 681 in the first model trained here, so n is given up to 0.5 of it.  Semantic propagation
(section 3.2 of the paper) asks exactly this of the decoder.

A little noise on the bottleneck keeps its surroundings meaningful, where an optimiser will walk.  What
an edit changes counts more the smaller it is (`places`), for an ear is a hundredth of a picture.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from dragnoise.toyland import networks
from dragnoise.toyland.checkpoint import Average, Checkpoint
from dragnoise.toyland.optimiser import Optimiser
from dragnoise.toyland.pictures import TRAIN_SEED, change_odds
from dragnoise.toyland.scenes import caption, sample_scene

MAX_GAIN = 6.0
"""An error of the velocity counts 1, but that of a little noisy timestep less, so that the error of the clean latent
it makes never counts more than this often."""
EDITS, LED = 0.5, 0.125
"""Shares of a batch, see `training_sample`."""
LOWEST = 200
"""Below this timestep the latent shows all, and there is nothing to be led to."""
INVERTED = 0.5
"""Most of a picture's latent that the simulated noise of its inversion holds."""

BEHIND = 0.7
"""Most of the way back to the given picture that an edit's latent may be behind."""

PROMPT_DROPOUT = 0.15


def train_denoiser(
    latents: np.ndarray,
    changed: np.ndarray,
    folder: Path,
    *,
    steps: int = 12_000,
    batch: int = 32,
    lr: float = 1e-3,
    bottleneck_noise: float = 0.1,
    save_every: int = 250,
    fused: bool = True,
    stop: int | None = None,
) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """Train (or go on training) to `steps` updates on scaled latents of scenes and of the same scenes changed.

    Both (n, 4, 32, 32).
    The learning rate falls over the last five sevenths, to nothing; give more `steps` to go on from a
    checkpoint, or `stop` to leave early.
    Where torch.distributed is initialised, every process takes its share of each batch: two processes
    of one thread each took 1.15 times as many samples a second as one of two threads, on two cores.
    Returns the averaged weights, frozen.
    """
    torch.manual_seed(0)
    tokenizer = networks.build_tokenizer()
    text_encoder = networks.build_text_encoder(tokenizer)
    unet = networks.build_unet().to(memory_format=torch.channels_last)
    both = torch.nn.ModuleList([unet, text_encoder])
    optimiser = Optimiser(both, lr)
    average = Average(both, 0.9985)
    checkpoint = Checkpoint(folder, "denoiser", model=both, optimiser=optimiser, average=average)
    start = int(checkpoint.resume().get("step", 0))
    ids = caption_ids(tokenizer, len(latents))
    blank = caption_ids(tokenizer, 0)[0]
    alphas = networks.build_scheduler().alphas_cumprod
    # At these sizes a fused graph takes three quarters of the time, plain attention beats flash attention.
    loss_of = torch.compile(denoising_loss) if fused else denoising_loss
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    mine = slice(rank, None, ranks)
    odds = change_odds(len(latents))
    losses, last = [], time.time()
    for step in tqdm(range(start, min(steps, stop or steps)), "denoiser", steps, initial=start, mininterval=5):
        rng, torch_rng = np.random.default_rng(step), torch.Generator().manual_seed(step)
        torch.manual_seed(step)
        rows = np.sort(rng.choice(len(latents), batch, replace=False, p=odds))
        both_ways = torch.from_numpy(np.stack([latents[rows], changed[rows]]).astype(np.float32))
        z0, other = torch.where(torch.rand(batch, 1, 1, 1, generator=torch_rng) < 0.5, both_ways, both_ways.flip(0))
        tokens = torch.where(torch.rand(batch, 1, generator=torch_rng) < PROMPT_DROPOUT, blank, ids[rows])
        optimiser.set_lr(lr * min(1, (step + 1) / 300) * min(1.0, 1.4 * (1 - step / steps) + 0.01))
        sample = training_sample(z0, other, alphas, torch_rng)
        shake = bottleneck_noise * torch.rand(batch, 1, 1, 1, generator=torch_rng)
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            text = text_encoder(tokens[mine]).last_hidden_state
            loss = loss_of(unet, text, shake[mine], *sample[mine])
        optimiser.zero_grad()
        loss.backward()
        average_gradients(both, ranks)
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        average.update(both)
        losses.append(loss.detach())
        if rank == 0 and ((step + 1) % save_every == 0 or step + 1 in (steps, stop)):
            checkpoint.save(step=step + 1)
            checkpoint.log(step=step + 1, loss=float(torch.stack(losses).mean()), seconds=time.time() - last)
            losses, last = [], time.time()
    average.copy_to(both)
    both.eval().requires_grad_(False)
    return unet, text_encoder, tokenizer


def average_gradients(module: torch.nn.Module, ranks: int) -> None:
    """Mean of the gradients of all processes, each of which has seen its share of the batch."""
    if ranks > 1:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.div_(ranks).split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def load_denoiser(folder: Path) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """The averaged weights of the checkpoint in `folder`, frozen."""
    tokenizer = networks.build_tokenizer()
    unet, text_encoder = networks.build_unet(), networks.build_text_encoder(tokenizer)
    both = torch.nn.ModuleList([unet, text_encoder])
    average = Average(both, 0.0)
    average.load_state_dict(torch.load(folder / "denoiser.pt", weights_only=True)["parts"]["average"])
    average.copy_to(both)
    both.eval().requires_grad_(False)
    return unet, text_encoder, tokenizer


class Sample(NamedTuple):
    """What a step needs: the noisy latent z_t at timesteps t (B,), the latent that the bottleneck is made from with
    its own timesteps, the velocity to predict, the weights (B,) and those of each place
    (B, 1, h, w); latents are (B, 4, h, w)."""

    z_t: torch.Tensor
    t: torch.Tensor
    z_lead: torch.Tensor
    lead: torch.Tensor
    velocity: torch.Tensor
    weight: torch.Tensor
    place: torch.Tensor

    def __getitem__(self, rows: slice) -> Sample:  # type: ignore[override]
        return Sample(*(part[rows] for part in self))


def training_sample(z0: torch.Tensor, changed: torch.Tensor, alphas: torch.Tensor, rng: torch.Generator) -> Sample:
    """One batch of latents z0 and of the same scenes changed, both (B, 4, h, w), and alphas (1000,).

    The first `EDITS` of the rows are edits: the lead shows the changed scene, z_t is on its way there
    from z0, so that its noise holds what is left of z0 (see the module's text).  Then come `LED` of the
    rows with the same picture at a less noisy timestep and noise of its own, and the rest are usual,
    z_lead = z_t.
    """
    batch = len(z0)
    edits = slice(0, int(EDITS * batch))
    usual = slice(int((EDITS + LED) * batch), batch)
    u = torch.rand(3, batch, generator=rng)
    t = (u[0] * len(alphas)).long()
    t[: usual.start] = (LOWEST + u[0] * (len(alphas) - LOWEST)).long()[: usual.start]
    start = t.clone()  # where the edit began
    low = t[edits].clamp(min=300)
    start[edits] = (low + (950 - low).clamp(min=0) * u[1, edits]).long()
    lead = (start * (0.2 + 0.8 * u[2])).long()
    noise, own = torch.randn(z0.shape, generator=rng), torch.randn(z0.shape, generator=rng)
    shown = z0.clone()
    shown[edits] = changed[edits]
    imprint = INVERTED * torch.rand(2, len(low), 1, 1, 1, generator=rng)
    noise[edits] = (1 - imprint[0] / 2) * noise[edits] + imprint[0] * z0[edits]
    own[edits] = (1 - imprint[1] / 2) * own[edits] + imprint[1] * shown[edits]
    behind = torch.rand(2, len(low), 1, 1, 1, generator=rng)
    behind = BEHIND * behind[0] * (behind[1] < 0.6)
    way = shown.clone()
    way[edits] += behind * (z0 - shown)[edits]
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
        weight=(MAX_GAIN * (1 - alphas[t])).clamp(max=1),
        place=places(z0, shown),
    )


def places(z0: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """How much the error in each place counts, (B, 1, h, w): 1, and more where the two latents differ.

    All that differs counts about as much as the whole picture, however little it is, but no place more
    than nine times.
    """
    differs = (z0 - shown).abs().amax(1, keepdim=True)
    differs = differs / (differs + 0.3)
    return 1 + differs * (1 / differs.mean((1, 2, 3), keepdim=True).clamp(min=1e-3)).clamp(max=8)


def denoising_loss(
    unet: UNet2DConditionModel, text: torch.Tensor, shake: torch.Tensor, *sample: torch.Tensor
) -> torch.Tensor:
    """Weighted error of the velocity predicted in z_t with the bottleneck of z_lead -> scalar.

    text (B, tokens, width); shake (B, 1, 1, 1) noise put on the bottleneck, in its standard deviations;
    sample: the parts of a `Sample`.
    """
    z_t, t, z_lead, lead, velocity, weight, place = sample
    bottleneck = encode_bottleneck(unet, z_lead, lead, text)
    spread = shake * bottleneck.detach().float().std()
    bottleneck = bottleneck + (spread * torch.randn_like(bottleneck, dtype=torch.float32)).to(bottleneck.dtype)
    predicted = decode_bottleneck(unet, bottleneck, z_t, t, text)
    return (weight * (place * (predicted.float() - velocity).square()).mean((1, 2, 3))).mean()


def add_noise(z0: torch.Tensor, noise: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """z_t = sqrt(alpha) z0 + sqrt(1 - alpha) noise, alpha (B,)."""
    alpha = alpha[:, None, None, None]
    return (alpha.sqrt() * z0 + (1 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)


def encode_bottleneck(unet: UNet2DConditionModel, z: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """The mid block's output, without keeping the skips that nobody reads."""
    time = unet.time_embedding(unet.time_proj(t))
    x = unet.conv_in(z)
    for block in unet.down_blocks:
        x, _ = block(x, time, encoder_hidden_states=text) if hasattr(block, "attentions") else block(x, time)
    return unet.mid_block(x, time, encoder_hidden_states=text)


def decode_bottleneck(
    unet: UNet2DConditionModel, bottleneck: torch.Tensor, z: torch.Tensor, t: torch.Tensor, text: torch.Tensor
) -> torch.Tensor:
    """The noise predicted from a bottleneck and z at full resolution, equal to the U-Net's once its skips are cut."""
    time, x = unet.time_embedding(unet.time_proj(t)), bottleneck
    for block in unet.up_blocks[:-1]:
        for i, resnet in enumerate(block.resnets):
            x = _without_skip(resnet, x, time)
            if hasattr(block, "attentions"):
                x = block.attentions[i](x, encoder_hidden_states=text, return_dict=False)[0]
        x = block.upsamplers[0].conv(_double(x))
    first = unet.conv_in(z)
    x = unet.up_blocks[-1](x, (first, unet.down_blocks[0].resnets[0](first, time)), time)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))


def _double(x: torch.Tensor) -> torch.Tensor:
    """Nearest upsampling by two.  Its usual way is compiled with a wrong gradient (torch 2.13, CPU, bfloat16)."""
    b, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(b, c, h, 2, w, 2).reshape(b, c, 2 * h, 2 * w)


def _without_skip(resnet: ResnetBlock2D, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """A residual block that reads a skip, run as if the skip were not there."""
    kept = x.shape[1]
    groups = resnet.norm1.num_groups * kept // resnet.in_channels
    h = F.group_norm(x, groups, resnet.norm1.weight[:kept], resnet.norm1.bias[:kept], resnet.norm1.eps)
    h = F.conv2d(F.silu(h), resnet.conv1.weight[:, :kept], resnet.conv1.bias, padding=1)
    h = h + resnet.time_emb_proj(F.silu(time))[:, :, None, None]
    h = resnet.conv2(F.silu(resnet.norm2(h)))
    return h + F.conv2d(x, resnet.conv_shortcut.weight[:, :kept], resnet.conv_shortcut.bias)


def caption_ids(tokenizer: CLIPTokenizer, count: int) -> torch.Tensor:
    """(count + 1, 16) int64: the captions of the training scenes, and last the empty prompt."""
    captions = [caption(sample_scene(TRAIN_SEED + i)) for i in range(count)]
    return tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
