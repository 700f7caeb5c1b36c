"""DragSession: one picture being edited, an iteration at a time.  All state lives here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from dragnoise import ddim, generation, geometry, iteration
from dragnoise.config import DragConfig
from dragnoise.editors import DragNoise, Task
from dragnoise.geometry import Drag, Frame, Picture
from dragnoise.history import History, Snapshot, Status
from dragnoise.lora import WearsLora
from dragnoise.memory import guarded
from dragnoise.model import Model


class DragSession(WearsLora):
    """Drag points of a picture with DragNoise, step by step.

    model: from `load_model`.  image: a path, a PIL image or an (H, W[, 3|4]) uint8 array of any size.
    prompt: what the picture shows, may be empty.  config: default `model.default_config`.

    Give `drags` (and a `mask`), then call `run()`; or go through `invert()`, `optimize()` and
    `render()`, which are steps of the same thing.  The expensive inversion happens once and is kept
    while drags, mask and most numbers change.

    Raises TypeError or ValueError for a picture that cannot be read or a prompt that is no text.
    """

    def __init__(self, model: Model, image: Picture, prompt: str = "", config: DragConfig | None = None) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"model must come from dragnoise.load_model(), not be a {type(model).__name__}.")
        if not isinstance(prompt, str):
            raise TypeError(f"the prompt must be text, not {prompt!r:.80}.")
        self.model = model
        self.image: Image.Image = geometry.as_picture(image)
        self.prompt = prompt
        self._drags: tuple[Drag, ...] = ()
        self._mask: np.ndarray | None = None
        self._history = History()
        self._trajectory: list[Tensor] = []  # latents of steps 0, 1, ..., (1, C, h, w) on the device
        self._editor: DragNoise | None = None
        self._ahead: iteration.Ahead | None = None
        self._watchers: list[Callable[[DragSession], Any]] = []
        self._config = _checked_config(config if config is not None else model.default_config)
        self._frame = self._make_frame(self._config)
        self._schedule = ddim.Schedule(model, self._config.steps)

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
        The same seed gives the same picture on the same device.

        Raises ValueError or TypeError for a wrong argument, and `OutOfMemory`.
        """
        config = None if config is None else _checked_config(config)
        picture = generation.generate_picture(
            model, prompt, seed=seed, guidance=guidance, steps=steps, negative_prompt=negative_prompt, size=size,
            progress=progress,
        )  # fmt: skip
        return cls(model, picture, prompt, config)

    def __repr__(self) -> str:
        stands = f"iteration {self._history[-1].iteration}" if self._history else "not optimised"
        inverted = "inverted" if self.inverted else "not inverted"
        return f"DragSession({self.image.width}x{self.image.height}, {len(self._drags)} drags, {inverted}, {stands})"

    # ---- what is asked for -------------------------------------------------------------------

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
            self._drags = checked
            self._forget_optimisation()
            self._tell()

    @property
    def mask(self) -> np.ndarray | None:
        """None, or (H, W) bool, True where the picture may change; any array or PIL image may be set."""
        return None if self._mask is None else self._mask.copy()

    @mask.setter
    def mask(self, mask: Any) -> None:
        self._mask = geometry.as_mask(mask, self.image.size)
        self._forget_editor()
        self._tell()

    def watch(self, callback: Callable[[DragSession], Any]) -> Callable[[], None]:
        """Call callback(session) whenever drags or mask have been set, in the thread that sets them.

        Returns the function that ends it.
        """
        self._watchers = [*self._watchers, callback]

        def unwatch() -> None:
            self._watchers = [watcher for watcher in self._watchers if watcher is not callback]

        return unwatch

    @property
    def config(self) -> DragConfig:
        """The numbers; a change takes effect at the next iteration, or needs a new inversion."""
        return self._config

    @config.setter
    def config(self, config: DragConfig) -> None:
        old, new = self._config, _checked_config(config)
        frame = self._make_frame(new)
        if any(getattr(old, name) != getattr(new, name) for name in INVERSION_FIELDS):
            self._config, self._frame = new, frame
            self._schedule = ddim.Schedule(self.model, new.steps)
            self._forget_inversion()
        else:
            self._config = new
            if any(getattr(old, name) != getattr(new, name) for name in FRAME_FIELDS):
                self._frame = frame
                self._forget_optimisation()
            self._forget_editor()

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
        """(m, 2) float64, image pixels: where the anchors are on the bottleneck as it stands now."""
        if not self._history:
            return np.array([d.anchor for d in self._drags], np.float64).reshape(-1, 2)
        last = self._history[-1]
        if last.iteration == 0:
            return last.anchors
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
        self._forget_inversion()
        trajectory = self._trajectory = [self._latent(0)]
        model, text = self._wearing(), self.model.embed(self.prompt)
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
            yield state

    @guarded
    def optimize(self) -> Iterator[Snapshot]:
        """Iterate until every anchor has arrived or `max_iterations`, a snapshot per iteration.

        Inverts first if needed.  Leave it at any time and call it again to go on.  Raises ValueError
        without drags, and FloatingPointError when a number stops being finite, with the last good
        snapshot current.
        """
        self._begin()
        while (status := self._status_now()) == "running":
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
            last = self._history[-1].bottleneck.to(self.model.device)
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
        """Latents (1, C, h, w) of any step as a picture of the given picture's size."""
        pixels = self.model.decode_latents(latents)
        iteration.require_finite(pixels, "the rendered picture")
        return geometry.tensor_picture(pixels, self.image.size, released=self._config.is_released)

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

    # ---- time travel -------------------------------------------------------------------------

    def rewind(self, k: int) -> None:
        """Go back to iteration k, 0..the last; what came after is forgotten.

        Running again gives the same bits.  Raises IndexError beyond the history.
        """
        self._history = self._history.upto(k)
        self._ahead = None

    def branch(self, k: int | None = None) -> DragSession:
        """A second session from iteration k on (default: where this one stands).

        It shares the model, the LoRA and the inversion, and goes its own way.  Raises IndexError beyond the history.
        """
        other = DragSession(self.model, self.image, self.prompt, self._config)
        other._drags, other._mask = self._drags, self._mask
        other._lora, other._worn = self._lora, self._worn
        other._trajectory = list(self._trajectory) if self.inverted else []
        if k is not None or self._history:
            other._history = self._history.upto(len(self._history) - 1 if k is None else k)
        return other

    # ---- the loop ----------------------------------------------------------------------------

    def _iterate(self) -> Snapshot:
        """One forward, one backward, one update; the session changes only when all went well."""
        started = time.perf_counter()
        before, now = self._history, self._look_ahead(grad=True)
        self._ahead = None  # its graph is about to be used up
        snapshot = iteration.iterate(self._ready_editor(), before[-1], now)
        self._history = before.then(snapshot)
        try:
            status = self._status_now()
        except BaseException:
            self._history = before
            raise
        done = dataclasses.replace(snapshot, status=status, seconds=time.perf_counter() - started)
        self._history = before.then(done)
        return done

    def _status_now(self) -> Status:
        """Is there anything left to do?  Looks ahead, unless the iterations are used up anyway."""
        if self._history[-1].iteration >= self._config.max_iterations:
            return "max_iterations"
        anchors = self._look_ahead(grad=True).anchors
        return "reached" if iteration.arrived(self._ready_editor(), anchors) else "running"

    def _look_ahead(self, *, grad: bool) -> iteration.Ahead:
        """The forward of the bottleneck as it stands, made once."""
        if self._ahead is None or (grad and not self._ahead.leaf.requires_grad):
            self._ahead = iteration.look_ahead(self._ready_editor(), self._history[-1], grad=grad)
        return self._ahead

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
        if not self.inverted:
            _last(self.invert())
        if self._editor is None:
            anchors, objectives = geometry.drag_tensors(self._drags, self._frame)
            self._editor = DragNoise(
                Task(
                    self._wearing(),
                    self._config,
                    self._schedule,
                    self._frame,
                    self._trajectory[-1],
                    self.model.embed(self.prompt),
                    anchors,
                    objectives,
                    self._mask,
                )
            )
        return self._editor

    def _require_drags(self) -> None:
        if not self._drags:
            raise ValueError(
                "there is nothing to drag yet; set session.drags = [Drag(anchor=(x, y), objective=(x, y))]."
            )

    def _tell(self) -> None:
        for callback in self._watchers:
            callback(self)

    def _forget_inversion(self) -> None:
        self._trajectory = []
        self._forget_optimisation()

    def _forget_optimisation(self) -> None:
        self._history = History()
        self._forget_editor()

    def _forget_editor(self) -> None:
        self._editor = None
        self._ahead = None

    def _make_frame(self, config: DragConfig) -> Frame:
        return Frame.of(self.image.size, config, native=self.model.native, multiple=self.model.factor)

    def _latent(self, step: int) -> Tensor:
        """The latent of an inversion step that is done; step 0 is made when first asked for."""
        if self._trajectory:
            return self._trajectory[step]
        z = self.model.encode_picture(self.image, self._frame.working)
        if self._config.latent_noise:
            rng = torch.Generator().manual_seed(self._config.seed)
            z = z + self._config.latent_noise * torch.randn(z.shape, generator=rng).to(z)
        return z

    def _plain_denoise(self) -> Iterator[ddim.DDIMState]:
        if not self.inverted:
            _last(self.invert())
        text = self.model.embed(self.prompt)
        yield from ddim.denoise(self._wearing(), self._trajectory[-1], text, self._schedule, self._config.edit_from)


INVERSION_FIELDS = ("steps", "edit_from", "resize", "side", "latent_noise", "seed", "inversion")
"""Fields of `DragConfig` whose change needs a new inversion."""

FRAME_FIELDS = ("convention", "supervision_scale")
"""Fields whose change keeps the inversion and starts the optimisation afresh."""


def _checked_config(config: Any) -> DragConfig:
    if not isinstance(config, DragConfig):
        raise TypeError(f"config must be a DragConfig, not {config!r:.80}.")
    return config


def _last(states: Any) -> Any:
    for state in states:  # noqa: B007
        pass
    return state
