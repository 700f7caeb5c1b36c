"""Metrics against plain loops and against pictures whose numbers are known."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers import assert_one_sentence, at, resized, smooth_picture
from PIL import Image
from torch import Tensor

from dragnoise import Drag, Model
from dragnoise.bench.areas import Area
from dragnoise.bench.metrics import fidelity, pixels, points
from dragnoise.bench.metrics.features import Dift, dift, sample_seed, skip, working_size
from dragnoise.images.difference import psnr


@pytest.fixture(scope="module")
def sd15_model(sd15: StableDiffusionPipeline) -> Model:
    return Model(sd15)


DRAGS = [Drag((3, 4), (12, 9)), Drag((14.6, 2), (8, 3))]
SIZE = (20, 14)


def maps() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(5)
    return torch.randn(6, 5, 7, generator=rng), torch.randn(6, 5, 7, generator=rng)


def likeliest(wanted: Tensor, edited: Tensor, allowed: Any) -> tuple[int, int]:
    best, place = -2.0, (0, 0)
    for y in range(edited.shape[1]):
        for x in range(edited.shape[2]):
            f = edited[:, y, x]
            cosine = float(wanted @ f / (wanted.norm() * f.norm()))
            if allowed(x, y) and cosine > best:
                best, place = cosine, (x, y)
    return place


@pytest.mark.parametrize("masked", [False, True])
def test_md_by_loops(masked: bool) -> None:
    source, edited = maps()
    mask = np.zeros(SIZE[::-1], bool)
    mask[5:12, 3:9] = True
    found = points.mean_distances(source, edited, DRAGS, SIZE, mask if masked else None)
    one, other = resized(source, SIZE), resized(edited, SIZE)
    for drag, distance in zip(DRAGS, found, strict=True):
        wanted = at(one, *(float(int(v + 0.5)) for v in drag.anchor))
        place = likeliest(wanted, other, lambda x, y: not masked or mask[y, x])
        assert distance == pytest.approx(math.dist(place, drag.objective))


def test_regiondrags_md_by_loops() -> None:
    source, edited = maps()
    total = 0.0
    for drag in DRAGS:
        reach = max(5, math.dist(drag.anchor, drag.objective) / 2**0.5)

        def near(x: int, y: int, drag: Drag = drag, reach: float = reach) -> bool:
            return min(math.dist((x, y), drag.anchor), math.dist((x, y), drag.objective)) <= reach

        big = [torch.stack([torch.stack([f[:, y * 5 // 14, x * 7 // 20] for x in range(20)], 1) for y in range(14)], 1)
               for f in (source, edited)]  # fmt: skip
        x, y = (int(v + 0.5) for v in drag.anchor)
        place = likeliest(big[0][:, y, x], big[1], near)
        total += math.hypot((place[0] - drag.objective[0]) / 20, (place[1] - drag.objective[1]) / 14)
    assert points.normalised_distance(source, edited, DRAGS, SIZE) == pytest.approx(100 * total / 2)


def test_md_of_an_unedited_picture_is_the_drags_length() -> None:
    rng = torch.Generator().manual_seed(1)
    feature = torch.randn(16, 14, 20, generator=rng)
    drags = [Drag((3, 4), (12, 9))]
    assert points.mean_distances(feature, feature, drags, SIZE) == [pytest.approx(math.dist((3, 4), (12, 9)))]
    moved = feature.roll((5, 9), (1, 2))
    assert points.mean_distances(feature, moved, drags, SIZE) == [0]
    assert points.normalised_distance(feature, moved, drags, SIZE) == 0


@pytest.mark.parametrize("gamma", [1, 5])
def test_dai_by_loops(gamma: int) -> None:
    a, b = (np.asarray(smooth_picture(20, 14, seed)) for seed in (1, 2))
    total = 0.0
    for drag in DRAGS:
        (x, y), (u, v) = ([int(n + 0.5) for n in point] for point in (drag.anchor, drag.objective))
        for dy in range(-gamma, gamma + 1):
            for dx in range(-gamma, gamma + 1):
                if all(0 <= p < 20 for p in (x + dx, u + dx)) and all(0 <= p < 14 for p in (y + dy, v + dy)):
                    for c in range(3):
                        total += ((int(a[y + dy, x + dx, c]) - int(b[v + dy, u + dx, c])) / 255) ** 2
    expected = total / (1 + 2 * gamma) ** 2 / 2
    assert pixels.dai(a, b, DRAGS, gamma) == pytest.approx(expected)
    assert pixels.dai(a, b, DRAGS, gamma, released=True) == pytest.approx(expected / 2)


def test_likeness_inside_and_outside() -> None:
    a = np.asarray(smooth_picture(30, 24))
    b, mask = a.copy(), np.zeros((24, 30), bool)
    mask[:8] = True
    b[:8] = 255 - b[:8]
    found = pixels.likeness(a, b, mask, "input")
    assert found["input_outside_psnr"] == psnr(a, a) and found["input_inside_psnr"] == psnr(a, b, mask)
    assert found["input_inside_ssim"] < 0.5 < found["input_outside_ssim"]
    assert found["input_psnr"] == psnr(a, b) and found["input_inside_psnr"] < found["input_psnr"] < 120
    assert found["input_inside_ssim"] < found["input_ssim"] < found["input_outside_ssim"] <= 1
    assert set(pixels.likeness(a, b, None, "answer")) == {"answer_psnr", "answer_ssim"}
    whole = pixels.likeness(a, b, np.ones((24, 30), bool), "x")
    assert set(whole) == {"x_psnr", "x_ssim", "x_inside_psnr", "x_inside_ssim"}


def test_dift_is_the_mean_of_single_passes_and_repeats(small: Model) -> None:
    picture, numbers = smooth_picture(48, 40), Dift(timestep=261, block=1, ensemble=3, side=64)
    found = dift(small, picture, "a fox", torch.Generator().manual_seed(3), numbers)
    again = dift(small, picture, "a fox", torch.Generator().manual_seed(3), numbers)
    assert torch.equal(found, again)
    latent = small.encode_picture(picture, (64, 64))
    noise = torch.randn(3, *latent.shape[1:], generator=torch.Generator().manual_seed(3), dtype=torch.float32)
    seen: list[Tensor] = []
    hook = small.unet.unet.up_blocks[1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    clean = small.scheduler.add_noise(latent.expand(3, -1, -1, -1), noise, torch.tensor([261]))
    with torch.no_grad():
        for z in clean:
            small.unet.unet(z[None], 261, small.embed("a fox"))
    hook.remove()
    torch.testing.assert_close(found, torch.cat(seen).mean(0), atol=1e-4, rtol=1e-4)
    assert sample_seed(42, "a") != sample_seed(42, "b") != sample_seed(43, "b")


def test_features_are_of_the_pictures_own_size_unless_a_side_is_given(small: Model) -> None:
    """As DragBench's program has it, whatever the model's native size."""
    assert working_size(small, (51, 43), Dift()) == (48, 40) and working_size(small, (2, 43), Dift()) == (4, 40)
    assert working_size(small, (51, 43), Dift(side=64)) == (64, 64)


@pytest.mark.parametrize("sampled", [False, True])
def test_skipping_a_picture_leaves_the_generator_as_its_features_do(sd15_model: Model, sampled: bool) -> None:
    picture, numbers = smooth_picture(50, 42), Dift(ensemble=2, block=0)
    done, skipped = (torch.Generator().manual_seed(3) for _ in range(2))
    dift(sd15_model, picture, "", done, numbers, sampled=sampled)
    skip(sd15_model, picture.size, skipped, numbers, sampled=sampled)
    assert torch.equal(done.get_state(), skipped.get_state())


def test_latents_are_drawn_from_the_posterior_on_request(sd15_model: Model) -> None:
    """Stable Diffusion's autoencoder has a spread; without noise of their own the two differ by it alone."""
    picture, numbers = smooth_picture(48, 40), Dift(ensemble=2, block=0)
    mean, drawn = (
        dift(sd15_model, picture, "", torch.Generator().manual_seed(3), numbers, sampled=sampled)
        for sampled in (False, True)
    )
    assert mean.shape == drawn.shape and not torch.allclose(mean, drawn)


def stub(one: Tensor, other: Tensor) -> Tensor:
    assert one.shape == other.shape == (1, 3, 224, 224) and one.min() >= -1 and one.max() <= 1
    return (one - other).abs().mean() / 2


def test_fidelities() -> None:
    a = np.full((40, 60, 3), 200, np.uint8)
    b, source, target = a.copy(), np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    source[10:20, 10:20], target[10:20, 30:40] = True, True
    b[source] = 0
    assert fidelity.fidelity(smooth_picture(60, 40), smooth_picture(60, 40), stub) == 1
    assert fidelity.background_fidelity(a, b, source, stub) == 1
    assert fidelity.source_fidelity(a, b, source, stub) < 1
    shifts = [np.array([[1, 0, far], [0, 1, 0]], float) for far in (20, 5)]
    right, wrong = (Area(source, target, shift) for shift in shifts)
    assert fidelity.target_fidelity(a, b, right, stub) == pytest.approx(1)
    assert fidelity.target_fidelity(a, b, wrong, stub) < 0.999
    found = fidelity.region_fidelities(a, b, source, [right, wrong], stub)
    assert set(found) == {"if_bg", "if_s2t", "if_s2s"} and found["if_bg"] == 1 and found["if_s2t"] < 1
    assert set(fidelity.region_fidelities(a, b, source, [], stub)) == {"if_bg"}
    assert fidelity.region_fidelities(a, b, None, [], stub) == {}


def test_pictures_are_made_smaller_as_the_published_programs_do() -> None:
    """Without antialiasing: of stripes of one pixel that are made half as large, one colour is left or both are mixed
    evenly; an antialiasing filter would mix them by the neighbours' weights too."""
    seen: list[Tensor] = []
    stripes = np.zeros((8, 448, 3), np.uint8)
    stripes[:, ::4] = 255
    fidelity.fidelity(Image.fromarray(stripes), Image.fromarray(stripes), lambda a, _: seen.append(a) or a.sum())
    assert {round(float(v), 3) for v in seen[0].unique()} == {-1, 0}


@pytest.mark.parametrize("missing", ["package", "weights"])
def test_without_lpips_a_sentence(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    package = ModuleType("lpips")
    package.LPIPS = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", None if missing == "package" else package)
    fidelity.load_lpips.cache_clear()
    with pytest.raises(ImportError) as caught:
        fidelity.fidelity(smooth_picture(8, 8), smooth_picture(8, 8))
    assert_one_sentence(caught.value, "leave IF out", "dragnoise[bench]" if missing == "package" else "weights")
