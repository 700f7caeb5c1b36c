"""Readers of data sets: DragBench, -DR and -SR, SDE-Drag, Drag100, ReD Bench, plain folders and toyland's cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dragnoise.bench.areas import Area, area_of_operation, area_of_pairs
from dragnoise.bench.samples import Sample, checked_sample, pairs
from dragnoise.bench.unpickling import loads
from dragnoise.images.masks import as_mask
from dragnoise.images.pictures import as_picture
from dragnoise.toyland.cases import KINDS, TEST_SEED, drag_cases
from dragnoise.toyland.scenes import caption, render
from dragnoise.validation import as_path, said

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Dataset:
    """Samples in the order of their ids, and of each bad one a sentence that says why it was left out."""

    samples: tuple[Sample, ...]
    skipped: tuple[str, ...] = ()


def read_dataset(source: str | Path) -> Dataset:
    """The data set of a folder, each sample by the layout of its own folder; "toyland" or "toyland:N" for cases.

    N: cases of every kind, default 1.  Raises ValueError where there is no sample, OSError where there is no folder.
    """
    if str(source).partition(":")[0] == "toyland":
        each = str(source).partition(":")[2] or "1"
        if not each.isdecimal() or int(each) < 1:
            raise ValueError(f"data={str(source)!r} must be 'toyland' or 'toyland:N' with N of at least 1.")
        return Dataset(tuple(toyland_samples(int(each))))
    root = as_path(source, name="data", what="a data set's folder, or 'toyland'")
    if not root.is_dir():
        raise NotADirectoryError(f"data={str(source)!r} is no folder; give that of a data set, or 'toyland'.")
    samples, skipped = [], []
    for folder in sorted({path.parent for path in root.rglob("*") if path.name in LAYOUTS and path.is_file()}):
        path = next(folder / name for name in LAYOUTS if (folder / name).is_file())
        name = folder.relative_to(root).as_posix()
        try:
            samples.append(LAYOUTS[path.name](path, name))
        except Exception as error:  # whatever is wrong with one sample, the others are read
            skipped.append(f"{name} is left out ({said(error)}).")
    if not samples and not skipped:
        raise ValueError(
            f"data={str(source)!r} holds no sample; it must hold folders with one of {', '.join(LAYOUTS)}."
        )
    return Dataset(tuple(samples), tuple(skipped))


def dragbench(path: Path, name: str) -> Sample:
    """`<category>/<id>/{original_image.png, meta_data.pkl}`; in -DR and -SR also meta_data_region.pkl.

    Points alternate between anchor and objective; mask uint8 (H, W), above 0 where the picture may change.
    """
    regions: dict[str, Any] = {}
    areas: list[Area] = []
    plain, picture = path.with_name("meta_data.pkl"), _picture(path.parent, "original_image", "origin_image")
    if path.name == "meta_data_region.pkl":
        regions = {"points": loads(path.read_bytes())["points"]}
        starts, ends = zip(*pairs(regions["points"]), strict=True)
        areas = [area_of_pairs(starts, ends, as_picture(picture).size)]
    meta = loads((plain if plain.exists() else path).read_bytes())
    return checked_sample(
        name, _category(name), picture, pairs(meta["points"]),
        mask=np.asarray(meta["mask"]) > 0, prompt=meta["prompt"], regions=regions, areas=areas,
    )  # fmt: skip


def sde_drag(path: Path, name: str) -> Sample:
    """`<id>/{origin_image.png, mask.png, prompt.json {source, target, prompt}}`; source and target [x, y] or lists."""
    told = _json(path)
    starts, ends = (np.asarray(told[key], float).reshape(-1, 2).tolist() for key in ("source", "target"))
    mask = path.with_name("mask.png")
    return checked_sample(
        name, _category(name), _picture(path.parent, "origin_image"), list(zip(starts, ends, strict=True)),
        mask=mask if mask.exists() else None, prompt=told.get("prompt", ""),
    )  # fmt: skip


def drag100(path: Path, name: str) -> Sample:
    """`<id>/{original.jpg, mask.png, points.json {"points": [[x, y], ...]}}`, anchor and objective alternating."""
    mask = path.with_name("mask.png")
    return checked_sample(
        name, name.rpartition("/")[2].rpartition("_")[0] or name, _picture(path.parent, "original"),
        pairs(_json(path)["points"]), mask=mask if mask.exists() else None,
    )  # fmt: skip


def red_bench(path: Path, name: str) -> Sample:
    """A folder with a picture, a PNG mask a region, and JSON with region_operations, point_operations and prompts.

    Drags are the point operations, or the regions' centroids where there are none; the mask is all regions together.
    Masks belong to regions in the order of their names.
    """
    told = _json(path)
    points, regions = told.get("point_operations") or {}, told.get("region_operations") or {}
    if points:
        drags = list(zip(points["begin_points"], points["target_points"], strict=True))
    else:
        drags = [tuple(region["centroids"]) for region in regions.values()]
    picture = _picture(path.parent, "original", "image", "source")
    size = as_picture(picture).size
    found = (as_mask(file, size) for file in sorted(path.parent.glob("*mask*.png")))
    masks = [mask for mask in found if mask is not None]
    mask = np.logical_or.reduce(masks) if masks else None
    matched = zip(masks, regions.values(), strict=True) if len(masks) == len(regions) else ()
    areas = [area_of_operation(region, operation) for region, operation in matched]
    prompt = told.get("editing_prompt") or told.get("background_prompt") or ""
    return checked_sample(name, _category(name), picture, drags, mask=mask, prompt=prompt, regions=regions, areas=areas)


def plain_folder(path: Path, name: str) -> Sample:
    """Our own layout: a picture, drags.json as the studio saves it, and, if wanted, mask.png and answer.png.

    drags.json: {"size": [w, h], "drags": [{"anchor": [x, y], "objective": [x, y]}, ...], "prompt": ...}; only drags
    are required.
    """
    told = _json(path)
    listed = told["drags"] if isinstance(told, dict) else told
    picture = _picture(path.parent, "picture", "image", "original")
    size = list(as_picture(picture).size)
    if isinstance(told, dict) and told.get("size", size) != size:
        raise ValueError(f"the drags are of a picture of {told['size']} pixels, and this one has {size}")
    drags = [(d["anchor"], d["objective"]) if isinstance(d, dict) else tuple(d) for d in listed]
    mask, answer = path.with_name("mask.png"), path.with_name("answer.png")
    return checked_sample(
        name, _category(name), picture, drags,
        mask=mask if mask.exists() else None, answer=answer if answer.exists() else None,
        prompt=told.get("prompt", "") if isinstance(told, dict) else "",
    )  # fmt: skip


def toyland_samples(each: int = 1, *, seed: int = TEST_SEED) -> Iterator[Sample]:
    """`each` rendered cases of every kind, with their true answers; the id has the case's kind and number."""
    for kind in KINDS:
        for i, case in enumerate(drag_cases(kind, each, seed)):
            yield checked_sample(
                f"{kind}/{i}", kind, Image.fromarray(render(case.scene)), case.drags, mask=case.mask,
                prompt=caption(case.scene), answer=Image.fromarray(render(case.answer)), regions={"names": case.names},
            )  # fmt: skip


LAYOUTS: dict[str, Callable[[Path, str], Sample]] = {
    "meta_data_region.pkl": dragbench,
    "meta_data.pkl": dragbench,
    "prompt.json": sde_drag,
    "points.json": drag100,
    "operations.json": red_bench,
    "drags.json": plain_folder,
}
"""The file that a sample's folder is known by -> its reader (path of that file, id of the sample).

Of several in one folder the first here is taken: DragBench-DR and -SR have the files of the sets they came from too.
"""


def _category(name: str) -> str:
    return name.rpartition("/")[0] or "all"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _picture(folder: Path, *stems: str) -> Path:
    """The picture of a folder by its name; raises FileNotFoundError that says what was looked for."""
    for stem in stems:
        for suffix in SUFFIXES:
            if (path := folder / f"{stem}{suffix}").is_file():
                return path
    raise FileNotFoundError(f"there is no picture {' or '.join(f'{stem}.png' for stem in stems)} beside it")
