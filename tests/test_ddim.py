"""Inversion and denoising against diffusers' own scheduler and against the formula written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from helpers import assert_one_sentence, smooth_picture
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model, ddim

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).tolist()
"""Stable Diffusion's cumulative alphas, from their definition."""

STEPS, FROM = 10, 7
TAU = [1 + 100 * k for k in range(STEPS)]
"""The timesteps of ten steps: every hundredth, with Stable Diffusion's offset of one."""


def latent(seed: int = 0) -> Tensor:
    return torch.randn(1, 4, 9, 13, generator=torch.Generator().manual_seed(seed))


def predict(pipeline: StableDiffusionPipeline, z: Tensor, t: int, text: Tensor) -> Tensor:
    with torch.no_grad():
        return pipeline.unet(z, t, encoder_hidden_states=text).sample


def noise_of(pipeline: StableDiffusionPipeline, z: Tensor, t: int, alpha: float, text: Tensor) -> Tensor:
    prediction = predict(pipeline, z, t, text)
    if pipeline.scheduler.config.prediction_type == "v_prediction":
        return math.sqrt(alpha) * prediction + math.sqrt(1 - alpha) * z
    return prediction


def stepped(z: Tensor, noise: Tensor, a: float, b: float) -> Tensor:
    clean = (z - math.sqrt(1 - a) * noise) / math.sqrt(a)
    return math.sqrt(b) * clean + math.sqrt(1 - b) * noise


# --------------------------------------------------------------------------------------- the schedule


def test_the_schedule_is_stable_diffusions(model: Model) -> None:
    schedule = ddim.Schedule(model, STEPS)
    assert [schedule.timestep(k) for k in range(STEPS + 1)] == [0, *TAU]
    expected = [ALPHAS[0], *(ALPHAS[t] for t in TAU)]
    assert [schedule.alpha(k) for k in range(STEPS + 1)] == pytest.approx(expected, rel=1e-5)


def test_the_papers_timestep_is_35_of_50(small: Model) -> None:
    schedule = ddim.Schedule(small, 50)
    assert [schedule.timestep(k) for k in (1, 2, 10, 35, 50)] == [1, 21, 181, 681, 981]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_step_is_the_schedulers(small: Model, kind: str) -> None:
    """For every way of predicting, the clean latent's own alpha included."""
    scheduler = DDIMScheduler.from_config(small.scheduler.config, prediction_type=kind)
    scheduler.set_timesteps(STEPS)
    schedule = ddim.Schedule(small, STEPS)
    z, prediction = latent(1).double(), latent(2).double()
    for k in (1, 2, STEPS):
        noise = ddim.as_noise(prediction, z, schedule.alpha(k), kind)
        ours = ddim.move(z, noise, schedule.alpha(k), schedule.alpha(k - 1))
        theirs = scheduler.step(prediction, schedule.timestep(k), z).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@given(st.floats(0.001, 0.9999), st.floats(0.001, 0.9999))
def test_a_step_there_and_back_with_the_same_noise(a: float, b: float) -> None:
    z, noise = latent(1).double(), latent(2).double()
    moved = ddim.move(z, noise, a, b)
    torch.testing.assert_close(moved, stepped(z, noise, a, b))
    torch.testing.assert_close(ddim.move(moved, noise, b, a), z)


# ------------------------------------------------------------------------------ inversion, denoising


@pytest.mark.parametrize("at", ["source", "target"])
def test_inversion_is_the_formula(pipeline: StableDiffusionPipeline, at: str) -> None:
    model = Model(pipeline)
    text = model.embed("a dog at dusk")
    states = list(ddim.invert(model, latent(), text, ddim.Schedule(model, STEPS), FROM, at=at))
    assert [(state.step, state.timestep) for state in states] == [(k + 1, TAU[k]) for k in range(FROM)]

    z, mids = latent(), []
    hook = pipeline.unet.mid_block.register_forward_hook(lambda *args: mids.append(args[-1]))
    t, alpha = 0, ALPHAS[0]
    for state in states:
        to = ALPHAS[state.timestep]
        asked = (t, alpha) if at == "source" else (state.timestep, to)
        z = stepped(z, noise_of(pipeline, z, *asked, text), alpha, to)
        t, alpha = state.timestep, to
        torch.testing.assert_close(state.latents, z, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(state.bottleneck, mids[-1], rtol=1e-3, atol=1e-3)
    hook.remove()


def test_denoising_is_the_schedulers(pipeline: StableDiffusionPipeline) -> None:
    model = Model(pipeline)
    text = model.embed("a cat")
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    states = list(ddim.denoise(model, latent(), text, ddim.Schedule(model, STEPS), FROM))
    assert [state.step for state in states] == [6, 5, 4, 3, 2, 1, 0]
    assert [state.timestep for state in states] == [501, 401, 301, 201, 101, 1, 0]
    z = latent()
    for t, state in zip(scheduler.timesteps[STEPS - FROM :], states, strict=True):
        z = scheduler.step(predict(pipeline, z, int(t), text), t, z).prev_sample
        torch.testing.assert_close(state.latents, z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("propagation", ["replace", "delta"])
@pytest.mark.parametrize("refine_from", [0, 3, FROM])
def test_propagation_down_to_the_refinement(sd21: StableDiffusionPipeline, refine_from: int, propagation: str) -> None:
    """A hook on diffusers' own mid block puts the edited bottleneck in at every step above `refine_from`."""
    model = Model(sd21)
    text, schedule = model.embed(""), ddim.Schedule(model, STEPS)
    with torch.no_grad():
        original = model.encode(latent(), schedule.timestep(FROM), text).bottleneck
    edited = original + 20 * torch.randn(original.shape, generator=torch.Generator().manual_seed(5))

    def states(refine_from: int) -> list[ddim.DDIMState]:
        return list(
            ddim.denoise(
                model, latent(), text, schedule, FROM,
                edited=edited, original=original, refine_from=refine_from, propagation=propagation,
            )
        )  # fmt: skip

    z, ours = latent(), states(refine_from)

    def put_in(module: Any, args: Any, own: Tensor) -> Tensor:
        return edited if propagation == "replace" else own + edited - original

    for step, state in zip(range(FROM, 0, -1), ours, strict=True):
        hook = sd21.unet.mid_block.register_forward_hook(put_in if step > refine_from else lambda *_: None)
        alpha, to = ALPHAS[TAU[step - 1]], ALPHAS[TAU[step - 2]] if step > 1 else ALPHAS[0]
        z = stepped(z, noise_of(sd21, z, TAU[step - 1], alpha, text), alpha, to)
        hook.remove()
        torch.testing.assert_close(state.latents, z, rtol=1e-4, atol=1e-4)
    for other in {max(refine_from - 1, 0), min(refine_from + 1, FROM)} - {refine_from}:
        assert (ours[-1].latents - states(other)[-1].latents).abs().max() > 0.01  # one step more or less is seen


def test_delta_of_nothing_changes_nothing_and_needs_the_original(small: Model) -> None:
    text, schedule = small.embed(""), ddim.Schedule(small, STEPS)
    with torch.no_grad():
        own = small.encode(latent(), schedule.timestep(FROM), text).bottleneck

    def end(**how: Any) -> Tensor:
        return list(ddim.denoise(small, latent(), text, schedule, FROM, **how))[-1].latents

    assert torch.equal(end(edited=own, original=own, propagation="delta"), end())
    with pytest.raises(ValueError, match="unedited bottleneck"):
        end(edited=own, propagation="delta")


# ------------------------------------------------------------------------------- in a session


CONFIG = DragConfig(steps=STEPS, edit_from=4, refine_from=1, max_iterations=3, lr=0.1)


def new_session(model: Model, **changes: Any) -> DragSession:
    session = DragSession(model, smooth_picture(75, 91), "a fox", CONFIG.replace(**changes))
    session.drags = [((20, 20), (70, 80))]
    return session


def test_a_session_inverts_its_picture(model: Model) -> None:
    session = new_session(model)
    z0 = model.encode_picture(session.image, session.frame.working)
    assert torch.equal(session.latents, z0)
    states = list(session.invert())
    assert session.inverted
    expected = list(ddim.invert(model, z0, model.embed("a fox"), ddim.Schedule(model, STEPS), 4, at="source"))
    assert len(session.trajectory) == 5
    for state, other, kept in zip(states, expected, session.trajectory[1:], strict=True):
        assert torch.equal(state.latents, other.latents) and torch.equal(kept, other.latents)
    assert torch.equal(session.latents, expected[-1].latents)
    assert session.latents.dtype == torch.float32 and session.latents.std() > 0.1


def test_render_inverts_when_that_is_missing(small: Model) -> None:
    session, other = new_session(small), new_session(small)
    assert session.render() == session.reconstruct() == other.reconstruct()
    assert session.inverted and session.render().size == (75, 91)


def test_latent_noise_is_seeded_and_of_its_size(small: Model) -> None:
    plain = new_session(small).latents
    noisy = [new_session(small, latent_noise=0.5, seed=seed).latents for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert (noisy[0] - plain).std().item() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("where", ["forward", "gradient"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_not_finite_stops_at_the_last_good_snapshot(small: Model, bad: float, where: str) -> None:
    """Two good iterations, then the decoder breaks, on its way up or on its way down, then it is mended."""
    session, undisturbed = new_session(small, max_iterations=4), new_session(small, max_iterations=4)
    session.step(), session.step()
    good, before = session.history[-1], session.render()
    session.config = session.config.replace(mask_weight=0.2)  # the forward made ahead is made again
    block = small.unet.unet.up_blocks[0]
    if where == "forward":
        hook = block.register_forward_hook(lambda module, args, out: out * bad)
    else:
        hook = block.register_full_backward_hook(lambda module, into, out: (into[0] * bad, *into[1:]))
    try:
        with pytest.raises(FloatingPointError) as caught:
            list(session.optimize())
    finally:
        hook.remove()
    assert_one_sentence(
        caught.value, f"the {'supervision feature' if where == 'forward' else 'gradient'} of iteration 3"
    )
    assert len(session.history) == 3 and session.history[-1] is good
    assert torch.equal(session.bottleneck, good.bottleneck)
    assert session.render() == before
    session.config = session.config.replace(mask_weight=0.1)
    assert torch.equal(list(session.optimize())[-1].bottleneck, list(undisturbed.optimize())[-1].bottleneck)


def test_a_number_that_is_not_finite_stops_the_inversion(small: Model) -> None:
    session = new_session(small)
    hook = small.unet.unet.conv_out.register_forward_hook(lambda module, args, out: out * math.nan)
    try:
        with pytest.raises(FloatingPointError) as caught:
            list(session.invert())
    finally:
        hook.remove()
    assert_one_sentence(caught.value, "inversion step 1")
    assert not session.inverted and not session.history
    assert session.step().iteration == 1
