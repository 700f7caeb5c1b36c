"""Disk cache of fitted LoRAs, so that the same fit is not computed twice."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dragnoise.lora.adapters import Lora
from dragnoise.lora.files import load, save
from dragnoise.models.model import Model, require_model
from dragnoise.validation import as_float, as_path, shown

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{,199}")
"""Keys of a cache are names of files in its folder, on every system."""


class LoraCache:
    """Fitted LoRAs by key, each a file in diffusers' format; the longest unused go when it grows too large.

    Written by hand because the libraries for such a cache store pickles, while these files serve other programs too.
    folder: made when first needed.  limit: bytes at most, default 1 GiB (some 80 of Stable Diffusion
    1.5 at rank 16).  Several programs may share one.

    Raises ValueError for a limit that is not positive, and TypeError, ValueError or OSError for an invalid folder.
    """

    def __init__(self, folder: str | Path, *, limit: int = 2**30) -> None:
        if not (as_float(limit) or 0) > 0:
            raise ValueError(f"limit={shown(limit)} must be a number of bytes above 0.")
        self.folder = as_path(folder, name="folder", what="a folder for LoRAs")
        self.limit = limit

    def __repr__(self) -> str:
        return f"LoraCache({str(self.folder)!r}, {self.size / 2**20:.1f} of {self.limit / 2**20:.0f} MiB)"

    @property
    def size(self) -> int:
        """Bytes that it takes now."""
        return sum(bytes_ for _, bytes_, _ in self._files())

    def get(self, key: str, model: Model) -> Lora | None:
        """The LoRA of a key, or None; a file that cannot be read any more is thrown away.

        Raises ValueError for an invalid key, and TypeError if `model` is not a `Model`.
        """
        path = self._path(key)
        require_model(model)
        if not path.is_file():
            return None
        try:
            lora = load(path, model)
            if not lora.losses:
                raise ValueError("it does not say how it was fitted")
            os.utime(path)
        except (ValueError, OSError):
            path.unlink(missing_ok=True)
            return None
        return lora

    def put(self, key: str, lora: Lora) -> None:
        """Keep a LoRA, and let go what is over the limit, the longest unused first.

        Raises ValueError for an invalid key, TypeError if `lora` is not a `Lora`, and OSError when it cannot be
        written.
        """
        path = self._path(key)
        save(lora, path)
        over = self.size - self.limit
        for _, bytes_, path in sorted(self._files()):
            if over <= 0:
                break
            path.unlink(missing_ok=True)
            over -= bytes_

    def clear(self) -> None:
        """Throw everything away."""
        for _, _, path in self._files():
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise ValueError(
                f"key={shown(key)} must be a name of up to 200 letters, digits, dots and dashes, such as 'fox-200'."
            )
        return self.folder / f"{key}.safetensors"

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each was last used, how large it is, and where."""
        found = []
        for path in self.folder.glob("*.safetensors"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # another program was quicker
                continue
            found.append((stat.st_mtime, stat.st_size, path))
        return found
