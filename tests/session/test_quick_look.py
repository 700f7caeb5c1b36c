"""Quick looks: the prediction in one step by hand, results unchanged to the bit, decoders, skipping, the store."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_one_sentence, assert_same_snapshots, quick_session, smooth_picture
from PIL import Image

from dragnoise import DragConfig, DragSession, Model
from dragnoise.config import EDITORS, FIELDS
from dragnoise.sampling import ddim, previews
from dragnoise.session.quick_look import QuickLooks

KINDS: dict[str, dict[str, Any]] = {name: {"editor": name} for name in EDITORS} | {
    "alternating": {"schedule": "alternate", "drag_steps": 3, "step_iterations": 1},
    "released": {"convention": "released", "tolerance": 2.0, "resize": "never"},
}


def edit(model: Model, kind: str, **given: Any) -> DragSession:
    changes: dict[str, Any] = {"steps": 6, "edit_from": 4, "max_iterations": 3, "lr": 0.05} | KINDS[kind]
    if changes.get("editor", "dragnoise") in FIELDS["refine_from"].editors:
        changes["refine_from"] = 1
    config = DragConfig.preset(changes.pop("editor", "dragnoise"), **changes)
    session = DragSession(model, smooth_picture(72, 56), "a fox", config, **given)
    session.drags = [((20, 20), (40, 30)), ((60, 12.5), (40, 12.5))]
    mask = np.zeros((56, 72), bool)
    mask[3:50, :65] = True
    session.mask = mask
    return session


def whole_prediction(session: DragSession) -> torch.Tensor:
    """The clean latent from diffusers' own U-Net and DDIM's formula for x0, for edits whose variable is the latent."""
    model, state = session.model, session.history[-1].state
    z = state.tensors["latent"]
    scheduler = model.scheduler
    scheduler.set_timesteps(session.config.steps)
    t = scheduler.timesteps.tolist()[::-1][state.step - 1]
    with torch.no_grad():
        out = model.unet.unet(z, t, model.embed(session.prompt)).sample
    alpha = scheduler.alphas_cumprod[t].double()
    if model.prediction == "v_prediction":
        return (alpha.sqrt() * z - (1 - alpha).sqrt() * out).float()
    return ((z - (1 - alpha).sqrt() * out) / alpha.sqrt()).float()


def test_the_clean_latent_is_the_one_that_diffusers_unet_and_ddims_formula_give(model: Model) -> None:
    session = edit(model, "dragdiffusion")
    for _ in range(2):
        session.step()
        torch.testing.assert_close(session.predicted(), whole_prediction(session), rtol=1e-4, atol=1e-4)
    z, step, schedule = session.history[-1].latent, session.config.edit_from, ddim.Schedule(model, session.config.steps)
    made = ddim.predicted(model, z, model.embed(session.prompt), schedule, step)
    torch.testing.assert_close(made, session.predicted(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_looking_changes_no_bit_of_losses_states_and_picture(small: Model, kind: str) -> None:
    looked, plain = edit(small, kind), edit(small, kind)
    looks = QuickLooks(small, share=math.inf)
    seen = [looks.look(looked) for _ in looked.optimize()]
    list(plain.optimize())
    assert_same_snapshots(looked.history, plain.history)
    assert np.array_equal(np.asarray(looked.render()), np.asarray(plain.render()))
    assert len(seen) == len(plain.history) - 1 and all(look is not None for look in seen)
    assert all(look.dtype == np.uint8 and look.shape == (*small_size(looked), 3) for look in seen)
    assert not np.array_equal(seen[0], seen[-1])


def small_size(session: DragSession) -> tuple[int, int]:
    return session.frame.working[::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_prediction_does_not_depend_on_the_forward_that_is_at_hand(small: Model, kind: str) -> None:
    session = edit(small, kind)
    session.step()
    at_hand = session.predicted()
    session.engine.clear()
    torch.testing.assert_close(session.predicted(), at_hand, rtol=1e-5, atol=1e-5)


def test_the_forward_of_an_iteration_is_run_on_and_not_run_again(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    session = edit(small, "dragdiffusion")
    session.step()
    monkeypatch.setattr(small.unet.unet.mid_block, "forward", None)  # whoever runs the encoder calls it
    assert session.predicted() is not None


def test_before_any_iteration_there_is_no_look(small: Model) -> None:
    session, looks = quick_session(small), QuickLooks(small)
    assert session.predicted() is None and looks.look(session) is None


def test_a_session_of_another_model_is_refused(small: Model, sd15: Any) -> None:
    looks, session = QuickLooks(Model(sd15)), quick_session(small, 1)
    with pytest.raises(ValueError) as caught:
        looks.look(session)
    assert_one_sentence(caught.value, "QuickLooks(session.model)")


def test_looks_are_kept_by_iteration_in_branches_too_and_the_oldest_let_go(small: Model) -> None:
    session = quick_session(small)
    one = 64 * 64 * 3  # at most
    looks = QuickLooks(small, share=math.inf, limit=3 * one)
    for _ in range(5):
        session.step()
        looks.look(session)
    assert looks.nbytes <= 3 * one
    kept = [looks.of(snapshot) is not None for snapshot in session.history]
    assert kept[-1] and not kept[1] and kept == sorted(kept)
    branch = session.branch(4)
    assert looks.look(branch) is looks.of(session.history[4]) is looks.of(session.history[4].thin())
    looks.clear()
    assert looks.nbytes == 0 and looks.of(session.history[-1]) is None


def test_looks_that_would_take_more_than_their_share_are_skipped(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr("dragnoise.session.quick_look.time.perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr("dragnoise.session.iterations.time.perf_counter", lambda: float(next(ticks)))
    session = quick_session(small)  # every iteration takes 1 tick, and so does every look
    looks = QuickLooks(small, share=0.5, preview_vae=small.vae)
    made = []
    for _ in range(6):
        session.step()
        made.append(looks.look(session) is not None)
    assert made == [True, True, False, True, False, True], made


def test_when_memory_runs_out_looks_end_and_the_run_does_not(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(z: torch.Tensor) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    session, looks = quick_session(small, 1), QuickLooks(small)
    monkeypatch.setattr(small, "decode_latents", full)
    assert looks.look(session) is None
    monkeypatch.undo()
    session.step()
    assert looks.look(session) is None and len(session.history) == 3


def test_a_small_vae_is_read_from_a_folder_and_used(small: Model, tmp_path: Path) -> None:
    small.vae.save_pretrained(tmp_path / "tiny")
    session = quick_session(small, 1)
    looks = QuickLooks(small, preview_vae=tmp_path / "tiny")
    pixels = small.decode_latents(session.predicted())
    expected = ((pixels[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    assert np.array_equal(looks.look(session), expected)


def test_a_small_vae_of_other_latents_is_refused(small: Model) -> None:
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny(latent_channels=16, encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    with pytest.raises(ValueError) as caught:
        QuickLooks(small, preview_vae=vae)
    assert_one_sentence(caught.value, "16", "4")


def test_a_vae_that_is_fast_enough_decodes_every_look(small: Model) -> None:
    session = quick_session(small, 1)
    looks = QuickLooks(small, share=math.inf)
    pixels = small.decode_latents(session.predicted())
    expected = ((pixels[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    assert np.array_equal(looks.look(session), expected)


def test_where_decoding_is_dear_the_vae_is_not_asked(sd15: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(sd15)
    session = edit(model, "dragnoise")
    session.step()
    monkeypatch.setattr(model.vae, "decode", None)
    look = QuickLooks(model).look(session)
    assert look is not None and look.shape == (*small_size(session), 3)


def test_long_looks_are_made_smaller_and_padding_is_cut_off(small: Model) -> None:
    session = edit(small, "dragnoise")
    session.config = session.config.replace(resize="never")
    session.step()
    assert QuickLooks(small, share=math.inf).look(session).shape == (56, 72, 3)
    session.config = session.config.replace(resize="longer", side=128)
    session.step()
    assert QuickLooks(small, share=math.inf, side=32).look(session).shape == (25, 32, 3)


# ------------------------------------------------------------------------------------ the fit


def test_the_ridge_regression_is_numpys_least_squares_of_the_penalised_system() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)) * [1, 10, 0.1, 3, 0] + [0, 1, 2, 3, 4]
    y = rng.normal(size=(60, 2))
    weights, offset = previews.ridge(torch.tensor(x), torch.tensor(y), 0.3)
    centred = x - x.mean(0)
    penalty = np.diag(np.sqrt(0.3 * 60) * centred.std(0))[:4]
    system = np.vstack([centred, penalty])
    expected, *_ = np.linalg.lstsq(system, np.vstack([y - y.mean(0), np.zeros((4, 2))]), rcond=None)
    np.testing.assert_allclose(weights.numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(offset.numpy(), y.mean(0) - x.mean(0) @ expected, atol=1e-9)


def test_a_linear_decoder_is_found_again() -> None:
    rng = torch.Generator().manual_seed(1)
    true = torch.randn(3 * 4, 4, 3, 3, generator=rng) / 6
    first, second = (torch.randn(1, 4, 24, 20, generator=rng) for _ in range(2))

    def decoded(z: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(F.conv2d(F.pad(z, (1,) * 4, mode="replicate"), true) + 0.2, 2)

    made = previews.linear_map(first, decoded(first))(second)
    error = (made - decoded(second)).square().mean() / decoded(second).var()
    assert made.shape == (1, 3, 48, 40) and error < 2e-3
    assert previews.linear_map(first, decoded(first)[..., :46, :39])(second).shape == (1, 3, 48, 40)


def test_between_key_pictures_the_change_of_the_latent_goes_through_the_linear_map(
    small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, looks, decoded = quick_session(small, 1), QuickLooks(small), []
    decode = small.decode_latents
    monkeypatch.setattr(small, "decode_latents", lambda z: decoded.append(z) or decode(z))
    looks.look(session)
    key = session.predicted()
    looks._codings = [dataclasses.replace(looks._codings[0], seconds=math.inf)]  # no time for another one
    session.step()
    look, z = looks.look(session), session.predicted()
    pixels = np.asarray(session.image.resize(session.frame.padded, Image.Resampling.LANCZOS), np.float32)
    given = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]
    linear = previews.linear_map(session.trajectory[0], given)
    expected = decode(key) + linear(z) - linear(key)
    levels = ((expected[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255)
    assert len(decoded) == 1 and look is not None
    np.testing.assert_allclose(look, levels.numpy(), atol=0.6)
