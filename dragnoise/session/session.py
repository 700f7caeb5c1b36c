"""DragSession: one picture being edited, an iteration at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from dragnoise import geometry
from dragnoise.archive import container
from dragnoise.config import DragConfig
from dragnoise.editors import Status
from dragnoise.geometry import Drag
from dragnoise.images import masks, pictures
from dragnoise.images.pictures import Picture
from dragnoise.lora import Lora, LoraCache, LoraSettings, LoraStep
from dragnoise.models.model import Model, require_model
from dragnoise.sampling import ddim, text_to_image
from dragnoise.session import deprecated_names, diagnosis, stages
from dragnoise.session.branches import Branches
from dragnoise.session.cache import Cache
from dragnoise.session.diagnosis import Finding
from dragnoise.session.history import HISTORY_LIMIT, History, Snapshot, require_limit
from dragnoise.session.state import SessionState, checked_config, checked_name
from dragnoise.session.store import Store
from dragnoise.validation import as_text, shown


class DragSession:
    """Drag points of a picture: set `drags`, then `run()`; or `invert()`, `optimize()`, `render()` a step at a time.
    image: a path, PIL image or (H, W[, 3|4]) uint8 array.  Threads take turns; a change of an input drops the iteration
    under way with a RuntimeError.  Rarely needed: `store` (autosave, ...), `branches` (parent, ...), `state`.
    """

    def __init__(
        self,
        model: Model,
        image: Picture,
        prompt: str = "",
        config: DragConfig | None = None,
        *,
        name: str = "main",
        history_limit: float = HISTORY_LIMIT,
        autosave: str | Path | None = None,
        every: int = 10,
    ) -> None:
        """Points are in the picture's pixels (x, y).  config: default `model.default_config`.  every: iterations."""
        require_model(model)
        prompt = as_text("the prompt", prompt)
        config = checked_config(config if config is not None else model.default_config)
        picture = pictures.as_picture(image)
        ddim.Schedule(model, config.steps)  # says what is wrong with the steps
        state = SessionState(
            image=picture, prompt=prompt, config=config, frame=model.frame(picture.size, config),
            name=checked_name(name), history_limit=require_limit(history_limit),
        )  # fmt: skip
        self.store, self.branches = Store(model, state, Cache()), Branches[Self]()
        if autosave is not None:
            self.store.autosave(autosave, every=every)

    @classmethod
    def from_prompt(cls, model: Model, prompt: str, *, config: DragConfig | None = None, **options: Any) -> Self:
        """A session about a picture that the model makes of the prompt; options of `text_to_image.generate_picture`."""
        config = None if config is None else checked_config(config)
        return cls(model, text_to_image.generate_picture(model, prompt, **options), prompt, config)

    def __repr__(self) -> str:
        """Size, drags, and how far it is."""
        return f"DragSession({self.state.summary})"

    if not TYPE_CHECKING:  # so that a type checker refuses what is not there

        def __getattr__(self, name):
            return deprecated_names.get(self, name)  # names of earlier versions

        def __setattr__(self, name, value):
            """Set an input; raises AttributeError for any other name, such as a misspelled one."""
            deprecated_names.require_known(self, name, new=type(self) is not DragSession)
            if name in deprecated_names.SET:
                deprecated_names.SET[name](self, value)
            else:
                super().__setattr__(name, value)

    @property
    def image(self) -> Image.Image:
        """The picture, RGB, in its own size."""
        return self.state.image

    @property
    def prompt(self) -> str:
        """What the picture shows; a change needs a new inversion."""
        return self.state.prompt

    @prompt.setter
    def prompt(self, prompt: str) -> None:
        if as_text("the prompt", prompt) != self.prompt:
            self.store.write(prompt=prompt)

    @property
    def drags(self) -> tuple[Drag, ...]:
        """`Drag`s, or pairs ((x, y), (x, y)); other anchors start the optimisation afresh, other objectives go on."""
        return self.state.drags

    @drags.setter
    def drags(self, drags: Any) -> None:
        checked = geometry.as_drags(drags, self.image.size)
        if checked != self.drags:
            self.store.write(drags=checked)

    @property
    def mask(self) -> np.ndarray | None:
        """None, or (H, W) bool, True where the picture may change; any array, picture or path may be set."""
        return None if self.state.mask is None else self.state.mask.copy()

    @mask.setter
    def mask(self, mask: Any) -> None:
        checked, now = masks.as_mask(mask, self.image.size), self.state.mask
        if checked is not None:
            checked.flags.writeable = False
        if not (checked is now or (checked is not None and now is not None and np.array_equal(checked, now))):
            self.store.write(mask=checked)
            for remark in masks.mask_remarks(checked, self.drags):
                warnings.warn(remark, UserWarning, stacklevel=3)

    @property
    def config(self) -> DragConfig:
        """The numbers, help(DragConfig); set session.config.replace(lr=0.02) to change some."""
        return self.state.config

    @config.setter
    def config(self, config: DragConfig) -> None:
        if checked_config(config) == self.config:
            return
        model = self.store.engine.model
        if self.config.forgets(config) == "inversion":
            ddim.Schedule(model, config.steps)  # says what is wrong with the steps
        self.store.write(config=config, frame=model.frame(self.image.size, config))

    @property
    def model(self) -> Model:
        """The model; None in a session opened without one.  Setting the model it was made with keeps all results."""
        return cast(Model, self.store.model)  # None only in sessions opened without a model

    @model.setter
    def model(self, model: Model) -> None:
        self.store.model = model

    @property
    def lora(self) -> Lora | None:
        """The LoRA worn in this session alone, or None; a path may be set.  A change needs a new inversion."""
        return self.state.lora

    @lora.setter
    def lora(self, lora: Lora | str | Path | None) -> None:
        if isinstance(lora, str | Path):
            stages.load_lora(self.store, lora)
        elif lora is None or isinstance(lora, Lora):
            stages.wear(self.store, lora)
        else:
            raise TypeError(f"session.lora takes a Lora, the path of one or None, not {shown(lora)}.")

    @property
    def name(self) -> str:
        """What this branch is called; "main" unless named."""
        return self.state.name

    @name.setter
    def name(self, name: str) -> None:
        self.store.write(name=checked_name(name))

    # ---- where it stands

    @property
    def state(self) -> SessionState:
        """Everything but the model as one immutable value; setting an earlier one goes back to it."""
        return self.store.state

    @state.setter
    def state(self, state: SessionState) -> None:
        self.store.restore(state)

    @property
    def history(self) -> History:
        """The snapshots so far, `history[k]` after iteration k; empty before the inversion."""
        return self.state.history

    @property
    def status(self) -> Status:
        """ "running" as long as there is something left to do, else why not: see `editors.base.Status`."""
        return self.state.status

    @property
    def anchors(self) -> np.ndarray:
        """(m, 2) float64, image pixels: where the anchors are now; without a model, as far as it is known."""
        return self.store.anchors()

    # ---- the stages

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
        """Fit a LoRA to the picture, a step at a time, see `lora.fit`; leave it and go on later."""
        settings = LoraSettings(rank=rank, lr=lr, batch_size=batch_size, seed=seed)
        return stages.fit_lora(self.store, settings, steps, gradient_checkpointing, cache)

    def invert(self) -> Iterator[ddim.DDIMState]:
        """DDIM inversion to `config.edit_from` (section 3.1), a state per step; starts over when called again."""
        return stages.invert(self.store)

    def optimize(self) -> Iterator[Snapshot]:
        """Iterate until all anchors have arrived or `max_iterations`, a snapshot each; leave it and go on later."""
        return stages.optimize(self.store)

    def step(self) -> Snapshot:
        """One iteration, whatever the status; inverts first if needed.  Raises as `optimize` does."""
        return stages.step(self.store)

    def denoise(self) -> Iterator[ddim.DDIMState]:
        """Render the edit as it stands, a state per denoising step; the last has the clean latent."""
        return stages.denoise(self.store)

    def render(self) -> Image.Image:
        """The picture of the iteration that the session stands at, in its own size; before any, the reconstruction."""
        return self.picture_of(stages.last(self.denoise()).latents, edited=True)

    def reconstruct(self) -> Image.Image:
        """The picture after inversion and plain denoising, without an edit: what the model can keep."""
        return self.picture_of(stages.last(stages.denoise_unedited(self.store)).latents)

    def diagnose(self) -> list[Finding]:
        """Why the edit did not get there, and what helps, as `diagnosis.Finding`s; none when nothing is wrong."""
        with self.store.working, self.store.unit():
            return diagnosis.diagnose(self.state, anchors=self.anchors)

    def picture_of(self, latents: Tensor, *, edited: bool = False) -> Image.Image:
        """Latents (1, C, h, w) of any step as a picture of the given picture's size; edited: after `config.keep`."""
        return (stages.edited_picture if edited else stages.picture_of)(self.store, latents)

    def run(self, *, progress: bool = True) -> Image.Image:
        """Everything: inversion if needed, optimisation, rendering; returns the edited picture."""
        stages.require_drags(self.state)
        bar = partial(tqdm, disable=not progress)
        if not self.state.inverted:
            stages.last(bar(self.invert(), "inverting", self.config.edit_from))
        for snapshot in (iterations := bar(self.optimize(), "dragging", self.config.most_iterations)):
            iterations.set_postfix_str(f"loss {snapshot.loss:.4g}, {snapshot.distances.max():.1f} px to go")
        states = bar(self.denoise(), "rendering", self.config.edit_from)
        return self.picture_of(stages.last(states).latents, edited=True)

    # ---- time travel and files

    def rewind(self, k: int) -> None:
        """Go back to iteration k, 0..the last; what came after is forgotten, and computed again if asked for."""
        self.store.rewind(k)

    def snapshot(self, k: int) -> Snapshot:
        """`history[k]` with its tensors, computed again if they were let go to save memory."""
        return self.store.snapshot(k)

    def branch(self, k: int | None = None, *, name: str | None = None) -> Self:
        """A second session from iteration k on (default: where this one stands), sharing model and inversion."""
        checked = self.branches.free_name(self.name) if name is None else checked_name(name)
        other = type(self).__new__(type(self))
        other.store, other.branches = self.store.branch(k, checked), Branches(self)
        self.branches.add(other)
        return other

    def save(self, path: str | Path) -> Path:
        """Write everything but the model to one file, such as "edit.drag"; returns its path."""
        return self.store.save(path)

    @classmethod
    def open(cls, path: str | Path, model: Model | None = None, *, afresh: bool = False) -> Self:
        """Open a session file; without `model` for inspection only.  afresh: drop what the file's model computed."""
        if model is not None:
            require_model(model)
        if not isinstance(afresh, bool):
            raise TypeError(f"afresh must be True or False, not {shown(afresh)}.")
        session, state = cls.__new__(cls), container.read(path)
        session.store, session.branches = Store(None, state.afresh() if afresh else state, Cache()), Branches()
        if model is not None:
            session.model = model
        return session
