"""Two small curves beside the pictures: the loss and the distances to go, with a line at the iteration shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np

from dragnoise.plots.colours import COLOURS
from dragnoise.session.history import History
from dragnoise_widgets.formatting import format_number

WIDTH, HEIGHT = 240, 72
"""Units of a curve's drawing; it is as wide as there is room."""

LEFT, RIGHT, TOP, BOTTOM = 4, 4, 18, 6

Line = tuple[str, Sequence[float]]
"""A colour of CSS, and a value for each iteration from 0 on; NaN where there is none."""


class Curves(widgets.HTML):
    """Drawn as SVG in the page's colours, in a millisecond, so that it can follow every iteration."""

    value: str

    def __init__(self) -> None:
        super().__init__(layout={"width": "100%", "margin": "0", "overflow": "hidden"})
        self.show(History(), None, 0)

    def show(self, history: History, to_go: np.ndarray | None, k: int, *, tolerance: float = 0.0) -> None:
        """Show the loss of every iteration and the distances after it, iteration k marked.

        to_go: (m,) distances after the last update, None where they are not known; a snapshot has those from before
        its update.  tolerance: the distance that counts as arrived.  All lengths are image pixels.
        """
        losses, distances = [snapshot.loss for snapshot in history], [snapshot.distances for snapshot in history]
        after = [*distances[1:], distances[-1] if to_go is None else to_go] if distances else []
        if len({len(each) for each in after}) > 1:  # other drags
            after = []
        far = list(zip(*(each.tolist() for each in after), strict=True))
        lines = [(COLOURS[i % len(COLOURS)], one) for i, one in enumerate(far)]
        drawn = curve("loss", [("currentColor", losses)], k), curve("px to go", lines, k, level=tolerance, digits=".1f")
        value = f'<div style="display: flex; flex-flow: row wrap; gap: 4px 16px">{"".join(drawn)}</div>'
        if value != self.value:
            self.value = value


def curve(title: str, lines: Sequence[Line], k: int, *, level: float = 0.0, digits: str = "") -> str:
    """SVG of some lines over the iterations, from 0 up to the largest value.

    title: what is drawn, followed by the values at iteration k.  level: a dashed line at this height, 0 for none.
    digits: the format of the values, by default see `short`.
    """
    count = max((len(values) for _, values in lines), default=0)
    finite = [value for _, values in lines for value in values if math.isfinite(value)]
    highest = max([*finite, level]) or 1.0 if finite else 1.0

    def place(i: int, value: float) -> tuple[float, float]:
        share = i / (count - 1) if count > 1 else 0.0
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - value / highest * (HEIGHT - TOP - BOTTOM)

    base = HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT} {base}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity="0.25"/>']
    if level and count:
        parts.append(
            f'<path d="M{LEFT} {place(0, level)[1]:.1f}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity="0.5" '
            'stroke-dasharray="3 3"/>'
        )
    now = []
    for colour, values in lines:
        points = [place(i, value) for i, value in enumerate(values) if math.isfinite(value)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        if points:
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if k < len(values) and math.isfinite(values[k]):
            x, y = place(k, values[k])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            now.append(f"{values[k]:{digits}}" if digits else format_number(values[k]))
    if count > 1:
        x = place(k, 0)[0]
        parts.append(f'<path d="M{x:.1f} {TOP - 4}V{base}" stroke="currentColor" stroke-opacity="0.4"/>')
    said = f"{title}: {', '.join(now)}" if now else title
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}, iteration {k}" '
        'style="flex: 1 1 200px; min-width: 0; max-width: 280px; color: var(--jp-ui-font-color1, #333)">'
        f'<text x="{LEFT}" y="12" font-size="11" fill="currentColor">{said}</text>{"".join(parts)}</svg>'
    )
