"""Numbers that are not finite: the advice follows from where they came from."""

from __future__ import annotations

import math
from typing import Any

import pytest
from helpers import assert_one_sentence, quick_session

from dragnoise import DragSession, Model
from dragnoise.numerics import without_lr


@pytest.fixture
def broken(small: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    predict = Model.predict
    monkeypatch.setattr(Model, "predict", lambda *args: predict(*args) * math.nan)
    return small


def test_an_inversion_has_no_learning_rate(broken: Model) -> None:
    session = quick_session(broken)
    with pytest.raises(FloatingPointError) as caught:
        list(session.invert())
    assert_one_sentence(caught.value, "inversion step 1", "another model")
    assert "lr" not in str(caught.value) and "float32" not in str(caught.value)  # it is in float32


@pytest.mark.parametrize(("guidance", "named"), [(7.5, "another model"), (900, "guidance of 15")])
def test_a_generated_picture_has_no_learning_rate(broken: Model, guidance: float, named: str) -> None:
    with pytest.raises(FloatingPointError) as caught:
        DragSession.from_prompt(broken, "a fox", steps=2, guidance=guidance, progress=False)
    assert_one_sentence(caught.value, "the generated latent", named)
    assert "lr" not in str(caught.value) and "session" not in str(caught.value)


def test_a_generated_picture_that_the_decoder_cannot_make(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Model.decode_latents
    monkeypatch.setattr(Model, "decode_latents", lambda *args: decode(*args) * math.nan)
    with pytest.raises(FloatingPointError) as caught:
        DragSession.from_prompt(small, "a fox", steps=2, progress=False)
    assert_one_sentence(caught.value, "the generated picture")


@pytest.mark.parametrize(
    ("dtype", "worn", "first"), [("torch.float16", False, "float32"), ("torch.float32", True, "lora")]
)
def test_what_is_named_first(dtype: Any, worn: bool, first: str) -> None:
    advice = without_lr(dtype, worn=worn)
    assert first in advice.partition(",")[0] and "lr" not in advice


@pytest.mark.parametrize("guidance", [1e38, 1001])
def test_a_guidance_that_overflows_is_refused(small: Model, guidance: float) -> None:
    with pytest.raises(ValueError) as caught:
        DragSession.from_prompt(small, "a fox", guidance=guidance)
    assert_one_sentence(caught.value, "guidance=", "at most 1000")


def test_a_fit_of_more_steps_than_memory_holds_is_refused(small: Model) -> None:
    with pytest.raises(ValueError) as caught:
        quick_session(small).fit_lora(10**12)
    assert_one_sentence(caught.value, "steps=", "at most 100000")
