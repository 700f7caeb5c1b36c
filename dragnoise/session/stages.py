"""The stages of an edit as generators: LoRA fit, inversion, optimisation and denoising, and the loop of iterations."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from dragnoise.archive.autosave import has_ended
from dragnoise.editors import Editor, EditState, Report
from dragnoise.geometry import Drag
from dragnoise.images import pictures
from dragnoise.images.keep_pixels import keep_pixels
from dragnoise.lora import Lora, LoraCache, LoraSettings, LoraStep, checkpoints, fit, load
from dragnoise.numerics import require_finite, without_lr
from dragnoise.sampling.ddim import DDIMState
from dragnoise.session.history import History, OvertakenError, Snapshot
from dragnoise.session.state import SessionState
from dragnoise.session.store import Store
from dragnoise.validation import as_integer

T = TypeVar("T")


# ---- inversion


def invert(store: Store) -> Iterator[DDIMState]:
    """DDIM inversion to `config.edit_from` (section 3.1), a state per step, from the start."""
    with store.working, store.unit():
        state = store.state
        mine: tuple[Tensor, ...] = (store.engine.first_latent(state),)
        store.write(seen=state, what="the inversion", trajectory=mine)
        steps = store.engine.invert(state, mine[0])
    while True:
        with store.working, store.unit():
            done = next(steps, None)
            if done is None:
                return
            advice = without_lr(store.engine.model.dtype, worn=state.lora is not None)
            require_finite(done.latents, f"inversion step {done.step}", advice=advice)
            mine = store.append_latents(mine, done.latents)
            if store.state.inverted and store.state.drags:
                begin(store)
            if store.state.inverted:
                store.save_if_due(0, last=True)
        yield done


def require_inverted(store: Store) -> None:
    """Invert unless that has been done."""
    if not store.state.inverted:
        last(invert(store))


def latents(store: Store) -> Tensor:
    """(1, C, h, w) float32 on the CPU: the latent that the inversion has come to, the picture's own before any step."""
    if store.state.trajectory:
        return store.state.trajectory[-1].cpu().clone()
    with store.working, store.unit():
        return store.engine.first_latent(store.state).cpu()


def bottleneck(store: Store) -> Tensor:
    """(1, C, h', w') float32 on the CPU: the bottleneck as it stands, inverting first if needed."""
    history = store.state.history
    if history and "bottleneck" in history[-1].state.tensors:
        return history[-1].bottleneck.clone()
    require_inverted(store)
    with store.working, store.unit():
        return store.engine.first_pass(store.state)().bottleneck.float().cpu().clone()


# ---- iterations


def optimize(store: Store) -> Iterator[Snapshot]:
    """Iterate until all anchors have arrived or `max_iterations`, a snapshot each."""
    while True:
        with store.working, store.unit():
            state = begin(store)
            latest = state.history[-1]
            status = store.engine.editor(state).status(latest.state)
            if status != "running":
                if status != latest.status:  # done before it began, or by a change of numbers
                    history = History([*state.history[:-1], dataclasses.replace(latest, status=status)])
                    store.write(seen=state, what="the last iteration", history=history, anchors=state.anchors)
                return
            snapshot = iterate(store, state)
        yield snapshot


def step(store: Store) -> Snapshot:
    """One iteration, whatever the status; inverts first if needed."""
    with store.working, store.unit():
        return iterate(store, begin(store))


def begin(store: Store) -> SessionState:
    """The state with a snapshot to go on from, after inverting if needed; raises ValueError without drags."""
    require_drags(store.state)
    require_inverted(store)
    state = store.state
    if not (state.drags and state.inverted):
        raise OvertakenError("the first forward was overtaken by a change of the session; repeat the call.")
    if state.history:
        return state
    for remark in state.remarks:
        warnings.warn(remark, UserWarning, stacklevel=4)
    editor = store.engine.editor(state)
    first = snapshot_of(editor, editor.start(), Report({}, math.nan), state.drags, seconds=0.0)
    return store.write(seen=state, what="the first forward", history=History([first]))


def iterate(store: Store, state: SessionState) -> Snapshot:
    """One update; the session changes only when all went well and nothing it was computed from has changed."""
    editor = store.engine.editor(state)
    snapshot = following(editor, state.history[-1], state.drags)
    status = editor.status(snapshot.state)
    snapshot = dataclasses.replace(snapshot, status=status)
    anchors = None if status == "max_iterations" else state.frame.to_image(editor.locate(snapshot.state)).numpy()
    history = state.history.then(snapshot).within(state.history_limit)
    store.write(seen=state, what=f"iteration {snapshot.iteration}", history=history, anchors=anchors)
    store.save_if_due(snapshot.iteration, last=has_ended(history))
    return snapshot


def following(editor: Editor, latest: Snapshot, drags: tuple[Drag, ...]) -> Snapshot:
    """The next iteration.  Raises FloatingPointError when a number is not finite."""
    started = time.perf_counter()
    state, report = editor.advance(latest.state)
    return snapshot_of(editor, state, report, drags, seconds=time.perf_counter() - started)


def snapshot_of(
    editor: Editor, state: EditState, report: Report, drags: tuple[Drag, ...], *, seconds: float
) -> Snapshot:
    """A state after an update, with what it was computed from in pixels of the picture."""
    frame, task = editor.task.frame, editor.task
    gap = frame.to_image(task.objectives) - frame.to_image(state.anchors)
    return Snapshot(
        iteration=state.count, losses=report.losses, anchors=_read_only(frame.to_image(state.anchors)),
        distances=_read_only(gap.norm(dim=-1)), grad_norm=report.grad_norm, state=state, status="running",
        seconds=seconds, config=task.config, mask=task.mask, drags=drags,
    )  # fmt: skip


def require_drags(state: SessionState) -> None:
    """Raise ValueError without drags."""
    if not state.drags:
        raise ValueError("there is nothing to drag yet; set session.drags = [Drag(anchor=(x, y), objective=(x, y))].")


def _read_only(values: Tensor) -> np.ndarray:
    array = values.numpy().astype(np.float64)
    array.flags.writeable = False
    return array


# ---- denoising


def denoise(store: Store) -> Iterator[DDIMState]:
    """Render the edit as it stands, a state per denoising step; the last has the clean latent."""
    require_inverted(store)
    with store.working, store.unit():
        state = store.state
        if state.history and state.history[-1].iteration > 0:
            states = store.engine.editor(state).render(state.history[-1].state)
            store.engine.release()
        else:
            states = store.engine.denoise_unedited(state)
    yield from store.units(states)


def denoise_unedited(store: Store) -> Iterator[DDIMState]:
    """Plain denoising, without an edit, a state per step."""
    require_inverted(store)
    yield from store.units(store.engine.denoise_unedited(store.state))


def predicted(store: Store) -> Tensor | None:
    """The clean latent (1, C, h, w) that the last iteration's forward predicts in one step; None before any."""
    with store.working, store.unit():
        state = store.state
        if not (state.history and state.drags and state.inverted) or store.engine.given is None:
            return None
        return store.engine.editor(state).predicted(state.history[-1].state)


def picture_of(store: Store, latents: Tensor) -> Image.Image:
    """Latents (1, C, h, w) of any step as a picture of the given picture's size."""
    with store.working, store.unit():
        state, pixels = store.state, store.engine.model.decode_latents(latents)
        require_finite(pixels, "the rendered picture")
        released = state.config.is_released
        working = None if released else state.frame.working
        return pictures.tensor_picture(pixels, state.image.size, working=working, released=released)


def edited_picture(store: Store, latents: Tensor) -> Image.Image:
    """The edit's clean latent as a picture, after `config.keep`; before any iteration as `picture_of`."""
    with store.working, store.unit():
        state, model, working = store.state, store.engine.model, store.state.frame.working
        if state.config.keep == "nothing" or not state.history or state.history[-1].iteration == 0:
            return picture_of(store, latents)
        edited = model.decode_latents(latents)
        require_finite(edited, "the rendered picture")
        as_seen = partial(pictures.tensor_picture, size=working, working=working)
        return keep_pixels(as_seen(edited), *((as_seen(plain), known) for plain, known in store.engine.known(state)))


# ---- LoRA


def fit_lora(
    store: Store,
    settings: LoraSettings,
    steps: int,
    gradient_checkpointing: bool | None,
    cache: LoraCache | str | Path | None,
) -> Iterator[LoraStep]:
    """Fit a LoRA to the picture, a step at a time, going on with the one that is worn if it is of the same fit.

    Wrong arguments are refused at once, before the first step.
    """
    steps = as_integer("steps", steps, 1, 100_000)
    checkpoints(store.engine.subject(store.state), settings, gradient_checkpointing)  # says what is wrong with it
    if cache is not None and not isinstance(cache, LoraCache):
        cache = LoraCache(cache)
    return _fit_lora(store, settings, steps, gradient_checkpointing, cache)


def _fit_lora(
    store: Store, settings: LoraSettings, steps: int, gradient_checkpointing: bool | None, cache: LoraCache | None
) -> Iterator[LoraStep]:
    mine = store.state.lora
    with store.working, store.unit():
        store.engine.clear()  # what can be made again leaves its memory to the fit
        fitting = fit(
            store.engine.subject(store.state), settings, steps, start=mine,
            gradient_checkpointing=gradient_checkpointing, cache=cache,
        )  # fmt: skip
    while True:
        with store.working, store.unit():
            done = next(fitting, None)
            if done is None:
                return
            progress, fitted = done
            worn = store.state.lora
            if not _same_lora(worn, mine):
                raise OvertakenError("this fit was overtaken by another LoRA; call session.fit_lora() again.")
            mine = fitted if worn is None else fitted.at(worn.weight)
            wear(store, mine)
            store.save_if_due(progress.step, last=progress.step == steps)
        yield progress


def wear(store: Store, lora: Lora | None) -> None:
    """Put a LoRA on the model, or none, in this session alone."""
    if lora is store.state.lora:
        return
    if lora is not None:
        lora.require_fit(store.engine.model)
    store.write(lora=lora)


def load_lora(store: Store, path: str | Path) -> None:
    """Put on a LoRA of the U-Net in diffusers' or kohya's format, from a .safetensors file or a folder."""
    with store.working, store.unit():
        wear(store, load(path, store.engine.model))


def require_lora(state: SessionState) -> Lora:
    """The LoRA that is worn; raises ValueError without one."""
    if state.lora is None:
        raise ValueError("there is no LoRA yet; call session.fit_lora() or set session.lora = path first.")
    return state.lora


def _same_lora(one: Lora | None, other: Lora | None) -> bool:
    """Do they change the weights alike, whatever their strengths?"""
    return one is other or (one is not None and other is not None and one.adapters is other.adapters)


def last(results: Iterable[T]) -> T:
    """Run through all, of which there is at least one, and return the last."""
    for result in results:  # noqa: B007
        pass
    return result
