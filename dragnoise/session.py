"""DragSession: one picture being edited, an iteration at a time.  All state lives here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from dragnoise import ddim, generation, geometry, iteration, pictures
from dragnoise.archive import Saves
from dragnoise.archive.autosave import has_ended
from dragnoise.branching import Branches, checked_name
from dragnoise.config import DragConfig
from dragnoise.editors import DragNoise, Task
from dragnoise.given import as_text
from dragnoise.history import HISTORY_LIMIT, History, Snapshot, Status, require_limit
from dragnoise.lora import WearsLora
from dragnoise.model import Model, require_model
from dragnoise.pictures import Picture
from dragnoise.rescue import guarded
from dragnoise.settings import Settings, checked_config
from dragnoise.state import State


class DragSession(Settings, WearsLora, Branches, Saves):
    """Drag points of a picture with DragNoise, step by step.

    model: from `load_model`.  image: a path, a PIL image or an (H, W[, 3|4]) uint8 array of any size.
    prompt: what the picture shows, may be empty.  config: default `model.default_config`.

    Give `drags` (and a `mask`), then call `run()`; or go through `invert()`, `optimize()` and
    `render()`, which are steps of the same thing.  The expensive inversion happens once and is kept
    while drags, mask and most numbers change.

    Where a docstring speaks of the same bits, it speaks of a CPU.  On a GPU torch's quickest backward
    kernels add in an order that varies, and results agree up to rounding; there
    `torch.use_deterministic_algorithms(True)` asks for kernels that do not, with the environment variable
    CUBLAS_WORKSPACE_CONFIG=:4096:8 set before Python starts.  It holds for the whole process, so it is yours to call.

    name: what this branch of the edit is called, see `branch`.
    history_limit: bytes of bottlenecks and moments that the history may take, see `history_limit`.
    autosave, every: the file to save to after every so many iterations, see `autosave`.

    Raises TypeError or ValueError for a picture that cannot be read or a prompt that is no text.
    """

    _trajectory: list[Tensor]  # latents of steps 0, 1, ..., (1, C, h, w) on the device
    _editor: DragNoise | None = None

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
        config = checked_config(config if config is not None else model.default_config)
        picture = pictures.as_picture(image)
        frame = model.frame(picture.size, config)
        ddim.Schedule(model, config.steps)  # says what is wrong with the steps
        self._model = model
        self._become(
            State(
                image=picture,
                prompt=prompt,
                config=config,
                frame=frame,
                name=checked_name(name),
                history_limit=require_limit(history_limit),
            )
        )
        if autosave is not None:
            self.autosave(autosave, every=every)

    @classmethod
    def from_prompt(
        cls,
        model: Model,
        prompt: str,
        *,
        seed: int = 0,
        guidance: float = 7.5,
        steps: int = 50,
        negative_prompt: str = "",
        size: tuple[int, int] | None = None,
        config: DragConfig | None = None,
        progress: bool = True,
    ) -> DragSession:
        """A session about a picture that the model makes of the prompt, treated as a real one (section 3.3).

        guidance: the weight of classifier-free guidance, at most 1 is none.  steps: of DDIM, 2..1000.
        size: (width, height), multiples of the VAE's factor; default the model's native square.
        The same seed gives the same picture on a CPU, on a GPU up to rounding.

        Raises ValueError or TypeError for a wrong argument, and `OutOfMemory`.
        """
        config = None if config is None else checked_config(config)
        picture = generation.generate_picture(
            model, prompt, seed=seed, guidance=guidance, steps=steps, negative_prompt=negative_prompt, size=size,
            progress=progress,
        )  # fmt: skip
        return cls(model, picture, prompt, config)

    def __repr__(self) -> str:
        stands = f"iteration {self._history[-1].iteration}" if self._history else "not optimised"
        inverted = "inverted" if self.inverted else "not inverted"
        return f"DragSession({self.image.width}x{self.image.height}, {len(self._drags)} drags, {inverted}, {stands})"

    # ---- where it stands ---------------------------------------------------------------------

    @property
    def inverted(self) -> bool:
        """Has the picture been inverted up to `config.edit_from`?"""
        return len(self._trajectory) == self._config.edit_from + 1

    @property
    def history(self) -> History:
        """The snapshots so far, `history[k]` after iteration k; empty before the inversion."""
        return self._history

    @property
    def status(self) -> Status:
        """Of the last snapshot; "running" before there is any."""
        return self._history[-1].status if self._history else "running"

    @property
    @guarded
    def anchors(self) -> np.ndarray:
        """(m, 2) float64, image pixels: where the anchors are on the bottleneck as it stands now.

        Without a model: where they were when it was saved, or after a rewind when the last update was computed.
        """
        if not self._history:
            return np.array([d.anchor for d in self._drags], np.float64).reshape(-1, 2)
        last = self._history[-1]
        if last.iteration == 0:
            return last.anchors
        if self._model is None:
            known = self._known_anchors()
            return last.anchors if known is None else known
        return self._frame.to_image(self._look_ahead(grad=False).anchors).numpy()

    @property
    @guarded
    def latents(self) -> Tensor:
        """(1, C, h, w) float32 on the CPU: the latent that the inversion has come to."""
        return self._latent(len(self._trajectory) - 1 if self._trajectory else 0).cpu().clone()

    @property
    def trajectory(self) -> tuple[Tensor, ...]:
        """Latents of the inversion steps done, from the picture's own, (1, C, h, w) float32 on the CPU each."""
        return tuple(z.cpu() for z in self._trajectory)

    @property
    @guarded
    def bottleneck(self) -> Tensor:
        """(1, C, h', w') float32 on the CPU: the bottleneck as it stands, inverting first if needed."""
        if self._history:
            return self._history[-1].bottleneck.clone()
        return self._ready_editor().original.cpu().clone()

    # ---- the three stages --------------------------------------------------------------------

    @guarded
    def invert(self) -> Iterator[ddim.DDIMState]:
        """DDIM inversion of the picture to `config.edit_from`, a state per step (section 3.1).

        Starts over when called again; an unfinished one leaves the session as not inverted.
        """
        model, text = self._wearing(), self._require_model().embed(self.prompt)
        self._forget_inversion()
        trajectory = self._trajectory = [self._latent(0)]
        steps = ddim.invert(
            model, self._trajectory[0], text, self._schedule, self._config.edit_from, at=self._config.inversion
        )
        for state in steps:
            iteration.require_finite(state.latents, f"inversion step {state.step}")
            if self._trajectory is not trajectory:
                raise RuntimeError("this inversion was overtaken by a change; call session.invert() again.")
            trajectory.append(state.latents)
            if self.inverted and self._drags:
                self._begin()
            if self.inverted:
                self._save_if_due(0, last=True)
            yield state

    @guarded
    def optimize(self) -> Iterator[Snapshot]:
        """Iterate until every anchor has arrived or `max_iterations`, a snapshot per iteration.

        Inverts first if needed.  Leave it at any time and call it again to go on.  Raises ValueError
        without drags, and FloatingPointError when a number stops being finite, with the last good
        snapshot current.
        """
        self._begin()
        while (status := self._status_after(self._history[-1])) == "running":
            yield self._iterate()
        if status != self.status:  # done before it began, or by a change of numbers
            self._history = History([*self._history[:-1], dataclasses.replace(self._history[-1], status=status)])

    @guarded
    def step(self) -> Snapshot:
        """One iteration, whatever the status; inverts first if needed.  Raises as `optimize` does."""
        self._begin()
        return self._iterate()

    @guarded
    def denoise(self) -> Iterator[ddim.DDIMState]:
        """Render the edit as it stands, a state per denoising step; the last has the clean latent."""
        if self._history and self._history[-1].iteration > 0:
            last = self._history[-1].bottleneck.to(self._require_model().device)
            yield from self._ready_editor().render(last)
        else:
            yield from self._plain_denoise()

    @guarded
    def render(self) -> Image.Image:
        """The picture of the iteration that the session stands at, in the given picture's size.

        Inverts first if needed; before any iteration this is the reconstruction.
        """
        return self.picture_of(_last(self.denoise()).latents)

    @guarded
    def reconstruct(self) -> Image.Image:
        """The picture after inversion and plain denoising, without an edit: what the model can keep."""
        return self.picture_of(_last(self._plain_denoise()).latents)

    @guarded
    def picture_of(self, latents: Tensor) -> Image.Image:
        """Latents (1, C, h, w) of any step as a picture of the given picture's size.

        Raises TypeError or ValueError for what are no such latents, FloatingPointError when the picture is not finite.
        """
        pixels = self._require_model().decode_latents(latents)
        iteration.require_finite(pixels, "the rendered picture")
        return pictures.tensor_picture(pixels, self.image.size, released=self._config.is_released)

    def run(self, *, progress: bool = True) -> Image.Image:
        """Everything: inversion if needed, optimisation, rendering; returns the edited picture."""
        self._require_drags()
        if not self.inverted:
            _last(tqdm(self.invert(), "inverting", self._config.edit_from, disable=not progress))
        bar = tqdm(self.optimize(), "dragging", self._config.max_iterations, disable=not progress)
        for snapshot in bar:
            bar.set_postfix_str(f"loss {snapshot.loss:.4g}, {snapshot.distances.max():.1f} px to go")
        return self.picture_of(
            _last(tqdm(self.denoise(), "rendering", self._config.edit_from, disable=not progress)).latents
        )

    # ---- the loop ----------------------------------------------------------------------------

    def _iterate(self) -> Snapshot:
        """One forward, one backward, one update; the session changes only when all went well."""
        started = time.perf_counter()
        before, now = self._history, self._look_ahead(grad=True)
        self._ahead = None  # its graph is about to be used up
        snapshot = iteration.iterate(self._ready_editor(), before[-1], now)
        status = self._status_after(snapshot)
        done = dataclasses.replace(snapshot, status=status, seconds=time.perf_counter() - started)
        self._history = before.then(done).within(self._history_limit)
        self._save_if_due(done.iteration, last=has_ended(self._history))
        return done

    def _status_after(self, snapshot: Snapshot) -> Status:
        """Is there anything left to do?  Looks ahead, unless the iterations are used up anyway."""
        if snapshot.iteration >= self._config.max_iterations:
            return "max_iterations"
        anchors = self._look_ahead(snapshot, grad=True).anchors
        return "reached" if iteration.arrived(self._ready_editor(), anchors) else "running"

    def _look_ahead(self, snapshot: Snapshot | None = None, *, grad: bool) -> iteration.Ahead:
        """The forward of a snapshot's bottleneck, default the last one's, made once."""
        last, editor, ahead = snapshot or self._history[-1], self._ready_editor(), self._ahead
        if (
            ahead is None
            or ahead.editor is not editor
            or ahead.bottleneck is not last.bottleneck
            or (grad and not ahead.leaf.requires_grad)
        ):
            self._ahead = ahead = None  # two graphs would need twice the memory
            self._ahead = ahead = iteration.look_ahead(editor, last, grad=grad)
        return ahead

    # ---- getting ready -----------------------------------------------------------------------

    def _begin(self) -> None:
        """Make the snapshot before any update, once the picture is inverted and drags are given."""
        self._require_drags()
        if not self.inverted:
            _last(self.invert())
        if self._history:
            return
        self._history = History([iteration.start(self._ready_editor())])

    def _ready_editor(self) -> DragNoise:
        """The editor of everything as it is now, made once."""
        model = self._wearing()
        if not self.inverted:
            _last(self.invert())
        asked = (model, self._config, self._mask, self._trajectory[-1])
        if self._editor is None or not self._editor.is_for(*asked):
            self._editor = None
            self._editor = self._editor_of(self._config, self._mask)
        return self._editor

    def _editor_of(self, config: DragConfig, mask: np.ndarray | None) -> DragNoise:
        model, text = self._wearing(), self._require_model().embed(self.prompt)
        anchors, objectives = geometry.drag_tensors(self._drags, self._frame)
        latents = self._trajectory[-1]
        return DragNoise(Task(model, config, self._schedule, self._frame, latents, text, anchors, objectives, mask))

    @property
    def _schedule(self) -> ddim.Schedule:
        return ddim.Schedule(self._require_model(), self._config.steps)

    def _require_drags(self) -> None:
        if not self._drags:
            raise ValueError(
                "there is nothing to drag yet; set session.drags = [Drag(anchor=(x, y), objective=(x, y))]."
            )

    def _forget_inversion(self) -> None:
        self._forget_optimisation()  # first, so that an interrupt leaves no iterations without their inversion
        self._trajectory = []

    def _forget_optimisation(self) -> None:
        self._history = History()
        self._forget_editor()

    def _forget_editor(self) -> None:
        self._editor = None
        self._ahead = None

    def _latent(self, step: int) -> Tensor:
        """The latent of an inversion step that is done; step 0 is made when first asked for."""
        if self._trajectory:
            return self._trajectory[step]
        z = self._require_model().encode_picture(self.image, self._frame.working)
        if self._config.latent_noise:
            rng = torch.Generator().manual_seed(self._config.seed)
            z = z + self._config.latent_noise * torch.randn(z.shape, generator=rng).to(z)
        return z

    def _plain_denoise(self) -> Iterator[ddim.DDIMState]:
        if not self.inverted:
            _last(self.invert())
        text = self._require_model().embed(self.prompt)
        yield from ddim.denoise(self._wearing(), self._trajectory[-1], text, self._schedule, self._config.edit_from)

    # ---- all of it as one value

    @property
    def state(self) -> State:
        """Everything but the model, as one immutable value; `restore` goes back to it."""
        return self._state()

    def restore(self, state: State) -> None:
        """Be what `state`, of this session, was: drags, mask, numbers and iterations.  Watchers are told."""
        self._become(state)
        self._tell()

    def _state(self) -> State:
        """Everything but the model."""
        return State(
            image=self.image,
            prompt=self.prompt,
            config=self._config,
            frame=self._frame,
            drags=self._drags,
            mask=self._mask,
            lora=self._lora,
            trajectory=tuple(self._trajectory) if self.inverted else (),
            history=self._history,
            anchors=self._known_anchors(),
            name=self._name,
            origin=self._origin,
            history_limit=self._history_limit,
            made_with=self.made_with,
        )

    def _known_anchors(self) -> np.ndarray | None:
        """`anchors` if nothing has to be computed for it."""
        here = self._history[-1].bottleneck if self._history else None
        if self._ahead is not None and self._ahead.bottleneck is here:
            return self._frame.to_image(self._ahead.anchors).numpy()
        return self._anchors[1] if self._anchors is not None and self._anchors[0] is here else None

    def _become(self, state: State) -> None:
        """Set everything but the model."""
        self._image, self._prompt = state.image, state.prompt
        self._config, self._frame = state.config, state.frame
        self._drags, self._mask = state.drags, state.mask
        self._lora = state.lora
        self._trajectory = list(state.trajectory)
        self._history = state.history
        here = state.history[-1].bottleneck if state.history else None
        self._anchors = None if state.anchors is None else (here, state.anchors)
        self._history_limit = state.history_limit
        self._name, self._origin, self._made_with = state.name, state.origin, state.made_with
        self._forget_editor()


def _last(states: Any) -> Any:
    for state in states:  # noqa: B007
        pass
    return state
