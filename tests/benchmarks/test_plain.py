"""The plain implementation that the benchmarks compare with computes what the engine does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.phases import Bench
from benchmarks.plain import Plain

LR = 0.3  # so that anchors move


@pytest.fixture(scope="module", params=["toyland", "tiny"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param, side=128, steps=2)


@pytest.mark.parametrize(
    ("released", "masked", "frozen"),
    [(True, False, False), (True, True, True), (False, False, True), (False, True, False)],
    ids=["released", "released, mask", "paper", "paper, mask"],
)
def test_losses_and_anchors_of_ten_iterations(bench: Bench, released: bool, masked: bool, frozen: bool) -> None:
    session = bench.session(bench.config(released=released, lr=LR), masked=masked, points=2)
    plain = Plain(session, frozen=frozen)
    list(session.invert())
    plain.start(session.state.trajectory[-1])
    for _ in range(10):
        snapshot = session.step()
        loss, anchors = plain.iteration()
        assert loss == pytest.approx(snapshot.loss, rel=1e-4)
        np.testing.assert_allclose(session.state.frame.to_image(anchors).numpy(), snapshot.anchors, atol=1e-4)
    assert bench.name == "tiny" or len(np.unique([s.anchors for s in session.history], axis=0)) > 2  # they moved
    assert all(not p.requires_grad and p.grad is None for p in plain.unet.parameters())


def test_inversion_and_rendering(bench: Bench) -> None:
    session = bench.session(bench.config(lr=LR, propagation="replace"))
    plain = Plain(session)
    states = list(session.invert())
    z = plain.invert(plain.encode(bench.picture()))
    noisy = session.config.latent_noise  # the embedded model's numbers add some to the picture's latent
    if not noisy:
        torch.testing.assert_close(z, states[-1].latents, rtol=0, atol=1e-4)
    plain.start(session.state.trajectory[-1])
    for _ in range(3):
        session.step()
        plain.iteration()
    *_, last = session.denoise()
    torch.testing.assert_close(plain.render(session.state.trajectory[-1]), last.latents, rtol=0, atol=1e-3)
    assert float((last.latents - session.state.trajectory[0]).abs().mean()) > 1e-3
