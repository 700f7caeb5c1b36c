"""What every editor promises: steps, rewinds, branches, files, thinning, plots and maps, and numbers of its own."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, assert_same_snapshots, smooth_picture

from dragnoise import DragConfig, DragSession, Model, plots
from dragnoise.config import DEFAULTS, EDITORS, FIELDS, OUR_PRESETS
from dragnoise.editors import EditState
from dragnoise.inspection import feature_maps

NAMES = [*EDITORS, *OUR_PRESETS]
"""Presets, the editors among them."""

QUICK: dict[str, Any] = {"steps": 6, "edit_from": 4, "max_iterations": 6, "lr": 0.05}


def edit(model: Model, editor: str, iterations: int = 0, **given: Any) -> DragSession:
    own = DragConfig.preset(editor).editor
    changes = {"refine_from": 1} if own in FIELDS["refine_from"].editors else {}
    changes |= {"step_iterations": 2, "track_every": 1} if own in FIELDS["track_every"].editors else {}
    session = DragSession(
        model, smooth_picture(72, 56), "a fox", DragConfig.preset(editor, **QUICK, **changes), **given
    )
    session.drags = [((20, 20), (40, 30)), ((60, 12.5), (40, 12.5))]
    mask = np.zeros((56, 72), bool)
    mask[3:50, :65] = True
    session.mask = mask
    for _ in range(iterations):
        session.step()
    return session


@pytest.mark.parametrize("editor", NAMES)
def test_every_editor_steps_rewinds_branches_and_saves(small: Model, editor: str, tmp_path: Path) -> None:
    session, straight = edit(small, editor, 4), edit(small, editor, 4)
    assert_same_snapshots(session.history, straight.history)
    session.rewind(1)
    other = session.branch()
    opened = DragSession.open(session.save(tmp_path / "a.drag"), small)
    for one in (session, other, opened):
        for _ in range(3):
            one.step()
        assert_same_snapshots(one.history, straight.history)
    pictures = [np.asarray(one.render()) for one in (session, other, opened, straight)]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures[1:])
    assert not np.array_equal(pictures[0], np.asarray(session.reconstruct()))


@pytest.mark.parametrize("editor", NAMES)
def test_every_editor_is_thinned_plotted_and_inspected(small: Model, editor: str) -> None:
    session, whole = edit(small, editor, 4, history_limit=1), edit(small, editor, 4)
    assert [s.is_whole for s in session.history] == [True, False, False, False, True]
    assert torch.equal(session.snapshot(2).variable, whole.history[2].variable)
    for plot in (plots.plot_loss, plots.plot_anchor_motion, plots.plot_trajectory, plots.plot_bottleneck):
        if plot is plots.plot_loss and not session.history[1].losses:
            with pytest.raises(ValueError, match="no loss"):
                plot(session)
            continue
        np.asarray(plot(session)).flat[0].figure.draw_without_rendering()
    k = 1 if editor in OUR_PRESETS else 3  # no denoising step between this iteration and the next
    maps = feature_maps.measure(session, k)
    np.testing.assert_allclose(maps.tracked, session.history[k + 1].anchors, atol=1e-9)


@pytest.mark.parametrize("editor", EDITORS)
def test_a_state_is_float32_on_the_cpu_and_of_its_own(small: Model, editor: str) -> None:
    session = edit(small, editor, 3)
    states = [snapshot.state for snapshot in session.history]
    for k, state in enumerate(states):
        assert isinstance(state, EditState) and state.count == k and 0 <= state.step <= 4
        assert torch.equal(session.history[k].variable, state.variable) and state.variable.shape[0] == 1
        for tensor in state.tensors.values():
            assert tensor.dtype == torch.float32 and tensor.device.type == "cpu" and not tensor.requires_grad
    places = [tensor.data_ptr() for state in states[1:] for tensor in state.tensors.values()]
    assert len(set(places)) == len(places)
    assert session.history[0].losses == {} and math.isnan(session.history[0].loss)
    assert not session.history[1].losses or "total" in session.history[1].losses


def test_a_snapshot_of_another_variable_says_what_there_is(small: Model) -> None:
    snapshot = edit(small, "dragdiffusion", 1).history[-1]
    with pytest.raises(AttributeError) as caught:
        _ = snapshot.bottleneck
    assert_one_sentence(caught.value, "bottleneck", "latent", "snapshot.variable")
    assert snapshot.latent is snapshot.variable


# ---- presets


def test_presets_are_found_by_name() -> None:
    assert DragConfig.preset("dragnoise") == DragConfig()
    assert DragConfig.preset("dragdiffusion").is_released and DragConfig.preset("dragdiffusion", lr=0.5).lr == 0.5
    with pytest.raises(ValueError) as caught:
        DragConfig.preset("dragfast")
    assert_one_sentence(caught.value, "'dragfast'", "'dragdiffusion'")


@pytest.mark.parametrize("editor", EDITORS)
def test_numbers_of_another_editor_are_refused_by_name(editor: str) -> None:
    config = DragConfig.preset(editor)
    for name, info in FIELDS.items():
        if info.editors and editor not in info.editors:
            other = info.choices[-1] if info.choices else min(DEFAULTS[name] + 1, info.high)
            with pytest.raises(ValueError) as caught:
                config.replace(**{name: other})
            assert_one_sentence(caught.value, name, repr(editor), info.editors[0])


def test_another_editor_is_chosen_without_clearing_numbers_by_hand() -> None:
    config = DragConfig(refine_from=3, propagation="delta", lr=0.5).replace(editor="dragdiffusion")
    assert (config.refine_from, config.propagation, config.lr) == (10, "replace", 0.5)


def test_every_field_says_what_it_is() -> None:
    text = DragConfig.__doc__ or ""
    for name, info in FIELDS.items():
        assert info.meaning and info.group and f"{name}: " in text
        assert info.forgets in ("inversion", "optimisation", "editor", "nothing")
    assert [field.name for field in dataclasses.fields(DragConfig)] == list(FIELDS)
