"""Real photographs from file to picture: DragBench's ten samples, through a small pipeline of SD 1.5's shape."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from dragbench import DATA, Sample, samples
from huggingface_hub import try_to_load_from_cache
from PIL import Image
from pipelines import build_sd15
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model, load_model, semantics
from dragnoise.geometry import drag_tensors
from dragnoise.images.pictures import picture_tensor, tensor_picture

SAMPLES = samples()
CACHED = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def real_model() -> str | None:
    """A Stable Diffusion 1.5 that is here: the one of DRAGNOISE_SD15; with an accelerator, the hub's cache too."""
    named = os.environ.get("DRAGNOISE_SD15")
    weights = try_to_load_from_cache(CACHED, "unet/diffusion_pytorch_model.safetensors")
    quick = torch.cuda.is_available() or torch.backends.mps.is_available()
    return named or (CACHED if quick and isinstance(weights, str) else None)


REAL = real_model()

needs_data = pytest.mark.skipif(not SAMPLES, reason=f"no DragBench samples in {DATA}; set DRAGNOISE_DATA")
needs_model = pytest.mark.skipif(
    not REAL, reason="no Stable Diffusion 1.5 here; set DRAGNOISE_SD15 to its folder or file"
)
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)


@pytest.fixture(scope="module")
def native512() -> Model:
    """Stable Diffusion 1.5's native size too, so that every photograph passes the sizes it would pass there."""
    return Model(build_sd15(sample_size=64))


def session_of(model: Model, sample: Sample, config: DragConfig) -> DragSession:
    session = DragSession(model, sample.picture, sample.prompt, config)
    session.drags, session.mask = sample.drags, sample.mask
    return session


@needs_data
def test_the_samples_are_as_varied_as_they_should_be() -> None:
    sizes = [Image.open(sample.picture).size for sample in SAMPLES]
    assert len(SAMPLES) == 10 and {341, 387} <= {height for _, height in sizes}
    assert any(w < h for w, h in sizes) and any(w > h for w, h in sizes)
    assert any(len(sample.drags) > 1 for sample in SAMPLES)
    assert all(s.mask.shape == size[::-1] and 0 < s.mask.mean() < 1 for s, size in zip(SAMPLES, sizes, strict=True))


@needs_data
@each_sample
def test_from_file_to_picture(native512: Model, sample: Sample) -> None:
    config = DragConfig(steps=2, edit_from=1, refine_from=0, max_iterations=2, lr=0.1, tolerance=0.01)
    session = session_of(native512, sample, config)
    edited = session.run(progress=False)
    with Image.open(sample.picture) as original:
        assert edited.size == original.size
    assert len(session.history) == 3 and session.anchors.shape == (len(sample.drags), 2)
    assert session.history[2].mask_loss > 0 and session.history[1].grad_norm > 0
    assert np.asarray(edited).std() > 1
    assert (np.asarray(edited) != np.asarray(session.reconstruct())).any()
    np.testing.assert_allclose(session.history[0].anchors, [drag.anchor for drag in sample.drags], atol=1e-9)


# ------------------------------------------------------------------------------ points stay put


def with_dot(picture: Image.Image, point: tuple[float, float]) -> tuple[Image.Image, Image.Image]:
    """The picture in low contrast, without and with a soft bright dot of 2 px around (x, y)."""
    plain = np.asarray(picture, np.float64) * 0.5 + 40
    y, x = np.mgrid[: picture.height, : picture.width]
    dot = 80 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 8)
    return Image.fromarray(plain.round().astype(np.uint8)), Image.fromarray(
        (plain.round() + dot[..., None]).round().astype(np.uint8)
    )


def centre(change: np.ndarray) -> np.ndarray:
    """(x, y) of what is brighter, its centre of mass, from (H, W)."""
    change = np.where(change > 0.1 * change.max(), change, 0)
    y, x = np.mgrid[: change.shape[0], : change.shape[1]]
    return np.array([(x * change).sum(), (y * change).sum()]) / change.sum()


def grey(tensor: Tensor) -> np.ndarray:
    return tensor[0].mean(dim=0).double().numpy()


def all_points(sample: Sample) -> list[tuple[float, float]]:
    return [point for drag in sample.drags for point in (drag.anchor, drag.objective)]


@needs_data
@each_sample
def test_a_dot_is_found_where_the_point_is_taken_to_be(native512: Model, sample: Sample) -> None:
    """From the given picture to the working one and back, by pixels; the session's own mapping beside it."""
    session = session_of(native512, sample, DragConfig())
    frame = session.state.frame
    anchors, objectives = (points.numpy() for points in drag_tensors(session.drags, frame))
    for drag, anchor, objective in zip(sample.drags, anchors, objectives, strict=True):
        for point, on_grid in ((drag.anchor, anchor), (drag.objective, objective)):
            plain, dotted = (picture_tensor(p, frame.working) for p in with_dot(session.image, point))
            seen = centre(grey(dotted) - grey(plain))
            taken = (on_grid + 0.5) * (np.array(frame.working) / frame.grid) - 0.5
            assert np.abs(seen - taken).max() < 0.5, (point, seen, taken)
            back = [np.asarray(tensor_picture(t, frame.given).convert("L"), float) for t in (plain, dotted)]
            assert np.abs(centre(back[1] - back[0]) - point).max() < 0.5


@needs_data
@each_sample
def test_the_feature_is_read_at_the_point(native512: Model, sample: Sample) -> None:
    """A feature map that holds each cell's own place in the picture is read at the points as the points."""
    session = session_of(native512, sample, DragConfig())
    frame = session.state.frame
    width, height = (length // 8 for length in frame.working)
    x = (torch.arange(width).double() + 0.5) * frame.given[0] / width - 0.5
    y = (torch.arange(height).double() + 0.5) * frame.given[1] / height - 0.5
    places = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    for points, given in zip(
        drag_tensors(session.drags, frame), zip(*[(d.anchor, d.objective) for d in sample.drags], strict=True),
        strict=True,
    ):  # fmt: skip
        read = semantics.sample(places, points, frame.grid)
        assert read.shape == (len(sample.drags), 2)
        np.testing.assert_allclose(read.numpy(), given, atol=0.5)


# ------------------------------------------------------------------------------ a real model


@needs_data
@needs_model
def test_a_real_photograph_on_a_real_model() -> None:
    """What the mask protects stays; what it frees changes; the anchors come closer."""
    sample = next(s for s in SAMPLES if s.name.startswith("land_scape"))
    session = session_of(load_model(str(REAL)), sample, DragConfig(max_iterations=40))
    edited = np.asarray(session.run(progress=False), float)
    kept, original = np.asarray(session.reconstruct(), float), np.asarray(session.image, float)
    psnr = 10 * np.log10(255**2 / ((kept - original) ** 2).mean())
    change = np.abs(edited - kept).mean(axis=-1)
    assert psnr > 18
    assert change[sample.mask].mean() > 2 * change[~sample.mask].mean()
    assert session.history[-1].distances.mean() < session.history[0].distances.mean()
