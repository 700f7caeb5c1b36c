"""Desk: the protocol of a studio that the library uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.panels.messages import Messages
from dragnoise_widgets.panels.question import Question
from dragnoise_widgets.runner.runner import Runner

if TYPE_CHECKING:
    from dragnoise import DragSession


class StudioProtocol(Protocol):
    """The part of `DragStudio` that the library uses."""

    canvas: DragCanvas
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

    def unfold(self, content: Any, *, folded: bool = False) -> None: ...
