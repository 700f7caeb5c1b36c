"""Export of a session or a studio's edit as a sample in the plain folder format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from dragnoise.atomic_write import require_writable, write_picture, write_text
from dragnoise.images.pictures import Picture, as_picture
from dragnoise.session.session import DragSession
from dragnoise.validation import as_path, shown


def save_sample(edit: DragSession | Any, folder: str | Path, *, answer: Picture | None = None) -> Path:
    """Write the picture, drags, prompt and mask of an edit as a sample that `read_dataset` reads; returns its folder.

    edit: a session, or a studio, whose session is taken.  folder: of the sample; its parent is the data set, and the
    folders between the two are the category.  answer: the true result, where it is known.  picture.png, mask.png and
    answer.png come first and drags.json last, so that a sample is complete or none.

    Raises TypeError for no session, ValueError without drags or for an answer of another size, OSError where the
    folder cannot be written.
    """
    session = edit if isinstance(edit, DragSession) else getattr(edit, "session", None)
    if not isinstance(session, DragSession):
        raise TypeError(f"edit must be a session or a studio, not {shown(edit)}.")
    if not session.drags:
        raise ValueError("the session has no drags; give at least one before it is saved as a sample.")
    true = None if answer is None else as_picture(answer)
    if true is not None and true.size != session.image.size:
        raise ValueError(
            f"the answer is {true.width}x{true.height} and the picture {session.image.width}x{session.image.height}."
        )
    place = as_path(folder, name="folder", what="a sample's folder, such as 'samples/animals/fox'")
    require_writable(place / "drags.json")
    (place / "drags.json").unlink(missing_ok=True)
    mask = None if session.mask is None else Image.fromarray(session.mask)
    for name, picture in {"picture.png": session.image, "mask.png": mask, "answer.png": true}.items():
        if picture is None:
            (place / name).unlink(missing_ok=True)
        else:
            write_picture(place / name, picture)
    drags = [{"anchor": list(drag.anchor), "objective": list(drag.objective)} for drag in session.drags]
    told = {"size": list(session.image.size), "drags": drags, "prompt": session.prompt}
    write_text(place / "drags.json", json.dumps(told, indent=1) + "\n")
    return place
