"""Copy as code: the Python that repeats an edit exactly."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from dragnoise.atomic_write import one_sentence, write_bytes
from dragnoise_widgets.export.model_names import can_be_loaded
from dragnoise_widgets.png import png
from dragnoise_widgets.sketch.masks import alike

if TYPE_CHECKING:
    from dragnoise import Drag, DragConfig, DragSession
    from dragnoise.lora import Lora
    from dragnoise.models.model import Model

SMALL = 3000
"""A mask whose PNG has fewer bytes stands in the code itself."""


@dataclass(frozen=True, eq=False)
class Setting:
    """The inputs of an iteration, all of which may change from one to the next."""

    config: DragConfig
    mask: np.ndarray | None
    drags: tuple[Drag, ...]

    def same(self, other: Setting) -> bool:
        return self.config == other.config and self.drags == other.drags and alike(self.mask, other.mask)


@dataclass(frozen=True)
class Code:
    """text: the Python.  files: what it needs, in the folder that was given."""

    text: str
    files: tuple[Path, ...] = ()

    @property
    def needs(self) -> str:
        """Which files were written, in words."""
        if not self.files:
            return "it needs no files"
        names = ", ".join(path.name for path in self.files)
        return f"the files that it needs are in the folder {self.files[0].parent}: {names}"


def as_code(session: DragSession, folder: str | Path, *, picture: str | None = None, k: int | None = None) -> str:
    """The Python that makes the picture of an iteration, bit for bit on a CPU; see `code_of`."""
    return code_of(session, folder, picture=picture, k=k).text


def code_of(session: DragSession, folder: str | Path, *, picture: str | None = None, k: int | None = None) -> Code:
    """The Python that makes the picture of an iteration, bit for bit on a CPU, and the files that it needs.

    k: the iteration, default where the session stands.
    folder: made if need be; what does not fit into code is saved there: the picture, unless `picture`
        says what file it is, a large mask, a LoRA.

    Raises RuntimeError for a session without a model and for a model that no `load_model(...)` gives again, OSError
    when a file cannot be written.
    """
    if session.model is None:
        raise RuntimeError("this session was opened without a model; set session.model, for the code must name it.")
    model = _load(session.model)
    folder, now, files = Path(folder), Setting(session.config, session.mask, session.drags), list[Path]()
    history = session.history[1:] if k is None else session.history[1 : k + 1]
    made = [now if s.config is None else Setting(s.config, s.mask, s.drags or session.drags) for s in history]
    if picture is None:
        files.append(_kept(folder, "picture.png", png(session.image, level=1)))
        picture = str(files[0])
    imports = ["import dragnoise", "from dragnoise import Drag, DragSession"]
    lines = [f"model = {model}", f"session = DragSession(model, {picture!r}, prompt={session.prompt!r})"]
    if session.lora is not None:
        lines += _wear(session.lora, folder, files)
    config, mask = session.model.default_config, None
    drags: tuple[Drag, ...] = ()
    for setting, n in [*_runs(made), (now, 0)]:
        if setting.drags != drags:
            lines.append(f"session.drags = [{', '.join(map(repr, setting.drags))}]")
        if setting.config != config:
            lines.append(_changes(config, setting.config))
        if not alike(setting.mask, mask):
            lines.append(_mask(setting.mask, folder, imports, files))
        config, mask, drags = setting.config, setting.mask, setting.drags
        if n:
            lines.append(f"for _ in range({n}):\n    session.step()")
    lines += ["picture = session.render()", "picture"]
    return Code("\n".join([*sorted(set(imports), key=_order), "", *lines, ""]), tuple(dict.fromkeys(files)))


def _load(model: Model) -> str:
    """The call of `load_model` that gives the model again.  Raises RuntimeError where there is none."""
    objects = [name for name, value in model.options.items() if not isinstance(value, str | Path)]
    if objects:
        raise RuntimeError(
            f"this model was loaded with an object for {' and '.join(objects)}=, which code cannot name; load it with "
            f"the hub id, folder or file of that {objects[0]}, and copy again."
        )
    if not can_be_loaded(model.name):
        raise RuntimeError(
            f"this model, {model.name!r}, was made of a pipeline that no load_model(...) gives again; save the "
            "pipeline to a folder with save_pretrained(), load that folder, and copy again."
        )
    asked: dict[str, str] = {}
    if model.name != "toyland" or str(model.device) != "cpu" or model.dtype != torch.float32:
        asked = {"device": repr(str(model.device)), "dtype": repr(str(model.dtype).removeprefix("torch."))}
    if model.memory != "normal":
        asked["memory"] = repr(model.memory)
    for name, value in model.options.items():
        asked[name] = repr(str(value))
    if not asked and model.name == "toyland":
        return "dragnoise.load_model()"
    return f"dragnoise.load_model({', '.join([repr(model.name), *(f'{k}={v}' for k, v in asked.items())])})"


def _wear(lora: Lora, folder: Path, files: list[Path]) -> list[str]:
    path = _kept(folder, "lora.safetensors", lora.to_bytes())
    files.append(path)
    lines = [f"session.lora = {str(path)!r}"]
    return lines if lora.weight == 1 else [*lines, f"session.lora = session.lora.at({lora.weight!r})"]


def _changes(old: DragConfig, new: DragConfig) -> str:
    names = [field.name for field in dataclasses.fields(new)]
    changed = [f"{name}={getattr(new, name)!r}" for name in names if getattr(old, name) != getattr(new, name)]
    return f"session.config = session.config.replace({', '.join(changed)})"


def _mask(mask: np.ndarray | None, folder: Path, imports: list[str], files: list[Path]) -> str:
    if mask is None:
        return "session.mask = None"
    data = png(Image.fromarray(mask), level=9)
    if len(data) > SMALL:
        files.append(_kept(folder, "mask.png", data))
        return f"session.mask = {str(files[-1])!r}"
    imports += ["import base64", "import io", "from PIL import Image"]
    text = base64.b64encode(data).decode()
    return f'session.mask = Image.open(io.BytesIO(base64.b64decode("{text}")))'


def _kept(folder: Path, name: str, data: bytes) -> Path:
    """A file in the folder with this content; files with other content, which earlier code may need, are kept."""
    path, n = folder / name, 1
    with one_sentence(path):
        while path.exists():
            if path.read_bytes() == data:
                return path
            n += 1
            path = folder / f"{Path(name).stem} {n}{Path(name).suffix}"
    return write_bytes(path, data)


def _runs(settings: Sequence[Setting]) -> list[tuple[Setting, int]]:
    """Run-length encoding: consecutive equal settings -> (setting, count)."""
    numbered: list[tuple[int, Setting]] = []
    for setting in settings:
        fresh = not numbered or not numbered[-1][1].same(setting)
        numbered.append((len(numbered) if fresh else numbered[-1][0], setting))
    return [((group := list(run))[0][1], len(group)) for _, run in groupby(numbered, key=lambda pair: pair[0])]


def _order(line: str) -> tuple[bool, bool, str]:
    return ("dragnoise" in line or "PIL" in line, line.startswith("from"), line)
