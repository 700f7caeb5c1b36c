"""The recipe: what it trains is what it exports, and a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dragnoise
from dragnoise.toyland import denoiser, networks, train
from dragnoise.toyland.autoencoder import train_autoencoder
from dragnoise.toyland.checkpoint import Average
from dragnoise.toyland.denoiser import load_denoiser, train_denoiser
from dragnoise.toyland.judge import train_judge
from dragnoise.toyland.pictures import pictures
from dragnoise.toyland.scenes import render, sample_scene


def test_pictures_are_the_scenes_and_are_rendered_once(tmp_path: Path) -> None:
    few = pictures(tmp_path, 6, workers=1, chunk=3).copy()
    written = (tmp_path / "pictures.npy").stat().st_mtime_ns
    more = pictures(tmp_path, 9, workers=1, chunk=3)
    np.testing.assert_array_equal(more[:6], few)
    np.testing.assert_array_equal(more[8], render(sample_scene(8)))
    assert written <= (tmp_path / "pictures.npy").stat().st_mtime_ns
    np.testing.assert_array_equal(pictures(tmp_path, 4), few[:4])


def test_cutting_skips_leaves_one_way_in() -> None:
    """The training's two halves equal the exported U-Net, and only skips at full resolution are read."""
    torch.manual_seed(0)
    unet = networks.build_unet()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        networks.cut_skips(unet)
        z, t, text = torch.randn(2, 4, 32, 32), torch.tensor([5, 700]), torch.randn(2, 16, 96)
        whole = unet(z, t, text).sample
        bottleneck = denoiser.encode_bottleneck(unet, z, t, text)
        torch.testing.assert_close(denoiser.decode_bottleneck(unet, bottleneck, z, t, text), whole, atol=1e-5, rtol=0)
        swapped = denoiser.decode_bottleneck(unet, bottleneck.flip(0), z, t, text)
    assert (swapped - whole).abs().max() > 0.05


def test_lead_is_the_same_picture_at_a_less_noisy_timestep() -> None:
    z0, alphas = torch.randn(64, 4, 32, 32), networks.build_scheduler().alphas_cumprod
    z_t, t, z_lead, lead, noise, weight = denoiser.training_sample(z0, alphas, torch.Generator().manual_seed(0))
    a = alphas[t][:, None, None, None]
    torch.testing.assert_close(z_t, a.sqrt() * z0 + (1 - a).sqrt() * noise)
    assert (lead[:32] <= 0.7 * t[:32]).all() and (lead[32:] == t[32:]).all()
    torch.testing.assert_close(z_lead[32:], z_t[32:])
    b = alphas[lead][:, None, None, None]
    own = (z_lead - b.sqrt() * z0) / (1 - b).sqrt()
    assert (own[:32] * noise[:32]).mean().abs() < 0.02  # noise of its own
    snr = alphas[t] / (1 - alphas[t])
    torch.testing.assert_close(weight, snr.clamp(max=5) / snr)


def test_average_follows_the_weights() -> None:
    module = torch.nn.Linear(1, 1)
    average = Average(module, 0.5)
    with torch.no_grad():
        before = module.weight.clone()
        module.weight += 1
    average.update(module)
    torch.testing.assert_close(average.weights["weight"], before + 1 - 2 / 11)


@pytest.mark.parametrize("stage", ["autoencoder", "judge", "denoiser"])
def test_killed_training_goes_on_where_it_was(tmp_path: Path, stage: str) -> None:
    scenes = np.stack([render(sample_scene(i)) for i in range(6)])
    latents = np.random.default_rng(0).normal(size=(6, 4, 32, 32)).astype(np.float16)

    def run(folder: Path, *counts: int) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        for stop in counts:
            if stage == "autoencoder":
                train_autoencoder(scenes, folder, steps=4, batch=2, held_out=2, stop=stop)
            elif stage == "judge":
                train_judge(scenes, folder, steps=4, batch=2, held_out=2, stop=stop)
            else:
                train_denoiser(latents, folder, steps=4, batch=2, fused=False, stop=stop)
        weights = torch.load(folder / f"{stage}.pt", weights_only=True)["parts"]["average"]["weights"]
        return dict(weights)

    whole, parts = run(tmp_path / "whole", 4), run(tmp_path / "parts", 2, 4)
    assert whole.keys() == parts.keys()
    for name, weight in whole.items():
        assert torch.equal(weight, parts[name]), name


def test_export_is_a_pipeline_folder_that_loads(tmp_path: Path) -> None:
    from dragnoise.toyland.autoencoder import build_autoencoder

    latents = np.random.default_rng(0).normal(size=(4, 4, 32, 32)).astype(np.float16)
    train_denoiser(latents, tmp_path, steps=1, batch=2, fused=False)
    build_autoencoder(2.0).save_pretrained(str(tmp_path / "vae"))
    unet, text_encoder, tokenizer = load_denoiser(tmp_path)
    folder = tmp_path / "weights"
    networks.save_pipeline(folder, train._vae(tmp_path), tokenizer, text_encoder, unet)
    (folder / "drag_config.json").write_text(json.dumps(train.DEFAULT_CONFIG))
    model = dragnoise.load_model(folder)
    assert model.native == 128 and model.factor == 4
    assert model.default_config.lr == train.DEFAULT_CONFIG["lr"]
    half = unet.conv_in.weight.half().float()
    torch.testing.assert_close(model.pipeline.unet.conv_in.weight, half, atol=0, rtol=0)
