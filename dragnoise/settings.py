"""What a session is asked for: a picture, its prompt, drags, a mask, and the numbers and the model to go by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from dragnoise import ddim, geometry, pictures
from dragnoise.config import FRAME_FIELDS, INVERSION_FIELDS, DragConfig
from dragnoise.geometry import Drag, Frame
from dragnoise.given import as_text, shown
from dragnoise.history import History
from dragnoise.model import Model, require_model
from dragnoise.rescue import advice, rescue
from dragnoise.state import State

if TYPE_CHECKING:
    from typing_extensions import Self


class Settings:
    """The part of `DragSession` that is asked for; a change forgets what no longer holds, and no more."""

    _image: Image.Image
    _prompt: str
    _drags: tuple[Drag, ...]
    _mask: np.ndarray | None
    _config: DragConfig
    _frame: Frame
    _model: Model | None
    _worn: Model | None
    _watchers: tuple[Callable[[Any], Any], ...] = ()

    @property
    def model(self) -> Model:
        """The model; None in a session that was opened without one.

        Without a model a session can be looked at, plotted and saved.  Setting the one that it was made with keeps
        all that it holds, and the bits to come are those of a session that was never closed.  The same weights in
        another dtype or on another device go on too, with a UserWarning.  In a session that has a model, setting
        another one starts afresh.
        Raises TypeError for what is no model, and ValueError for one that cannot go on with what the session
        holds, and `OutOfMemory`.
        """
        return cast(Model, self._model)  # the type of all sessions but those, where who asks knows

    @model.setter
    def model(self, model: Model) -> None:
        require_model(model)
        if model is self._model:
            return
        state = self._state()
        if self._model is not None:
            state = dataclasses.replace(state, trajectory=(), history=History(), anchors=None)
        else:
            state.require_made_with(model)
        state.require_fit(model)
        frame = model.frame(self.image.size, self._config)
        with rescue(lambda: advice(model, frame, self._config)):
            state = dataclasses.replace(state, frame=frame).on(model.device)
        self._model, self._worn = model, None
        self._become(state)

    @property
    def image(self) -> Image.Image:
        """The picture, RGB, in its own size."""
        return self._image

    @property
    def prompt(self) -> str:
        """What the picture shows; a change needs a new inversion.  Raises TypeError for what is no text."""
        return self._prompt

    @prompt.setter
    def prompt(self, prompt: str) -> None:
        checked = as_text("the prompt", prompt)
        if checked != self._prompt:
            self._forget_inversion()
            self._prompt = checked

    @property
    def drags(self) -> tuple[Drag, ...]:
        """The drags; set them as `Drag`s or pairs ((x, y), (x, y)) in image pixels.

        Setting other drags starts the optimisation afresh; the inversion is kept.  A wrong drag
        raises ValueError or TypeError and changes nothing.
        """
        return self._drags

    @drags.setter
    def drags(self, drags: Any) -> None:
        checked = geometry.as_drags(drags, self.image.size)
        if checked != self._drags:
            self._forget_optimisation()
            self._drags = checked
            self._tell()

    @property
    def mask(self) -> np.ndarray | None:
        """None, or (H, W) bool, True where the picture may change; any array or PIL image may be set."""
        return None if self._mask is None else self._mask.copy()

    @mask.setter
    def mask(self, mask: Any) -> None:
        checked = pictures.as_mask(mask, self.image.size)
        if checked is not None:
            checked.flags.writeable = False
        self._forget_editor()
        self._mask = checked
        self._tell()

    def watch(self, callback: Callable[[Self], Any]) -> Callable[[], None]:
        """Call callback(session) whenever drags or mask have been set, in the thread that sets them.

        Returns the function that ends it.  Raises TypeError for what cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"watch() takes a function of the session, not {shown(callback)}.")
        self._watchers = (*self._watchers, callback)

        def unwatch() -> None:
            self._watchers = tuple(watcher for watcher in self._watchers if watcher is not callback)

        return unwatch

    @property
    def config(self) -> DragConfig:
        """The numbers; a change takes effect at the next iteration, or needs a new inversion."""
        return self._config

    @config.setter
    def config(self, config: DragConfig) -> None:
        old, new = self._config, checked_config(config)
        frame = self._require_model().frame(self.image.size, new)
        if any(getattr(old, name) != getattr(new, name) for name in INVERSION_FIELDS):
            ddim.Schedule(self._require_model(), new.steps)  # says what is wrong with the steps
            self._forget_inversion()
        elif any(getattr(old, name) != getattr(new, name) for name in FRAME_FIELDS):
            self._forget_optimisation()
        self._forget_editor()
        self._config, self._frame = new, frame

    @property
    def frame(self) -> Frame:
        """The sizes that the picture passes through on its way to the model."""
        return self._frame

    # ---- own

    def _tell(self) -> None:
        for callback in self._watchers:
            callback(self)

    def _require_model(self) -> Model:
        if self._model is None:
            raise RuntimeError(
                "this session was opened without a model and can only be looked at; set session.model = "
                "dragnoise.load_model(...), or give model= to DragSession.open()."
            )
        return self._model

    if TYPE_CHECKING:  # what a session adds

        def _forget_inversion(self) -> None: ...

        def _forget_optimisation(self) -> None: ...

        def _forget_editor(self) -> None: ...

        def _state(self) -> State: ...

        def _become(self, state: State) -> None: ...


def checked_config(config: Any) -> DragConfig:
    """The config itself; raises TypeError for what is none."""
    if not isinstance(config, DragConfig):
        raise TypeError(f"config must be a DragConfig, not {shown(config)}.")
    return config
