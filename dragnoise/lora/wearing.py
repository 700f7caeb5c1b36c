"""What a session does with LoRAs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from dragnoise.config import DragConfig
from dragnoise.geometry import Frame
from dragnoise.given import as_integer, shown
from dragnoise.lora.adapters import Lora, fuse
from dragnoise.lora.cache import LoraCache
from dragnoise.lora.files import load, save
from dragnoise.lora.fitting import checkpoints, fit
from dragnoise.lora.settings import LoraSettings, Subject
from dragnoise.lora.training import LoraStep
from dragnoise.model import Model
from dragnoise.rescue import guarded


class WearsLora:
    """The part of `DragSession` that fits a LoRA to its picture, puts it on and takes it off.

    A LoRA belongs to a session: the model that it shares with others stays as it is.
    """

    _image: Image.Image
    _prompt: str
    _config: DragConfig
    _frame: Frame
    _lora: Lora | None = None
    _worn: Model | None = None  # the model with the LoRA in its weights, made when first needed

    @property
    def lora(self) -> Lora | None:
        """The LoRA that the model wears in this session alone, or None; a change needs a new inversion.

        Setting None takes it off, and everything is as it was, to the bit.  Raises TypeError for what is
        no `Lora`, and ValueError for one of another kind of model.
        """
        return self._lora

    @lora.setter
    def lora(self, lora: Lora | None) -> None:
        if lora is not None and not isinstance(lora, Lora):
            raise TypeError(f"session.lora takes a Lora or None, not {shown(lora)}; session.load_lora(path) reads one.")
        if lora is self._lora:
            return
        if lora is not None:
            lora.require_fit(self._require_model())
        self._forget_inversion()
        self._lora, self._worn = lora, None

    @property
    def lora_weight(self) -> float:
        """How strongly the LoRA is worn, -2 to 2 (1 as fitted, 0 not at all); a change needs a new inversion.

        0 when there is none.  Setting it raises ValueError then, and for a number out of its range.
        """
        return 0.0 if self._lora is None else self._lora.weight

    @lora_weight.setter
    def lora_weight(self, weight: float) -> None:
        changed = self._require_lora().at(weight)
        if changed.weight != self.lora_weight:
            self.lora = changed

    def fit_lora(
        self,
        steps: int = 200,
        *,
        rank: int = 16,
        lr: float = 2e-4,
        batch_size: int = 4,
        seed: int = 0,
        gradient_checkpointing: bool | None = None,
        cache: LoraCache | str | Path | None = None,
    ) -> Iterator[LoraStep]:
        """Fit a LoRA to the picture and its prompt, a step at a time; `session.lora` is set after each.

        steps: in all, >= 1.  Leave it at any time and call it again to go on: the bits are those of a
            fit that was never left, on a GPU up to rounding.  Other settings begin anew.
        rank, lr, batch_size, seed: see `LoraSettings`.
        gradient_checkpointing: much less memory, the same bits, about a third more time.  None is True
            when a step sees more than four pictures of 512x512 pixels, see `lora.fitting.checkpoints`.
        cache: a folder or a `LoraCache` to take the result from, in one step, or to leave it in.

        The inversion is forgotten at the first step, for it depends on the LoRA.  Raises ValueError
        for a number out of its range, FloatingPointError when a number stops being finite, and
        `OutOfMemory`; the last good step's LoRA stays on.
        """
        steps = as_integer("steps", steps, 1)
        settings = LoraSettings(rank=rank, lr=lr, batch_size=batch_size, seed=seed)
        checkpoints(self._subject(), settings, gradient_checkpointing)  # says what is wrong with it
        if cache is not None and not isinstance(cache, LoraCache):
            cache = LoraCache(cache)
        return self._fit_lora(settings, steps, gradient_checkpointing, cache)

    def save_lora(self, path: str | Path) -> Path:
        """Write the LoRA in diffusers' format to a .safetensors file or into a folder; returns the file's path.

        Raises ValueError when there is none, and OSError when it cannot be written.
        """
        return save(self._require_lora(), path)

    @guarded
    def load_lora(self, path: str | Path) -> None:
        """Put on a LoRA of the U-Net in diffusers' or kohya's format, from a .safetensors file or a folder.

        It is worn at full weight; what it holds for the text encoder is left out, with a warning.  Raises
        FileNotFoundError, ValueError for a file that is none or is for another kind of model, and `OutOfMemory`.
        """
        self.lora = load(path, self._require_model())

    def _wearing(self) -> Model:
        """The model, with the LoRA in its weights if there is one."""
        if self._worn is None:
            model = self._require_model()
            self._worn = model if self._lora is None else fuse(model, self._lora)
        return self._worn

    def _subject(self) -> Subject:
        noise = self._config.latent_noise
        return Subject(self._require_model(), self._image, self._frame.working, self._prompt, noise)

    def _fit_lora(
        self, settings: LoraSettings, steps: int, gradient_checkpointing: bool | None, cache: LoraCache | None
    ) -> Iterator[LoraStep]:
        mine = self._lora
        self._forget_editor()  # what can be made again leaves its memory to the fit
        self._worn = None
        fitting = fit(
            self._subject(), settings, steps, start=mine, gradient_checkpointing=gradient_checkpointing, cache=cache
        )
        for step, fitted in fitting:
            if not _same(self._lora, mine):
                raise RuntimeError("this fit was overtaken by another LoRA; call session.fit_lora() again.")
            self.lora = mine = fitted if self._lora is None else fitted.at(self._lora.weight)
            self._save_if_due(step.step, last=step.step == steps)
            yield step

    def _require_lora(self) -> Lora:
        if self._lora is None:
            raise ValueError("there is no LoRA yet; call session.fit_lora() or session.load_lora(path) first.")
        return self._lora

    if TYPE_CHECKING:  # what a session adds

        def _forget_inversion(self) -> None: ...

        def _forget_editor(self) -> None: ...

        def _require_model(self) -> Model: ...

        def _save_if_due(self, done: int, *, last: bool) -> None: ...


def _same(one: Lora | None, other: Lora | None) -> bool:
    """Do they change the weights alike, whatever their strengths?"""
    return one is other or (one is not None and other is not None and one.adapters is other.adapters)
