"""Prompt embeddings, with SDXL's additional conditions."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dragnoise.validation import shown

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

OnDevice = Callable[[torch.nn.Module], AbstractContextManager[torch.device]]
"""Gives a context manager in which a module is on the device that it yields."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """SDXL's conditions.

    text: (1, tokens, width), the words' embeddings of both text encoders side by side.
    pooled: (1, P), the whole prompt's embedding.
    sizes: (1, 6) float32: height and width of the picture in training, its crop's top and left,
        height and width wanted, in pixels; None until a latent says how large the picture is.
    """

    text: Tensor
    pooled: Tensor
    sizes: Tensor | None = None

    def sized(self, height: int, width: int) -> Conditioning:
        """The same for an uncropped picture of this size in pixels, unless sizes were set before."""
        if self.sizes is not None:
            return self
        ids = (height, width, 0, 0, height, width)
        return dataclasses.replace(self, sizes=torch.tensor([ids], dtype=torch.float32, device=self.text.device))


Text = Tensor | Conditioning
"""A prompt as `Model.embed` gives it: (1, tokens, width), or SDXL's `Conditioning`.

Hand it to `Model.encode` as it is; what is inside concerns the U-Net alone.
"""


@torch.no_grad()
def embed(pipeline: DiffusionPipeline, prompt: str, at_work: OnDevice) -> Text:
    """A prompt as the pipeline's text encoders see it; longer prompts are cut, as everywhere, with a warning.

    With a second text encoder a `Conditioning`, otherwise the first one's (1, tokens, width).  The same to the bit as
    the pipeline's own `encode_prompt`, which is not called because it needs both encoders on the device at once, where
    low memory brings in one after the other, and logs what is cut at every call.
    """
    if getattr(pipeline, "text_encoder_2", None) is None:
        with at_work(pipeline.text_encoder) as device:
            return pipeline.text_encoder(_ids(pipeline, pipeline.tokenizer, prompt, device))[0]
    with at_work(pipeline.text_encoder) as device:
        first = pipeline.text_encoder(_ids(pipeline, pipeline.tokenizer, prompt, device), output_hidden_states=True)
    with at_work(pipeline.text_encoder_2) as device:
        ids = _ids(pipeline, pipeline.tokenizer_2, prompt, device)
        second = pipeline.text_encoder_2(ids, output_hidden_states=True)
    words = [encoded.hidden_states[-2] for encoded in (first, second)]  # SDXL reads the last layer but one
    return Conditioning(torch.cat([w.to(words[1].device) for w in words], dim=-1), second.text_embeds)


def negative(pipeline: DiffusionPipeline, prompt: str, at_work: OnDevice) -> Text:
    """Embedding of a negative prompt; zeros for an empty one where the pipeline sets force_zeros_for_empty_prompt."""
    text = embed(pipeline, prompt, at_work)
    if prompt or not isinstance(text, Conditioning) or not pipeline.config.get("force_zeros_for_empty_prompt"):
        return text
    return Conditioning(torch.zeros_like(text.text), torch.zeros_like(text.pooled))


def moved(text: Text, device: torch.device, dtype: torch.dtype) -> Text:
    """The same on a device and in a dtype; sizes stay float32."""
    if isinstance(text, Tensor):
        return text.to(device, dtype)
    sizes = None if text.sizes is None else text.sizes.to(device)
    return Conditioning(text.text.to(device, dtype), text.pooled.to(device, dtype), sizes)


def _ids(pipeline: Any, tokenizer: Any, prompt: str, device: torch.device) -> Tensor:
    length = tokenizer.model_max_length
    prompt = prompt.encode("utf-8", "replace").decode()  # half a character, as a cut text may end with, is no text
    if hasattr(pipeline, "maybe_convert_prompt"):  # a textual inversion of several vectors is several tokens
        prompt = pipeline.maybe_convert_prompt(prompt, tokenizer)
    whole = tokenizer(prompt, verbose=False).input_ids
    if len(whole) > length:
        _say_what_is_cut(tokenizer.decode(whole[length - 1 : -1]).strip(), length)
    tokens = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return tokens.input_ids.to(device)


@functools.lru_cache(maxsize=1000)
def _say_what_is_cut(rest: str, length: int) -> None:
    """Warn of a truncated prompt, once for every text: a session embeds its prompt many times."""
    warnings.warn(
        f"the prompt is longer than the {length} tokens that the text encoder reads, with one at either end, and its "
        f"last part is left out ({shown(rest)}); say it in fewer words.",
        stacklevel=2,
    )
