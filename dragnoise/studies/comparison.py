"""`compare`: any presets and configurations side by side on the same drags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from dragnoise.config import DragConfig
from dragnoise.images.difference import psnr
from dragnoise.images.masks import as_mask
from dragnoise.images.pictures import Picture, as_picture
from dragnoise.models.model import Model
from dragnoise.plots.colours import COLOURS
from dragnoise.plots.panels import NotebookFigure, label, picture_panels, style_axes
from dragnoise.plots.pictures import plot_trajectory, show_picture
from dragnoise.studies.editing import Edit, as_config, edits
from dragnoise.validation import shown


@dataclass(frozen=True, eq=False)
class Comparison:
    """Edits of one picture.  Give it to `compare` again as `done` to add configurations to it."""

    image: Image.Image
    edits: tuple[Edit, ...]

    def __getitem__(self, name: str) -> Edit:
        """The edit of a name; raises KeyError."""
        return {edit.name: edit for edit in self.edits}[name]

    @property
    def data(self) -> dict[str, dict[str, Any]]:
        """Name -> `Edit.numbers`, and with a mask `outside`, the PSNR in dB to the given picture outside it."""
        return {edit.name: edit.numbers | self._outside(edit) for edit in self.edits}

    @property
    def figure(self) -> NotebookFigure:
        """The given picture with its drags and the edits with their anchors' paths; the distances below them."""
        columns = 1 + len(self.edits)
        figure = NotebookFigure(figsize=(2.3 * columns, 5.2), layout="constrained")
        above, below = np.ravel(figure.subfigures(2, 1, height_ratios=(1.25, 1), squeeze=False))
        panels = picture_panels(above.subplots(1, columns, squeeze=False), 1, columns)
        show_picture(panels[0], self.image)
        label(panels[0], "given", "")
        for panel, edit in zip(panels[1:], self.edits, strict=True):
            plot_trajectory(edit.session, image=edit.picture, ax=panel)
            panel.set(xticks=[], yticks=[])
            numbers = edit.numbers
            label(
                panel,
                edit.name,
                f"{numbers['distance']:.1f} px, {numbers['iterations']} it, {numbers['seconds']:.0f} s",
            )
        plot_distances(self.edits, ax=below.subplots())
        return figure

    def _outside(self, edit: Edit) -> dict[str, float]:
        mask = edit.session.mask
        if mask is None or mask.all():
            return {}
        return {"outside": psnr(edit.picture, self.image, ~mask)}


def compare(
    model: Model,
    image: Picture,
    drags: Any,
    editors: Sequence[str | DragConfig] | Mapping[str, str | DragConfig],
    *,
    prompt: str = "",
    mask: Any = None,
    done: Comparison | None = None,
    progress: bool = True,
) -> Comparison:
    """Edit a picture with each of `editors` on the same drags, sharing inversions where their numbers allow it.

    editors: presets by name ("default" is the model's own numbers) and configurations, or {name: either of them}.
    done: an earlier comparison of the same picture, drags and mask, whose edits are not made again.

    Raises ValueError without editors, for two of one name, and for a comparison of something else.
    """
    named = dict(editors) if isinstance(editors, Mapping) else _named(editors)
    if not named:
        raise ValueError('there is nothing to compare; give presets or configurations, such as ["dragnoise", "firm"].')
    configs = {name: as_config(given, model) for name, given in named.items()}
    picture = as_picture(image)
    earlier = {} if done is None else {edit.name: edit for edit in done.edits}
    for edit in earlier.values():
        _require_same(edit, model, picture, prompt, mask)
    made = list(edits(model, picture, drags, configs, prompt=prompt, mask=mask, done=earlier, progress=progress))
    if made and any(edit.session.drags != made[-1].session.drags for edit in made):
        raise ValueError("the earlier comparison has other drags; leave out done=, or give its drags.")
    return Comparison(picture, tuple(made))


def plot_distances(some: Sequence[Edit], *, ax: Axes) -> Axes:
    """The mean distance of the anchors from their objectives after each update, a line for each edit."""
    for i, edit in enumerate(some):
        ax.plot(edit.distances.mean(1), color=COLOURS[i % len(COLOURS)], lw=1.8, label=edit.name)
    style_axes(ax, "iteration", "mean distance (px)")
    ax.set_ylim(bottom=0)
    return ax


def _named(editors: Sequence[str | DragConfig]) -> dict[str, str | DragConfig]:
    if isinstance(editors, str | DragConfig):
        raise TypeError(f"editors must be a list of presets and configurations, not {shown(editors)}.")
    named = {given if isinstance(given, str) else given.editor: given for given in editors}
    if len(named) < len(editors):
        raise ValueError("two of the editors have one name; give {name: config} in place of a list.")
    return named


def _require_same(edit: Edit, model: Model, picture: Image.Image, prompt: str, mask: Any) -> None:
    session = edit.session
    mine, given = session.mask, as_mask(mask, picture.size)
    masked = mine is given if mine is None or given is None else np.array_equal(mine, given)
    pictured = session.image.size == picture.size and session.image.tobytes() == picture.tobytes()
    if not (pictured and masked and session.prompt == prompt and session.model is model):
        raise ValueError("the earlier comparison is of another model, picture, prompt or mask; leave out done=.")
