"""Files of LoRAs in diffusers' format: their bytes, and writing them atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from dragnoise.atomic_write import atomic_write
from dragnoise.validation import as_path, said

FILE_NAME = "pytorch_lora_weights.safetensors"
"""What diffusers looks for in a folder."""

OWN = "dragnoise"
"""Key of our metadata, beside diffusers' own."""


def file_for(path: str | Path) -> Path:
    """The .safetensors file of this path, or the one that diffusers looks for in this folder."""
    path = as_path(path, what="a .safetensors file or a folder for one")
    return path if path.suffix.lower() == ".safetensors" else path / FILE_NAME


def as_bytes(layers: Mapping[str, tuple[Tensor, Tensor]], losses: Sequence[float]) -> bytes:
    """The content of a file with the down and up matrix of each layer, float32; the same for the same LoRA."""
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in layers.items():
        tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    data = safetensors_bytes(tensors, metadata={"format": "pt", OWN: json.dumps({"losses": losses})})
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))  # whose order safetensors leaves to chance
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def write(data: bytes, path: str | Path) -> Path:
    """Write the content atomically to a .safetensors file or into a folder; returns the file's path.

    Raises OSError when it cannot be written.
    """
    path = file_for(path)
    try:
        with atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        raise OSError(
            f"the LoRA cannot be written to {str(path)!r} ({error.strerror or said(error)}); give another place."
        ) from error
    return path
