"""Inversion and denoising against diffusers' own scheduler and against the formula written out."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionPipeline
from helpers import assert_one_sentence, smooth_picture
from properties import given, st
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model
from dragnoise.sampling import ddim

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


KINDS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")


def scheduled(model: Model, **config: Any) -> Model:
    """The model with another noise schedule."""
    other = copy.copy(model)
    other.scheduler = DDIMScheduler.from_config(model.scheduler.config, clip_sample=False, **config)
    other.prediction = other.scheduler.config.prediction_type
    return other


def is_reached(kind: str, alpha: float) -> bool:
    """Does this kind of prediction say what picture and what noise are in a latent of this level?"""
    return not (kind == "epsilon" and alpha == 0) and not (kind == "sample" and alpha == 1)


@pytest.mark.parametrize("final_one", [False, True])
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_schedulers(small: Model, kind: str, spacing: str, zero_snr: bool, final_one: bool) -> None:
    """Both ways, at every step, between the levels that diffusers' schedulers go between."""
    config = {"prediction_type": kind, "timestep_spacing": spacing, "rescale_betas_zero_snr": zero_snr}
    config |= {"set_alpha_to_one": final_one}
    scheduler = DDIMScheduler.from_config(small.scheduler.config, clip_sample=False, **config)
    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    scheduler.set_timesteps(STEPS)
    inverse.num_inference_steps = STEPS  # it has no timesteps for "linspace"; its step needs none
    z, prediction = latent(1).double(), latent(2).double()
    checked = 0
    for t in scheduler.timesteps.tolist():
        below = t - 1000 // STEPS
        upper = float(scheduler.alphas_cumprod[t])
        lower = float(scheduler.alphas_cumprod[below] if below >= 0 else scheduler.final_alpha_cumprod)
        for their, start, end in ((scheduler, upper, lower), (inverse, lower, upper)):
            if is_reached(kind, start):
                ours = ddim.noised(*ddim.clean_and_noise(prediction, z, start, kind), end)
                torch.testing.assert_close(ours, their.step(prediction, t, z).prev_sample, rtol=1e-5, atol=1e-5)
                assert ours.isfinite().all()
                checked += 1
    assert checked >= 2 * STEPS - 2


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 10), ("trailing", 10), ("trailing", 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_is_the_schedulers_where_its_stride_is_whole(
    small: Model, kind: str, spacing: str, steps: int, zero_snr: bool
) -> None:
    if (kind, spacing, zero_snr) == ("epsilon", "trailing", True):
        return  # refused, see below
    model = scheduled(small, prediction_type=kind, timestep_spacing=spacing, rescale_betas_zero_snr=zero_snr)
    inverse = DDIMInverseScheduler.from_config(model.scheduler.config)
    for their in (model.scheduler, inverse):
        their.set_timesteps(steps)
    schedule = ddim.Schedule(model, steps)
    z = up = latent(1).double()
    for k in range(steps, 0, -1):
        prediction = latent(2 + k).double()
        theirs = model.scheduler.step(prediction, schedule.timestep(k), z).prev_sample
        z = schedule.down(prediction, z, k)
        torch.testing.assert_close(z, theirs, rtol=1e-5, atol=1e-5)
    for k, t in enumerate(inverse.timesteps.tolist(), 1):
        prediction = latent(50 + k).double()
        for asked in (k - 1, k) if kind == "epsilon" else (k - 1,):
            ours = schedule.up(prediction, up, k, asked=asked)
            torch.testing.assert_close(ours, inverse.step(prediction, t, up).prev_sample, rtol=1e-5, atol=1e-5)
        up = ours


@given(st.sampled_from(KINDS), st.floats(0, 1), st.floats(0, 1))
def test_picture_and_noise_make_up_the_latent_at_every_level(kind: str, alpha: float, asked: float) -> None:
    """To its ends, where the signal or the noise is zero: what a U-Net that knows both predicts gives both back."""
    z0, noise = latent(1).double(), latent(2).double()
    z = ddim.noised(z0, noise, alpha)
    known = {"epsilon": noise, "sample": z0, "v_prediction": alpha**0.5 * noise - (1 - alpha) ** 0.5 * z0}[kind]
    if (kind == "epsilon" and alpha < 1e-9) or (kind == "sample" and asked > 1 - 1e-9):
        return  # refused by the schedule
    if alpha > 1e-6:
        torch.testing.assert_close(
            ddim.noised(*ddim.clean_and_noise(known, z, alpha, kind, alpha_asked=asked), alpha), z, rtol=1e-4, atol=1e-4
        )
    if kind == "sample" and alpha > 1 - 1e-9:
        return
    found = ddim.clean_and_noise(known, z, alpha, kind)
    torch.testing.assert_close(ddim.noised(*found, alpha), z)
    if is_reached(kind, alpha) and 1 - alpha > 1e-9:
        for one, other in zip(found, (z0, noise), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("at", ["source", "target"])
@pytest.mark.parametrize("final_one", [False, True])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_from_the_picture_to_pure_noise_and_back(
    small: Model, kind: str, spacing: str, final_one: bool, at: str
) -> None:
    """The whole schedule of a model with zero terminal SNR; with the same predictions it comes back to the picture."""
    model = scheduled(
        small, prediction_type=kind, timestep_spacing=spacing, rescale_betas_zero_snr=True, set_alpha_to_one=final_one
    )
    schedule, text, z0 = ddim.Schedule(model, 4), model.embed("a fox"), latent()
    assert (schedule.alpha(4) == 0) == (spacing != "leading") and (schedule.alpha(0) == 1) == final_one
    states = list(ddim.invert(model, z0, text, schedule, 4, at=at))
    down = list(ddim.denoise(model, states[-1].latents, text, schedule, 4))
    assert all(state.latents.isfinite().all() and state.latents.std() > 0.05 for state in (*states, *down))
    up = [z0]
    for k in range(1, 5):
        up.append(schedule.up(latent(k), up[-1], k))
    for k in range(4, 0, -1):
        if kind == "sample" and schedule.alpha(k - 1) == 1:
            continue  # there the level asked at counts
        clean, noise = ddim.clean_and_noise(latent(k), up[k - 1], schedule.alpha(k - 1), kind)
        alpha = schedule.alpha(k)
        same = {"sample": clean, "v_prediction": alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean}[kind]
        torch.testing.assert_close(schedule.down(same, up[k], k), up[k - 1], rtol=1e-3, atol=1e-3)


def test_noise_predicted_where_nothing_but_noise_is_left_is_refused(small: Model) -> None:
    model = scheduled(small, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(ValueError) as caught:
        DragSession(model, smooth_picture(64, 64))
    assert_one_sentence(caught.value, "timestep 999", 'prediction="v_prediction"')
    ddim.Schedule(scheduled(small, rescale_betas_zero_snr=True), 50)  # "leading" never gets there


def test_a_picture_predicted_where_there_is_no_noise_is_refused(small: Model) -> None:
    betas = [0.0, *[0.01] * 999]
    model = scheduled(small, prediction_type="sample", trained_betas=betas, timestep_spacing="linspace")
    with pytest.raises(ValueError) as caught:
        ddim.Schedule(model, 10)
    assert_one_sentence(caught.value, "without any noise")


@pytest.mark.parametrize(
    ("spacing", "offset"), [("leading", 0), ("leading", 1), ("leading", 5), ("trailing", 0), ("linspace", 0)]
)
def test_every_number_of_steps_has_its_timesteps_or_a_sentence(small: Model, spacing: str, offset: int) -> None:
    model = scheduled(small, timestep_spacing=spacing, steps_offset=offset)
    refused = []
    for steps in range(2, 1001):
        try:
            timesteps = ddim.Schedule(model, steps).timesteps
        except ValueError as error:
            refused.append((steps, error))
            continue
        assert len(timesteps) == steps and timesteps[0] >= 0 and timesteps[-1] <= 999
        assert all(one < other for one, other in itertools.pairwise(timesteps))
    too_late = [n for n in range(2, 1001) if (n - 1) * (1000 // n) + offset > 999] if spacing == "leading" else []
    assert [steps for steps, _ in refused] == too_late
    assert offset == 5 or len(too_late) == offset * (spacing == "leading")
    for steps, error in refused:
        fewer = max(n for n in range(2, steps) if n not in too_late)
        assert_one_sentence(error, f"steps={steps} ", f"steps={fewer},")


def test_more_steps_than_timesteps_are_refused(small: Model) -> None:
    model = scheduled(small, num_train_timesteps=40)
    with pytest.raises(ValueError) as caught:
        ddim.Schedule(model, 50)
    assert_one_sentence(caught.value, "steps=50", "at most 40")


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
    z0 = model.encode_picture(session.image, session.state.frame.working)
    assert torch.equal(session.latents, z0)
    states = list(session.invert())
    assert session.state.inverted
    expected = list(ddim.invert(model, z0, model.embed("a fox"), ddim.Schedule(model, STEPS), 4, at="source"))
    assert len(session.trajectory) == 5
    for state, other, kept in zip(states, expected, session.trajectory[1:], strict=True):
        assert torch.equal(state.latents, other.latents) and torch.equal(kept, other.latents)
    assert torch.equal(session.latents, expected[-1].latents)
    assert session.latents.dtype == torch.float32 and session.latents.std() > 0.1


def test_render_inverts_when_that_is_missing(small: Model) -> None:
    session, other = new_session(small), new_session(small)
    assert session.render() == session.reconstruct() == other.reconstruct()
    assert session.state.inverted and session.render().size == (75, 91)


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
    assert not session.state.inverted and not session.history
    assert session.step().iteration == 1
