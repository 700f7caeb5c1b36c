"""Every layout of a data set, made small, and the real samples where they are."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dragbench import DATA
from helpers import smooth_picture
from PIL import Image

from dragnoise import Drag
from dragnoise.bench.datasets import read_dataset
from dragnoise.toyland import drag_cases, render
from dragnoise.toyland.cases import TEST_SEED

MASK = np.zeros((20, 30), np.uint8)
MASK[5:15, 4:20] = 1
POINTS = [[5, 6], [10, 6], [7.5, 8], [7, 12]]
DRAGS = (Drag((5, 6), (10, 6)), Drag((7.5, 8), (7, 12)))


def folder_of(root: Path, name: str, picture: str, **files: Any) -> Path:
    """A sample's folder: its picture, and files given as text, bytes or a mask."""
    folder = root / name
    folder.mkdir(parents=True)
    smooth_picture(30, 20).save(folder / picture)
    for file, content in files.items():
        path = folder / file.replace("__", ".")
        if isinstance(content, np.ndarray):
            Image.fromarray(content * np.uint8(255)).save(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


DENSE = [point for y in range(3) for x in range(3) for point in ([x, y], [x + 4, y + 2])]
META = pickle.dumps({"prompt": "a fox", "points": POINTS, "mask": MASK})
REGION = pickle.dumps({"prompt": "a fox", "points": DENSE, "mask": MASK})
ENDS = {"source": [[5, 6], [7.5, 8]], "target": [[10, 6], [7, 12]], "prompt": "a fox"}
OPERATIONS = {
    "region_operations": {"1": {"task": "relocation", "centroids": [[5, 6], [10, 6]], "anchors": None}},
    "point_operations": {"begin_points": POINTS[::2], "target_points": POINTS[1::2]}, "editing_prompt": "a fox",
}  # fmt: skip
OURS = {"size": [30, 20], "drags": [{"anchor": d.anchor, "objective": d.objective} for d in DRAGS], "prompt": "a fox"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "dragbench": {"picture": "original_image.png", "meta_data__pkl": META},
    "dragbench-dr": {"picture": "original_image.png", "meta_data__pkl": META, "meta_data_region__pkl": REGION},
    "sde-drag": {"picture": "origin_image.png", "mask__png": MASK, "prompt__json": ENDS},
    "drag100": {"picture": "original.jpg", "mask__png": MASK, "points__json": {"points": POINTS}},
    "red bench": {"picture": "image.png", "region_mask_1__png": MASK, "operations__json": OPERATIONS},
    "ours": {"picture": "picture.png", "mask__png": MASK, "answer__png": np.zeros((20, 30, 3), np.uint8),
             "drags__json": OURS},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout(tmp_path: Path, layout: str) -> None:
    folder_of(tmp_path, "animals/b_1", **LAYOUTS[layout])
    folder_of(tmp_path, "animals/a_0", **LAYOUTS[layout])
    data = read_dataset(tmp_path)
    assert not data.skipped and [s.id for s in data.samples] == ["animals/a_0", "animals/b_1"]
    sample = data.samples[0]
    assert sample.drags == DRAGS and sample.image.size == (30, 20)
    assert sample.prompt == ("" if layout == "drag100" else "a fox")
    assert sample.category == ("a" if layout == "drag100" else "animals")
    assert sample.mask is not None
    np.testing.assert_array_equal(sample.mask, MASK > 0)
    assert (sample.answer_image is not None) == (layout == "ours")
    if layout == "dragbench-dr":
        assert len(sample.regions["points"]) == 18
        (area,) = sample.areas
        assert area.source.sum() == area.target.sum() == 9 and area.target[4, 5] and not area.source[4, 5]
    if layout == "red bench":
        assert sample.regions["1"]["task"] == "relocation"
        (area,) = sample.areas
        np.testing.assert_array_equal(area.source, MASK > 0)
        np.testing.assert_array_equal(area.target, np.roll(MASK, 5, 1) > 0)


def test_a_folder_with_files_of_several_layouts_is_one_sample(tmp_path: Path) -> None:
    """DragBench-SR: SDE-Drag's files, and regions."""
    everything = {k: v for name in ("dragbench-dr", "sde-drag") for k, v in LAYOUTS[name].items() if k != "picture"}
    folder_of(tmp_path, "art/0", "origin_image.png", **everything)
    (sample,) = read_dataset(tmp_path).samples
    assert sample.drags == DRAGS and len(sample.areas) == 1


BAD = {
    "no points": {"meta_data__pkl": pickle.dumps({"prompt": "", "points": [], "mask": MASK})},
    "odd": {"meta_data__pkl": pickle.dumps({"prompt": "", "points": POINTS[:3], "mask": MASK})},
    "outside": {"meta_data__pkl": pickle.dumps({"prompt": "", "points": [[5, 6], [99, 6]], "mask": MASK})},
    "other mask": {"meta_data__pkl": pickle.dumps({"prompt": "", "points": POINTS, "mask": MASK[1:]})},
    "no mask": {"meta_data__pkl": pickle.dumps({"prompt": "", "points": POINTS})},
    "hostile": {"meta_data__pkl": b"cos\nsystem\n(S'true'\ntR."},
    "no json": {"points__json": b"{"},
    "other size": {"drags__json": OURS | {"size": [60, 40]}},
    "other answer": {"drags__json": OURS, "answer__png": np.zeros((5, 5), np.uint8)},
    "prompt": {"prompt__json": ENDS | {"prompt": 3}},
    "lengths": {"prompt__json": ENDS | {"target": [[1, 1]]}},
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_sample_is_reported_and_the_others_are_read(tmp_path: Path, bad: str) -> None:
    folder_of(tmp_path, "good", **LAYOUTS["ours"])
    folder = folder_of(tmp_path, "bad", "original_image.png", **BAD[bad])
    for name in ("origin_image.png", "original.png", "picture.png"):
        smooth_picture(30, 20).save(folder / name)
    data = read_dataset(tmp_path)
    assert [s.id for s in data.samples] == ["good"]
    (told,) = data.skipped
    assert told.startswith("bad is left out (") and "\n" not in told


def test_toyland_has_answers() -> None:
    data = read_dataset("toyland:1")
    assert len(data.samples) == 8
    case = drag_cases("tail", 1, TEST_SEED)[0]
    (tail,) = [s for s in data.samples if s.category == "tail"]
    np.testing.assert_array_equal(np.asarray(tail.answer_image), render(case.answer))


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no sample"):
        read_dataset(tmp_path)
    with pytest.raises(OSError, match="is no folder"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="toyland:N"):
        read_dataset("toyland:x")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no samples in {DATA}; set DRAGNOISE_DATA")
def test_the_real_samples() -> None:
    data = read_dataset(DATA)
    assert not data.skipped and len(data.samples) == 13
    assert all(s.mask is not None and 0 < s.mask.mean() < 1 and s.drags for s in data.samples)
