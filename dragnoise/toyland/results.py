"""The suite's results: one case's numbers, their summary, the table and the sheet of pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dragnoise.toyland.cases import KINDS, DragCase
from dragnoise.toyland.measures import Quality
from dragnoise.toyland.scenes import landmarks


@dataclass(frozen=True, eq=False)
class Result:
    """One case measured.

    before: mean distance of the anchors from their objectives, in pixels.  edit, oracle, unedited: the
    quality of the edited picture, of the oracle's and of the given one.
    """

    kind: str
    before: float
    edit: Quality
    oracle: Quality
    unedited: Quality
    iterations: int
    status: str
    seconds: float
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # given, edit, oracle, answer

    def numbers(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "pictures"}
        qualities = {n: dataclasses.asdict(getattr(self, n)) for n in ("edit", "oracle", "unedited")}
        return plain | qualities


def summary(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """A row for each kind and one for all.

    before, and for each of edit, oracle and unedited: missed, median_share and mean_share of `before`,
    halved, outside, inside, ssim, landmarks and whole, as "edit_missed" and so on; iterations, reached.
    """
    rows = {}
    for kind in (*KINDS, "all"):
        some = [r for r in results if kind in (r.kind, "all")]
        if not some:
            continue
        before = np.array([r.before for r in some])
        row = {"cases": float(len(some)), "before": float(before.mean())}
        for name in ("edit", "oracle", "unedited"):
            qualities = [getattr(r, name) for r in some]
            missed = np.array([q.missed for q in qualities])
            row |= {
                f"{name}_missed": float(missed.mean()),
                f"{name}_median_share": float(np.median(missed / before)),
                f"{name}_mean_share": float(missed.mean() / before.mean()),
                f"{name}_halved": float((missed <= before / 2).mean()),
            }
            for measure in ("outside", "inside", "ssim", "landmarks", "whole"):
                row[f"{name}_{measure}"] = float(np.mean([getattr(q, measure) for q in qualities]))
        row["iterations"] = float(np.mean([r.iterations for r in some]))
        row["reached"] = float(np.mean([r.status == "reached" for r in some]))
        rows[kind] = row
    return rows


def table(rows: dict[str, dict[str, float]]) -> str:
    """The summary as a Markdown table; in a column of three, of the edit, the oracle and the unedited picture."""
    heads = (
        "kind", "cases", "px before", "px after", "px oracle", "median", "mean", "halved", "oracle halved",
        "outside dB", "inside dB", "inside SSIM", "landmarks px", "whole", "iterations",
    )  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for kind, r in rows.items():
        three = {
            m: " / ".join(format(r[f"{n}_{m}"], form) for n in ("edit", "oracle", "unedited"))
            for m, form in (("inside", ".1f"), ("ssim", ".2f"), ("landmarks", ".1f"), ("whole", ".0%"))
        }
        cells = (
            kind, f"{r['cases']:.0f}", f"{r['before']:.1f}", f"{r['edit_missed']:.1f}", f"{r['oracle_missed']:.1f}",
            f"{r['edit_median_share']:.0%}", f"{r['edit_mean_share']:.0%}", f"{r['edit_halved']:.0%}",
            f"{r['oracle_halved']:.0%}", f"{r['edit_outside']:.1f}", three["inside"], three["ssim"],
            three["landmarks"], three["whole"], f"{r['iterations']:.0f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sheet(results: Sequence[Result], cases: Sequence[DragCase], *, columns: int = 2, zoom: int = 2) -> Image.Image:
    """Given, edit, oracle and true answer side by side, the numbers of edit and oracle below them.

    The drags are drawn on the given picture; rings show where lost landmarks ought to be.
    """
    side, text = 128 * zoom, 14
    width, height = 4 * side + 12, side + text + 8
    page = Image.new("RGB", (columns * width, -(-len(results) // columns) * height), "white")
    write = ImageDraw.Draw(page)
    for i, (result, case) in enumerate(zip(results, cases, strict=True)):
        x, y = i % columns * width, i // columns * height
        shown = [Image.fromarray(p).resize((side, side), Image.Resampling.LANCZOS) for p in result.pictures]
        _draw_drags(shown[0], case, zoom)
        for picture, found in zip(shown[1:3], (result.edit, result.oracle), strict=True):
            _draw_lost(picture, case, found, zoom)
        for j, picture in enumerate(shown):
            page.paste(picture, (x + j * side, y))
        write.text((x + 4, y + side), f"{result.kind}: {result.before:.1f} px", fill="black")
        for j, found in ((1, result.edit), (2, result.oracle)):
            write.text((x + j * side, y + side), _numbers(found), fill="black")
    return page


def _numbers(found: Quality) -> str:
    return (
        f"{found.missed:.1f} px  {found.outside:.1f} | {found.inside:.1f} dB  {found.ssim:.2f}  "
        f"{found.landmarks:.1f} px  lost {len(found.lost)}"
    )


def _draw_drags(picture: Image.Image, case: DragCase, zoom: int) -> None:
    draw = ImageDraw.Draw(picture)
    for drag in case.drags:
        a, b = (tuple((v + 0.5) * zoom for v in point) for point in (drag.anchor, drag.objective))
        draw.line([a, b], fill="black", width=4)
        draw.line([a, b], fill="white", width=2)
        draw.ellipse([b[0] - 4, b[1] - 4, b[0] + 4, b[1] + 4], fill="#2a7de1", outline="white")
        draw.ellipse([a[0] - 4, a[1] - 4, a[0] + 4, a[1] + 4], fill="#e8412f", outline="white")


def _draw_lost(picture: Image.Image, case: DragCase, found: Quality, zoom: int) -> None:
    draw, truth = ImageDraw.Draw(picture), landmarks(case.answer)
    for name in found.lost:
        x, y = ((v + 0.5) * zoom for v in truth[name])
        draw.ellipse([x - 4 * zoom, y - 4 * zoom, x + 4 * zoom, y + 4 * zoom], outline="#e8412f", width=2)
