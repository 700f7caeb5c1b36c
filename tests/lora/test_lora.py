"""LoRAs: what they do to the weights, how they are fitted, and to whom they belong."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from pipelines import build_sd15, build_three_block
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dragnoise import DragConfig, DragSession, Lora, LoraStep, Model
from dragnoise.lora import Adapter, LoraSettings, fuse
from dragnoise.lora.adapters import TARGETS
from dragnoise.lora.files import pack, unpack
from dragnoise.lora.fitting import checkpoints
from dragnoise.lora.settings import Subject
from dragnoise.lora.training import Trainee, draw
from dragnoise.models.text import Conditioning
from tests.helpers import assert_one_sentence, smooth_picture

QUICK = DragConfig(steps=4, edit_from=3, refine_from=1, lr=0.05)
FIT: dict[str, Any] = {"rank": 2, "lr": 1e-2, "batch_size": 2}


def make_session(model: Model, prompt: str = "a red hat", seed: int = 0, **config: Any) -> DragSession:
    session = DragSession(model, smooth_picture(64, 48, seed), prompt, QUICK.replace(**config))
    session.drags = [((20, 20), (30, 24))]
    return session


def random_lora(model: Model, rank: int = 3, scale: float = 0.5, **kwargs: Any) -> Lora:
    """Of every attention layer, large enough to be seen."""
    rng = torch.Generator().manual_seed(rank)
    adapters = {}
    for name, layer in model.pipeline.unet.named_modules():
        if name.endswith(TARGETS):
            down = torch.randn(rank, layer.in_features, generator=rng) / layer.in_features**0.5
            adapters[name] = Adapter(down, torch.randn(layer.out_features, rank, generator=rng) * 0.3, scale)
    return Lora(adapters, **kwargs)


def predict(model: Model) -> Tensor:
    """What a model makes of some latent."""
    z = torch.randn(1, 4, 12, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        encoded = model.encode(z, 321, model.embed("a red hat"))
        return model.predict(encoded.bottleneck, encoded)


def bits(model: Model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.pipeline.unet.state_dict().items()}


def assert_same_bits(one: Lora, other: Lora) -> None:
    (mine, numbers), (its, others) = pack(one), pack(other)
    assert numbers == others and mine.keys() == its.keys()
    for name in mine:
        assert torch.equal(mine[name], its[name]), name


def assert_same_history(one: DragSession, other: DragSession) -> None:
    assert len(one.history) == len(other.history) > 1
    for mine, its in zip(one.history, other.history, strict=True):
        assert torch.equal(mine.bottleneck, its.bottleneck) and np.array_equal(mine.anchors, its.anchors)


def take(session: DragSession, count: int) -> None:
    for _ in range(count):
        session.step()


def fit(session: DragSession, steps: int, **settings: Any) -> Lora:
    assert [s.step for s in session.fit_lora(steps, **(FIT | settings))][-1:] == [steps]
    assert session.lora is not None
    return session.lora


# ---- the change of the weights


@pytest.mark.parametrize("weight", [0.3, 1.0, -2.0, 1.5])
def test_fused_weights_are_w_plus_weight_times_scale_times_b_a(model: Model, weight: float) -> None:
    lora = random_lora(model, weight=weight)
    before = model.pipeline.unet.state_dict(keep_vars=True)
    fused = fuse(model, lora).unet.unet.state_dict(keep_vars=True)
    assert len(lora.adapters) == sum(name.endswith(tuple(f"{t}.weight" for t in TARGETS)) for name in before) > 0
    for name, tensor in before.items():
        adapter = lora.adapters.get(name.removesuffix(".weight"))
        if adapter is None:
            assert fused[name] is tensor
            continue
        expected = tensor.double() + weight * 0.5 * adapter.up.double() @ adapter.down.double()
        torch.testing.assert_close(fused[name].double(), expected, rtol=1e-6, atol=1e-6)
        assert (fused[name] - tensor).abs().max() > 0.01 and not fused[name].requires_grad


def test_fused_model_predicts_what_peft_predicts(model: Model) -> None:
    lora = random_lora(model, rank=2, scale=1.0)
    unet = copy.deepcopy(model.pipeline.unet)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=2, target_modules=list(TARGETS)), unet)
    for name, adapter in lora.adapters.items():
        layer = unet.get_submodule(name)
        layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = adapter.down, adapter.up
    theirs, ours = predict(model.with_unet(unet)), predict(fuse(model, lora))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (ours - predict(model)).abs().max() > 0.05


def test_fused_model_costs_what_the_bare_one_costs(model: Model) -> None:
    fused = fuse(model, random_lora(model))
    counts = []
    for one in (model, fused):
        with FlopCounterMode(display=False) as counter:
            predict(one)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    kinds = [[type(layer) for layer in one.unet.unet.modules()] for one in (model, fused)]
    assert kinds[0] == kinds[1]
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in fused.unet.unet.modules())


def test_convolutions_can_be_changed_too(small: Model) -> None:
    rng = torch.Generator().manual_seed(0)
    conv = small.pipeline.unet.conv_in
    down, up = torch.randn(2, 4, 3, 3, generator=rng), torch.randn(conv.out_channels, 2, 1, 1, generator=rng)
    fused = fuse(small, Lora({"conv_in": Adapter(down, up, 0.5)})).unet.unet.conv_in
    x = torch.randn(1, 4, 8, 8, generator=rng)
    expected = conv(x) + 0.5 * F.conv2d(F.conv2d(x, down, padding=1), up)
    torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-4)


def test_norms_are_those_of_the_whole_change(small: Model) -> None:
    lora = random_lora(small, scale=-0.5)
    for name, norm in lora.norms.items():
        adapter = lora.adapters[name]
        assert norm == pytest.approx(float((-0.5 * adapter.up @ adapter.down).norm()), rel=1e-5)
    assert lora.rank == 3 and lora.steps == 0 and repr(lora).startswith("Lora(rank 3, 0 steps, weight 1, ")


def test_moves_to_a_device_as_a_whole(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = fit(make_session(small), 1).at(0.5)
    assert_same_bits(lora.to("cpu"), lora)
    with pytest.raises(ValueError) as caught:
        lora.to("gpu")
    assert_one_sentence(caught.value, "device='gpu'")
    monkeypatch.setattr("dragnoise.lora.adapters.as_device", torch.device)  # "meta" is refused, as it loses the numbers
    away = lora.to("meta")
    tensors = [x for a in away.adapters.values() for x in (a.down, a.up)]
    assert away.training is not None
    tensors += [x for moments in away.training.moments.values() for x in moments]
    assert len(tensors) == 6 * len(lora.adapters) and all(x.is_meta for x in tensors)
    assert away.weight == 0.5 and away.losses == lora.losses


# ---- to whom it belongs


def test_lora_of_one_session_does_not_leak_into_another(model: Model) -> None:
    before, tensors = bits(model), list(model.pipeline.unet.parameters())
    alone = make_session(model)
    take(alone, 3)
    dressed, bare = make_session(model), make_session(model)
    dressed.lora = random_lora(model)
    for _ in range(3):  # in turns
        dressed.step()
        bare.step()
    assert_same_history(alone, bare)
    assert not torch.equal(dressed.bottleneck, bare.bottleneck)
    assert all(x is y for x, y in zip(tensors, model.pipeline.unet.parameters(), strict=True))
    for name, tensor in bits(model).items():
        assert torch.equal(tensor, before[name])


def test_taken_off_leaves_everything_as_it_was(small: Model) -> None:
    session, plain = make_session(small), make_session(small)
    session.lora = random_lora(small)
    take(session, 2)
    session.lora = None
    assert session.lora is None and not session.state.inverted and len(session.history) == 0
    for one in (session, plain):
        take(one, 2)
    assert_same_history(session, plain)
    np.testing.assert_array_equal(np.asarray(session.render()), np.asarray(plain.render()))


def test_weight_zero_is_off_and_others_are_between(small: Model) -> None:
    session, plain = make_session(small), make_session(small)
    session.lora = random_lora(small)
    full = np.asarray(session.reconstruct()).astype(float)
    session.lora_weight = 0
    take(session, 2)
    take(plain, 2)
    assert_same_history(session, plain)
    session.lora_weight = 0.5
    half, none = (np.asarray(x.reconstruct()).astype(float) for x in (session, plain))
    assert 0 < np.abs(half - none).mean() < np.abs(full - none).mean()


def test_a_change_needs_a_new_inversion(small: Model) -> None:
    session = make_session(small)
    lora = random_lora(small)

    def is_forgotten(change: Callable[[], None]) -> bool:
        take(session, 1)
        change()
        assert session.state.inverted == bool(session.history)
        return not session.state.inverted

    assert is_forgotten(lambda: setattr(session, "lora", lora))
    assert not is_forgotten(lambda: setattr(session, "lora", lora))
    assert is_forgotten(lambda: setattr(session, "lora_weight", 0.5))
    assert session.lora_weight == 0.5 and lora.weight == 1.0
    assert not is_forgotten(lambda: setattr(session, "lora_weight", 0.5))
    assert is_forgotten(lambda: setattr(session, "lora", None))
    assert session.lora_weight == 0


def test_inversion_that_a_lora_overtakes_says_so(small: Model) -> None:
    session = make_session(small)
    states = session.invert()
    next(states)
    session.lora = random_lora(small)
    with pytest.raises(RuntimeError) as caught:
        next(states)
    assert_one_sentence(caught.value, "session.invert()")


def test_rewind_and_branch_give_the_same_bits_with_a_lora(small: Model) -> None:
    session = make_session(small)
    session.lora = random_lora(small)
    take(session, 4)
    before, picture = list(session.history), np.asarray(session.render())
    branch = session.branch(1)
    assert branch.lora is session.lora
    session.rewind(2)
    take(session, 2)
    take(branch, 3)
    for old, mine, its in zip(before, session.history, branch.history, strict=True):
        assert torch.equal(old.bottleneck, mine.bottleneck) and torch.equal(old.bottleneck, its.bottleneck)
    np.testing.assert_array_equal(np.asarray(branch.render()), picture)
    branch.lora = None
    assert session.lora is not None and session.state.inverted


# ---- the fit


def independent_loss(model: Model, session: DragSession, unet: Any, step: int, **settings: Any) -> float:
    """A step's loss by diffusers' own scheduler and U-Net."""
    mean, deviation = model.posterior(session.image, session.state.frame.working)
    z, noise, t = draw(mean, deviation, LoraSettings(**(FIT | settings)), step, timesteps=1000)
    scheduler = DDIMScheduler.from_config(model.pipeline.scheduler.config)
    target = noise
    if scheduler.config.prediction_type == "v_prediction":
        target = scheduler.get_velocity(z, noise, t)
    text, more = model.embed(session.prompt), {}
    if isinstance(text, Conditioning):
        text = text.sized(*reversed(session.state.frame.working))
        assert text.sizes is not None
        added = {"text_embeds": text.pooled.repeat(len(z), 1), "time_ids": text.sizes.repeat(len(z), 1)}
        text, more = text.text, {"added_cond_kwargs": added}
    with torch.no_grad():
        predicted = unet(scheduler.add_noise(z, noise, t), t, text.repeat(len(z), 1, 1), **more).sample
    return float(((predicted - target) ** 2).mean())


def test_first_loss_is_the_models_own(model: Model) -> None:
    """Epsilon and v-prediction; at the first step the adapters do nothing yet."""
    session = make_session(model)
    (step,) = session.fit_lora(1, **FIT)
    assert step.loss == pytest.approx(independent_loss(model, session, model.pipeline.unet, 1), rel=1e-4)
    assert step.step == 1 and step.lr == FIT["lr"] and step.seconds > 0


def test_sdxl_is_fitted_with_its_added_conditions(sdxl: Any) -> None:
    model = Model(sdxl)
    session = make_session(model)
    first, _ = session.fit_lora(2, **FIT)
    assert first.loss == pytest.approx(independent_loss(model, session, sdxl.unet, 1), rel=1e-4)
    assert session.lora is not None and len(session.lora.adapters) > 100
    take(session, 1)


def test_later_losses_are_those_of_the_fused_model(model: Model) -> None:
    """What is trained is what `fuse` puts into the weights."""
    session = make_session(model)
    steps = session.fit_lora(3, **FIT)
    next(steps)
    lora, second = session.lora, next(steps)
    assert lora is not None and lora.steps == 1
    fused = fuse(model, lora).unet.unet
    assert second.loss == pytest.approx(independent_loss(model, session, fused, 2), rel=1e-4)
    assert second.loss != pytest.approx(independent_loss(model, session, model.pipeline.unet, 2), rel=1e-5)


def test_first_update_is_adamws(small: Model) -> None:
    """B is 0, so A gets no gradient and only decays, by lr times 0.01; B moves by lr against its gradient's sign."""
    lora = fit(make_session(small), 1, rank=4, lr=1e-3)
    downs = torch.cat([adapter.down.flatten() for adapter in lora.adapters.values()]) / (1 - 1e-3 * 0.01)
    assert float(downs.std()) == pytest.approx(1 / 4, rel=0.02) and abs(float(downs.mean())) < 0.01
    ups = torch.cat([adapter.up.flatten() for adapter in lora.adapters.values()])
    assert float(ups.abs().max()) == pytest.approx(1e-3, rel=1e-3) and (ups.abs() > 0.9e-3).float().mean() > 0.8
    assert all(adapter.scale == 1 and adapter.rank == 4 for adapter in lora.adapters.values())
    assert lora.training is not None
    for moments in lora.training.moments.values():
        assert not moments[0].any() and moments[2].any()


def test_queries_keys_values_and_the_way_out_of_every_attention_are_adapted(model: Model) -> None:
    lora = fit(make_session(model), 1)
    attentions = [name for name, _ in model.pipeline.unet.named_modules() if name.endswith((".attn1", ".attn2"))]
    wanted = [f"{name}.{layer}" for name in attentions for layer in ("to_q", "to_k", "to_v", "to_out.0")]
    assert len(attentions) >= 6 and sorted(lora.adapters) == sorted(wanted)


def test_fit_learns_the_picture(small: Model) -> None:
    session = make_session(small)
    lora = fit(session, 40)
    fused = fuse(small, lora).unet.unet
    before, after = (
        sum(independent_loss(small, session, unet, step, seed=99) for step in range(8))
        for unet in (small.pipeline.unet, fused)
    )
    assert after < 0.9 * before
    assert lora.losses == tuple(lora.losses) and len(lora.losses) == 40


def test_fit_leaves_the_model_and_torchs_random_state_alone(model: Model) -> None:
    before, state = bits(model), torch.get_rng_state()
    session = make_session(model)
    for _ in session.fit_lora(2, **FIT):
        assert not any(isinstance(layer, BaseTunerLayer) for layer in model.pipeline.unet.modules())
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in bits(model).items():
        assert torch.equal(tensor, before[name])
    assert not any(parameter.requires_grad for parameter in model.pipeline.unet.parameters())


def test_text_and_posterior_are_computed_once_and_the_posterior_is_sampled_anew(
    sd15: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(sd15)
    calls: list[str] = []
    for name in ("posterior", "embed"):
        method = getattr(Model, name)
        monkeypatch.setattr(
            Model, name, lambda self, *args, name=name, method=method: (calls.append(name), method(self, *args))[1]
        )
    fit(make_session(model), 3)
    assert sorted(calls) == ["embed", "posterior"]

    mean, deviation = torch.randn(1, 4, 6, 8), torch.rand(1, 4, 6, 8)
    settings = LoraSettings(batch_size=64)
    drawn = [draw(mean, deviation, settings, step, timesteps=1000) for step in range(1, 17)]
    for i, j in itertools.combinations(range(4), 2):
        assert not any(torch.equal(x, y) for x, y in zip(drawn[i], drawn[j], strict=True))
    latents, noise = (torch.cat([step[i] for step in drawn]) for i in (0, 1))
    torch.testing.assert_close(latents.std(0), deviation[0], rtol=0.1, atol=1e-3)
    torch.testing.assert_close(latents.mean(0), mean[0], rtol=0, atol=0.15)
    assert float(noise.std()) == pytest.approx(1, rel=0.02)
    t = torch.cat([step[2] for step in drawn])
    assert 0 <= t.min() < 20 and 979 < t.max() <= 999
    again = draw(mean, deviation, settings, 1, timesteps=1000)
    assert all(torch.equal(x, y) for x, y in zip(again, drawn[0], strict=True))
    other = draw(mean, deviation, dataclasses.replace(settings, seed=1), 1, timesteps=1000)
    assert not torch.equal(other[0], drawn[0][0])


def test_latent_noise_stands_in_for_a_posterior(small: Model) -> None:
    """The tiny autoencoder has none; the first loss then differs, and only then."""
    assert not small.posterior(smooth_picture(64, 48), (64, 48))[1].any()
    (bare,) = make_session(small).fit_lora(1, **FIT)
    (noisy,) = make_session(small, latent_noise=0.5).fit_lora(1, **FIT)
    assert bare.loss != noisy.loss


# ---- interrupted and gone on with


def test_going_on_gives_the_bits_of_a_fit_that_never_stopped(model: Model) -> None:
    whole = fit(make_session(model), 5)
    session = make_session(model)
    fit(session, 2)
    for step in session.fit_lora(5, **FIT):
        if step.step == 3:
            break  # left in the middle
    assert session.lora is not None and session.lora.steps == 3
    session.lora_weight = 0.25  # has no part in the fit
    assert [s.step for s in session.fit_lora(5, **FIT)] == [4, 5]
    assert session.lora_weight == 0.25
    assert_same_bits(session.lora.at(1), whole)
    assert list(session.fit_lora(5, **FIT)) == []


def test_packed_and_unpacked_goes_on_with_the_same_bits(small: Model) -> None:
    whole = fit(make_session(small), 4)
    first, second = make_session(small), make_session(small)
    tensors, numbers = pack(fit(first, 2).at(0.5))
    second.lora = unpack(dict(sorted(tensors.items())), json.loads(json.dumps(numbers, sort_keys=True)))
    assert second.lora_weight == 0.5
    assert_same_bits(fit(second, 4).at(1), whole)


def test_a_step_gives_its_tensors_away_instead_of_copies(small: Model) -> None:
    session = make_session(small)
    settings = LoraSettings(**FIT)
    trainee = Trainee(session.store.engine.subject(session.state), settings, "key", None, False)
    _, first = trainee.step(1)
    name, (down, _) = next(iter(trainee.layers.items()))
    assert first.adapters[name].down.data_ptr() == down.data_ptr()
    before = {key: tensor.clone() for key, tensor in pack(first)[0].items()}
    _, second = trainee.step(2)
    assert second.adapters[name].down.data_ptr() != first.adapters[name].down.data_ptr()
    assert all(torch.equal(tensor, before[key]) for key, tensor in pack(first)[0].items())
    assert first.training is not None and second.training is not None
    for one, other in zip(first.training.moments[name], second.training.moments[name], strict=True):
        assert one.data_ptr() != other.data_ptr()


def test_ctrl_c_inside_a_step_loses_that_step_alone(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(make_session(small), 4)
    session = make_session(small)
    update, count = torch.optim.AdamW.step, itertools.count(1)

    def interrupted(self: Any) -> None:
        update(self)
        if next(count) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(session.fit_lora(4, **FIT))
    assert session.lora is not None and session.lora.steps == 2
    assert [s.step for s in session.fit_lora(4, **FIT)] == [3, 4]
    assert_same_bits(session.lora, whole)


@pytest.mark.parametrize("changed", [{"rank": 3}, {"lr": 2e-2}, {"batch_size": 3}, {"seed": 1}])
def test_other_settings_begin_anew(small: Model, changed: dict[str, Any]) -> None:
    session = make_session(small)
    first = fit(session, 2)
    assert [s.step for s in session.fit_lora(2, **(FIT | changed))] == [1, 2]
    assert session.lora is not None
    assert pack(session.lora)[1]["key"] != pack(first)[1]["key"]


def test_lora_of_another_picture_is_not_gone_on_with(small: Model) -> None:
    lora = fit(make_session(small), 2)
    for other in (make_session(small, seed=1), make_session(small, prompt="a bear"), make_session(small, side=96)):
        other.lora = lora
        assert [s.step for s in other.fit_lora(2, **FIT)] == [1, 2]


def test_two_fits_at_once_do_not_mix(small: Model) -> None:
    session = make_session(small)
    steps = session.fit_lora(3, **FIT)
    next(steps)
    session.lora = None
    with pytest.raises(RuntimeError) as caught:
        next(steps)
    assert_one_sentence(caught.value, "session.fit_lora()")
    assert session.lora is None


# ---- other precisions, less memory


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("build", [build_sd15, build_three_block])
def test_half_precision_keeps_a_small_change_that_its_weights_would_round_away(build: Any, dtype: torch.dtype) -> None:
    """A thousandth of the weights, against the same in float64; the model that is shared stays as it is."""
    pipeline = build().to(dtype)
    model, reference = Model(pipeline), copy.deepcopy(pipeline.unet).double()
    before, state = bits(model), torch.get_rng_state()
    adapters = {}
    for name, adapter in random_lora(model).adapters.items():
        size = reference.get_submodule(name).weight.norm() / adapter.delta().norm()
        adapters[name] = Adapter(adapter.down, adapter.up, 0.001 * float(size))
    conv = pipeline.unet.conv_in
    down, up = torch.randn(2, *conv.weight.shape[1:]), torch.randn(conv.out_channels, 2, 1, 1)
    adapters["conv_in"] = Adapter(down, up, 1e-4)
    torch.set_rng_state(state)
    lora = Lora(adapters, weight=-1.5)
    worn = fuse(model, lora).unet.unet
    assert torch.equal(torch.get_rng_state(), state)
    rng = torch.Generator().manual_seed(0)
    for name, adapter in lora.adapters.items():
        layer, bare, exact = (unet.get_submodule(name) for unet in (worn, pipeline.unet, reference))
        shape = (1, exact.in_channels, 8, 8) if name == "conv_in" else (5, exact.in_features)
        x = torch.randn(shape, generator=rng).to(dtype)
        weight = exact.weight.data
        exact.weight.data = -1.5 * adapter.delta().double().reshape(weight.shape)
        bias, exact.bias = exact.bias, None
        expected = exact(x.double())
        exact.weight.data, exact.bias = weight, bias
        kept = {p: t for p, t in layer.named_parameters() if p.startswith("base_layer")}
        assert all(t is bare.get_parameter(p.removeprefix("base_layer.")) for p, t in kept.items())
        change = layer.lora_B["default"](layer.lora_A["default"](x)).double() * layer.scaling["default"]
        assert (change - expected).norm() < 0.02 * expected.norm()
        torch.testing.assert_close(layer(x), (bare(x).double() + expected).to(dtype), rtol=0.02, atol=0.02)
        lost = (weight + lora.weight * adapter.delta()).to(dtype).double() - weight
        if dtype == torch.bfloat16 and name != "conv_in":
            assert (lost - lora.weight * adapter.delta()).norm() > 0.3 * (lora.weight * adapter.delta()).norm()
    for name, tensor in bits(model).items():
        assert torch.equal(tensor, before[name])
    assert fuse(model, lora.at(0)) is model
    predict(fuse(model, lora))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_get_float32_adapters(dtype: torch.dtype) -> None:
    model = Model(build_three_block().to(dtype))
    session = make_session(model)
    lora = fit(session, 4)
    assert all(x.dtype == torch.float32 for x in pack(lora)[0].values())
    losses = fit(make_session(Model(build_three_block())), 4).losses
    assert lora.losses == pytest.approx(losses, rel=0.05) and lora.losses != losses
    take(session, 1)
    fused = session.store.engine.worn(session.state).unet.unet
    assert {x.dtype for x in fused.parameters()} == {dtype}


def test_loss_scale_comes_down_until_half_precision_gradients_are_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(build_three_block().to(torch.float16))
    calm = fit(make_session(model), 2)
    monkeypatch.setattr("dragnoise.lora.training.HALF_SCALE", 2.0**60)
    lora = fit(make_session(model), 2)
    assert lora.training is not None and calm.training is not None
    assert 1 < lora.training.loss_scale < 2.0**60
    assert lora.losses == pytest.approx(calm.losses, rel=1e-3)


def test_gradient_checkpointing_gives_the_same_bits_and_runs_blocks_again(small: Model) -> None:
    counts, loras = [], []
    for checkpointing in (False, True):
        calls: list[int] = []
        layer = small.pipeline.unet.up_blocks[0].resnets[0].conv1
        hook = layer.register_forward_hook(lambda *_, calls=calls: calls.append(1))  # a sharing copy has it too
        loras.append(fit(make_session(small), 2, gradient_checkpointing=checkpointing))
        hook.remove()
        counts.append(len(calls))
    assert_same_bits(*loras)
    assert counts == [2, 4]


def test_low_memory_fits_with_checkpoints_and_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = fit(make_session(Model(build_sd15())), 2)
    asked: list[int] = []
    enable = UNet2DConditionModel.enable_gradient_checkpointing
    monkeypatch.setattr(
        UNet2DConditionModel, "enable_gradient_checkpointing", lambda self: (asked.append(1), enable(self))
    )
    model = Model(build_sd15(), memory="low")
    asked.clear()  # the model's own U-Net has been asked too
    low = fit(make_session(model), 2)
    assert asked == [1]
    assert_same_bits(low, usual)


@pytest.mark.parametrize(
    ("size", "batch", "asked", "memory", "does"),
    [
        ((512, 512), 4, None, "normal", False), ((512, 512), 5, None, "normal", True),
        ((768, 768), 4, None, "normal", True), ((1024, 1024), 1, None, "normal", False),
        ((1024, 1024), 2, None, "normal", True), ((1024, 1024), 4, False, "normal", False),
        ((64, 64), 1, True, "normal", True), ((64, 64), 1, None, "low", True), ((64, 64), 1, False, "low", True),
    ],
)  # fmt: skip
def test_large_batches_are_checkpointed_unless_told_otherwise(
    sd15: Any, size: tuple[int, int], batch: int, asked: bool | None, memory: Any, does: bool
) -> None:
    model = Model(sd15)
    model.memory = memory
    subject = Subject(model, smooth_picture(64, 64), size, "")
    assert checkpoints(subject, LoraSettings(batch_size=batch), asked) is does


@pytest.mark.parametrize(("most", "does"), [(4 * 12 * 16 - 1, [1]), (4 * 12 * 16, [])])
def test_the_usual_fit_decides_by_itself(small: Model, monkeypatch: pytest.MonkeyPatch, most: int, does: list) -> None:
    """Four copies of a picture of 64x48, on whose side are four pixels to one of the latent's."""
    asked: list[int] = []
    enable = UNet2DConditionModel.enable_gradient_checkpointing
    monkeypatch.setattr(
        UNet2DConditionModel, "enable_gradient_checkpointing", lambda self: (asked.append(1), enable(self))
    )
    monkeypatch.setattr("dragnoise.lora.fitting.KEPT_AT_MOST", most)
    session = make_session(small)
    assert session.state.frame.working == (64, 48) and small.factor == 4
    next(session.fit_lora(1))
    assert asked == does


def test_numbers_that_are_not_finite_leave_the_last_good_lora(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_session(small)
    good = fit(session, 1)
    monkeypatch.setattr("dragnoise.lora.training.F.mse_loss", lambda a, b: a.mean() * float("nan"))
    with pytest.raises(FloatingPointError) as caught:
        list(session.fit_lora(3, **FIT))
    assert_one_sentence(caught.value, "step 2", "step 1", "0.01")
    assert session.lora is good


def test_used_up_memory_says_what_to_try(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_session(small)

    def full(*args: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("dragnoise.lora.training.F.mse_loss", full)
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        next(session.fit_lora(2, **FIT))
    said = str(caught.value)
    assert_one_sentence(caught.value, "gradient_checkpointing=True, then batch_size=1, then a smaller picture")
    assert said.index("side=") < said.index("dtype=torch.bfloat16") < said.index('memory="low"') and "rank" not in said
    assert session.lora is None
    with pytest.raises(torch.cuda.OutOfMemoryError) as again:
        next(session.fit_lora(2, rank=1024, batch_size=1, gradient_checkpointing=True))
    assert_one_sentence(again.value, "try rank=16, then a smaller picture")


# ---- wrong arguments


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"steps": 0}, "steps=0"), ({"steps": 2.5}, "steps=2.5"), ({"steps": True}, "steps=True"),
        ({"rank": 0}, "rank=0"), ({"rank": "16"}, "rank='16'"), ({"lr": 0}, "lr=0"), ({"lr": float("nan")}, "lr=nan"),
        ({"lr": None}, "lr=None"), ({"batch_size": -1}, "batch_size=-1"), ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"), ({"lr": 1.001}, "lr=1.001"), ({"lr": 1e300}, "lr=1e+300"),
        ({"rank": 2**14 + 1}, "rank=16385"), ({"batch_size": 10**12}, "batch_size=1000000000000"),
        ({"gradient_checkpointing": "no"}, "gradient_checkpointing='no'"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing=1"),
    ],
)  # fmt: skip
def test_wrong_numbers_are_refused_at_once(small: Model, given: dict[str, Any], named: str) -> None:
    session = make_session(small)
    with pytest.raises(ValueError) as caught:
        session.fit_lora(**given)
    assert_one_sentence(caught.value, named)
    assert session.lora is None


@pytest.mark.parametrize("weight", [-2.1, 2.1, float("nan"), "1", None, True])
def test_wrong_weights_are_refused(small: Model, weight: Any) -> None:
    session = make_session(small)
    session.lora = lora = random_lora(small)
    with pytest.raises(ValueError) as caught:
        session.lora_weight = weight
    assert_one_sentence(caught.value, repr(weight))
    assert session.lora is lora


def test_wrong_loras_are_refused(small: Model, sd15: Any, tmp_path: Path) -> None:
    session = make_session(small)
    session.lora = lora = random_lora(small)
    with pytest.raises(TypeError) as wrong:
        session.lora = {"rank": 3}  # type: ignore[assignment]
    assert_one_sentence(wrong.value, "the path of one")
    for other in (random_lora(Model(sd15)), Lora({"no.such": next(iter(lora.adapters.values()))})):
        with pytest.raises(ValueError) as caught:
            session.lora = other
        assert_one_sentence(caught.value, "another kind of model", next(iter(other.adapters)))
    with pytest.raises(ValueError) as empty:
        Lora({})
    assert_one_sentence(empty.value)
    assert session.lora is lora


def test_without_a_lora_there_is_nothing_to_save_or_weigh(small: Model, tmp_path: Path) -> None:
    session = make_session(small)
    assert session.lora_weight == 0
    for use in (lambda: session.save_lora(tmp_path), lambda: setattr(session, "lora_weight", 0.5)):
        with pytest.raises(ValueError) as caught:
            use()
        assert_one_sentence(caught.value, "session.fit_lora()")


def test_adapters_that_someone_attached_to_the_pipeline_are_named() -> None:
    pipeline = build_three_block()
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=list(TARGETS)))
    session = make_session(Model(pipeline, name="dressed"))
    with pytest.raises(ValueError) as caught:
        next(session.fit_lora(2, **FIT))
    assert_one_sentence(caught.value, "dressed", "unload_lora_weights")


def test_steps_are_plain_numbers(small: Model) -> None:
    steps = list(make_session(small).fit_lora(2, **FIT))
    assert all(isinstance(s, LoraStep) and type(s.loss) is float and type(s.step) is int for s in steps)
