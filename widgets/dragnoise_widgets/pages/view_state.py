"""ViewState: the session's snapshots and choices that the inspector's figures show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from dragnoise.session.history import History

if TYPE_CHECKING:
    from dragnoise import Drag, DragSession


@dataclass(frozen=True, eq=False)
class ViewState:
    """The session's snapshots and choices at one moment; the session may run on meanwhile.

    history: of the session.  k: the iteration shown.  drags: of the session.  picture: to draw paths
    on.  tolerance: in image pixels.  other: the history of a branch to compare with, may be empty.
    running: is there work under way?
    """

    session: DragSession
    history: History
    k: int
    drags: tuple[Drag, ...]
    picture: Image.Image
    tolerance: float
    other: History = field(default_factory=History)
    running: bool = False

    @property
    def until(self) -> Any:
        """The snapshots up to the one shown."""
        return self.history[: self.k + 1]
