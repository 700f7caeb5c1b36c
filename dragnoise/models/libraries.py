"""The first import of diffusers, transformers and peft, in one thread and without their advice.

Their packages put other module objects in their own places while they are imported.  A second thread that imports one
of them meanwhile is left with the first object, which has no names.  Whatever uses a model imports this module, for
which Python makes other threads wait; later imports of other names find everything there.
"""

from __future__ import annotations

from dragnoise.locks import PATCHING
from dragnoise.models.reading import quiet

with PATCHING, quiet():
    from diffusers import (
        AutoencoderKL,
        AutoencoderTiny,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from diffusers.loaders import StableDiffusionLoraLoaderMixin
    from peft import LoraConfig
    from transformers import CLIPTextModel, CLIPTokenizer

IMPORTED = (
    AutoencoderKL, AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline,
    UNet2DConditionModel, StableDiffusionLoraLoaderMixin, LoraConfig, CLIPTextModel, CLIPTokenizer,
)  # fmt: skip
"""With them everything that is imported under them, which every model needs."""
