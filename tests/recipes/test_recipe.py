"""The recipe: what it trains is what it exports, and a killed run goes on as if nothing had happened."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dragnoise
from dragnoise.toyland.detector import to_unit
from dragnoise.toyland.scenes import RANGES, caption, factors, landmarks, render, sample_scene
from recipes.toyland import autoencoder, denoiser, networks, samples, train
from recipes.toyland.autoencoder import add_blocks, build_autoencoder, train_autoencoder
from recipes.toyland.checkpoint import Average, Checkpoint
from recipes.toyland.denoiser import load_denoiser, start_denoiser, train_denoiser
from recipes.toyland.export import DEFAULT_CONFIG
from recipes.toyland.judge import train_judge
from recipes.toyland.optimiser import Muon, Optimiser
from recipes.toyland.pictures import SMALL, THINGS, change_odds, changed_scene, pictures, small_things, training_scene
from recipes.toyland.recipe import VARIANTS, Recipe, keep_recipe


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


def sampled(seed: int, count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, samples.Sample]:
    """Latents of scenes and of the same scenes changed, the alphas, and a training sample of them."""
    z0, changed = torch.randn(2, count, 4, 32, 32, generator=torch.Generator().manual_seed(seed)).unbind()
    alphas = networks.build_scheduler().alphas_cumprod
    return z0, changed, alphas, samples.training_sample(z0, changed, alphas, torch.Generator().manual_seed(seed))


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
    assert gain.max() == pytest.approx(samples.MAX_GAIN) and (s.weight <= 1).all()


def test_edit_rows_are_what_ddim_makes_of_the_given_scene_when_the_changed_one_is_predicted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the latent of z0 in which an edit began, DDIM steps with a perfect prediction of the changed scene."""
    monkeypatch.setattr(samples, "BEHIND", 0.0)
    z0, changed, alphas, s = sampled(1)
    ratio = (alphas / (1 - alphas)).sqrt()  # falls with the timestep
    clean, noise = parts(s.z_t, s.velocity, alphas[s.t])
    torch.testing.assert_close(clean[:32], changed[:32], atol=1e-4, rtol=0)
    for row in range(32):
        # the noise is (1 - i/2) n + i z0 + share (z0 - changed); the scenes are independent of each other and of n
        apart = float((noise[row] * changed[row]).mean())
        share, imprint = -apart, float((noise[row] * z0[row]).mean()) + apart
        own = noise[row] - share * (z0[row] - changed[row])
        assert -0.1 <= imprint <= samples.INVERTED + 0.1
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
        assert -0.1 <= stamp <= samples.INVERTED + 0.1 and ratio[s.lead[row]] >= share - 0.06


def test_edit_rows_may_be_behind_as_ddim_makes_them_of_predictions_that_hold_some_of_the_given_scene(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same draws, but DDIM goes towards x = (1 - g) changed + g z0; the answer stays the changed scene."""
    monkeypatch.setattr(samples, "INVERTED", 0.0)
    *_, behind = sampled(2)
    monkeypatch.setattr(samples, "BEHIND", 0.0)
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
    place = samples.places(z0, shown)
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


@pytest.mark.parametrize("muon", [True, False])
def test_optimiser_moves_every_weight(muon: bool) -> None:
    torch.manual_seed(0)
    unet = networks.build_unet((32, 32))
    optimiser = Optimiser(unet, 1e-3, weight_decay=0.0, muon=muon)
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    for parameter in unet.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    for name, parameter in unet.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    moved = (unet.mid_block.resnets[0].conv1.weight - before["mid_block.resnets.0.conv1.weight"]).detach()
    if muon:
        stretches = torch.linalg.svdvals(moved.flatten(1).double())
        assert stretches.min() > 0.5 * stretches.max()
    size = 0.2e-3 if muon else 1e-3  # at this rate AdamW's first step is as long as the rate, its usual a fifth of it
    assert moved.square().mean().sqrt() == pytest.approx(size, rel=0.3)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (6, 4, 3, 3)])
def test_muon_does_what_the_one_of_torch_does(shape: tuple[int, ...]) -> None:
    """To the accuracy of the bfloat16 that torch's iterates in."""
    rng = torch.Generator().manual_seed(0)
    mine = torch.nn.Parameter(torch.randn(shape, generator=rng))
    its = torch.nn.Parameter(mine.detach().flatten(1).clone())
    ours = Muon([mine], 1e-2, 0.1)
    torchs = torch.optim.Muon([its], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        mine.grad = torch.randn(shape, generator=rng)
        its.grad = mine.grad.flatten(1).clone()
        ours.step()
        torchs.step()
    torch.testing.assert_close(mine.detach().flatten(1), its.detach(), atol=1e-3, rtol=0)


def test_optimiser_goes_on_from_its_state_to_the_bit() -> None:
    def ran(steps: int, state: Any = None) -> tuple[torch.nn.Module, Optimiser]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
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


def test_average_follows_the_weights() -> None:
    module = torch.nn.Linear(1, 1)
    average = Average(module, 0.5)
    with torch.no_grad():
        before = module.weight.clone()
        module.weight += 1
    average.update(module)
    torch.testing.assert_close(average.weights["weight"], before + 1 - 2 / 11)


TINY = Recipe(autoencoder_steps=4, autoencoder_batch=2, denoiser_steps=4, denoiser_batch=8, held_out=2, crop=32,
              detail_weight=0.5, widths=(32, 32), small_weight=2.0, carried=0.5, favour=2.0)  # fmt: skip


@pytest.mark.parametrize("stage", ["autoencoder", "judge", "denoiser"])
def test_killed_training_goes_on_where_it_was(tmp_path: Path, stage: str) -> None:
    scenes = np.stack([render(sample_scene(i)) for i in range(6)])
    latents = np.random.default_rng(0).normal(size=(10, 4, 32, 32)).astype(np.float16)
    centres, small = np.full((6, 3, 2), 64.0), small_things(range(10))

    def run(folder: Path, *counts: int) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        for stop in counts:
            if stage == "autoencoder":
                train_autoencoder(scenes, centres, folder, TINY, stop=stop)
            elif stage == "judge":
                train_judge(scenes, folder, steps=4, batch=2, held_out=2, stop=stop)
            else:
                train_denoiser(latents, latents[::-1], folder, TINY, small=small, stop=stop)
        weights = torch.load(folder / f"{stage}.pt", weights_only=True)["parts"]["average"]["weights"]
        return dict(weights)

    whole, parts = run(tmp_path / "whole", 4), run(tmp_path / "parts", 2, 4)
    assert whole.keys() == parts.keys()
    for name, weight in whole.items():
        assert torch.equal(weight, parts[name]), name
    lines = [json.loads(line) for line in (tmp_path / "parts" / f"{stage}.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "step" in line]
    assert [line["step"] for line in steps] == [2, 4]
    assert all(line["samples"] > 0 and line["samples_per_minute"] > 0 and "time" in line for line in steps)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_former_one(tmp_path: Path) -> None:
    module = torch.nn.Linear(1, 1)
    Checkpoint(tmp_path, "it", model=module).save(3)

    class Broken:
        def state_dict(self) -> dict[str, Any]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Checkpoint(tmp_path, "it", model=Broken()).save(4)
    assert Checkpoint(tmp_path, "it", model=module).resume() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["it.pt"]


def test_a_training_given_little_time_ends_in_it(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(10, 4, 32, 32)).astype(np.float16)
    train_denoiser(latents, latents, tmp_path, TINY.replace(denoiser_steps=10_000, small_weight=0.0), seconds=0.2)
    last = json.loads((tmp_path / "denoiser.jsonl").read_text().splitlines()[-1])
    assert 1 <= last["step"] < 1000


def test_a_run_folder_keeps_to_its_recipe(tmp_path: Path) -> None:
    keep_recipe(tmp_path, VARIANTS["fine"])
    keep_recipe(tmp_path, VARIANTS["fine"].replace(denoiser_steps=99_000))
    with pytest.raises(ValueError, match=r"was begun with widths=\(64, 64\), not \(64, 64, 192\)"):
        keep_recipe(tmp_path, VARIANTS["fine"].replace(widths=(64, 64, 192)))
    with pytest.raises(ValueError, match="no switch 'width'"):
        Recipe().replace(width=3)


def test_blocks_are_added_to_a_decoder_where_they_change_nothing() -> None:
    torch.manual_seed(0)
    small, large = build_autoencoder((1, 1, 1)), build_autoencoder((2, 1, 2))
    add_blocks(large.decoder.layers, small.decoder.layers)
    z = torch.randn(1, 4, 8, 8)
    assert len(large.decoder.layers) == len(small.decoder.layers) + 2
    torch.testing.assert_close(large.decoder(z), small.decoder(z), atol=0, rtol=0)


def test_training_further_begins_with_the_package(tmp_path: Path) -> None:
    model = dragnoise.load_model()
    begun = autoencoder.start_autoencoder(VARIANTS["further"])
    x = to_unit(render(sample_scene(5))[None])
    with torch.no_grad():
        vae = model.pipeline.vae
        torch.testing.assert_close(begun.decoder(begun.encoder(x)), vae.decoder(vae.encoder(x)), atol=1e-5, rtol=0)
        unet, words, tokenizer = start_denoiser(VARIANTS["further"])
        z, t = torch.randn(1, 4, 32, 32), torch.tensor([400])
        ids = tokenizer(["a pink bunny at dusk"], padding="max_length", return_tensors="pt").input_ids
        text = words.eval()(ids).last_hidden_state
        its = model.pipeline.unet(z, t, model.pipeline.text_encoder(ids).last_hidden_state).sample
        torch.testing.assert_close(unet.eval()(z, t, text).sample, its, atol=1e-5, rtol=0)


def test_a_finer_bottleneck_takes_the_weights_at_full_resolution() -> None:
    unet, _, _ = start_denoiser(VARIANTS["fine"])
    given = dragnoise.load_model().pipeline.unet
    z = torch.randn(2, 4, 32, 32)
    assert denoiser.encode_bottleneck(unet, z, torch.tensor([5, 9]), torch.zeros(2, 16, 96)).shape == (2, 64, 16, 16)
    for mine, its in (("up_blocks.1", "up_blocks.2"), ("down_blocks.0", "down_blocks.0"), ("conv_out", "conv_out")):
        begun, weights = unet.get_submodule(mine).state_dict(), given.get_submodule(its).state_dict()
        for name, weight in begun.items():
            torch.testing.assert_close(weight, weights[name], atol=0, rtol=0)
    with pytest.raises(ValueError, match="mix a skip's channels"):
        networks.build_unet((64, 128))


def test_squares_are_parts_of_pictures_on_the_grid_of_the_latents() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 128, 128, 3)).astype(np.uint8)
    cut = autoencoder.squares(pictures, np.full((3, 2, 2), 126.0), np.arange(3), 64, np.random.default_rng(1))
    for square, picture in zip(cut, pictures, strict=True):
        corners = [(y, x) for y in range(0, 65, 4) for x in range(0, 65, 4)]
        assert any((picture[y : y + 64, x : x + 64] == square).all() for y, x in corners)
    np.testing.assert_array_equal(
        autoencoder.squares(pictures, np.zeros((3, 2, 2)), np.arange(2), 0, np.random.default_rng(1)), pictures[:2]
    )


def test_a_blur_costs_more_with_the_detail_weight() -> None:
    x = to_unit(render(sample_scene(3))[None])
    blurred = x - autoencoder.laplacian(x)
    plain, more = (autoencoder.reconstruction_loss(blurred, x, 0.5, weight) for weight in (0.0, 1.0))
    torch.testing.assert_close(more - plain, autoencoder.laplacian(blurred - x).abs().mean())
    assert autoencoder.reconstruction_loss(x, x, 0.5, 1.0) == 0


def test_small_things_are_where_they_are_in_both_pictures() -> None:
    points = small_things(range(8))
    for seed in range(8):
        for which, scene in enumerate((training_scene(seed), changed_scene(seed))):
            found = landmarks(scene)
            for point, name in zip(points[seed, which], SMALL, strict=True):
                expected = found.get(name, (-1000, -1000))
                np.testing.assert_allclose(point, expected, rtol=1e-6)
    bump = samples.small_places(torch.tensor([[[5.5, 13.5], [-1000.0, -1000.0]]]), 32)  # centre of cell (3, 1)
    assert bump.shape == (1, 1, 32, 32) and bump[0, 0, 3, 1] == 1 and bump.sum() < 12
    assert bump[0, 0, 3, 2] == pytest.approx(math.exp(-16 / 50))


def test_a_carried_edit_ends_at_its_answer_when_that_is_predicted() -> None:
    """With velocities towards the changed scene, DDIM steps end at it, whatever the number of steps."""
    z0, changed, alphas, _ = sampled(3, 8)
    z, z_changed, way = samples.carried_start(z0, changed, alphas, torch.Generator().manual_seed(0), 2)
    assert way.shape == (3, 8) and (way[:-1] >= way[1:]).all() and way[2].min() >= samples.CARRIED_TO
    a = alphas[way[0]][:, None, None, None]
    noises = [(latent - a.sqrt() * clean) / (1 - a).sqrt() for latent, clean in ((z, z0), (z_changed, changed))]
    shared = [
        float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1]) for x, y in zip(*noises, strict=True)
    ]
    assert max(shared) > 0.8 and min(shared) < 0.2  # the same noise in about half of the rows
    for now, below in itertools.pairwise(way):
        z = samples.ddim_step(z, samples.velocity_to(changed, z, alphas[now]), alphas[now], alphas[below])
    clean, _ = parts(z, samples.velocity_to(changed, z, alphas[way[-1]]), alphas[way[-1]])
    torch.testing.assert_close(clean, changed, atol=1e-4, rtol=0)
    zero = torch.tensor([alphas[0]] * 8)
    z = samples.ddim_step(z, samples.velocity_to(changed, z, alphas[way[-1]]), alphas[way[-1]], zero)
    assert (z - changed).abs().max() < 0.2


def test_export_is_a_pipeline_folder_that_loads(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(10, 4, 32, 32)).astype(np.float16)
    recipe = TINY.replace(denoiser_steps=1, small_weight=0.0)
    train_denoiser(latents, latents[::-1], tmp_path, recipe)
    build_autoencoder(scaling_factor=2.0).save_pretrained(str(tmp_path / "vae"))
    unet, text_encoder, tokenizer = load_denoiser(tmp_path, recipe)
    folder = tmp_path / "weights"
    vae = train.Run(tmp_path, recipe, train.Device(), tmp_path).vae()
    networks.save_pipeline(folder, vae, tokenizer, text_encoder, unet)
    (folder / "drag_config.json").write_text(json.dumps(DEFAULT_CONFIG))
    model = dragnoise.load_model(folder)
    assert model.native == 128 and model.factor == 4
    assert model.default_config.lr == DEFAULT_CONFIG["lr"]
    half = unet.conv_in.weight.half().float()
    torch.testing.assert_close(model.pipeline.unet.conv_in.weight, half, atol=0, rtol=0)


def test_the_one_command_runs_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "ENCODED_AT_ONCE", 4)
    switches = ["pictures=10", "held_out=2", "crop=32", "autoencoder_steps=1", "autoencoder_batch=2"]
    switches += ["denoiser_steps=1", "denoiser_batch=2"]
    command = ["--run", str(tmp_path), "--variant", "further", "--set", *switches]
    train.main(["pictures", "autoencoder", "latents", "denoiser", *command])
    latents = np.load(tmp_path / "latents.npy")
    assert latents.shape == (10, 4, 32, 32)
    whole = autoencoder.encode_all(
        train.Run(tmp_path, Recipe(), train.Device(), tmp_path).vae(), pictures(tmp_path, 10)
    )
    np.testing.assert_allclose(latents, whole, atol=0.01)
    assert not list(tmp_path.glob("*.0.npy")) and (tmp_path / "denoiser.pt").exists()
    with pytest.raises(SystemExit):
        train.main(["pictures", *command, "small_weight=0"])
