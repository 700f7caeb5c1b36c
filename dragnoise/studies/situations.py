"""Several points with several objectives (Fig. 7), and what fails (Fig. 13): opposing drags and rotations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dragnoise.config import DragConfig
from dragnoise.geometry import Drag, as_drags
from dragnoise.images.pictures import Picture, as_picture
from dragnoise.models.model import Model
from dragnoise.plots.panels import NotebookFigure, label, picture_panels
from dragnoise.plots.pictures import plot_trajectory
from dragnoise.session.diagnosis import Finding
from dragnoise.studies.editing import Edit, edits

Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Situation:
    """Drags on one picture, what became of them, and what the session says about it."""

    name: str
    edit: Edit
    findings: list[Finding]

    @property
    def failed(self) -> bool:
        return self.edit.session.status != "reached" or bool(self.findings)

    @property
    def data(self) -> dict[str, Any]:
        """Of `Edit.numbers`, whether it failed, and the findings' kinds and sentences."""
        told = [{"what": finding.what, "sentence": finding.sentence} for finding in self.findings]
        return self.edit.numbers | {"failed": self.failed, "findings": told}


def opposing(a: Point, b: Point, far: float) -> tuple[Drag, Drag]:
    """Two drags of `far` pixels from a and b towards each other, a failure named in the paper's section 5."""
    length = math.dist(a, b)
    if length == 0:
        raise ValueError(f"the two points are one, {a}; give two places for drags against each other.")
    dx, dy = ((v - u) / length * far for u, v in zip(a, b, strict=True))
    return Drag(a, (a[0] + dx, a[1] + dy)), Drag(b, (b[0] - dx, b[1] - dy))


def rotation(centre: Point, radius: float, degrees: float, *, points: int = 3) -> tuple[Drag, ...]:
    """Drags along the chords of a turn about a centre, clockwise on the screen, from evenly spaced points."""
    drags = []
    for k in range(points):
        angles = (2 * math.pi * k / points, 2 * math.pi * k / points + math.radians(degrees))
        ends = [(centre[0] + radius * math.cos(t), centre[1] + radius * math.sin(t)) for t in angles]
        drags.append(Drag(*ends))
    return tuple(drags)


def situations(
    model: Model,
    image: Picture,
    asked: Mapping[str, Any],
    *,
    config: DragConfig | None = None,
    prompt: str = "",
    mask: Any = None,
    done: Mapping[str, Situation] | None = None,
    progress: bool = True,
) -> dict[str, Situation]:
    """Edit a picture with each of several sets of drags, {name: drags}, and diagnose the results.

    config: default the model's own.  done: earlier situations; those of the same picture, drags and numbers are not
    computed again.
    """
    picture, numbers = as_picture(image), config or model.default_config
    found = dict(done or {})
    for name, drags in asked.items():
        if name not in found or not _is_of(found[name], picture, drags, numbers):
            (edit,) = edits(
                model, picture, drags, {name: numbers}, prompt=prompt, mask=mask, progress=progress
            )  # fmt: skip
            found[name] = Situation(name, edit, edit.session.diagnose())
    return {name: found[name] for name in asked}


def _is_of(known: Situation, picture: Image.Image, drags: Any, config: DragConfig) -> bool:
    session = known.edit.session
    same = session.image.size == picture.size and session.image.tobytes() == picture.tobytes()
    return same and session.config == config and session.drags == as_drags(drags, picture.size)


def plot_situations(some: Mapping[str, Situation]) -> NotebookFigure:
    """A column each: the drags on the given picture above, the result below with what the session says of it."""
    panels = picture_panels(None, 2, len(some), side=3.0)
    for i, situation in enumerate(some.values()):
        session = situation.edit.session
        for panel, image in ((panels[i], session.image), (panels[len(some) + i], situation.edit.picture)):
            plot_trajectory(session, image=image, ax=panel)
            panel.set(xticks=[], yticks=[])
        label(panels[i], situation.name, "")
        said = ", ".join(dict.fromkeys(finding.what for finding in situation.findings)) or "nothing to say"
        label(panels[len(some) + i], "", f"{session.status}; diagnosis: {said}")
    return panels[0].figure
