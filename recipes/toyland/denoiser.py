"""Second stage of the recipe: training of the U-Net and the text encoder so that the bottleneck carries structure.

Two departures from how Stable Diffusion was trained give a network of this size what DragNoise relies
on in a large one, a bottleneck that carries the structure of the picture:

* the decoder reads no skip but those at full resolution (`networks.cut_skips`), and
* half of every batch are *edits* (`samples`): the bottleneck comes from a scene in which one or two
  things were changed, the noisy latent from the scene as it was, and the answer is the changed scene.

A little noise on the bottleneck trains its surroundings too, which an optimiser reaches.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from dragnoise.toyland.cases import TRAIN_SEED
from dragnoise.toyland.scenes import caption, sample_scene
from recipes.toyland import networks
from recipes.toyland.checkpoint import Average, Checkpoint
from recipes.toyland.device import CPU, Device
from recipes.toyland.initial import denoiser_weights, take_weights, weights_folder
from recipes.toyland.optimiser import Optimiser
from recipes.toyland.pictures import change_odds
from recipes.toyland.recipe import Recipe
from recipes.toyland.samples import (
    EDITS,
    Sample,
    carried_start,
    ddim_step,
    places,
    small_places,
    training_sample,
    velocity_to,
    weight_of,
)

PROMPT_DROPOUT = 0.15
BOTTLENECK_NOISE = 0.1
"""Most of the noise on the bottleneck, in its standard deviations."""


def train_denoiser(
    latents: np.ndarray,
    changed: np.ndarray,
    folder: Path,
    recipe: Recipe,
    *,
    small: np.ndarray | None = None,
    device: Device = CPU,
    seconds: float | None = None,
    stop: int | None = None,
) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """Train (or go on training) to `recipe.denoiser_steps` updates on scaled latents of scenes and of changed ones.

    latents, changed: (n, 4, 32, 32).  small: (n, 2, points, 2), see `pictures.small_things`.
    The learning rate falls over the last five sevenths, to nothing; more `denoiser_steps` go on from a
    checkpoint, `stop` leaves early.  With `seconds` the training ends after that time if it is not done
    before, and the learning rate falls accordingly.
    Returns the averaged weights, frozen.
    """
    steps, batch, lr = recipe.denoiser_steps, recipe.denoiser_batch, recipe.denoiser_lr
    unet, text_encoder, tokenizer = start_denoiser(recipe)
    both = torch.nn.ModuleList([unet, text_encoder]).to(device.place)
    optimiser = Optimiser(both, lr, muon=recipe.muon)
    average = Average(both, min(0.9985, 1 - 8 / (steps + 8)))  # an eighth of a short training
    checkpoint = Checkpoint(folder, "denoiser", model=both, optimiser=optimiser, average=average)
    start, began = checkpoint.resume(), time.monotonic()
    ids, blank = caption_ids(tokenizer, len(latents)), caption_ids(tokenizer, 0)[0]
    alphas = networks.build_scheduler().alphas_cumprod.to(device.place)
    odds = change_odds(len(latents), recipe.favour)
    last = min(steps, stop or steps)
    carried = round(recipe.carried * EDITS * batch)
    for step in tqdm(range(start, last), "denoiser", steps, initial=start, mininterval=10):
        rng, torch_rng = np.random.default_rng(step), device.generator(step)
        torch.manual_seed(step)
        rows, swapped = rng.choice(len(latents), batch, replace=False, p=odds), rng.random(batch) < 0.5
        pair = np.stack([latents[rows], changed[rows]]).astype(np.float32)
        z0, other = (torch.from_numpy(part).to(device.place) for part in _swap(pair, swapped))
        tokens = torch.where(torch.from_numpy(rng.random((batch, 1)) < PROMPT_DROPOUT), blank, ids[rows])
        shake = BOTTLENECK_NOISE * torch.rand(batch, 1, 1, 1, generator=torch_rng, device=device.place)
        done = max(step / steps, (time.monotonic() - began) / seconds if seconds else 0.0)
        optimiser.set_lr(lr * min(1, (step + 1) / 300) * max(0.0, min(1.0, 1.4 * (1 - done) + 0.01)))
        sample = training_sample(z0[carried:], other[carried:], alphas, torch_rng, edits=int(EDITS * batch) - carried)
        way = carried_start(z0[:carried], other[:carried], alphas, torch_rng, recipe.carried_steps)
        extra = torch.zeros((batch, 1, 1, 1), device=device.place)
        if small is not None:
            edits = np.arange(batch) < int(EDITS * batch)
            shown = small[rows, np.where(edits, ~swapped, swapped).astype(int)]  # of the answer
            extra = recipe.small_weight * small_places(torch.from_numpy(shown).to(device.place), z0.shape[-1])
        sample = sample._replace(place=sample.place + extra[carried:])
        with device.autocast(), sdpa_kernel(SDPBackend.MATH):
            text = text_encoder(tokens.to(device.place)).last_hidden_state
            loss = denoising_loss(unet, text[carried:], shake[carried:], sample) * (batch - carried) / batch
            if carried:
                place = places(z0[:carried], other[:carried]) + extra[:carried]
                mine = carried_loss(unet, text[:carried], shake[:carried], way, other[:carried], place, alphas)
                loss = loss + mine * carried / batch
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        average.update(both)
        over = seconds is not None and time.monotonic() - began >= seconds
        checkpoint.after(step + 1, batch, loss, last=step + 1 == last or over)
        if over:
            break
    average.copy_to(both)
    both.cpu().eval().requires_grad_(False)
    return unet, text_encoder, tokenizer


def _swap(pair: np.ndarray, swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of (2, B, ...), exchanged in the rows that are `swapped`."""
    rows = np.arange(len(swapped))
    return pair[swapped.astype(int), rows], pair[(~swapped).astype(int), rows]


def start_denoiser(recipe: Recipe) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """The networks that a training begins with: random, or with the weights of `recipe.init` where they fit."""
    torch.manual_seed(0)
    tokenizer = networks.build_tokenizer()
    text_encoder, unet = networks.build_text_encoder(tokenizer), networks.build_unet(recipe.widths)
    folder = weights_folder(recipe.init)
    if folder is not None:
        given = UNet2DConditionModel.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32)
        take_weights(unet, denoiser_weights(given, len(recipe.widths)))
        words = CLIPTextModel.from_pretrained(str(folder / "text_encoder"), torch_dtype=torch.float32)
        take_weights(text_encoder, words.state_dict())
        with torch.no_grad():
            networks.cut_skips(unet)
    return unet.train(), text_encoder.train(), tokenizer


def load_denoiser(folder: Path, recipe: Recipe) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """The averaged weights of the checkpoint in `folder`, frozen."""
    tokenizer = networks.build_tokenizer()
    unet, text_encoder = networks.build_unet(recipe.widths), networks.build_text_encoder(tokenizer)
    both = torch.nn.ModuleList([unet, text_encoder])
    average = Average(both, 0.0)
    state = torch.load(folder / "denoiser.pt", weights_only=True, map_location="cpu")
    average.load_state_dict(state["parts"]["average"])
    average.copy_to(both)
    both.eval().requires_grad_(False)
    return unet, text_encoder, tokenizer


def denoising_loss(unet: UNet2DConditionModel, text: Tensor, shake: Tensor, sample: Sample) -> Tensor:
    """Weighted error of the velocity predicted in z_t with the bottleneck of z_lead -> scalar.

    text (B, tokens, width); shake (B, 1, 1, 1) noise put on the bottleneck, in its standard deviations.
    """
    bottleneck = shaken(encode_bottleneck(unet, sample.z_lead, sample.lead, text), shake)
    predicted = decode_bottleneck(unet, bottleneck, sample.z_t, sample.t, text)
    return weighted_error(predicted, sample.velocity, sample.weight, sample.place)


def carried_loss(
    unet: UNet2DConditionModel,
    text: Tensor,
    shake: Tensor,
    start: tuple[Tensor, Tensor, Tensor],
    answer: Tensor,
    place: Tensor,
    alphas: Tensor,
) -> Tensor:
    """Weighted error at the end of denoising steps with an edit's change carried along -> scalar.

    start: what `samples.carried_start` gives; answer: the clean latents of the changed scenes.
    The steps before the last one take no gradient.
    """
    z, z_changed, way = start
    change = shaken(encode_bottleneck(unet, z_changed, way[0], text), shake) - encode_bottleneck(unet, z, way[0], text)
    with torch.no_grad():
        for now, below in itertools.pairwise(way):
            bottleneck = encode_bottleneck(unet, z, now, text) + change
            velocity = decode_bottleneck(unet, bottleneck, z, now, text).float()
            z = ddim_step(z, velocity, alphas[now], alphas[below])
    t = way[-1]
    predicted = decode_bottleneck(unet, encode_bottleneck(unet, z, t, text) + change, z, t, text)
    return weighted_error(predicted, velocity_to(answer, z, alphas[t]), weight_of(alphas[t]), place)


def weighted_error(predicted: Tensor, velocity: Tensor, weight: Tensor, place: Tensor) -> Tensor:
    """Mean of weight (B,) times place (B, 1, h, w) times the squared error of the velocity -> scalar."""
    return (weight * (place * (predicted.float() - velocity).square()).mean((1, 2, 3))).mean()


def shaken(bottleneck: Tensor, shake: Tensor) -> Tensor:
    """The bottleneck with noise of `shake` (B, 1, 1, 1) of its standard deviation."""
    spread = shake * bottleneck.detach().float().std()
    return bottleneck + (spread * torch.randn_like(bottleneck, dtype=torch.float32)).to(bottleneck.dtype)


def encode_bottleneck(unet: UNet2DConditionModel, z: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """The mid block's output, without keeping the skips that nobody reads."""
    time = unet.time_embedding(unet.time_proj(t))
    x = unet.conv_in(z)
    for block in unet.down_blocks:
        x, _ = block(x, time, encoder_hidden_states=text) if hasattr(block, "attentions") else block(x, time)
    return unet.mid_block(x, time, encoder_hidden_states=text)


def decode_bottleneck(unet: UNet2DConditionModel, bottleneck: Tensor, z: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """The noise predicted from a bottleneck and z at full resolution, equal to the U-Net's once its skips are cut."""
    time, x = unet.time_embedding(unet.time_proj(t)), bottleneck
    for block in unet.up_blocks[:-1]:
        for i, resnet in enumerate(block.resnets):
            x = _without_skip(resnet, x, time)
            if hasattr(block, "attentions"):
                x = block.attentions[i](x, encoder_hidden_states=text, return_dict=False)[0]
        x = block.upsamplers[0].conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    first = unet.conv_in(z)
    x = unet.up_blocks[-1](x, (first, unet.down_blocks[0].resnets[0](first, time)), time)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))


def _without_skip(resnet: ResnetBlock2D, x: Tensor, time: Tensor) -> Tensor:
    """A residual block that reads a skip, run as if the skip were not there."""
    kept = x.shape[1]
    groups = resnet.norm1.num_groups * kept // resnet.in_channels
    h = F.group_norm(x, groups, resnet.norm1.weight[:kept], resnet.norm1.bias[:kept], resnet.norm1.eps)
    h = F.conv2d(F.silu(h), resnet.conv1.weight[:, :kept], resnet.conv1.bias, padding=1)
    h = h + resnet.time_emb_proj(F.silu(time))[:, :, None, None]
    h = resnet.conv2(F.silu(resnet.norm2(h)))
    return h + F.conv2d(x, resnet.conv_shortcut.weight[:, :kept], resnet.conv_shortcut.bias)


def caption_ids(tokenizer: CLIPTokenizer, count: int) -> Tensor:
    """(count + 1, 16) int64: the captions of the training scenes, and last the empty prompt."""
    captions = [caption(sample_scene(TRAIN_SEED + i)) for i in range(count)]
    return tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
