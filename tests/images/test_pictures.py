"""Pictures of every kind and size, their colours, and what is refused."""

from __future__ import annotations

import io
import math
import struct
import sys
import warnings
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, resized, smooth_picture
from PIL import Image, ImageCms, features

from dragnoise import DragConfig, DragSession, Model
from dragnoise.editors.parts.area import editable_area
from dragnoise.images import files, masks, pictures
from dragnoise.images.profiles import rgb_profile

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


def test_twelve_bits_in_sixteen_are_not_taken_for_black(tmp_path: Path) -> None:
    """Nobody writes where the white is: in PNG it is 65535, elsewhere it may be 4095."""
    deep = array(6, 5).astype(np.uint16) * 16
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for source in (deep, Image.fromarray(deep), tmp_path / "deep.tif"):
        with pytest.raises(ValueError) as caught:
            pictures.as_picture(source)
        assert_one_sentence(caught.value, "nearly black", "give")
    assert np.array_equal(as_array(tmp_path / "deep.png")[..., 0], np.round(deep / 257))
    mask = np.where(deep > 2000, 255, 0).astype(np.uint16)
    assert np.array_equal(pictures.as_mask(np.stack([mask] * 3, -1), (5, 6)), mask > 0)


# ------------------------------------------------------------------------------- ranges of floats


def test_a_range_left_by_a_hair_is_clipped() -> None:
    grey = np.full((16, 16, 3), 0.5, np.float32)
    for value in (1.0000001, 1.02, 1.2, -0.0001, -0.2):
        changed = grey.copy()
        changed[0, 0, 0] = value
        result = as_array(changed)
        assert result[1:].min() == result[1:].max() == 128 and result[0, 0, 0] in (0, 255)
    sharp = Image.fromarray(np.kron(np.eye(2), np.ones((32, 32))).astype(np.float32))
    overshoot = np.asarray(sharp.resize((157, 157), Image.Resampling.LANCZOS))
    assert overshoot.max() > 1.05 and overshoot.min() < -0.05
    expected = (np.clip(overshoot, 0, 1) * 255 + 0.5).astype(np.uint8)
    assert np.array_equal(as_array(overshoot)[..., 0], expected)
    assert np.array_equal(as_array(Image.fromarray(overshoot))[..., 0], expected)
    assert np.array_equal(as_array(overshoot.astype(np.float64) * 255)[..., 0], expected)


RAMP = np.linspace(0, 1, 256).reshape(16, 16)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP, RAMP * 255), (RAMP.astype(np.float16), RAMP * 255), (RAMP * 255, RAMP * 255), (RAMP * 65535, RAMP * 255),
        (np.floor(RAMP * 3), np.floor(RAMP * 3)), (np.round(RAMP * 255).astype(np.int64), RAMP * 255),
        (np.round(RAMP * 65535).astype(np.int32), RAMP * 255), (np.zeros((4, 4), np.int64), np.zeros((4, 4))),
        (np.round(RAMP * 260 - 3).astype(np.int16), np.clip(np.round(RAMP * 260 - 3), 0, 255)),
    ],
)  # fmt: skip
def test_ranges_that_are_clear(values: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(as_array(values)[..., 0], expected, atol=0.51)


def one_at(value: float, kind: Any = np.float32) -> np.ndarray:
    values = (RAMP * (200 if kind is np.int64 else 1)).astype(kind)
    values[3, 3] = value
    return values


@pytest.mark.parametrize(
    "values",
    [
        RAMP * 2 - 1, RAMP * 1.2 - 0.2, RAMP * 300 - 45, np.where(RAMP > 0.9, 1, 0.3) - RAMP, one_at(-1), one_at(3),
        one_at(200), one_at(40_000),
        one_at(-300, np.int64), one_at(3000, np.int64), one_at(10**6, np.int64), np.where(RAMP > 0.9, 7, RAMP),
        (RAMP > 0.5).astype(np.int64), (RAMP * 255).astype(np.uint16), RAMP * 1e6, -RAMP,
        (RAMP * 4095).astype(np.uint16), (RAMP * 4000).astype(np.int32), RAMP * 4000 + 50, RAMP + 1.4,
    ],
)  # fmt: skip
def test_a_range_that_is_not_clear_is_refused_and_never_guessed(values: np.ndarray) -> None:
    with pytest.raises(ValueError) as caught:
        pictures.as_picture(values)
    assert_one_sentence(caught.value, "values", "give")


# ------------------------------------------------------------------------------------------ colour


def profile(*primaries: tuple[float, float, float], gamma: float = 2.2) -> bytes:
    """An ICC profile of RGB by its primaries' XYZ under D50."""

    def fixed(x: float) -> bytes:
        return struct.pack(">i", round(x * 65536))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 3) + b"P3\0" + b"\0" * 78
    tags = [(b"desc", text), (b"cprt", b"text\0\0\0\0own\0"), (b"wtpt", xyz((0.9642, 1, 0.8249)))]
    tags += [(name + b"XYZ", xyz(values)) for name, values in zip((b"r", b"g", b"b"), primaries, strict=True)]
    tags += [(name + b"TRC", curve) for name in (b"r", b"g", b"b")]
    offset, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags:
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    head = struct.pack(">I", 128 + len(table) + len(data)) + b"\0" * 4 + struct.pack(">I", 0x02400000)
    head += b"mntrRGB XYZ " + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    return (head + fixed(0.9642) + fixed(1) + fixed(0.8249)).ljust(128, b"\0") + table + data


P3 = profile((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE = profile((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ImageCms.createProfile("sRGB")


def converted(picture: Image.Image, icc: bytes) -> np.ndarray:
    result = ImageCms.profileToProfile(picture, ImageCms.ImageCmsProfile(io.BytesIO(icc)), SRGB, outputMode="RGB")
    return np.asarray(result)


@pytest.mark.parametrize("icc", [P3, ADOBE])
def test_colours_reach_the_model_as_srgb(tmp_path: Path, icc: bytes) -> None:
    picture = smooth_picture(24, 16)
    expected = converted(picture, icc)
    assert np.abs(expected.astype(int) - np.asarray(picture)).max() > 10
    for suffix in ("png", "tif", "jpg"):
        path = tmp_path / f"picture.{suffix}"
        picture.save(path, icc_profile=icc, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
        for source in (path, Image.open(path)):
            result = pictures.as_picture(source)
            assert np.abs(np.asarray(result).astype(int) - expected).mean() < (2 if suffix == "jpg" else 0.01)
            assert result.info == {}
    clear = picture.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    clear.info["icc_profile"] = icc
    share = np.asarray(clear)[..., 3:] / 255
    np.testing.assert_allclose(as_array(clear), expected * share + 255 * (1 - share), atol=1.01)
    palette = picture.quantize(8)
    palette.info["icc_profile"] = icc
    assert np.array_equal(as_array(palette), converted(palette.convert("RGB"), icc))


def exif_of(colour_space: int, interoperability: bytes) -> bytes:
    """EXIF data as cameras write them: ColorSpace, and the index of the interoperability IFD below the Exif IFD."""
    ifds = struct.pack("<HHHII", 1, 0x8769, 4, 1, 26) + b"\0\0\0\0"
    ifds += struct.pack("<HHHIIHHII", 2, 0xA001, 3, 1, colour_space, 0xA005, 4, 1, 56) + b"\0\0\0\0"
    ifds += struct.pack("<HHHI4s", 1, 1, 2, 4, interoperability + b"\0") + b"\0\0\0\0"
    return b"Exif\0\0II*\0\x08\0\0\0" + ifds


@pytest.mark.parametrize(("colour_space", "index"), [(65535, b"R03"), (2, b"R98")])
def test_adobe_rgb_that_only_the_exif_tells(tmp_path: Path, colour_space: int, index: bytes) -> None:
    picture, expected = smooth_picture(24, 16), converted(smooth_picture(24, 16), ADOBE).astype(int)
    lossless: dict[str, dict[str, Any]] = {
        "png": {},
        "webp": {"lossless": True},
        "jpg": {"quality": 100, "subsampling": 0},
    }
    for suffix, options in lossless.items():
        path = tmp_path / f"it.{suffix}"
        picture.save(path, exif=exif_of(colour_space, index), **options)
        for source in (path, Image.open(path)):
            result = pictures.as_picture(source)
            assert np.abs(np.asarray(result).astype(int) - expected).mean() < (2 if suffix == "jpg" else 0.5)
            assert result.info == {}


def test_exif_that_says_srgb_or_nothing(tmp_path: Path) -> None:
    picture = smooth_picture(24, 16)
    for colour_space, index in ((1, b"R98"), (65535, b"R98"), (65535, b"xyz")):
        picture.save(tmp_path / "it.png", exif=exif_of(colour_space, index))
        assert np.array_equal(as_array(tmp_path / "it.png"), np.asarray(picture))


def chunked(picture: Image.Image, **chunks: tuple[int, ...]) -> bytes:
    """A PNG with chunks of 32-bit numbers before its pixels."""
    picture.save(buffer := io.BytesIO(), "PNG")
    head, data = buffer.getvalue()[:33], b""
    for name, numbers in chunks.items():
        body = name.encode() + struct.pack(f">{len(numbers)}I", *numbers)
        data += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return head + data + buffer.getvalue()[33:]


SRGB_CURVE = tuple(
    round(65535 * (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4)) for x in np.linspace(0, 1, 4096)
)
CHRM_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
CHRM_P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def test_colours_that_pngs_own_chunks_tell() -> None:
    picture = smooth_picture(24, 16)

    def read(**chunks: tuple[int, ...]) -> np.ndarray:
        return np.asarray(pictures.picture_of_file(chunked(picture, **chunks))).astype(int)

    for usual in ({"gAMA": (45455,)}, {"cHRM": CHRM_SRGB}, {"gAMA": (45455,), "cHRM": CHRM_SRGB}):
        assert np.array_equal(read(**usual), np.asarray(picture))
    assert np.abs(read(gAMA=(45455,), cHRM=CHRM_P3) - converted(picture, P3)).max() <= 1
    light = np.asarray(picture) / 255
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(read(gAMA=(100000,)) - curve * 255).max() <= 2  # a linear picture
    for nonsense in ({"gAMA": (1,)}, {"cHRM": (1,) * 8}, {"cHRM": (0,) * 8}):
        assert np.array_equal(read(**nonsense), np.asarray(picture))


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> tuple[int]:
    """The content of PNG's cICP chunk as one number of 32 bits."""
    return (int.from_bytes(bytes((primaries, transfer, matrix, full))),)


def test_code_points_of_png_are_applied_and_come_before_a_profile(tmp_path: Path) -> None:
    picture, plain = smooth_picture(24, 16), np.asarray(smooth_picture(24, 16)).astype(int)
    (tmp_path / "p3.png").write_bytes(chunked(picture, cICP=cicp(12, 13)))
    unopened, opened = Image.open(tmp_path / "p3.png"), Image.open(tmp_path / "p3.png")
    opened.load()
    expected = converted(picture, rgb_profile((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), SRGB_CURVE))
    assert np.abs(expected.astype(int) - plain).max() > 10
    for source in (tmp_path / "p3.png", unopened, opened):
        assert np.abs(as_array(source).astype(int) - expected).max() <= 1
    linear = np.asarray(pictures.picture_of_file(chunked(picture, cICP=cicp(1, 8)))).astype(int)
    light = plain / 255
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(linear - curve * 255).max() <= 2
    for says_srgb in ({"cICP": cicp(1, 13)}, {"cICP": cicp(1, 13), "cHRM": CHRM_P3}, {"cICP": cicp(2, 2)}):
        assert np.array_equal(np.asarray(pictures.picture_of_file(chunked(picture, **says_srgb))), plain)
    for wide in (9, 5, 22):
        assert not np.array_equal(np.asarray(pictures.picture_of_file(chunked(picture, cICP=cicp(wide, 13)))), plain)


@pytest.mark.parametrize(
    ("points", "named"),
    [
        (cicp(9, 16), "PQ"), (cicp(12, 18), "HLG"), (cicp(3, 13), "primaries 3"), (cicp(1, 9), "transfer 9"),
        (cicp(12, 13, 0, 0), "narrow range"),
    ],
)  # fmt: skip
def test_code_points_that_cannot_be_converted_are_refused(tmp_path: Path, points: tuple[int], named: str) -> None:
    (tmp_path / "it.png").write_bytes(chunked(smooth_picture(24, 16), cICP=points))
    with pytest.raises(ValueError) as caught:
        pictures.as_picture(tmp_path / "it.png")
    assert_one_sentence(caught.value, named, "export it")
    assert masks.as_mask(tmp_path / "it.png", (24, 16)) is not None, "a mask has no colours"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_code_points_of_avif_are_applied() -> None:
    smooth_picture(24, 16).save(buffer := io.BytesIO(), "AVIF", quality=100)
    data, where = bytearray(buffer.getvalue()), buffer.getvalue().index(b"colrnclx") + 8
    for primaries, transfer, changed in ((1, 13, False), (12, 13, True), (9, 1, True)):
        data[where : where + 4] = struct.pack(">HH", primaries, transfer)
        plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        difference = np.abs(np.asarray(pictures.picture_of_file(bytes(data))).astype(int) - plain).max()
        assert (difference > 10) if changed else (difference == 0)
    data[where : where + 4] = struct.pack(">HH", 9, 16)
    with pytest.raises(ValueError, match="high dynamic range"):
        pictures.picture_of_file(bytes(data))


def test_a_picture_that_is_srgb_keeps_its_pixels() -> None:
    picture = smooth_picture(24, 16)
    picture.info["icc_profile"] = ImageCms.ImageCmsProfile(SRGB).tobytes()
    result = pictures.as_picture(picture)
    assert np.array_equal(np.asarray(result), np.asarray(picture)) and result.info == {}
    assert "icc_profile" in picture.info, "the given one is left as it is"


@pytest.mark.parametrize("icc", [b"no profile", P3[:200], b"\0" * 500])
def test_a_broken_profile_is_ignored_with_a_warning(icc: bytes) -> None:
    picture = smooth_picture(24, 16)
    picture.info["icc_profile"] = icc
    with pytest.warns(UserWarning, match="profile"):
        result = pictures.as_picture(picture)
    assert np.array_equal(np.asarray(result), np.asarray(picture)) and result.info == {}
    cmyk = picture.convert("CMYK")
    cmyk.info["icc_profile"] = P3
    with pytest.warns(UserWarning, match="RGB and the picture is CMYK"):
        pictures.as_picture(cmyk)


def test_grey_with_a_profile_of_rgb_and_lab() -> None:
    grey = Image.linear_gradient("L").resize((8, 8))
    grey.info["icc_profile"] = P3
    assert np.array_equal(as_array(grey), converted(grey.convert("RGB"), P3))
    lab = ImageCms.profileToProfile(smooth_picture(24, 16), SRGB, ImageCms.createProfile("LAB"), outputMode="LAB")
    assert np.abs(as_array(lab).astype(int) - np.asarray(smooth_picture(24, 16))).mean() < 3


def test_one_transparent_colour(tmp_path: Path) -> None:
    values = array(6, 5).astype(np.uint16) * 257
    values[0, 0], values[1, 1] = 777, 0
    Image.fromarray(values).save(tmp_path / "deep.png", transparency=777)
    colours = array(6, 5, 3)
    colours[0, 0], colours[1, 1] = (1, 2, 3), 0
    Image.fromarray(colours).save(tmp_path / "colours.png", transparency=(1, 2, 3))
    Image.fromarray(colours[..., 0]).save(tmp_path / "grey.png", transparency=1)
    palette = Image.fromarray(colours).quantize(16)
    palette.save(tmp_path / "palette.png", transparency=bytes([0] * 8 + [255] * 8))
    for name in ("deep", "colours", "grey"):
        for source in (tmp_path / f"{name}.png", Image.open(tmp_path / f"{name}.png")):
            result = as_array(source)
            assert result[0, 0].tolist() == [255, 255, 255] and result[1, 1].tolist() == [0, 0, 0], name
    index = np.asarray(palette)
    assert (as_array(tmp_path / "palette.png")[index < 8] == 255).all()


@pytest.mark.parametrize("mode", files.MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert as_array(Image.new(mode, (3, 2))).shape == (2, 3, 3)


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


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow_heif.register_heif_opener()"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"), (b"\0\0\0\x18ftypcrx \0\0\0\0", "raw file"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"), (b"<svg xmlns='...'/>", "SVG"), (b"%PDF-1.7", "PDF"),
        (b"<?xml version='1.0'?>\n<!-- by me -->\n<svg/>", "SVG"), (b"\n<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"\x93NUMPY\1\0v\0", "numpy.load"),
        (b"PK\x03\x04rest", "zip"), (b"", "empty"), (b"plain words", "no format"),
        (b"\x89PNG\r\n\x1a\nrest", "picture"),
        (b"II*\0\x08\0\0\0", "picture"),
    ],
)  # fmt: skip
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    for read in (lambda: pictures.as_picture(path), lambda: pictures.picture_of_file(content)):
        with pytest.raises(ValueError) as caught:
            read()
        assert_one_sentence(caught.value, named)
        assert "0x" not in str(caught.value) and "BytesIO" not in str(caught.value)


def test_a_preview_of_a_raw_file_is_not_the_picture(tmp_path: Path) -> None:
    smooth_picture(16, 12).save(tmp_path / "photo.dng", "TIFF", tiffinfo={254: 1})
    with pytest.raises(ValueError) as caught:
        pictures.as_picture(tmp_path / "photo.dng")
    assert_one_sentence(caught.value, "raw file")


@pytest.mark.parametrize(
    "path",
    [
        "https://example.org/a.png", "http://example.org/a.png", "https:/example.org/a.png", "HTTPS://example.org",
        Path("https://example.org/a.png"), "s3://bucket/a.png", "data:image/png;base64,AAAA", "file:///a.png",
    ],
)  # fmt: skip
def test_an_address_is_no_path(path: Any) -> None:
    with pytest.raises(ValueError) as caught:
        pictures.as_picture(path)
    assert_one_sentence(caught.value, "address", "download")


@pytest.mark.parametrize("path", ["", " ", "a\0b", "x" * 5000, "\ud800", "~nobody_of_this_name/a.png"])
def test_texts_that_are_no_path(path: str) -> None:
    with pytest.raises(ValueError) as caught:
        pictures.as_picture(path)
    assert_one_sentence(caught.value, "picture")


def test_the_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    smooth_picture(8, 6).save(tmp_path / "a.png")
    assert pictures.as_picture("~/a.png").size == pictures.as_picture(Path("~/a.png")).size == (8, 6)


def test_too_many_pixels_and_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smooth_picture(60, 60).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError) as caught:
        pictures.as_picture(tmp_path / "a.png")
    assert_one_sentence(caught.value, "a.png", "pixels", "smaller")
    monkeypatch.undo()

    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(files, "upright", full)
    monkeypatch.setattr(pictures, "upright", full)
    for picture in (tmp_path / "a.png", smooth_picture(6, 6)):
        with pytest.raises(MemoryError) as lacking:
            pictures.as_picture(picture)
        assert_one_sentence(lacking.value, "memory", "smaller")


def test_the_first_of_several_frames_is_taken_and_said(tmp_path: Path) -> None:
    frames = [smooth_picture(16, 12, seed) for seed in range(3)]
    for suffix in ("png", "tif", "gif", "webp"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        with pytest.warns(UserWarning, match="3 frames"):
            taken = as_array(tmp_path / f"a.{suffix}").astype(int)
        assert np.abs(taken - np.asarray(frames[0])).mean() < 20
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:])  # a phone's photo with its depth map
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_array(tmp_path / "a.mpo")


def test_broken_exif_data_do_not_keep_a_picture_from_being_read() -> None:
    picture = smooth_picture(16, 12)
    picture.info["exif"] = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(as_array(picture), np.asarray(picture))


class Table:
    """As pandas' and others' objects: convertible, but not an array."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return np.zeros((4, 5), np.uint8)


@pytest.mark.parametrize(
    ("picture", "named"),
    [
        (torch.zeros(3, 8, 9), "(3, 8, 9)"), (torch.zeros(8, 9, 3), "permute"), (torch.zeros(1, 3, 8, 9), "tensor"),
        (Table(), "numpy.asarray"), ([[1, 2]], "numpy.asarray"), (b"abc", "BytesIO"),
        (io.BytesIO(b""), "PIL.Image.open"),
        (np.zeros((3, 8, 9), np.uint8), "moveaxis"), (np.zeros((4, 5), object), "object"),
        (np.zeros((4, 5), "datetime64[s]"), "datetime64"), (np.ma.masked_less(RAMP, 0.5), "filled"),
        (np.zeros((4, 5), complex), "complex128"), (object(), "object"),
    ],
)  # fmt: skip
def test_objects_that_are_no_pictures_and_what_to_give(picture: Any, named: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        pictures.as_picture(picture)
    assert_one_sentence(caught.value, named, "give" if "array" in type(picture).__name__ else "picture")
    assert "0x" not in str(caught.value)


def test_a_closed_image_and_one_pixel() -> None:
    data = io.BytesIO()
    smooth_picture(8, 6).save(data, "PNG")
    closed = Image.open(data)
    closed.close()
    with pytest.raises(ValueError) as caught:
        pictures.as_picture(closed)
    assert_one_sentence(caught.value, "pixels cannot be read")
    assert as_array(np.full((1, 1), 9, np.uint8)).tolist() == [[[9, 9, 9]]]
    assert as_array(np.ma.masked_array(array(4, 5))).shape == (4, 5, 3), "nothing is hidden"


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


@pytest.mark.parametrize("size", [(67, 70), (129, 67)])
@pytest.mark.parametrize("kind", ["sd15", "three_block"])
def test_sizes_that_are_no_multiple_of_the_factor_are_padded_and_cropped(
    request: pytest.FixtureRequest, size: tuple[int, int], kind: str
) -> None:
    """With a VAE that keeps every cell's mean: the result is the picture, nothing of it shifted."""
    model = Model(request.getfixturevalue(kind))
    session = DragSession(model, smooth_picture(*size), config=CONFIG.replace(resize="never"))
    frame, f = session.state.frame, model.factor
    assert frame.working == size and frame.padded == tuple(math.ceil(length / f) * f for length in size)
    padded = pictures.padded_picture(session.image, frame)
    assert padded.size == frame.padded and padded.crop((0, 0, *size)).tobytes() == session.image.tobytes()
    assert np.array_equal(
        np.asarray(padded)[:, size[0] :], np.asarray(padded)[:, [size[0] - 1] * (frame.padded[0] - size[0])]
    )
    torch.testing.assert_close(session.latents, model.encode_picture(padded, frame.padded).cpu())
    assert session.latents.shape[2:] == (frame.padded[1] // f, frame.padded[0] // f)
    pixels = model.decode_latents(session.latents)
    assert tuple(pixels.shape[:1:-1]) == frame.padded
    expected = pictures.tensor_picture(pixels, frame.padded).crop((0, 0, *size))
    assert session.picture_of(session.latents).tobytes() == expected.tobytes()


def test_a_padded_picture_is_edited_and_held_like_any_other(small: Model) -> None:
    session = DragSession(small, smooth_picture(67, 70), config=CONFIG.replace(resize="never"))
    session.drags = [((10, 10), (50, 60))]
    mask = np.zeros((70, 67), bool)
    mask[:, 33:] = True
    session.mask = mask
    result = session.run(progress=False)
    assert result.size == (67, 70)
    np.testing.assert_allclose(session.history[1].anchors, [(10, 10)], atol=1e-9)
    np.testing.assert_allclose(session.history[1].distances, [math.dist((10, 10), (50, 60))])
    task = session.store.engine.editor(session.state).task
    held = editable_area(task, (task.latents.shape[-1], task.latents.shape[-2]))
    assert held is not None and held[..., -1].min() == 1, "the mask goes on beyond the picture's edge"


def test_the_released_program_stretches_the_result_as_it_always_did(sd15: Any) -> None:
    model = Model(sd15)
    session = DragSession(
        model, smooth_picture(67, 70), config=DragConfig.released(steps=4, edit_from=2, refine_from=0)
    )
    frame = session.state.frame
    assert frame.padded == frame.working == (67, 70) and frame.grid == (33, 35)
    assert session.latents.shape[2:] == (8, 8)
    pixels = model.decode_latents(session.latents)
    expected = pictures.tensor_picture(pixels, (67, 70), released=True)
    assert session.picture_of(session.latents).tobytes() == expected.tobytes()


def test_a_picture_is_read_while_another_thread_imports_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # as it is at first: there, and empty
    rgb = np.zeros((8, 8, 3), np.uint8)
    assert np.array_equal(np.asarray(pictures.as_picture(rgb)), rgb)
