"""Binding: the connections between a studio and the session it shows, made and closed together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.runner.runner import Runner
from dragnoise_widgets.runner.updates import Update

if TYPE_CHECKING:
    from dragnoise import DragSession


class Binding:
    """A session, its runner, and the connections to end when another session is shown.

    Nothing is attached to the canvas before `attach()` nor after `close()`.
    """

    def __init__(self, session: DragSession, *, inline: bool) -> None:
        self.session = session
        self.runner = Runner(session, inline=inline)
        self._closed = False
        self._ends: list[Callable[[], Any]] = []

    def attach(
        self,
        canvas: DragCanvas,
        *,
        changed: Callable[[Callable[[DragSession], Any]], Any],
        pictured: Callable[[Any], Any],
        updated: Callable[[Update], Any],
        keep: bool = False,
    ) -> None:
        """Show the session on the canvas, and synchronise both.

        changed: runs a function that takes what was drawn to the session.  pictured: told when another picture is put
        on the canvas.  updated: told how the work goes.  keep: the canvas shows the picture, and what has been drawn on
        it is to be the session's.
        """
        session = self.session
        if not keep:
            canvas.begin(session.image, session.drags, session.mask)
        if self._is_closed():  # an observer of the canvas has shown another session
            return
        canvas.observe(pictured, "image")
        self._ends.append(lambda: canvas.unobserve(pictured, "image"))
        self._ends.append(canvas.link(session, call=changed))
        if self._is_closed():
            self.close()
            return
        self._ends.append(self.runner.observe(updated))

    def _is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Let go of the session; its work ends unless another runner drives it."""
        self._closed = True
        ends, self._ends = self._ends, []
        for end in ends:
            end()
        self.runner.close()
