"""Pictures and masks of every kind and size; and what is none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, resized, smooth_picture
from PIL import Image

from dragnoise import DragConfig, DragSession, Model, pictures

CONFIG = DragConfig(steps=4, edit_from=2, refine_from=1, max_iterations=2, lr=0.1)

# ------------------------------------------------------------------------------------------ pictures


def test_a_picture_goes_in_and_out_unharmed() -> None:
    picture = smooth_picture(13, 7)
    x = pictures.picture_tensor(picture, (13, 7))
    assert x.shape == (1, 3, 7, 13) and x.dtype == torch.float32
    expected = np.asarray(picture, np.float64).transpose(2, 0, 1)[None] / 127.5 - 1
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert pictures.tensor_picture(x, (13, 7)) == picture
    assert pictures.picture_tensor(picture, (16, 8)).shape == (1, 3, 8, 16)


def test_bytes_are_rounded_but_the_released_program_truncates() -> None:
    x = torch.full((1, 3, 4, 6), 100.6 / 127.5 - 1)
    assert np.unique(pictures.tensor_picture(x, (6, 4))).tolist() == [101]
    assert np.unique(pictures.tensor_picture(x, (6, 4), released=True)).tolist() == [100]
    for released in (False, True):
        far = pictures.tensor_picture(torch.tensor([-9.0, 9.0]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2), (2, 1),
                                      released=released)  # fmt: skip
        assert np.asarray(far)[0, :, 0].tolist() == [0, 255]


def test_the_released_program_resizes_bilinearly_before_it_truncates() -> None:
    x = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    dense = resized((x[0] / 2 + 0.5).clamp(0, 1), (9, 5)) * 255
    ours = np.asarray(pictures.tensor_picture(x, (9, 5), released=True))
    assert np.array_equal(ours, np.floor(dense.permute(1, 2, 0).numpy()).astype(np.uint8))


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def as_array(picture: Any) -> np.ndarray:
    result = pictures.as_picture(picture)
    assert isinstance(result, Image.Image) and result.mode == "RGB"
    return np.asarray(result)


def test_every_kind_of_picture() -> None:
    rgb, grey, deep = array(5, 7, 3), array(5, 7), array(5, 7).astype(np.uint16) * 257
    deep[0, 0] = 65535
    three = np.repeat(grey[..., None], 3, -1)
    three_deep = np.repeat((deep / 257).round().astype(np.uint8)[..., None], 3, -1)
    assert np.array_equal(as_array(rgb), rgb)
    assert np.array_equal(as_array(Image.fromarray(rgb)), rgb)
    assert np.array_equal(as_array(rgb[:, ::-1].astype(np.float32) / 255), rgb[:, ::-1])
    assert np.array_equal(as_array(grey), three)
    assert np.array_equal(as_array(grey[..., None]), three)
    assert np.array_equal(as_array(Image.fromarray(grey)), three)
    assert np.array_equal(as_array(grey > 99), (three > 99) * np.uint8(255))
    assert np.array_equal(as_array(Image.fromarray(grey > 99)), (three > 99) * np.uint8(255))
    assert np.array_equal(as_array(deep), three_deep)
    assert np.array_equal(as_array(Image.fromarray(deep)), three_deep)


def test_transparency_lies_on_white() -> None:
    rgba = array(5, 7, 4)
    rgba[0, 0, 3], rgba[1, 1, 3] = 0, 255
    for picture in (rgba, Image.fromarray(rgba)):
        result = as_array(picture)
        assert result[0, 0].tolist() == [255, 255, 255]
        assert np.array_equal(result[1, 1], rgba[1, 1, :3])
        share = rgba[..., 3:] / 255
        np.testing.assert_allclose(result, rgba[..., :3] * share + 255 * (1 - share), atol=1.01)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.info["transparency"] = 1
    assert as_array(palette)[0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_files_are_turned_upright(tmp_path: Path, suffix: str) -> None:
    picture = smooth_picture(16, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    path = tmp_path / f"turned.{suffix}"
    picture.save(path, exif=exif, **({"quality": 95, "subsampling": 0} if suffix == "jpg" else {}))
    upright = np.asarray(picture.transpose(Image.Transpose.ROTATE_270)).astype(int)
    for source in (path, str(path), Image.open(path)):
        turned = as_array(source).astype(int)
        assert turned.shape == (16, 8, 3)
        assert np.abs(turned - upright).mean() < 6


def test_sixteen_bits_from_a_file(tmp_path: Path) -> None:
    deep = (array(6, 5).astype(np.uint16)) * 257
    deep[0, 0] = 65535
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(as_array(tmp_path / "deep.png")[..., 0], deep // 257)


# --------------------------------------------------------------------------------------------- masks


def test_every_kind_of_mask_is_true_where_nonzero() -> None:
    expected = array(5, 7) % 3 > 0
    for mask in (
        expected, expected * np.uint8(7), expected.astype(np.float32), expected[..., None], expected.astype(np.int64),
        Image.fromarray(expected * np.uint8(1)), Image.fromarray(expected),
        Image.fromarray(np.repeat(expected[..., None] * np.uint8(255), 3, -1)),
    ):  # fmt: skip
        result = pictures.as_mask(mask, (7, 5))
        assert result is not None and result.dtype == bool and np.array_equal(result, expected)
    assert pictures.as_mask(None, (7, 5)) is None


@pytest.mark.parametrize(
    ("size", "target"), [((75, 91), (2, 3)), ((75, 91), (9, 11)), ((16, 8), (4, 4)), ((3, 2), (5, 4))]
)
def test_a_mask_at_the_bottleneck_is_the_share_of_each_cell(size: tuple[int, int], target: tuple[int, int]) -> None:
    mask = array(size[1], size[0]) > 170
    ours = pictures.mask_tensor(mask, target)
    assert ours.shape == (1, 1, target[1], target[0]) and ours.min() >= 0 and ours.max() <= 1

    def cell(i: int, n: int, length: int) -> slice:
        return slice(i * length // n, math.ceil((i + 1) * length / n))

    for y in range(target[1]):
        for x in range(target[0]):
            share = mask[cell(y, target[1], size[1]), cell(x, target[0], size[0])].mean()
            assert ours[0, 0, y, x].item() == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("size", [(75, 91), (64, 40), (9, 8)])
def test_the_released_mask_is_nearest_by_way_of_the_grid(size: tuple[int, int]) -> None:
    mask = array(size[1], size[0]) > 127
    grid, latent = (size[0] // 2, size[1] // 2), (max(size[0] // 8, 1), max(size[1] // 8, 1))

    def nearest(a: np.ndarray, to: tuple[int, int]) -> np.ndarray:
        rows = [y * a.shape[0] // to[1] for y in range(to[1])]
        return a[np.ix_(rows, [x * a.shape[1] // to[0] for x in range(to[0])])]

    ours = pictures.mask_tensor(mask, latent, through=grid)[0, 0].numpy()
    assert np.array_equal(ours, nearest(nearest(mask, grid), latent))


# ----------------------------------------------------------------------------------- what is none


def bad_files(folder: Path) -> list[tuple[Any, str]]:
    """Files that are no pictures, with what the message must name."""
    for name, content in {"text.png": b"not a picture", "empty.png": b""}.items():
        (folder / name).write_bytes(content)
    smooth_picture(60, 60).save(folder / "whole.png")
    (folder / "half.png").write_bytes((folder / "whole.png").read_bytes()[:200])
    return [(folder / name, name) for name in ("text.png", "empty.png", "half.png", "nowhere.png")] + [
        (folder, folder.name)
    ]


def test_unreadable_files(small: Model, tmp_path: Path) -> None:
    for path, name in bad_files(tmp_path):
        for picture in (path, str(path)):
            with pytest.raises(ValueError) as caught:
                DragSession(small, picture)
            assert_one_sentence(caught.value, name)


@pytest.mark.parametrize(
    ("picture", "named"),
    [
        (np.zeros((0, 5, 3), np.uint8), "(0, 5, 3)"), (np.zeros((0, 0), np.uint8), "(0, 0)"),
        (np.zeros((4, 5, 2), np.uint8), "(4, 5, 2)"), (np.zeros(7, np.uint8), "(7,)"),
        (np.zeros((1, 4, 5, 3), np.uint8), "(1, 4, 5, 3)"), (np.full((4, 5), np.nan), "NaN"),
        (np.full((4, 5, 3), np.inf), "infinite"), (np.zeros((4, 5), complex), "complex128"),
        (np.full((4, 5), "x"), "<U1"), (Image.new("RGB", (0, 5)), "0x5"), (None, "NoneType"), (b"abc", "bytes"),
        ([[1, 2]], "list"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_pictures(small: Model, picture: Any, named: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        DragSession(small, picture)
    assert_one_sentence(caught.value, named)


# --------------------------------------------------------------------------------- any size of picture


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (75, 91), (90, 31), (700, 40), (1300, 900)])
@pytest.mark.parametrize("resize", ["longer", "shorter"])
def test_results_come_back_at_the_pictures_own_size(small: Model, size: tuple[int, int], resize: Any) -> None:
    session = DragSession(small, smooth_picture(*size), config=CONFIG.replace(resize=resize, max_iterations=1))
    start, end = (0.0, 0.0), (size[0] - 0.1, size[1] - 0.1)
    session.drags = [(start, end)]
    picture = session.run(progress=False)
    assert picture.size == size and picture.mode == "RGB"
    np.testing.assert_allclose(session.history[1].anchors, [start], atol=1e-9)
    np.testing.assert_allclose(session.history[1].distances, [math.dist(start, end)])
    assert max(session.latents.shape[2:]) <= 4 * 16
    native = session.latents.shape[:1:-1][size.index(max(size) if resize == "longer" else min(size))]
    assert native == 16  # this model's sample size
