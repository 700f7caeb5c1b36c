"""Desk: what the library needs of a studio, as a protocol."""

from __future__ import annotations

from typing import Any, Protocol

from dragnoise import DragSession
from dragnoise_widgets.panels.messages import Messages
from dragnoise_widgets.panels.question import Question
from dragnoise_widgets.runner.runner import Runner


class Desk(Protocol):
    """What those who make sessions read and use of a studio."""

    messages: Messages
    question: Question
    session: DragSession

    @property
    def has_session(self) -> bool: ...

    @property
    def runner(self) -> Runner: ...

    @property
    def inline(self) -> bool: ...

    def refresh(self) -> None: ...

    def unfold(self, content: Any) -> None: ...
