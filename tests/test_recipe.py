"""The recipe: what it trains is what it exports, and a killed run goes on as if nothing had happened."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dragnoise
from dragnoise.toyland import denoiser, networks, train
from dragnoise.toyland.autoencoder import train_autoencoder
from dragnoise.toyland.checkpoint import Average
from dragnoise.toyland.denoiser import load_denoiser, train_denoiser
from dragnoise.toyland.judge import train_judge
from dragnoise.toyland.optimiser import Optimiser
from dragnoise.toyland.pictures import THINGS, change_odds, changed_scene, pictures, training_scene
from dragnoise.toyland.scenes import RANGES, caption, factors, render, sample_scene


def test_pictures_are_the_scenes_and_are_rendered_once(tmp_path: Path) -> None:
    few = pictures(tmp_path, 6, workers=1, chunk=3).copy()
    written = (tmp_path / "pictures.npy").stat().st_mtime_ns
    more = pictures(tmp_path, 9, workers=1, chunk=3)
    np.testing.assert_array_equal(more[:6], few)
    np.testing.assert_array_equal(more[8], render(sample_scene(8)))
    assert written <= (tmp_path / "pictures.npy").stat().st_mtime_ns
    np.testing.assert_array_equal(pictures(tmp_path, 4), few[:4])


def test_changed_pictures_are_the_same_scenes_with_a_thing_or_two_changed(tmp_path: Path) -> None:
    assert {name for thing in THINGS for name in thing} == set(RANGES) - {"tail_side"}
    for seed in range(40):
        scene, changed = training_scene(seed), changed_scene(seed)
        assert caption(scene) == caption(changed)
        moved = [name for name in RANGES if getattr(scene, name) != getattr(changed, name)]
        assert 1 <= sum(any(name in moved for name in thing) for thing in THINGS) <= 2
    np.testing.assert_array_equal(pictures(tmp_path, 3, changed=True, workers=1)[2], render(changed_scene(2)))
    assert not (tmp_path / "pictures.npy").exists()


def test_every_word_of_the_captions_is_one_token() -> None:
    tokenizer = networks.build_tokenizer()
    words = {word for seed in range(300) for word in caption(sample_scene(seed)).split()}
    assert {"a", "an", "at", "cat", "hat"} <= words
    for word in words:
        assert len(tokenizer.tokenize(word)) == 1, word


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


def sampled(seed: int, count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, denoiser.Sample]:
    """Latents of scenes and of the same scenes changed, the alphas, and a training sample of them."""
    z0, changed = torch.randn(2, count, 4, 32, 32, generator=torch.Generator().manual_seed(seed)).unbind()
    alphas = networks.build_scheduler().alphas_cumprod
    return z0, changed, alphas, denoiser.training_sample(z0, changed, alphas, torch.Generator().manual_seed(seed))


def parts(z: torch.Tensor, velocity: torch.Tensor, alpha: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latent and noise that a velocity says are in z (Salimans and Ho 2022, Eq. 11 of its appendix D)."""
    alpha = alpha[:, None, None, None]
    clean = alpha.sqrt() * z - (1 - alpha).sqrt() * velocity
    return clean, (1 - alpha).sqrt() * z + alpha.sqrt() * velocity


def test_usual_rows_and_those_with_a_less_noisy_lead() -> None:
    z0, _, alphas, s = sampled(0)
    rest, led, usual = slice(32, None), slice(32, 40), slice(40, None)
    clean, noise = parts(s.z_t, s.velocity, alphas[s.t])
    torch.testing.assert_close(clean[rest], z0[rest], atol=1e-4, rtol=0)
    assert noise[rest].std() == pytest.approx(1, abs=0.02)
    assert (s.lead[led] <= s.t[led]).all() and (s.lead[usual] == s.t[usual]).all()
    torch.testing.assert_close(s.z_lead[usual], s.z_t[usual])
    b = alphas[s.lead][:, None, None, None]
    own = ((s.z_lead - b.sqrt() * z0) / (1 - b).sqrt())[led]
    assert own.std() == pytest.approx(1, abs=0.02)
    assert (own * noise[led]).mean().abs() < 0.02  # noise of its own
    gain = s.weight / (1 - alphas[s.t])  # what an error of the clean latent counts
    assert gain.max() == pytest.approx(denoiser.MAX_GAIN) and (s.weight <= 1).all()


def test_edit_rows_are_what_ddim_makes_of_the_given_scene_when_the_changed_one_is_predicted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the latent of z0 in which an edit began, DDIM steps with a perfect prediction of the changed scene."""
    monkeypatch.setattr(denoiser, "BEHIND", 0.0)
    z0, changed, alphas, s = sampled(1)
    ratio = (alphas / (1 - alphas)).sqrt()  # falls with the timestep
    clean, noise = parts(s.z_t, s.velocity, alphas[s.t])
    torch.testing.assert_close(clean[:32], changed[:32], atol=1e-4, rtol=0)
    for row in range(32):
        # the noise is (1 - i/2) n + i z0 + share (z0 - changed); the scenes are independent of each other and of n
        apart = float((noise[row] * changed[row]).mean())
        share, imprint = -apart, float((noise[row] * z0[row]).mean()) + apart
        own = noise[row] - share * (z0[row] - changed[row])
        assert -0.1 <= imprint <= denoiser.INVERTED + 0.1
        assert own.std() == pytest.approx(math.hypot(1 - imprint / 2, imprint), abs=0.06)
        start = max(int((share - ratio).abs().argmin()), int(s.t[row]))
        assert share <= min(ratio[s.t[row]], ratio[300]) + 0.06  # it began there or before
        z = alphas[start].sqrt() * z0[row] + (1 - alphas[start]).sqrt() * own
        for now, below in zip(range(start, 0, -20), range(start - 20, -20, -20), strict=False):
            below = max(below, int(s.t[row]))
            predicted = (z - alphas[now].sqrt() * changed[row]) / (1 - alphas[now]).sqrt()
            z = alphas[below].sqrt() * changed[row] + (1 - alphas[below]).sqrt() * predicted
            if below == s.t[row]:
                break
        if start > s.t[row]:
            assert (z - s.z_t[row]).abs().max() < 0.25  # the share, and with it the start, is estimated from noise
        b = alphas[s.lead[row]]
        lead_noise = (s.z_lead[row] - b.sqrt() * changed[row]) / (1 - b).sqrt()
        stamp = float((lead_noise * changed[row]).mean())
        assert -0.1 <= stamp <= denoiser.INVERTED + 0.1 and ratio[s.lead[row]] >= share - 0.06


def test_edit_rows_may_be_behind_as_ddim_makes_them_of_predictions_that_hold_some_of_the_given_scene(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same draws, but DDIM goes towards x = (1 - g) changed + g z0; the answer stays the changed scene."""
    monkeypatch.setattr(denoiser, "INVERTED", 0.0)
    *_, behind = sampled(2)
    monkeypatch.setattr(denoiser, "BEHIND", 0.0)
    z0, changed, alphas, s = sampled(2)
    clean, _ = parts(behind.z_t, behind.velocity, alphas[behind.t])
    torch.testing.assert_close(clean[:32], changed[:32], atol=1e-4, rtol=0)
    torch.testing.assert_close(behind.z_t[32:], s.z_t[32:], atol=0, rtol=0)
    shares = []
    for row in range(32):
        apart, a = z0[row] - changed[row], alphas[s.t[row]]
        share = float((behind.z_t[row] - s.z_t[row]).flatten() @ apart.flatten() / apart.square().sum())
        torch.testing.assert_close(behind.z_t[row] - s.z_t[row], share * apart, atol=1e-4, rtol=0)
        # z_t without it: sqrt(a) changed + sqrt(1 - a) (n + r (z0 - changed)), r = sqrt(a_e / (1 - a_e)) where it began
        r = float((s.z_t[row] - a.sqrt() * changed[row]).flatten() @ apart.flatten() / apart.square().sum())
        if float(a.sqrt()) - r > 0.1:  # else it has just begun, and has made no way to be behind on
            shares.append(share / (float(a.sqrt()) - r))
    assert min(shares) >= -0.02 and 0.4 < max(shares) < 0.75
    assert 4 < sum(abs(g) < 0.02 for g in shares) < 24


def test_a_small_change_counts_as_much_as_a_large_one_but_no_place_more_than_nine_times() -> None:
    z0 = torch.randn(3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    shown = z0.clone()
    shown[0, 2, 5:21, 3:19] += 50.0  # a quarter of the picture, all but certainly changed
    shown[1, :, 7, 9] -= 50.0  # one place of 1,024
    place = denoiser.places(z0, shown)
    assert place.shape == (3, 1, 32, 32)
    changed = torch.zeros(32, 32, dtype=torch.bool)
    changed[5:21, 3:19] = True
    torch.testing.assert_close(place[0, 0][changed], torch.full((256,), 1 + 4.0), rtol=0, atol=0.05)
    assert (place[0, 0][~changed] == 1).all() and (place[2] == 1).all()
    assert 8.9 < place[1, 0, 7, 9] <= 9 and (place[1] == 1).sum() == 1023


def test_what_is_hard_to_move_is_drawn_more_often() -> None:
    odds = change_odds(400)
    assert odds.sum() == pytest.approx(1) and len(set(odds)) == 3
    given, changed = ([factors(scene_of(i)) for i in range(400)] for scene_of in (training_scene, changed_scene))
    moved = [{name for name in RANGES if a[name] != b[name]} for a, b in zip(given, changed, strict=True)]
    tails = [i for i in range(400) if "tail_angle" in moved[i]]
    eyes = [i for i in range(400) if moved[i] == {"eye_size", "gaze_x", "gaze_y"}]
    assert tails and all(odds[i] == odds.max() for i in tails)
    assert eyes and all(odds[i] == odds.min() for i in eyes)


def test_optimiser_moves_every_weight_and_its_matrices_in_all_directions_alike() -> None:
    torch.manual_seed(0)
    unet = networks.build_unet().to(memory_format=torch.channels_last)
    optimiser = Optimiser(unet, 1e-3, weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    for parameter in unet.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    for name, parameter in unet.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    moved = (unet.mid_block.resnets[0].conv1.weight - before["mid_block.resnets.0.conv1.weight"]).detach()
    stretches = torch.linalg.svdvals(moved.flatten(1).double())  # flattened in another order, which turns nothing
    assert moved.shape == (192, 192, 3, 3) and stretches.min() > 0.5 * stretches.max()
    assert moved.square().mean().sqrt() == pytest.approx(0.2e-3, rel=0.3)  # AdamW's usual size at this rate


def test_optimiser_goes_on_from_its_state_to_the_bit() -> None:
    def ran(steps: int, state: Any = None) -> tuple[torch.nn.Module, Optimiser]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 3))
        module = module.to(memory_format=torch.channels_last)
        optimiser = Optimiser(module, 1e-2)
        if state:
            module.load_state_dict(state[0])
            optimiser.load_state_dict(state[1])
        for step in range(3 if state else 0, steps):
            optimiser.zero_grad()
            module(torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimiser.step()
        return module, optimiser

    half, optimiser = ran(3)
    kept = copy.deepcopy((half.state_dict(), optimiser.state_dict()))
    for mine, its in zip(ran(6)[0].parameters(), ran(6, kept)[0].parameters(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_doubling_is_compiled_with_the_right_gradient() -> None:
    """Of torch 2.13's own nearest upsampling it is not: a decoder so trained never asks its bottleneck for anything."""
    torch.manual_seed(0)
    before, after = (torch.nn.Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last) for _ in range(2))
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return after(denoiser._double(before(x))).float().square().mean()

    gradients = []
    for function in (loss, torch.compile(loss)):
        with torch.autocast("cpu", torch.bfloat16):
            value = function(x)
        gradients.append(torch.autograd.grad(value, before.weight)[0])
    torch.testing.assert_close(
        denoiser._double(x), torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"), rtol=0, atol=0
    )
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.05, atol=0.02 * float(gradients[0].abs().max()))


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
                train_denoiser(latents, latents[::-1], folder, steps=4, batch=2, fused=False, stop=stop)
        weights = torch.load(folder / f"{stage}.pt", weights_only=True)["parts"]["average"]["weights"]
        return dict(weights)

    whole, parts = run(tmp_path / "whole", 4), run(tmp_path / "parts", 2, 4)
    assert whole.keys() == parts.keys()
    for name, weight in whole.items():
        assert torch.equal(weight, parts[name]), name


def test_export_is_a_pipeline_folder_that_loads(tmp_path: Path) -> None:
    from dragnoise.toyland.autoencoder import build_autoencoder

    latents = np.random.default_rng(0).normal(size=(4, 4, 32, 32)).astype(np.float16)
    train_denoiser(latents, latents[::-1], tmp_path, steps=1, batch=2, fused=False)
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
