"""Makes studio.jpg and the labelled pictures of studio.md: python docs/label_studio.py tests/browser/out

tests/browser/test_watching_in_lab.py writes screenshots into that folder, "documentation, NAME.png", and
documentation.json: {NAME: {part: [x, y, width, height]}}, the boxes of the parts on the page, and as "all" that of what
the picture shows.
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

PARTS = {
    "studio": (
        "source", "prepare", "run", "scrubber", "continue", "state", "tools", "canvas", "curtain", "picture", "show",
        "choice", "curves", "mask", "table", "folds",
    ),
    "inspector": ("loss", "anchors", "bottleneck", "latents", "features", "lora", "log"),
    "parameters": ("preset", "number", "meaning", "others"),
    "branches": ("thumbnail", "name", "show", "remove", "compare", "file", "autosave"),
}  # fmt: skip
"""Of each picture, in the order of their numbers, which are those of the tables in studio.md."""


def main(folder: Path) -> None:
    places = json.loads((folder / "documentation.json").read_text())
    for name, parts in PARTS.items():
        page = Image.open(folder / f"documentation, {name}.png").convert("RGB")
        x, y, width, height = places[name]["all"]
        right, bottom = min(round(x + width), page.width), min(round(y + height), page.height - BELOW)
        plain = page.crop((round(x), round(y), right, bottom))
        if name == "studio":
            plain.save(DOCS / "studio.jpg", quality=90, optimize=True)
        at = [(places[name][part][0] - x, places[name][part][1] - y, places[name][part][3]) for part in parts]
        labelled(plain, at).save(DOCS / f"{name}_labelled.jpg", quality=90, optimize=True)


def labelled(plain: Image.Image, parts: list[tuple[float, float, float]]) -> Image.Image:
    """The picture with a margin at its left and numbers from 1 at the parts (x, y, height)."""
    picture = Image.new("RGB", (plain.width + MARGIN, plain.height), "white")
    picture.paste(plain, (MARGIN, 0))
    for number, (x, y, tall) in enumerate(parts, 1):
        at_edge = x < MARGIN
        across = MARGIN / 2 if at_edge else x + MARGIN - 9
        mark(picture, number, (across, max(y + (min(tall / 2, 18) if at_edge else 3), RADIUS)))
    return picture


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
    main(Path(sys.argv[1]))
