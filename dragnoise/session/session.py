"""DragSession: one picture being edited, an iteration at a time.  Long, because every verb of a user is here."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm
from typing_extensions import Self

from dragnoise import geometry
from dragnoise.archive import container
from dragnoise.archive.autosave import Autosave, has_ended
from dragnoise.config import DragConfig
from dragnoise.editors import Status
from dragnoise.geometry import Drag, Frame
from dragnoise.images import masks, pictures
from dragnoise.images.pictures import Picture
from dragnoise.interrupts import advice, rescue
from dragnoise.lora import Lora, LoraCache, LoraSettings, LoraStep, Subject, checkpoints, fit, load, save
from dragnoise.models.model import Model, require_model
from dragnoise.numerics import require_finite
from dragnoise.sampling import ddim, text_to_image
from dragnoise.session import diagnosis, iterations
from dragnoise.session.cache import Cache
from dragnoise.session.diagnosis import Finding
from dragnoise.session.engine import Engine
from dragnoise.session.history import HISTORY_LIMIT, History, Snapshot, require_limit
from dragnoise.session.state import FORGOTTEN, INPUTS, OvertakenError, SessionState
from dragnoise.validation import as_integer, as_text, shown


class DragSession:
    """Drag points of a picture, step by step: `drags`, then `run()`; or `invert()`, `optimize()`, `render()`.

    image: a path, PIL image or (H, W[, 3|4]) uint8 array; points are its pixels (x, y).  prompt: what it shows.
    config: default `model.default_config`.  Any thread may read and set; work of several threads takes turns, and a
    change of what an iteration is computed from drops that iteration with a RuntimeError.  Going on from a snapshot or
    a file gives the same bits on a CPU, and on a GPU where torch uses deterministic algorithms.
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
        require_model(model)
        prompt = as_text("the prompt", prompt)
        config = _checked_config(config if config is not None else model.default_config)
        picture = pictures.as_picture(image)
        ddim.Schedule(model, config.steps)  # says what is wrong with the steps
        state = SessionState(
            image=picture, prompt=prompt, config=config, frame=model.frame(picture.size, config),
            name=_checked_name(name), history_limit=require_limit(history_limit),
        )  # fmt: skip
        self._set_up(model, state, Cache())
        if autosave is not None:
            self.autosave(autosave, every=every)

    def _set_up(self, model: Model | None, state: SessionState, cache: Cache) -> None:
        self.engine, self._state = Engine(model, cache), state
        self._writing = threading.RLock()  # held for the moment of a write
        self._working = threading.RLock()  # held for one unit of work
        self._watchers: tuple[Callable[[Any], Any], ...] = ()
        self._autosave: Autosave | None = None
        self._parent: weakref.ref[DragSession] | None = None
        self._children: tuple[weakref.ref[DragSession], ...] = ()

    @classmethod
    def from_prompt(cls, model: Model, prompt: str, *, config: DragConfig | None = None, **options: Any) -> Self:
        """A session about a picture that the model makes of the prompt; options of `text_to_image.generate_picture`."""
        config = None if config is None else _checked_config(config)
        return cls(model, text_to_image.generate_picture(model, prompt, **options), prompt, config)

    def __repr__(self) -> str:
        state = self._state
        stands = f"iteration {state.history[-1].iteration}" if state.history else "not optimised"
        inverted = "inverted" if state.inverted else "not inverted"
        return f"DragSession({self.image.width}x{self.image.height}, {len(state.drags)} drags, {inverted}, {stands})"

    # ---- what is asked for: a change forgets what `state.FORGETS` and the config's metadata say

    @property
    def image(self) -> Image.Image:
        """The picture, RGB, in its own size."""
        return self._state.image

    @property
    def prompt(self) -> str:
        """What the picture shows; a change needs a new inversion."""
        return self._state.prompt

    @prompt.setter
    def prompt(self, prompt: str) -> None:
        if as_text("the prompt", prompt) != self.prompt:
            self._write(prompt=prompt)

    @property
    def drags(self) -> tuple[Drag, ...]:
        """`Drag`s, or pairs ((x, y), (x, y)); other anchors start the optimisation afresh, other objectives go on."""
        return self._state.drags

    @drags.setter
    def drags(self, drags: Any) -> None:
        checked = geometry.as_drags(drags, self.image.size)
        if checked != self.drags:
            self._write(drags=checked)

    @property
    def mask(self) -> np.ndarray | None:
        """None, or (H, W) bool, True where the picture may change; any array, picture or path may be set."""
        return None if self._state.mask is None else self._state.mask.copy()

    @mask.setter
    def mask(self, mask: Any) -> None:
        checked, now = masks.as_mask(mask, self.image.size), self._state.mask
        if checked is not None:
            checked.flags.writeable = False
        if not (checked is now or (checked is not None and now is not None and np.array_equal(checked, now))):
            self._write(mask=checked)
            for remark in masks.mask_remarks(checked, self.drags):
                warnings.warn(remark, UserWarning, stacklevel=2)

    @property
    def config(self) -> DragConfig:
        """The numbers; what a change makes obsolete is in `DragConfig`'s metadata."""
        return self._state.config

    @config.setter
    def config(self, config: DragConfig) -> None:
        if _checked_config(config) == self.config:
            return
        model = self.engine.model
        if self.config.forgets(config) == "inversion":
            ddim.Schedule(model, config.steps)  # says what is wrong with the steps
        self._write(config=config, frame=model.frame(self.image.size, config))

    @property
    def model(self) -> Model:
        """The model; None in a session opened without one, where the one it was made with goes on with all it holds."""
        return cast(Model, self.engine.given)  # the type of all sessions but those, where who asks knows

    @model.setter
    def model(self, model: Model) -> None:
        require_model(model)
        if model is self.engine.given:
            return
        state = self._state
        if self.engine.given is not None:
            state = dataclasses.replace(state, **FORGOTTEN)
        else:
            state.require_made_with(model)
        state.require_fit(model)
        frame = state.frame if self.engine.given is None else model.frame(self.image.size, self.config)
        with rescue(lambda: advice(model, frame, self.config)):
            state = dataclasses.replace(state, frame=frame).on(model.device)
        with self._writing:
            self.engine, self._state = Engine(model, Cache()), state

    @property
    def lora(self) -> Lora | None:
        """The LoRA that the model wears in this session alone, or None; a change needs a new inversion."""
        return self._state.lora

    @lora.setter
    def lora(self, lora: Lora | None) -> None:
        if lora is not None and not isinstance(lora, Lora):
            raise TypeError(f"session.lora takes a Lora or None, not {shown(lora)}; session.load_lora(path) reads one.")
        if lora is self.lora:
            return
        if lora is not None:
            lora.require_fit(self.engine.model)
        self._write(lora=lora)

    @property
    def lora_weight(self) -> float:
        """How strongly the LoRA is worn, -2 to 2, 0 is not at all; a change needs a new inversion."""
        return 0.0 if self.lora is None else self.lora.weight

    @lora_weight.setter
    def lora_weight(self, weight: float) -> None:
        changed = self._require_lora().at(weight)
        if changed.weight != self.lora_weight:
            self.lora = changed

    @property
    def history_limit(self) -> float:
        """Bytes that the history's tensors may take, default 1 GiB; some iterations' are let go beyond it."""
        return self._state.history_limit

    @history_limit.setter
    def history_limit(self, limit: float) -> None:
        checked = require_limit(limit)
        with self._working:
            state = self._state
            self._write(history_limit=checked, history=state.history.within(checked), anchors=state.anchors)

    def watch(self, callback: Callable[[Self], Any]) -> Callable[[], None]:
        """Call callback(session) in the thread that has set drags or mask; returns the function that ends it."""
        if not callable(callback):
            raise TypeError(f"watch() takes a function of the session, not {shown(callback)}.")
        self._watchers = (*self._watchers, callback)

        def unwatch() -> None:
            self._watchers = tuple(watcher for watcher in self._watchers if watcher is not callback)

        return unwatch

    # ---- where it stands

    @property
    def state(self) -> SessionState:
        """Everything but the model, as one immutable value with all of it; `restore` goes back to it."""
        return self._state

    def restore(self, state: SessionState) -> None:
        """Be what `state`, of this session, was: drags, mask, numbers and iterations."""
        if not isinstance(state, SessionState) or state.image is not self.image:
            raise ValueError("restore() takes a value of this session's own session.state.")
        self._write(**{field.name: getattr(state, field.name) for field in dataclasses.fields(state)})

    @property
    def frame(self) -> Frame:
        """The sizes that the picture passes through on its way to the model."""
        return self._state.frame

    @property
    def inverted(self) -> bool:
        """Has the picture been inverted up to `config.edit_from`?"""
        return self._state.inverted

    @property
    def history(self) -> History:
        """The snapshots so far, `history[k]` after iteration k; empty before the inversion."""
        return self._state.history

    @property
    def status(self) -> Status:
        """ "running" as long as there is something left to do, else "reached" or "max_iterations"."""
        return self._state.status

    @property
    def anchors(self) -> np.ndarray:
        """(m, 2) float64, image pixels: where the anchors are now; without a model, as far as it is known."""
        state = self._state
        if not state.history:
            return np.array([d.anchor for d in state.drags], np.float64).reshape(-1, 2)
        if state.anchors is not None or self.engine.given is None or state.history[-1].iteration == 0:
            return state.history[-1].anchors if state.anchors is None else state.anchors
        with self._unit():
            editor = self.engine.editor(self._state)
            return state.frame.to_image(editor.locate(self._state.history[-1].state)).numpy()

    def diagnose(self) -> list[Finding]:
        """Why the edit did not get there, and what helps, as `diagnosis.Finding`s; none when nothing is wrong."""
        with self._unit():
            return diagnosis.diagnose(self._state, anchors=self.anchors)

    @property
    def trajectory(self) -> tuple[Tensor, ...]:
        """Latents of the inversion steps done, from the picture's own, (1, C, h, w) float32 on the CPU each."""
        return tuple(z.cpu() for z in self._state.trajectory)

    @property
    def latents(self) -> Tensor:
        """(1, C, h, w) float32 on the CPU: the latent that the inversion has come to."""
        if self._state.trajectory:
            return self._state.trajectory[-1].cpu().clone()
        with self._unit():
            return self.engine.first_latent(self._state).cpu()

    @property
    def bottleneck(self) -> Tensor:
        """(1, C, h', w') float32 on the CPU: the bottleneck as it stands, inverting first if needed."""
        if self.history and "bottleneck" in self.history[-1].state.tensors:
            return self.history[-1].bottleneck.clone()
        self._require_inverted()
        with self._unit():
            return self.engine.first_pass(self._state)().bottleneck.float().cpu().clone()

    @property
    def made_with(self) -> Any:
        """The `ModelInfo` of the model, or of the one that it needs when it was opened without."""
        return self._state.made_with if self.engine.given is None else self.engine.given.info

    # ---- the three stages

    def invert(self) -> Iterator[ddim.DDIMState]:
        """DDIM inversion to `config.edit_from` (section 3.1), a state per step; starts over when called again."""
        with self._unit():
            state = self._state
            mine: tuple[Tensor, ...] = (self.engine.first_latent(state),)
            self._write(seen=state, what="the inversion", trajectory=mine)
            steps = self.engine.invert(state, mine[0])
        while True:
            with self._unit():
                done = next(steps, None)
                if done is None:
                    return
                require_finite(done.latents, f"inversion step {done.step}")
                with self._writing:
                    if self._state.trajectory is not mine:
                        raise OvertakenError("this inversion was overtaken by a change; call session.invert() again.")
                    mine = (*mine, done.latents)
                    self._write(trajectory=mine)
                if self.inverted and self.drags:
                    self._begin()
                if self.inverted:
                    self._save_if_due(0, last=True)
            yield done

    def optimize(self) -> Iterator[Snapshot]:
        """Iterate until all anchors have arrived or `max_iterations`, a snapshot each; leave it and go on later."""
        while True:
            with self._unit():
                state = self._begin()
                last = state.history[-1]
                status = self.engine.editor(state).status(last.state)
                if status != "running":
                    if status != last.status:  # done before it began, or by a change of numbers
                        history = History([*state.history[:-1], dataclasses.replace(last, status=status)])
                        self._write(seen=state, what="the last iteration", history=history, anchors=state.anchors)
                    return
                snapshot = self._iterate(state)
            yield snapshot

    def step(self) -> Snapshot:
        """One iteration, whatever the status; inverts first if needed.  Raises as `optimize` does."""
        with self._unit():
            return self._iterate(self._begin())

    def denoise(self) -> Iterator[ddim.DDIMState]:
        """Render the edit as it stands, a state per denoising step; the last has the clean latent."""
        self._require_inverted()
        with self._unit():
            state = self._state
            if state.history and state.history[-1].iteration > 0:
                states = self.engine.editor(state).render(state.history[-1].state)
                self.engine.release()
            else:
                states = self.engine.denoise_unedited(state)
        yield from self._units(states)

    def render(self) -> Image.Image:
        """The picture of the iteration that the session stands at, in its own size; before any, the reconstruction."""
        return self.picture_of(_last(self.denoise()).latents)

    def reconstruct(self) -> Image.Image:
        """The picture after inversion and plain denoising, without an edit: what the model can keep."""
        self._require_inverted()
        return self.picture_of(_last(self._units(self.engine.denoise_unedited(self._state))).latents)

    def predicted(self) -> Tensor | None:
        """The clean latent (1, C, h, w) that the last iteration's forward predicts in one step; None before any."""
        with self._unit():
            state = self._state
            if not (state.history and state.drags and state.inverted) or self.engine.given is None:
                return None
            return self.engine.editor(state).predicted(state.history[-1].state)

    def picture_of(self, latents: Tensor) -> Image.Image:
        """Latents (1, C, h, w) of any step as a picture of the given picture's size."""
        with self._unit():
            pixels = self.engine.model.decode_latents(latents)
            require_finite(pixels, "the rendered picture")
            released = self.config.is_released
            working = None if released else self.frame.working
            return pictures.tensor_picture(pixels, self.image.size, working=working, released=released)

    def run(self, *, progress: bool = True) -> Image.Image:
        """Everything: inversion if needed, optimisation, rendering; returns the edited picture."""
        self._require_drags()
        if not self.inverted:
            _last(tqdm(self.invert(), "inverting", self.config.edit_from, disable=not progress))
        bar = tqdm(self.optimize(), "dragging", self.config.max_iterations, disable=not progress)
        for snapshot in bar:
            bar.set_postfix_str(f"loss {snapshot.loss:.4g}, {snapshot.distances.max():.1f} px to go")
        states = tqdm(self.denoise(), "rendering", self.config.edit_from, disable=not progress)
        return self.picture_of(_last(states).latents)

    # ---- time travel

    def rewind(self, k: int) -> None:
        """Go back to iteration k, 0..the last; what came after is forgotten, and computed again if asked for."""
        with self._unit():
            state = self._state
            state.history.require(k)
            if k != len(state.history) - 1 or not state.history[-1].is_whole:
                self._write(seen=state, what="going back", history=self._up_to(state, k))

    def snapshot(self, k: int) -> Snapshot:
        """`history[k]` with its tensors, computed again if they were let go to save memory."""
        with self._unit():
            return self._whole(self._state, k)

    def branch(self, k: int | None = None, *, name: str | None = None) -> Self:
        """A second session from iteration k on (default: where this one stands), sharing model and inversion."""
        checked = self._free_name() if name is None else _checked_name(name)
        with self._unit():
            state = self._state
            last = len(state.history) - 1
            at = last if k is None else k
            history = state.history if k is None else self._up_to(state, k)
            anchors, origin = (state.anchors if at == last else None), (state.name, max(at, 0))
            state = dataclasses.replace(state, history=history, anchors=anchors, name=checked, origin=origin)
        other = type(self).__new__(type(self))
        other._set_up(self.engine.given, state, self.engine.cache)
        other._parent = weakref.ref(self)
        self._children = (*(ref for ref in self._children if ref()), weakref.ref(other))
        return other

    @property
    def name(self) -> str:
        """What this branch is called; "main" unless named."""
        return self._state.name

    @name.setter
    def name(self, name: str) -> None:
        self._write(name=_checked_name(name))

    @property
    def origin(self) -> tuple[str, int] | None:
        """Name and iteration that this one was branched from; None for the first of a tree."""
        return self._state.origin

    @property
    def parent(self) -> Self | None:
        """The session that this one was branched from, as long as somebody holds it."""
        return cast("Self | None", self._parent() if self._parent else None)

    @property
    def children(self) -> tuple[Self, ...]:
        """The sessions branched from this one that somebody still holds, oldest first."""
        living = tuple(child for ref in self._children if (child := ref()) is not None)
        return cast("tuple[Self, ...]", living)

    # ---- files and LoRAs

    def save(self, path: str | Path) -> Path:
        """Write everything but the model to one file, such as "edit.drag"; returns its path."""
        if self._autosave is not None:
            self._autosave.flush()
        return container.write(self._to_save(), path)

    def _to_save(self) -> SessionState:
        state = dataclasses.replace(self._state, made_with=self.made_with)
        if not state.inverted:
            state = dataclasses.replace(state, trajectory=())
        if state.anchors is None and state.history and self.engine.given is not None:
            with contextlib.suppress(
                RuntimeError, FloatingPointError
            ):  # a forward that fails shall not keep from saving
                state = dataclasses.replace(state, anchors=self.anchors)
        return state

    @classmethod
    def open(cls, path: str | Path, model: Model | None = None, *, afresh: bool = False) -> Self:
        """The session of a file, without a model to look at; `afresh` leaves out what the file's model made."""
        if model is not None:
            require_model(model)
        if not isinstance(afresh, bool):
            raise TypeError(f"afresh must be True or False, not {shown(afresh)}.")
        session = cls.__new__(cls)
        state = container.read(path)
        session._set_up(None, state.afresh() if afresh else state, Cache())
        if model is not None:
            session.model = model
        return session

    def autosave(
        self, path: str | Path | None, *, every: int = 10, on_error: Callable[[Exception | None], Any] | None = None
    ) -> None:
        """Save from now on, and at the end; None ends it; on_error hears of a save that failed, or None."""
        every = as_integer("every", every, 1)
        old, self._autosave = self._autosave, None if path is None else Autosave(path, every, on_error=on_error)
        if old is not None:
            old.close()

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
        steps = as_integer("steps", steps, 1)
        settings = LoraSettings(rank=rank, lr=lr, batch_size=batch_size, seed=seed)
        checkpoints(self._subject(), settings, gradient_checkpointing)  # says what is wrong with it
        if cache is not None and not isinstance(cache, LoraCache):
            cache = LoraCache(cache)
        return self._fit_lora(settings, steps, gradient_checkpointing, cache)

    def save_lora(self, path: str | Path) -> Path:
        """Write the LoRA in diffusers' format to a .safetensors file or into a folder; returns the file's path."""
        return save(self._require_lora(), path)

    def load_lora(self, path: str | Path) -> None:
        """Put on a LoRA of the U-Net in diffusers' or kohya's format, from a .safetensors file or a folder."""
        with self._unit():
            self.lora = load(path, self.engine.model)

    # ---- private: writing

    def _write(self, *, seen: SessionState | None = None, what: str = "", **changes: Any) -> SessionState:
        """Change the state, here alone, and return it; OvertakenError if an input differs from what was `seen`."""
        with self._writing:
            if seen is not None and any(getattr(self._state, name) is not getattr(seen, name) for name in INPUTS):
                raise OvertakenError(f"{what} was overtaken by a change; call again what was called.")
            state = self._state = self._state.changed(**changes)
        if changes.keys() & {"drags", "mask"}:
            for callback in self._watchers:
                callback(self)
        return state

    def _unit(self) -> rescue:
        """Enter it for one unit of work: the session's only one at the time, and undone when memory runs out."""
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "a session needs gradients, and torch.inference_mode() is on, which allows none of what is made inside "
                "it; leave that block, or use torch.no_grad() in its place."
            )
        return rescue(self._let_go, lock=self._working)

    def _units(self, states: Iterator[ddim.DDIMState]) -> Iterator[ddim.DDIMState]:
        """Each state as a unit of work."""
        while True:
            with self._unit():
                state = next(states, None)
            if state is None:
                return
            yield state

    def _let_go(self) -> str:
        self.engine.release()
        return advice(self.model, self._state.frame, self.config)

    # ---- private: the loop

    def _begin(self) -> SessionState:
        """The state with a snapshot to go on from, after inverting if needed; raises ValueError without drags."""
        self._require_drags()
        self._require_inverted()
        state = self._state
        if not (state.drags and state.inverted):
            raise OvertakenError("the first forward was overtaken by a change; call again what was called.")
        if state.history:
            return state
        for remark in state.remarks:
            warnings.warn(remark, UserWarning, stacklevel=4)
        history = History([iterations.first(self.engine.editor(state), state.drags)])
        return self._write(seen=state, what="the first forward", history=history)

    def _iterate(self, state: SessionState) -> Snapshot:
        """One update; the session changes only when all went well and nothing it was computed from has changed."""
        editor = self.engine.editor(state)
        snapshot = iterations.following(editor, state.history[-1], state.drags)
        status = editor.status(snapshot.state)
        snapshot = dataclasses.replace(snapshot, status=status)
        anchors = None if status == "max_iterations" else state.frame.to_image(editor.locate(snapshot.state)).numpy()
        history = state.history.then(snapshot).within(state.history_limit)
        self._write(seen=state, what=f"iteration {snapshot.iteration}", history=history, anchors=anchors)
        self._save_if_due(snapshot.iteration, last=has_ended(history))
        return snapshot

    def _whole(self, state: SessionState, k: int) -> Snapshot:
        """Snapshot k of a state with its tensors."""
        return iterations.whole(state.history, k, partial(self.engine.editor_of, state))

    def _up_to(self, state: SessionState, k: int) -> History:
        """A state's history as it was at iteration k, whose snapshot is whole."""
        history = state.history.upto(k)
        return history if history[-1].is_whole else History([*history[:-1], self._whole(state, k)])

    # ---- private: LoRAs and files

    def _subject(self) -> Subject:
        state = self._state
        picture = pictures.padded_picture(state.image, state.frame)
        return Subject(self.engine.model, picture, state.frame.padded, state.prompt, state.config.latent_noise)

    def _fit_lora(
        self, settings: LoraSettings, steps: int, gradient_checkpointing: bool | None, cache: LoraCache | None
    ) -> Iterator[LoraStep]:
        mine = self.lora
        with self._unit():
            self.engine.clear()  # what can be made again leaves its memory to the fit
            fitting = fit(
                self._subject(), settings, steps, start=mine, gradient_checkpointing=gradient_checkpointing, cache=cache
            )
        while True:
            with self._unit():
                done = next(fitting, None)
                if done is None:
                    return
                step, fitted = done
                if not _same_lora(self.lora, mine):
                    raise OvertakenError("this fit was overtaken by another LoRA; call session.fit_lora() again.")
                self.lora = mine = fitted if self.lora is None else fitted.at(self.lora.weight)
                self._save_if_due(step.step, last=step.step == steps)
            yield step

    def _save_if_due(self, done: int, *, last: bool) -> None:
        if self._autosave is not None and (last or done % self._autosave.every == 0):
            self._autosave.save(self._to_save())

    # ---- private: what is needed

    def _require_drags(self) -> None:
        if not self.drags:
            raise ValueError(
                "there is nothing to drag yet; set session.drags = [Drag(anchor=(x, y), objective=(x, y))]."
            )

    def _require_inverted(self) -> None:
        if not self.inverted:
            _last(self.invert())

    def _require_lora(self) -> Lora:
        if self.lora is None:
            raise ValueError("there is no LoRA yet; call session.fit_lora() or session.load_lora(path) first.")
        return self.lora

    def _free_name(self) -> str:
        taken = {child.name for child in self.children}
        return next(name for i in itertools.count(1) if (name := f"{self.name}.{i}") not in taken)


def _checked_config(config: Any) -> DragConfig:
    if not isinstance(config, DragConfig):
        raise TypeError(f"config must be a DragConfig, not {shown(config)}.")
    return config


def _checked_name(name: object) -> str:
    text = as_text("a branch's name", name)
    if not text.strip():
        raise ValueError(f"a branch's name must not be empty, as {shown(name)} is.")
    return text


def _same_lora(one: Lora | None, other: Lora | None) -> bool:
    """Do they change the weights alike, whatever their strengths?"""
    return one is other or (one is not None and other is not None and one.adapters is other.adapters)


def _last(states: Any) -> Any:
    for state in states:  # noqa: B007
        pass
    return state
