"""Masks: what of an image or an array may change, their tensors, and remarks on masks that do not fit their drags."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dragbench import samples
from helpers import assert_one_sentence
from PIL import Image, ImageDraw

from dragnoise import Drag
from dragnoise.images.masks import as_mask, mask_remarks, mask_tensor
from dragnoise_widgets.sketch.masks import read_mask

SIZE = (40, 30)
SQUARE = np.zeros((30, 40), bool)
SQUARE[10:20, 5:25] = True


def ways(image: Image.Image, folder: Path) -> list[Any]:
    """The same mask as a path, a PIL image, an array, and an uploaded file."""
    image.save(folder / "mask.png")
    return [folder / "mask.png", str(folder / "mask.png"), image, np.asarray(image), (folder / "mask.png").read_bytes()]


def read(mask: Any) -> np.ndarray:
    result = read_mask(mask, SIZE) if isinstance(mask, bytes) else as_mask(mask, SIZE)
    assert result is not None and result.dtype == bool and result.flags.writeable
    return result


def painted(colour: Any, back: Any, mode: str = "RGBA") -> Image.Image:
    image = Image.new(mode, SIZE, back)
    image.paste(colour, (5, 10, 25, 20))
    return image


@pytest.mark.parametrize(
    "image",
    [
        painted((255, 255, 255, 255), (0, 0, 0, 0)), painted((255, 255, 255, 255), (255, 255, 255, 0)),
        painted((0, 0, 0, 255), (0, 0, 0, 0)), painted((0, 0, 0, 255), (255, 255, 255, 0)),
        painted((3, 3, 3, 200), (0, 0, 0, 0)), painted((255, 255, 255, 128), (255, 255, 255, 0)),
        painted((255, 0, 0, 255), (0, 0, 0, 0)), painted((255, 255, 255, 255), (0, 0, 0, 255)),
        painted((255, 255), (0, 0), "LA"), painted((0, 255), (255, 0), "LA"), painted(255, 0, "L"), painted(1, 0, "L"),
        painted((255, 255, 255), (0, 0, 0), "RGB"), painted((200, 0, 0), (0, 0, 0), "RGB"),
        painted((0, 0, 0, 255), (255, 255, 255, 255)).point(lambda v: 255 - v).convert("RGB"),
    ],
)  # fmt: skip
def test_what_is_painted_may_change_however_it_is_given(image: Image.Image, tmp_path: Path) -> None:
    for mask in ways(image, tmp_path):
        assert np.array_equal(read(mask), SQUARE), type(mask)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_an_opaque_black_layer_is_an_empty_mask(mode: str) -> None:
    with pytest.raises(ValueError) as caught:
        as_mask(Image.new("RGB", SIZE).convert(mode), SIZE)
    assert_one_sentence(caught.value, "empty", "None")
    with pytest.raises(ValueError, match="empty"):
        as_mask(Image.new("RGBA", SIZE, (255, 255, 255, 0)), SIZE)


def test_a_palette_and_deep_grey_with_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(SQUARE.astype(np.uint8), "L").convert("P")
    palette.info["transparency"] = 0
    palette.save(tmp_path / "palette.png")
    deep = Image.fromarray(np.where(SQUARE, 60_000, 777).astype(np.uint16))
    deep.save(tmp_path / "deep.png", transparency=777)
    for name in ("palette.png", "deep.png"):
        assert np.array_equal(read(tmp_path / name), SQUARE), name


NOISE = np.random.default_rng(0).random(SQUARE.shape)
NUMBERS = {
    "bool": SQUARE, "uint8": SQUARE * np.uint8(255), "a label": SQUARE * np.uint8(7), "one": SQUARE.astype(np.int64),
    "float label": SQUARE * 3.0, "a low label": SQUARE * 0.2, "-1 and 1": SQUARE * 2 - 1.0,
    "int8": SQUARE * np.int8(2) - np.int8(1), "logits": np.where(SQUARE, 2 + 9 * NOISE, -3 - 14 * NOISE),
    "probabilities": np.where(SQUARE, 0.55 + NOISE / 3, NOISE / 3),
    "nearly black back": np.where(SQUARE, 255, 1).astype(np.uint8),
    "tiny back": np.maximum(SQUARE, 1e-7).astype(np.float32), "resampled": np.where(SQUARE, 1.1, -0.03) + NOISE / 50,
    "grey": np.where(SQUARE, 90 + 8 * NOISE, 5 * NOISE).astype(np.uint8),
    "deep": np.where(SQUARE, 65535, 300).astype(np.uint16), "a column": SQUARE[..., None] * np.uint8(255),
    "colours": np.repeat(SQUARE[..., None], 3, -1), "float colours": np.repeat(SQUARE[..., None] * 0.9, 3, -1),
    "zeros and ones in colour": np.repeat(SQUARE[..., None].astype(np.uint8), 3, -1),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_decided_in_the_middle_of_their_range(name: str) -> None:
    assert np.array_equal(read(NUMBERS[name]), SQUARE)


@pytest.mark.parametrize("back", [0, 90])
@pytest.mark.parametrize("quality", [60, 75, 95])
def test_the_halo_of_a_jpeg_is_no_mask(quality: int, back: int) -> None:
    image = Image.new("L", (128, 96), back)
    ImageDraw.Draw(image).ellipse((30, 20, 90, 70), fill=255)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    ours = read_mask(data.getvalue(), image.size)
    assert np.mean(ours != (np.asarray(image) > 127)) < 0.004


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (np.arange(1200).reshape(30, 40) % 4, "labels"), (np.full((30, 40), 0.2) + NOISE / 5, "below 0.5"),
        (np.arange(1200).reshape(30, 40) % 3 * 1.0, "labels"), (-NOISE, "empty"), (SQUARE * np.int8(-1), "empty"),
        (np.ma.masked_array(SQUARE, ~SQUARE), "filled"), (SQUARE * 1j, "complex128"), (SQUARE.astype(object), "object"),
    ],
)  # fmt: skip
def test_values_that_could_mean_several_things_are_refused(values: Any, named: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        as_mask(values, SIZE)
    assert_one_sentence(caught.value, "mask", named)


def test_the_turn_of_a_camera_comes_before_the_sizes_are_compared(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = Image.fromarray(SQUARE).convert("L")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "mask.png", exif=exif)
    for mask in (tmp_path / "mask.png", Image.open(tmp_path / "mask.png"), (tmp_path / "mask.png").read_bytes()):
        assert np.array_equal(read(mask), SQUARE)


def test_a_file_that_is_no_mask(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(b"nothing")
    for mask in (tmp_path / "mask.png", tmp_path / "nowhere.png", b"nothing", b"", "https://example.org/mask.png"):
        with pytest.raises(ValueError) as caught:
            read(mask)
        assert_one_sentence(caught.value, "mask")
        assert "0x" not in str(caught.value)


# -------------------------------------------------------------------------------------- remarks


def test_remarks_are_made_of_what_is_probably_not_meant() -> None:
    inside, outside = (10.0, 15.0), (35.0, 25.0)
    drags = [Drag(inside, outside), Drag(outside, (35.0, 5.0)), Drag(outside, inside)]
    assert mask_remarks(None, drags) == [] and mask_remarks(SQUARE, []) == []
    (held,) = mask_remarks(SQUARE, drags)
    assert "holds both ends of drag 1" in held and held.endswith(".")
    (free,) = mask_remarks(np.ones((30, 40), bool), drags)
    assert "whole picture" in free
    assert mask_remarks(SQUARE, [Drag((24.4, 19.4), outside)]) == [], "the nearest pixel is free"
    corner = np.zeros((30, 40), bool)
    corner[-1, -1] = True
    assert mask_remarks(corner, [Drag((39.99, 29.99), (0, 0))]) == []


@pytest.mark.skipif(not samples(), reason="the DragBench samples are not beside the project")
def test_there_is_nothing_to_remark_on_real_samples() -> None:
    for sample in samples():
        width, height = Image.open(sample.picture).size
        mask = as_mask(sample.mask * np.uint8(1), (width, height))
        assert np.array_equal(mask, sample.mask) and mask_remarks(mask, sample.drags) == [], sample.name


# ------------------------------------------------------------------------------------ as tensors


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "target"), [((75, 91), (2, 3)), ((75, 91), (9, 11)), ((16, 8), (4, 4)), ((3, 2), (5, 4))]
)
def test_a_mask_at_the_bottleneck_is_the_share_of_each_cell(size: tuple[int, int], target: tuple[int, int]) -> None:
    mask = array(size[1], size[0]) > 170
    ours = mask_tensor(mask, target)
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

    ours = mask_tensor(mask, latent, through=grid)[0, 0].numpy()
    assert np.array_equal(ours, nearest(nearest(mask, grid), latent))
