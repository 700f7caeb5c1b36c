"""Makes studio.jpg and studio_labelled.jpg of a screenshot: python docs/label_studio.py SHOT.png PLACES.json

Both are written by tests/browser/test_watching_in_lab.py into tests/browser/out.  PLACES.json holds the boxes of the
parts on the page, {name: [x, y, width, height]}, and that of the studio as "studio".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

DOCS = Path(__file__).parent
MARGIN, RADIUS = 28, 11
BELOW = 32
"""Pixels of the page's lower edge that are JupyterLab's status bar."""

PARTS = (
    "source", "prepare", "run", "scrubber", "continue", "state", "tools", "canvas", "curtain", "picture", "show",
    "choice", "curves", "mask", "table", "folds",
)  # fmt: skip
"""In the order of their numbers, which are those of the table in studio.md."""


def main(shot: Path, places: Path) -> None:
    boxes = json.loads(places.read_text())
    x, y, width, height = boxes["studio"]
    page = Image.open(shot).convert("RGB")
    right, bottom = min(round(x + width), page.width), min(round(y + height), page.height - BELOW)
    plain = page.crop((round(x), round(y), right, bottom))
    plain.save(DOCS / "studio.jpg", quality=90, optimize=True)
    labelled = Image.new("RGB", (plain.width + MARGIN, plain.height), "white")
    labelled.paste(plain, (MARGIN, 0))
    for number, name in enumerate(PARTS, 1):
        px, py, _, tall = boxes[name]
        at_edge = px - x < MARGIN
        across = MARGIN / 2 if at_edge else px - x + MARGIN - 4
        mark(labelled, number, (across, max(py - y + (min(tall / 2, 18) if at_edge else 3), RADIUS)))
    labelled.save(DOCS / "studio_labelled.jpg", quality=90, optimize=True)


def mark(picture: Image.Image, number: int, at: tuple[float, float]) -> None:
    """A number in a red disc, drawn at twice the size and made smaller, so that its edge is smooth."""
    side = 4 * RADIUS
    disc = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(disc)
    draw.ellipse((0, 0, side - 1, side - 1), fill="white")
    draw.ellipse((3, 3, side - 4, side - 4), fill="#b3261e")
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 22)
    draw.text((side / 2, side / 2), str(number), fill="white", font=font, anchor="mm")
    disc = disc.resize((2 * RADIUS, 2 * RADIUS), Image.Resampling.LANCZOS)
    picture.paste(disc, (round(at[0]) - RADIUS, round(at[1]) - RADIUS), disc)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
