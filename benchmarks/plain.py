"""The method in plain diffusers: the whole U-Net under autograd, hooks at its blocks, the feature resized as a whole.

It is what a first version does, and what the released programs do.  Losses and anchors are the engine's, in both
conventions, or a comparison of their times would mean nothing; points must stay well inside the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from dragnoise import DragSession
from dragnoise.geometry import drag_tensors
from dragnoise.models.text import Conditioning
from dragnoise.models.unet import sharing_copy


class Plain:
    """One edit: the numbers, drags, mask, prompt and model of a session, and nothing else of it.

    frozen: weights get no gradients; the released programs leave those of the U-Net on.
    """

    def __init__(self, session: DragSession, *, frozen: bool = False) -> None:
        self.pipeline, self.config, self.frozen = session.model.pipeline, session.config, frozen
        self.device, self.dtype, self.factor = session.model.device, session.model.dtype, session.model.factor
        self.unet: Any = self.pipeline.unet
        text = session.model.embed(session.prompt)
        pooled = isinstance(text, Conditioning)
        self.text: Tensor = text.text if isinstance(text, Conditioning) else text
        self.pooled: Tensor | None = text.pooled if isinstance(text, Conditioning) else None
        assert pooled == (self.pooled is not None)
        scheduler = session.model.scheduler
        scheduler.set_timesteps(self.config.steps)
        self.timesteps = [0, *scheduler.timesteps.tolist()[::-1]]
        self.timesteps[0] = max(self.timesteps[1] - scheduler.config.num_train_timesteps // self.config.steps, 0)
        alphas = scheduler.alphas_cumprod.tolist()
        self.alphas = [float(scheduler.final_alpha_cumprod), *(alphas[t] for t in self.timesteps[1:])]
        self.is_v = scheduler.config.prediction_type == "v_prediction"
        self.grid = session.state.frame.grid
        self.first, self.objectives = drag_tensors(session.drags, session.state.frame)
        self.mask = session.mask

    # ---- the U-Net and the noise schedule

    def noise(self, z: Tensor, step: int) -> Tensor:
        """The U-Net's prediction of latents of any batch at a step of the schedule."""
        added, n = None, len(z)
        if self.pooled is not None:
            height, width = z.shape[-2] * self.factor, z.shape[-1] * self.factor
            sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=self.device)
            added = {"text_embeds": self.pooled.expand(n, -1), "time_ids": sizes.expand(n, -1)}
        text = self.text.expand(n, -1, -1)
        return self.unet(
            z.to(self.dtype), self.timesteps[step], encoder_hidden_states=text, added_cond_kwargs=added
        ).sample

    def moved(self, prediction: Tensor, z: Tensor, a: float, b: float) -> Tensor:
        """A DDIM step between two noise levels."""
        prediction = prediction.float()
        clean = (z - (1 - a) ** 0.5 * prediction) / a**0.5
        if self.is_v:
            clean, prediction = a**0.5 * z - (1 - a) ** 0.5 * prediction, a**0.5 * prediction + (1 - a) ** 0.5 * z
        return b**0.5 * clean + (1 - b) ** 0.5 * prediction

    @torch.no_grad()
    def encode(self, picture: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 -> latent."""
        vae = self.pipeline.vae
        pixels = torch.from_numpy(picture.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        encoded = vae.encode(pixels.to(self.device, vae.dtype))
        latent = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
        return latent.float() * vae.config.scaling_factor

    @torch.no_grad()
    def invert(self, z: Tensor) -> Tensor:
        """DDIM inversion of a latent to step `edit_from`."""
        for step in range(1, self.config.edit_from + 1):
            asked = step - 1 if self.config.inversion == "source" else step
            if self.is_v and asked != step - 1:
                raise ValueError("inversion='target' of a v-prediction model is not written down here.")
            z = self.moved(self.noise(z, asked), z, self.alphas[step - 1], self.alphas[step])
        return z

    @torch.no_grad()
    def render(self, z: Tensor) -> Tensor:
        """The edited latent, denoised beside the unedited one in a batch of two, its bottleneck overridden."""
        z = torch.cat([z, z])
        for step in range(self.config.edit_from, 0, -1):
            if step > self.config.refine_from:
                with self._overridden(lambda out: torch.cat([out[:1], self.value.detach().to(out)])):
                    prediction = self.noise(z, step)
            else:
                prediction = self.noise(z, step)
            z = self.moved(prediction, z, self.alphas[step], self.alphas[step - 1])
        return z[1:]

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """A latent -> picture (1, 3, H, W) on the CPU."""
        vae = self.pipeline.vae
        return vae.decode((z / vae.config.scaling_factor).to(vae.dtype)).sample.float().cpu()

    # ---- iterations

    def start(self, z: Tensor) -> None:
        """Begin at an inverted latent."""
        self.z, self.count, self.anchors = z, 0, self.first.clone()
        with torch.no_grad():
            prediction, feature = self._forward(None)
            self.initial, self.below = self._at(feature, self.first[:, None])[:, 0], self._one_step(prediction)
        self.original = self._bottleneck.float()
        self.value = self.original.clone().requires_grad_()
        self.adam = torch.optim.Adam([self.value], lr=self.config.lr, eps=self.config.eps)
        self.held = self._held()

    def iteration(self) -> tuple[float, Tensor]:
        """One update; the loss and the anchors (m, 2) that it was computed from."""
        if not self.frozen:
            self.unet.requires_grad_(True)
        prediction, feature = self._forward(self.value)
        if self.count:
            self.anchors = self._tracked(feature.detach())
        loss = self._alignment(feature)
        if self.config.is_released:
            held = (self._one_step(prediction) - self.below) * self.held
        else:
            held = (self.value - self.original) * self.held
        loss = loss + self.config.mask_weight * held.abs().sum()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.unet.zero_grad(set_to_none=True)
        self.unet.requires_grad_(False)
        self.count += 1
        return float(loss.detach()), self.anchors

    def _forward(self, value: Tensor | None) -> tuple[Tensor, Tensor]:
        """The whole U-Net -> its prediction, and the supervision feature on the whole grid, (C, height, width)."""
        kept: list[Tensor] = []
        block = self.unet.up_blocks[self.config.supervision_block]
        hook = block.register_forward_hook(lambda module, inputs, out: kept.append(out))

        def override(out: Tensor) -> Tensor:
            self._bottleneck = out
            return out if value is None else value.to(out)

        with self._overridden(override):
            prediction = self.noise(self.z, self.config.edit_from)
        hook.remove()
        dense = F.interpolate(kept[0].float(), self.grid[::-1], mode="bilinear", align_corners=False)
        return prediction, dense[0]

    @contextmanager
    def _overridden(self, what: Any) -> Iterator[None]:
        hook = self.unet.mid_block.register_forward_hook(lambda module, inputs, out: what(out))
        try:
            yield
        finally:
            hook.remove()

    def _one_step(self, prediction: Tensor) -> Tensor:
        step = self.config.edit_from
        return self.moved(prediction, self.z, self.alphas[step], self.alphas[step - 1])

    def _at(self, dense: Tensor, points: Tensor) -> Tensor:
        """A map at points (m, n, 2) -> (m, n, C), bilinear."""
        scale = torch.tensor([self.grid[0] - 1, self.grid[1] - 1]) / 2
        where = (points / scale - 1).to(dense.device, dense.dtype)
        return F.grid_sample(dense[None], where[None], padding_mode="border", align_corners=True)[0].permute(1, 2, 0)

    def _window(self, radius: int) -> Tensor:
        side = torch.arange(-radius, radius + 1, dtype=torch.float64)
        return torch.cartesian_prod(side, side).flip(1)

    def _alignment(self, dense: Tensor) -> Tensor:
        r1, gap = self.config.r1, self.objectives - self.anchors
        far = gap.norm(dim=1)
        moving = far >= self.config.tolerance if self.config.is_released else far > 0
        patch = self.anchors[:, None] + self._window(r1)
        step = gap / far.clamp(min=1e-12)[:, None]
        apart = (self._at(dense, patch).detach() - self._at(dense, patch + step[:, None])).abs()
        each = apart.mean((1, 2)) * (2 * r1 + 1) ** 2 if self.config.is_released else apart.sum((1, 2))
        return (each * moving.to(each)).sum()

    def _tracked(self, dense: Tensor) -> Tensor:
        places = self.anchors[:, None] + self._window(self.config.r2)
        apart = (self._at(dense, places) - self.initial[:, None]).abs().sum(-1)
        return places[torch.arange(len(places)), apart.argmin(1).cpu()]

    def _held(self) -> Tensor:
        """1 where the bottleneck, or the latent of the released program, is held."""
        like = self.z if self.config.is_released else self.original
        if self.mask is None:
            return (torch.ones if self.config.is_released else torch.zeros)(1, device=self.device)
        free = torch.from_numpy(self.mask.astype(np.float32))[None, None]
        if self.config.is_released:
            free = F.interpolate(F.interpolate(free, self.grid[::-1]), like.shape[-2:])
        else:
            free = F.interpolate(free, like.shape[-2:], mode="area")
        return 1 - free.to(self.device)


class PlainFit:
    """A LoRA's fit as the released programs have it: peft's layers, and the picture encoded anew for every step."""

    def __init__(self, session: DragSession, *, rank: int = 16, batch: int = 4) -> None:
        self.plain, self.batch = Plain(session), batch
        self.picture = np.asarray(session.image)
        self.unet = sharing_copy(session.model.pipeline.unet)  # a second one in memory would prove nothing
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), self.unet)
        layers = [p for p in self.unet.parameters() if p.requires_grad]
        for layer in layers:
            layer.data = layer.data.float()
        self.adam = torch.optim.AdamW(layers, lr=2e-4, weight_decay=0.01)
        self.alphas = session.model.scheduler.alphas_cumprod.to(session.model.device)
        self.unet.train()

    def step(self) -> float:
        """Encode, draw, predict, go back, update."""
        plain, device = self.plain, self.plain.device
        pictures = [plain.encode(self.picture) for _ in range(self.batch)]
        latents = torch.cat(pictures)
        noise = torch.randn(latents.shape, device=device)
        t = torch.randint(len(self.alphas), (self.batch,), device=device)
        alpha = self.alphas[t][:, None, None, None]
        seen = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        added = None
        if plain.pooled is not None:
            height, width = latents.shape[-2] * plain.factor, latents.shape[-1] * plain.factor
            sizes = torch.tensor([[height, width, 0, 0, height, width]] * self.batch, dtype=torch.float32)
            added = {"text_embeds": plain.pooled.expand(self.batch, -1), "time_ids": sizes.to(device)}
        text = plain.text.expand(self.batch, -1, -1)
        half = plain.dtype != torch.float32
        with torch.autocast(device.type, plain.dtype) if half else nullcontext():
            prediction = self.unet(
                seen.to(plain.dtype), t, encoder_hidden_states=text, added_cond_kwargs=added
            ).sample.float()
            target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents if plain.is_v else noise
            loss = F.mse_loss(prediction, target)
        loss.backward()
        self.adam.step()
        self.adam.zero_grad()
        return float(loss.detach())
