"""The parameters: every number has its field, says what it means and what a change of it costs."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
from helpers import assert_one_sentence

from dragnoise import DragConfig, DragSession
from dragnoise.config import EDITORS, FIELDS
from dragnoise_widgets.panels.parameters import EFFECTS, Parameters
from dragnoise_widgets.panels.presets import CHANGED, MAIN, OWN, PRESETS, main_fields
from dragnoise_widgets.studio.studio import DragStudio

NAMES = list(FIELDS)

OTHER: dict[str, Any] = {
    "steps": 5, "edit_from": 2, "refine_from": 0, "propagation": "delta", "lr": 0.3, "eps": 1e-4,
    "max_iterations": 7, "r1": 2, "r2": 1, "mask_weight": 0.5, "reach": 0.4, "tolerance": 2.0, "supervision_block": 1,
    "supervision_scale": 0.25, "resize": "shorter", "side": "80", "latent_noise": 0.1, "seed": 4,
    "inversion": "target", "convention": "released", "editor": "dragdiffusion", "share_from": 2, "share_layer": 3,
    "target": "direct", "stride": 2.0, "hold": "latents", "keep": "pixels", "start": "carried",
    "schedule": "alternate", "drag_steps": 2,
    "step_iterations": 3, "track_every": 2, "patience": 3, "variable": "down.1", "expected_distance": 2.0,
    "max_move": 2.0, "energy": 1.0, "edit_weight": 2.0, "content_weight": 2.0, "leave_weight": 0.5, "guidance": 2.0,
    "blend": "nearest", "regions": "polygon", "vacate": 0.5,
}  # fmt: skip
"""For each field another value than the tests' config has, as its control takes it."""

WRONG: dict[str, Any] = {
    "steps": 1, "edit_from": 9, "refine_from": 4, "lr": -0.5, "eps": 0.0, "max_iterations": 0, "r1": -1, "r2": 0,
    "mask_weight": -1.0, "tolerance": 0.0, "supervision_block": -1, "supervision_scale": 1.5, "side": "12",
    "reach": -0.2, "latent_noise": -0.1, "seed": -1,
}  # fmt: skip


def texts(widget: widgets.Widget) -> list[str]:
    """All HTML below a widget."""
    own = [widget.value] if isinstance(widget, widgets.HTML) else []
    return own + [text for child in getattr(widget, "children", ()) for text in texts(child)]


def row_of(parameters: Parameters, name: str) -> widgets.HBox:
    field = parameters.fields[name]
    rows = (*parameters.children, *parameters.rest.children[0].children)
    (row,) = [row for row in rows if field in getattr(row, "children", ())]
    return row


def value_of(config: DragConfig, name: str) -> Any:
    """As its control shows it."""
    value = getattr(config, name)
    return "" if value is None else str(value) if name == "side" else value


@pytest.fixture
def troubled(session: DragSession) -> Iterator[DragStudio]:
    studio = DragStudio(session, inline=True)
    yield studio
    studio.close()


# ---- what they say ----------------------------------------------------------------------------------


def test_before_there_is_a_session_nothing_can_be_typed() -> None:
    studio = DragStudio(inline=True)
    fields = studio.parameters.fields
    assert fields["steps"].value == DragConfig().steps and all(field.disabled for field in fields.values())
    studio.library.new_sessions.example()
    assert fields["steps"].value == studio.session.config.steps
    own = studio.session.config.editor
    others = {name for name, info in FIELDS.items() if info.editors and own not in info.editors}
    assert {"share_from", "share_layer"} <= others
    assert {name for name, field in fields.items() if field.disabled} == others
    studio.close()


def test_every_field_of_the_config_has_a_control_and_nothing_else_has(studio: DragStudio) -> None:
    assert sorted(studio.parameters.fields) == sorted(NAMES) == sorted(OTHER)


def test_tooltips_tell_meaning_and_range(studio: DragStudio) -> None:
    for name in NAMES:
        titles = [
            html.unescape(title)
            for text in texts(row_of(studio.parameters, name))
            for title in re.findall(r'title="([^"]*)"', text)
        ]
        assert len(titles) == 2, f"{name}: on the name and on what stands beside it"
        for title in titles:
            assert title.startswith(FIELDS[name].meaning) and FIELDS[name].range in title
        field = studio.parameters.fields[name]
        if isinstance(field, widgets.Dropdown):
            assert tuple(field.options) == FIELDS[name].choices


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_a_change_costs_and_that_is_what_it_costs(
    studio: DragStudio, session: DragSession, name: str
) -> None:
    session.mask = np.pad(np.ones((48, 64), bool), 4)  # which some editors need
    if FIELDS[name].editors:
        studio.configure(editor=FIELDS[name].editors[0])
    if name == "start":
        studio.configure(target="direct")  # a carried start needs a fixed target
    studio.step(2)
    before, told = len(session.history), " ".join(texts(row_of(studio.parameters, name)))
    studio.parameters.fields[name].value = OTHER[name]
    assert value_of(session.config, name) == OTHER[name]
    assert studio.parameters.error.value == ""
    assert (EFFECTS["inversion"] in told) is not session.state.inverted
    assert any(effect in told for effect in EFFECTS.values()) is (len(session.history) != before)


# ---- what they do -----------------------------------------------------------------------------------


def test_a_change_takes_effect_at_the_next_iteration(studio: DragStudio, session: DragSession) -> None:
    studio.step(2)
    studio.parameters.fields["lr"].value = 0.05
    studio.parameters.fields["r2"].value = 3
    studio.step(2)
    made_with = [(s.config.lr, s.config.r2) for s in session.history[1:] if s.config is not None]
    assert made_with == [(0.2, 2), (0.2, 2), (0.05, 3), (0.05, 3)]
    bare = DragSession(session.model, session.image, session.prompt, session.config.replace(lr=0.2, r2=2))
    bare.drags = session.drags
    for changes in ({}, {}, {"lr": 0.05, "r2": 3}, {}):
        bare.config = bare.config.replace(**changes)
        bare.step()
    assert (bare.bottleneck == session.bottleneck).all()


def test_a_config_from_code_is_shown(studio: DragStudio) -> None:
    studio.configure(lr=0.07, side=None, propagation="delta")
    fields = studio.parameters.fields
    assert (fields["lr"].value, fields["side"].value, fields["propagation"].value) == (0.07, "", "delta")
    fields["side"].value = " 72 "
    assert studio.session.config.side == 72
    fields["side"].value = ""
    assert studio.session.config.side is None


def test_the_six_that_matter_are_seen_and_the_rest_is_folded_away(studio: DragStudio) -> None:
    parameters = studio.parameters
    assert parameters.rest.selected_index is None
    for label in (OWN, *PRESETS):
        parameters.presets.value = label
        config = studio.session.config
        main = main_fields(config)
        seen = [name for name in NAMES if row_of(parameters, name) in parameters.children]
        assert sorted(seen) == sorted(main) and len(main) == 6
        assert not any(parameters.fields[name].disabled for name in main), "each is read by its editor"
        folded = parameters.rest.children[0].children
        assert [name for name in NAMES if row_of(parameters, name) in folded] == [n for n in NAMES if n not in main]
    assert set(MAIN) - {"single", "alternate"} <= set(PRESETS)


def test_the_numbers_that_end_an_alternating_edit_are_among_the_six() -> None:
    firm = DragConfig.preset("firm")
    for name in ("drag_steps", "step_iterations"):
        assert name in main_fields(firm)
        assert firm.replace(**{name: 1}).most_iterations < firm.most_iterations
    assert firm.replace(max_iterations=1000).most_iterations == firm.most_iterations, "so that it is not among them"


def test_fields_are_made_when_the_panel_is_unfolded(studio: DragStudio, session: DragSession) -> None:
    parameters = studio.parameters
    session.config = session.config.replace(lr=0.3)
    studio.refresh()
    assert len(parameters.children) == 3, "nobody has seen it yet"
    fold = next(fold for fold in studio.children if parameters in getattr(fold, "children", ()))
    fold.selected_index = 0
    assert len(parameters.children) == 3 + 6 and not parameters.rest.children[0].children
    named = [row.children[1] for row in parameters.children[2:-1]]
    assert [field.disabled for field in named] == [False] * 6 and 0.3 in [field.value for field in named]
    parameters.rest.selected_index = 0
    assert len([row for row in parameters.rest.children[0].children if hasattr(row, "children")]) == len(NAMES) - 6
    made = parameters.fields
    fold.selected_index = None
    fold.selected_index = 0
    assert parameters.fields is made, "once"


def test_changed_numbers_are_marked_and_one_button_goes_back(studio: DragStudio, session: DragSession) -> None:
    parameters = studio.parameters

    def marked() -> list[str]:
        return [name for name, label in parameters.labels.items() if "●" in label.value]

    parameters.presets.value = OWN
    assert marked() == [] and parameters.back.layout.visibility == "hidden"
    parameters.fields["lr"].value, parameters.fields["r1"].value = 0.3, 2
    assert marked() == ["lr", "r1"] and parameters.back.description == f"Back to {OWN}"
    parameters.back.click()
    assert session.config == session.model.default_config and marked() == []
    parameters.presets.value = "gooddrag"
    parameters.fields["r2"].value += 1
    assert marked() == ["r2"] and parameters.back.description == "Back to gooddrag"
    parameters.back.click()
    assert session.config == PRESETS["gooddrag"]() and parameters.back.layout.visibility == "hidden"
    studio.configure(editor="freedrag", lr=0.123)  # by code, as another editor: told from that editor's preset
    assert parameters.back.description == "Back to freedrag" and "lr" in marked() and "editor" not in marked()


@pytest.mark.parametrize("label", list(PRESETS))
def test_the_presets(studio: DragStudio, session: DragSession, label: str) -> None:
    presets = studio.parameters.presets
    assert (presets.value, set(EDITORS) <= set(presets.options)) == (CHANGED, True)
    presets.value = label
    assert session.config == PRESETS[label]()
    assert all(field.value == value_of(session.config, name) for name, field in studio.parameters.fields.items())
    studio.configure(tolerance=0.123)
    assert presets.value == CHANGED
    presets.value = OWN
    assert session.config == session.model.default_config and presets.value == OWN


def test_what_the_chosen_editor_does_not_read_is_greyed_out(studio: DragStudio) -> None:
    fields = studio.parameters.fields
    for editor in ("dragdiffusion", "fastdrag", "dragnoise"):
        grey = {name for name, info in FIELDS.items() if not info.is_read_by(editor)}
        assert {"dragdiffusion": "propagation", "fastdrag": "lr", "dragnoise": "share_layer"}[editor] in grey
        fields["editor"].value = editor
        assert studio.session.config.editor == editor
        assert {name for name, field in fields.items() if field.disabled} == grey


def test_a_preset_that_the_session_refuses_is_not_shown_as_chosen(troubled: DragStudio, tmp_path: Path) -> None:
    troubled.session.save(tmp_path / "edit.drag")
    troubled.session = DragSession.open(tmp_path / "edit.drag")  # without a model
    before = troubled.session.config
    for label in ("dragdiffusion", OWN):
        troubled.parameters.presets.value = label
        assert troubled.session.config == before and troubled.parameters.presets.value == CHANGED


@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_value_is_refused_with_a_sentence_and_the_old_one_stays(
    studio: DragStudio, session: DragSession, name: str
) -> None:
    studio.step()
    before = session.config
    studio.parameters.fields[name].value = WRONG[name]
    assert session.config is before
    assert studio.parameters.fields[name].value == value_of(before, name)
    said = html.unescape(re.sub("<[^>]*>", "", studio.parameters.error.value))
    assert_one_sentence(ValueError(said), name, str(WRONG[name]))
    studio.parameters.fields["lr"].value = 0.11
    assert studio.parameters.error.value == ""
    assert session.config.lr == 0.11


def test_what_is_no_number_is_refused(studio: DragStudio, session: DragSession) -> None:
    studio.parameters.fields["side"].value = "wide"
    assert studio.parameters.fields["side"].value == "64"
    assert "whole number" in studio.parameters.error.value
    assert session.config.side == 64


def test_what_only_the_session_can_refuse_is_refused_too(troubled: DragStudio, tmp_path: Path) -> None:
    troubled.step()
    troubled.session.save(tmp_path / "edit.drag")
    troubled.session = DragSession.open(tmp_path / "edit.drag")  # without a model
    before = troubled.session.config
    troubled.parameters.fields["lr"].value = 0.9
    assert troubled.session.config == before
    assert troubled.parameters.fields["lr"].value == before.lr
    assert "model" in troubled.parameters.error.value


def test_what_is_typed_while_a_change_waits_is_compared_with_what_was_typed_last() -> None:
    given, futures = [], []

    def change(name: str, value: Any) -> Future[None]:
        given.append((name, value))
        futures.append(Future())
        return futures[-1]

    parameters = Parameters(change, lambda config: None)
    config = DragConfig()
    parameters.show(config)
    field = parameters.fields["lr"]
    field.value = 0.5
    field.value = config.lr
    parameters.show(config)
    assert given == [("lr", 0.5), ("lr", config.lr)]
    field.value = 0.6
    futures[-1].set_exception(ValueError("lr=0.6 is too much today."))
    assert field.value == config.lr
    assert "too much today" in parameters.error.value
