"""Copy as code: the code, run on its own, makes the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_one_sentence, smooth_picture

import dragnoise
from dragnoise import DragSession, Model
from dragnoise_widgets.export.code import as_code
from dragnoise_widgets.studio.studio import DragStudio


@pytest.fixture(autouse=True)
def loading(small: Model, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What models the code asks for; it gets the small one."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def load(name: str = "toyland", **given: Any) -> Model:
        asked.append((name, given))
        return small

    monkeypatch.setattr(dragnoise, "load_model", load)
    monkeypatch.setattr(small, "name", "somebody/small")
    monkeypatch.setattr("dragnoise_widgets.export.code.SMALL", 300)  # so that one of the small masks goes into a file
    return asked


def square() -> np.ndarray:
    mask = np.zeros((56, 72), bool)
    mask[8:50, 4:60] = True
    return mask


def grain() -> np.ndarray:
    """A mask that does not become small."""
    return np.random.default_rng(0).random((56, 72)) > 0.3


def change(session: DragSession, **changes: Any) -> None:
    session.config = session.config.replace(**changes)


def plain(session: DragSession) -> None:
    _steps(session, 2)


def not_yet(session: DragSession) -> None:
    """Before any iteration."""


def masked(session: DragSession) -> None:
    session.mask = square()
    _steps(session, 2)


def coarsely_masked(session: DragSession) -> None:
    session.mask = grain()
    _steps(session, 2)


def changed_in_between(session: DragSession) -> None:
    _steps(session, 1)
    change(session, lr=0.05)
    session.mask = square()
    _steps(session, 2)
    change(session, lr=0.1, r1=2)
    session.mask = None
    _steps(session, 1)
    session.mask = grain()
    _steps(session, 1)
    change(session, refine_from=0)  # counts for the rendering alone


def gone_back(session: DragSession) -> None:
    _steps(session, 3)
    change(session, lr=0.9)
    _steps(session, 2)
    session.rewind(3)
    change(session, lr=0.03)
    _steps(session, 1)


def with_an_objective_moved(session: DragSession) -> None:
    _steps(session, 2)
    session.drags = [drag if i else (drag.anchor, (50.0, 20.0)) for i, drag in enumerate(session.drags)]
    _steps(session, 2)


def other_numbers(session: DragSession) -> None:
    change(session, steps=6, edit_from=4, refine_from=2, side=80, latent_noise=0.05, seed=3, propagation="delta")
    session.drags = [((3.25, 4), (20, 30.5))]
    _steps(session, 2)


def as_released(session: DragSession) -> None:
    session.config = dragnoise.DragConfig.released(steps=4, edit_from=3, lr=0.1)
    _steps(session, 2)


def in_a_lora(session: DragSession) -> None:
    list(session.fit_lora(steps=2, rank=2))
    _steps(session, 2)


def in_half_a_lora(session: DragSession) -> None:
    list(session.fit_lora(steps=2, rank=2, lr=0.01))
    session.lora_weight = 0.5
    _steps(session, 2)


def _steps(session: DragSession, n: int) -> None:
    for _ in range(n):
        session.step()


@pytest.mark.parametrize(
    "edit",
    [plain, not_yet, masked, coarsely_masked, changed_in_between, gone_back, with_an_objective_moved, other_numbers,
     as_released, in_a_lora, in_half_a_lora],
)  # fmt: skip
def test_the_code_makes_the_same_bits(session: DragSession, tmp_path: Path, edit: Callable[..., None]) -> None:
    edit(session)
    done = run(as_code(session, tmp_path / "edit"))
    assert torch.equal(done["session"].bottleneck, session.bottleneck)
    np.testing.assert_array_equal(np.asarray(done["picture"]), np.asarray(session.render()))
    assert len(done["session"].history) == max(len(session.history), len(done["session"].history[:1]))
    assert done["session"].drags == session.drags and done["session"].prompt == session.prompt
    assert done["session"].config == session.config


def test_a_branch_makes_the_same_bits(session: DragSession, tmp_path: Path) -> None:
    _steps(session, 3)
    branch = session.branch(1)
    change(branch, lr=0.04)
    _steps(branch, 2)
    assert torch.equal(run(as_code(branch, tmp_path))["session"].bottleneck, branch.bottleneck)


def run(code: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(code, "copied", "exec"), namespace)
    return namespace


def test_a_prompt_may_hold_anything(session: DragSession, tmp_path: Path) -> None:
    session.prompt = "a \"fox\"\n\\ and 'so on' {é}"
    _steps(session, 1)
    assert run(as_code(session, tmp_path))["session"].prompt == session.prompt


def test_the_model_is_named_as_it_was_loaded(
    session: DragSession, tmp_path: Path, loading: list[tuple[str, dict[str, Any]]]
) -> None:
    session.model = Model(session.model.pipeline, name="somebody/some-model")
    run(as_code(session, tmp_path))
    assert loading == [("somebody/some-model", {"device": "cpu", "dtype": "float32"})]


def test_what_else_the_model_was_loaded_with_is_repeated(
    session: DragSession, tmp_path: Path, loading: list[tuple[str, dict[str, Any]]]
) -> None:
    session.model = Model(session.model.pipeline, name="some.safetensors")
    session.model.options = {"config": Path("a/folder"), "prediction": "v_prediction"}
    run(as_code(session, tmp_path))
    numbers = {"device": "cpu", "dtype": "float32"}
    assert loading == [("some.safetensors", numbers | {"config": "a/folder", "prediction": "v_prediction"})]


@pytest.mark.parametrize("name", ["", "StableDiffusionPipeline", "my model"])
def test_a_model_made_of_a_pipeline_is_refused(session: DragSession, tmp_path: Path, name: str) -> None:
    session.model = Model(session.model.pipeline, name=name)
    with pytest.raises(RuntimeError, match="save_pretrained") as caught:
        as_code(session, tmp_path / "edit")
    assert_one_sentence(caught.value, session.model.name)
    assert not (tmp_path / "edit").exists(), "nothing is written for code that cannot run"


def test_a_vae_that_was_given_as_an_object_is_refused(session: DragSession, tmp_path: Path) -> None:
    session.model = Model(session.model.pipeline, name="toyland")
    session.model.options = {"vae": session.model.vae}
    with pytest.raises(RuntimeError, match="vae=") as caught:
        as_code(session, tmp_path / "edit")
    assert_one_sentence(caught.value)


def test_a_picture_in_a_file_stays_where_it_is(session: DragSession, tmp_path: Path) -> None:
    session.image.save(tmp_path / "given.png")
    code = as_code(session, tmp_path / "edit", picture=str(tmp_path / "given.png"))
    assert str(tmp_path / "given.png") in code and not (tmp_path / "edit").exists()


def test_files_of_one_edit_do_not_overwrite_each_other(session: DragSession, tmp_path: Path) -> None:
    session.mask = grain()
    _steps(session, 1)
    session.mask = ~grain()
    _steps(session, 1)
    code = as_code(session, tmp_path)
    assert "mask.png" in code and "mask 2.png" in code
    assert torch.equal(run(code)["session"].bottleneck, session.bottleneck)


def test_without_a_model_it_says_so(session: DragSession, tmp_path: Path) -> None:
    session.save(tmp_path / "edit.drag")
    with pytest.raises(RuntimeError, match=r"session\.model") as caught:
        as_code(DragSession.open(tmp_path / "edit.drag"), tmp_path)
    assert_one_sentence(caught.value)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_the_code_is_of_the_iteration_shown(studio: DragStudio, session: DragSession, elsewhere: Path) -> None:
    studio.step(3)
    studio.show(1)
    done = run(studio.code())
    assert len(done["session"].history) == 2
    np.testing.assert_array_equal(np.asarray(done["picture"]), np.asarray(studio.image))


def test_code_that_was_copied_before_still_finds_its_picture(
    studio: DragStudio, session: DragSession, elsewhere: Path
) -> None:
    studio.step(1)
    code = studio.code()
    assert studio.code() == code and len(list((elsewhere / "edit").iterdir())) == 1
    other = DragSession(session.model, smooth_picture(72, 56, seed=8))
    other.drags = session.drags
    studio.session = other
    studio.step(1)
    assert "picture 2.png" in studio.code()
    assert torch.equal(run(code)["session"].bottleneck, session.bottleneck)
    assert torch.equal(run(studio.code())["session"].bottleneck, other.bottleneck)


def test_the_button_shows_the_code(studio: DragStudio, session: DragSession, elsewhere: Path) -> None:
    studio.canvas.mask = square()
    studio.step(2)
    studio.configure(lr=0.03)
    studio.step(1)
    assert studio.share.code.layout.display == "none"
    studio.share.make_code.click()
    assert studio.share.code.layout.display == ""
    assert studio.share.code.value == studio.code()
    assert (elsewhere / "edit" / "picture.png").is_file()
    done = run(studio.share.code.value)
    assert torch.equal(done["session"].bottleneck, session.bottleneck)
    np.testing.assert_array_equal(np.asarray(done["picture"]), np.asarray(studio.image))


def test_the_button_copies_the_code_and_says_which_files_it_needs(
    studio: DragStudio, session: DragSession, elsewhere: Path
) -> None:
    asked: list[Any] = []
    studio.clipboard.send = lambda content, buffers=None: asked.append(content)  # type: ignore[method-assign]
    studio.canvas.mask = grain()
    studio.step(1)
    studio.share.make_code.click()
    assert asked == [{"event": "copy", "text": studio.share.code.value}]
    written = sorted(str(path.relative_to(elsewhere)) for path in (elsewhere / "edit").iterdir())
    assert written == ["edit/mask.png", "edit/picture.png"]
    said = "are in the folder edit: picture.png, mask.png"
    assert said in studio.transport.line.value and "Copied" not in studio.transport.line.value
    studio.clipboard._handle_custom_msg({"event": "copied"}, [])
    assert "Copied" in studio.transport.line.value and said in studio.transport.line.value
    studio.clipboard._handle_custom_msg({"event": "failed", "reason": "<no focus>"}, [])
    assert "&lt;no focus&gt;" in studio.transport.line.value and "Ctrl+C" in studio.transport.line.value
    studio.step(1)
    assert "Ctrl+C" not in studio.transport.line.value
    studio.journal.text.clear()
