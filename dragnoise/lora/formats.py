"""LoRA file formats: conversion of tensor names to those that diffusers reads, and errors for unsupported kinds.

Read are diffusers' own names, old and new, kohya's (`lora_unet_...`), LyCORIS's (`lycoris_...`) for plain LoRAs, peft's
(`base_model.model....`) and adapter names in between (`lora_A.default_0.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

TEXT = ("text_encoder.", "text_encoder_2.", "lora_te_", "lora_te1_", "lora_te2_")
"""How the names of a text encoder's adapters begin, in diffusers' files and in kohya's."""

EMBEDDING = re.compile(r"bundle_emb\..*|emb_params|clip_[lg]|string_to_param\..*|<.*>")
"""Names of text embeddings (textual inversion) that some trainers put beside a LoRA."""

PEFT_PREFIX = "base_model.model."

_UNET = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.", "time_embedding.", "add_embedding.")
_ADAPTER_NAME = re.compile(r"\.(lora_[AB])\.(?!weight$)(\w+)(?:\.weight)?$")

_OTHER_KINDS = (
    ("hada_", "a LoHa"),
    ("lokr_", "a LoKr"),
    ("dora_scale", "a DoRA"),
    ("lora_magnitude_vector", "a DoRA"),
    (".lora_mid.", "a LoCon with Tucker decomposition"),
    ("ia3_", "an IA3"),
    ("oft_", "an OFT"),
    ("boft_", "a BOFT"),
    ("vera_lambda", "a VeRA"),
    ("lora_embedding_", "a LoRA of an embedding"),
)
"""What the names of other kinds of adapters contain."""

_OTHER_ENDS = (
    (".on_input", "an IA3"),
    (".diff", "a difference of full weights"),
    (".diff_b", "a difference of full weights"),
    (".set_weight", "a replacement of full weights"),
    (".w_norm", "a difference of full weights"),
    (".b_norm", "a difference of full weights"),
    (".a1.weight", "a GLoRA"),
    (".b1.weight", "a GLoRA"),
    (".scale_weight", "a LoRA in scaled fp8"),
    (".lora_A.bias", "a LoRA with biases"),
    (".lora_B.bias", "a LoRA with biases"),
)
"""How the names of other kinds of adapters end."""

_OTHER_MODELS = ("transformer.", "lora_transformer_", "double_blocks", "single_transformer_blocks")
_CHECKPOINTS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")


class OtherKind(ValueError):
    """The file is readable but holds something else than a LoRA of a U-Net; `instead` says what to do."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(what)
        self.instead = instead


def unet_tensors(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a U-Net's LoRA in float32 under diffusers' or kohya's names, and what was left out of the file.

    Left out are adapters of text encoders and text embeddings, by their names in the file.  Raises `OtherKind` for a
    file of another kind, and ValueError for one that names a tensor twice.
    """
    kept: dict[str, Tensor] = {}
    left_out = []
    _refuse_others(tensors)
    for key, tensor in tensors.items():
        name = canonical(key)
        if name.startswith(TEXT) or EMBEDDING.fullmatch(name):
            left_out.append(key)
        elif name in kept:
            raise OtherKind(
                f"it holds several adapters for one layer, {key} among them", "save each adapter in a file of its own"
            )
        else:
            kept[name] = tensor.float() if tensor.is_floating_point() else tensor  # fp8 has no arithmetic
    if left_out and not kept:
        text = all(canonical(key).startswith(TEXT) for key in left_out)
        raise OtherKind(
            "it changes the text encoder alone" if text else "it holds a text embedding (textual inversion) alone",
            "give a LoRA that also changes the U-Net",
        )
    return kept, left_out


def canonical(key: str) -> str:
    """The name that diffusers' converters know for a tensor of a LoRA file; any other stays as it is."""
    if key.startswith("lycoris_"):
        key = key.removeprefix("lycoris_")
        key = f"lora_te_{key}" if key.startswith("text_model_") else f"lora_unet_{key.removeprefix('unet_')}"
    for prefix in ("unet.", "text_encoder.", "text_encoder_2."):
        if key.startswith(prefix + PEFT_PREFIX):
            key = prefix + key.removeprefix(prefix + PEFT_PREFIX)
    key = key.removeprefix(PEFT_PREFIX)
    if key.startswith("text_model."):
        key = f"text_encoder.{key}"
    if key.startswith(_UNET) and ("lora" in key or key.endswith(".alpha")):
        key = f"unet.{key}"
    return _ADAPTER_NAME.sub(r".\1.weight", key)


def _refuse_others(keys: Iterable[str]) -> None:
    for key in keys:
        for sign, kind in _OTHER_KINDS:
            if sign in key:
                raise _other_adapter(kind, key)
        for end, kind in _OTHER_ENDS:
            if key.endswith(end):
                raise _other_adapter(kind, key)
        if key.startswith(_CHECKPOINTS):
            raise OtherKind(f"it is a whole checkpoint, with {key}", "read it with load_model(path)")
        if key.startswith(_OTHER_MODELS):
            raise OtherKind(
                f"it is made for a transformer such as SD 3's or Flux's, with {key}",
                "give one made for a Stable Diffusion 1.x, 2.x or XL model",
            )


def _other_adapter(kind: str, key: str) -> OtherKind:
    return OtherKind(
        f"it is {kind}, with {key}",
        "merge it into the checkpoint with the program that it is for and read that with load_model(path), or give a "
        "plain LoRA",
    )
