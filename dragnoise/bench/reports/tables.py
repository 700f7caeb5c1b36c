"""Tables of cells as plain text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

FORMATS = ("text", "markdown", "csv")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], form: str = "text") -> str:
    """A table of one of `FORMATS`, a line a row, with a newline at its end; raises ValueError for another format."""
    if form not in FORMATS:
        raise ValueError(f"format={form!r} must be one of {', '.join(FORMATS)}.")
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([heads, *rows])
        return text.getvalue()
    if form == "markdown":
        lines = [heads, ["---"] * len(heads), *rows]
        return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines) + "\n"
