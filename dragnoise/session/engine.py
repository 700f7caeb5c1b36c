"""What a session computes from its state and a model: the first latent, the inversion, the editor, plain denoising."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dragnoise import geometry
from dragnoise.editors import Editor, Task, make_editor
from dragnoise.editors.parts.carried import Carried, carry
from dragnoise.identity import same
from dragnoise.images.pictures import padded_picture
from dragnoise.lora.settings import Subject
from dragnoise.models.model import Model
from dragnoise.models.unet import Encoded
from dragnoise.sampling import ddim
from dragnoise.session.cache import Cache
from dragnoise.session.history import Snapshot
from dragnoise.session.state import SessionState


class Engine:
    """Functions of a `SessionState` for one model; remembers the editor of the last state, and a `Cache` of the rest.

    model: without one, in a session that is looked at only, everything raises RuntimeError.
    """

    def __init__(self, model: Model | None, cache: Cache) -> None:
        self.given, self.cache = model, cache
        self._editor: tuple[tuple[Any, ...], Editor] | None = None

    @property
    def model(self) -> Model:
        """The model as it was given, without a LoRA."""
        if self.given is None:
            raise RuntimeError(
                "this session was opened without a model and can only be looked at; set session.model = "
                "dragnoise.load_model(...), or give model= to DragSession.open()."
            )
        return self.given

    def worn(self, state: SessionState) -> Model:
        """The model, with the state's LoRA in its weights if there is one."""
        return self.cache.worn(self.model, state.lora)

    def first_latent(self, state: SessionState) -> Tensor:
        """The picture's latent, (1, C, h, w) float32 on the device, with the noise that the config asks for."""
        z = self.model.encode_picture(padded_picture(state.image, state.frame), state.frame.padded)
        if state.config.latent_noise:
            rng = torch.Generator().manual_seed(state.config.seed)
            z = z + state.config.latent_noise * torch.randn(z.shape, generator=rng, dtype=torch.float32).to(z)
        return z

    def invert(self, state: SessionState, first: Tensor) -> Iterator[ddim.DDIMState]:
        """DDIM inversion from the first latent to `config.edit_from`, a state per step (section 3.1)."""
        model, config = self.worn(state), state.config
        return ddim.invert(
            model, first, self._text(state), ddim.Schedule(model, config.steps), config.edit_from, at=config.inversion
        )

    def denoise_unedited(self, state: SessionState) -> Iterator[ddim.DDIMState]:
        """Plain DDIM denoising of the inverted latent, a state per step."""
        model, config = self.worn(state), state.config
        schedule = ddim.Schedule(model, config.steps)
        first = self.first_pass(state)()
        yield from ddim.denoise(model, state.trajectory[-1], self._text(state), schedule, config.edit_from, first=first)

    def first_pass(self, state: SessionState) -> Callable[[], Encoded]:
        """A function that returns the encoder's pass on the inverted latent, from the cache if it was computed."""
        model, config = self.worn(state), state.config
        timestep = ddim.Schedule(model, config.steps).timestep(config.edit_from)
        return partial(self.cache.encoded, model, state.trajectory[-1], timestep, self._text(state))

    def carried(self, state: SessionState) -> Callable[[], Carried]:
        """A function that returns the picture carried along the drags, from the cache if it was computed."""
        model, config, image, frame, mask = self.model, state.config, state.image, state.frame, state.mask
        key = (model, image, state.drags, mask, (config.reach, config.side, config.resize))
        return partial(
            self.cache.carried, key,
            partial(carry, model, config, image, frame, *geometry.drag_tensors(state.drags, frame), mask),
        )  # fmt: skip

    def editor(self, state: SessionState) -> Editor:
        """The editor of a state, made once; numbers that make nothing obsolete are exchanged in it."""
        key = (self.worn(state), state.trajectory[-1], state.prompt, state.drags, state.mask)
        if self._editor is not None and same(self._editor[0], key):
            editor = self._editor[1]
            if editor.task.config == state.config:
                return editor
            if editor.task.config.forgets(state.config) == "nothing":
                editor = editor.retasked(dataclasses.replace(editor.task, config=state.config))
                self._editor = (key, editor)
                return editor
        self._editor = None  # before the next one takes memory
        self._editor = (key, make_editor(self._task(state)))
        return self._editor[1]

    def editor_of(self, state: SessionState, snapshot: Snapshot) -> Editor:
        """A new editor of the numbers, the mask and the drags that a snapshot of the state was made with."""
        drags = state.drags if snapshot.drags is None else snapshot.drags
        config = state.config if snapshot.config is None else snapshot.config
        then = dataclasses.replace(state, config=config, mask=snapshot.mask, drags=drags)
        return make_editor(self._task(then))

    def known(self, state: SessionState) -> Iterator[tuple[Tensor, Image.Image]]:
        """Pictures that an edit may equal, as pairs (autoencoder's reconstruction (1, 3, H, W), picture).

        They are the given one and the one that was carried along the drags; `keep_pixels` puts their details back.
        """
        yield self.cache.decoded(self.model, state.trajectory[0]), state.image
        if state.config.start == "carried":
            first, carried = state.trajectory[0], self.carried(state)()
            yield self.cache.known((first, carried), partial(self._known, first, carried, state.frame))

    def _known(self, first: Tensor, carried: Carried, frame: geometry.Frame) -> tuple[Tensor, Image.Image]:
        before, after = carried.latents
        noise = first.to(before) - before
        return self.model.decode_latents(after + noise), carried.after.crop((0, 0, *frame.working))

    def subject(self, state: SessionState) -> Subject:
        """What a LoRA is fitted to: the picture as the model sees it, and its prompt."""
        picture = padded_picture(state.image, state.frame)
        return Subject(self.model, picture, state.frame.padded, state.prompt, state.config.latent_noise)

    def release(self) -> None:
        """Let go of the next iteration's graph, the largest thing a session holds."""
        if self._editor is not None:
            self._editor[1].release()

    def clear(self) -> None:
        """Let go of everything that can be made again."""
        self._editor = None
        self.cache.clear()

    def _task(self, state: SessionState) -> Task:
        model = self.worn(state)
        anchors, objectives = geometry.drag_tensors(state.drags, state.frame)
        return Task(
            model=model, config=state.config, schedule=ddim.Schedule(model, state.config.steps), frame=state.frame,
            trajectory=state.trajectory, first_pass=self.first_pass(state), carried=self.carried(state),
            text=self._text(state), picture=state.image, anchors=anchors, objectives=objectives, mask=state.mask,
        )  # fmt: skip

    def _text(self, state: SessionState) -> Any:
        return self.cache.text(self.model, state.prompt)
