"""CompareView: the edits of a comparison side by side, each with its own iteration slider, linked or not."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from PIL import Image

from dragnoise.plots import plot_trajectory
from dragnoise.session import stages
from dragnoise.studies.comparison import Comparison
from dragnoise.validation import shown
from dragnoise_widgets.controls import UNSEEN_LABELS, named
from dragnoise_widgets.formatting import format_number
from dragnoise_widgets.pages.figures import FigureImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dragnoise.studies.editing import Edit

SIDE, NARROW = 240, 170
"""Width of a column in CSS pixels, and the least before columns go below one another."""

STYLE = f"""<style>
.dragnoise-compare .widget-label-basic {{ display: flex; align-items: center }}
.dragnoise-compare .widget-html-content {{ line-height: 1.4 }}
.dragnoise-compare b {{ display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }}
{UNSEEN_LABELS}
</style>"""


class CompareView(widgets.VBox):
    """Show `dragnoise.compare(...)` in a cell: `CompareView(comparison)`.

    Every column has a slider over its edit's iterations.  While *linked* is ticked, moving one moves all to the same
    iteration, or to their last one.  A picture of an iteration is the one that the U-Net predicts of it in one step,
    made when it is first shown; that of the last one is the rendered result.
    """

    def __init__(self, comparison: Comparison) -> None:
        if not isinstance(comparison, Comparison):
            raise TypeError(f"CompareView shows what dragnoise.compare(...) gives, not {shown(comparison)}.")
        self.comparison = comparison
        self.linked = widgets.Checkbox(True, description="move all sliders together", indent=False)
        self.columns = [Column(edit) for edit in comparison.edits]
        for column in self.columns:
            column.slider.observe(self._moved, "value")
        columns = f"repeat(auto-fit, minmax({NARROW}px, 1fr))"
        wide = f"{len(self.columns) * (SIDE + 12)}px"
        layout = {"grid_template_columns": columns, "grid_gap": "12px", "max_width": wide}
        row = widgets.GridBox(self.columns, layout=layout)
        super().__init__([self.linked, row, widgets.HTML(STYLE, layout={"display": "none"})])
        self.add_class("dragnoise-compare")

    def show(self, iteration: int) -> None:
        """Move every column to an iteration, or to its last one."""
        for column in self.columns:
            column.slider.value = min(iteration, column.slider.max)

    def _moved(self, change: Any) -> None:
        moved = next(column for column in self.columns if column.slider is change["owner"])
        others = [column for column in self.columns if column is not moved]
        if self.linked.value and not any(column.following for column in self.columns):
            moved.following = True
            try:
                for column in others:
                    column.slider.value = min(change["new"], column.slider.max)
            finally:
                moved.following = False


class Column(widgets.VBox):
    """One edit: its name, the picture of an iteration with the anchors' paths up to it, a slider and the numbers.

    following: whether others are being moved because this one was.
    """

    def __init__(self, edit: Edit) -> None:
        self.edit, self.following = edit, False
        self._pictures: dict[int, Image.Image] = {}
        width, height = edit.picture.size
        self.figure = FigureImage(SIDE, round(SIDE * min(max(height / width, 0.4), 1.6)))
        last = edit.session.history[-1].iteration
        slider = widgets.IntSlider(
            last, 0, last, continuous_update=False, readout=False, layout={"width": "auto", "margin": "0 8px"}
        )
        self.slider = named(slider, f"iteration of {edit.name}")
        self.numbers = widgets.HTML()
        self.slider.observe(lambda _: self._draw(), "value")
        name = html.escape(edit.name)
        super().__init__(
            [widgets.HTML(f'<b title="{name}">{name}</b>'), self.figure, self.slider, self.numbers],
            layout={"min_width": "0", "overflow": "hidden"},
        )
        self._draw()

    def picture(self, k: int) -> Image.Image:
        """The picture of iteration k: given at 0, rendered at the last, predicted in one step between."""
        if k == 0:
            return self.edit.session.image
        if k == self.slider.max:
            return self.edit.picture
        if k not in self._pictures:
            session = self.edit.session.branch(k)
            latents = stages.predicted(session.store)
            assert latents is not None, "there are iterations and a model"
            self._pictures[k] = session.picture_of(latents)
        return self._pictures[k]

    def _draw(self) -> None:
        k, session = self.slider.value, self.edit.session

        def paint(figure: Figure) -> None:
            figure.set_layout_engine("none")
            ax = figure.add_axes((0, 0, 1, 1))
            plot_trajectory(session.history[: k + 1], image=self.picture(k), drags=session.drags, ax=ax)
            ax.set_axis_off()

        self.figure.draw(paint)
        distance = self.edit.distances[k].mean()
        loss = session.history[k].loss
        said = "" if loss != loss else f", loss {format_number(loss)}"  # NaN where nothing is minimised
        quick = " · quick look" if 0 < k < self.slider.max else ""
        self.numbers.value = f"iteration {k}: {distance:.1f} px to go{said}{quick}"
