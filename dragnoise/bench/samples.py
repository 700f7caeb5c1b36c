"""Sample: one picture of a benchmark with its drags, validated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dragnoise.bench.areas import Area
from dragnoise.geometry import Drag, as_drags
from dragnoise.images.masks import as_mask
from dragnoise.images.pictures import as_picture
from dragnoise.validation import as_text


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture to edit.

    id: unique in its data set, "/" between its parts.  picture: its file, or an image.  drags: in the picture's
    pixels.  mask: (H, W) bool, True where the picture may change, or None.  answer: the true result, a file or an
    image, where there is one.  regions: the data set's own description of regions.  areas: regions with their
    targets, where a data set has them.
    """

    id: str
    category: str
    picture: Path | Image.Image
    drags: tuple[Drag, ...]
    mask: np.ndarray | None = None
    prompt: str = ""
    answer: Path | Image.Image | None = None
    regions: Mapping[str, Any] = field(default_factory=dict)
    areas: tuple[Area, ...] = ()

    @property
    def digest(self) -> str:
        """Hexadecimal digits that differ where picture, drags, mask, prompt, answer or areas do."""
        made = hashlib.sha256(repr((self.drags, self.prompt, self.image.size)).encode())
        for picture in (self.image, self.answer_image):
            made.update(b"" if picture is None else picture.tobytes())
        for part in [self.mask, *(part for area in self.areas for part in (area.source, area.target, area.map))]:
            made.update(b"" if part is None else part.tobytes())
        return made.hexdigest()[:16]

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        return as_picture(self.picture)

    @property
    def answer_image(self) -> Image.Image | None:
        """The true result, RGB, or None."""
        return None if self.answer is None else as_picture(self.answer)


def checked_sample(
    id: str,
    category: str,
    picture: Path | Image.Image,
    drags: Any,
    *,
    mask: Any = None,
    prompt: Any = "",
    answer: Path | Image.Image | None = None,
    regions: Mapping[str, Any] | None = None,
    areas: Sequence[Area] = (),
) -> Sample:
    """A sample whose parts fit one another; raises ValueError or TypeError in one sentence for the first that does not.

    mask: anything that `images.masks.as_mask` takes; an empty mask counts as no mask, since DragBench has some.
    """
    size = as_picture(picture).size
    checked = as_drags(drags, size)
    if not checked:
        raise ValueError(f"{id} has no drags; give at least one pair of points.")
    if isinstance(mask, np.ndarray) and not mask.any():
        mask = None
    true = None if answer is None else as_picture(answer).size
    if true not in (None, size):
        raise ValueError(f"the answer of {id} is {true[0]}x{true[1]} and its picture {size[0]}x{size[1]}.")
    text = as_text(f"the prompt of {id}", prompt)
    return Sample(id, category, picture, checked, as_mask(mask, size), text, answer, regions or {}, tuple(areas))


def pairs(points: Any) -> list[tuple[Any, Any]]:
    """Points [x, y] alternating between anchor and objective -> pairs; raises ValueError for an odd number."""
    listed = np.asarray(points, float)
    if listed.ndim != 2 or listed.shape[1] != 2 or len(listed) % 2:
        raise ValueError(f"the points have the shape {listed.shape}, and must be an even number of pairs [x, y].")
    return [(tuple(a), tuple(b)) for a, b in zip(listed[::2].tolist(), listed[1::2].tolist(), strict=True)]
