"""The command that makes a session's reconstruction while its worker has nothing else to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from dragnoise_widgets.runner.stages import Options, PausedStages, Progress, Stage

if TYPE_CHECKING:
    from dragnoise import DragSession
    from dragnoise.session.state import SessionState

Done = Callable[["SessionState", Image.Image], Any]


@dataclass(frozen=True, eq=False)
class Reconstruct:
    """Denoise without an edit; done: called with the state that it was made in, and the picture."""

    done: Done
    ends: ClassVar[bool] = False
    aside: ClassVar[bool] = True

    def stage(self, session: DragSession, kept: PausedStages, options: Options) -> Stage:
        from dragnoise.session import stages

        branch = session.branch()
        state = branch.state
        if not state.inverted:
            return ""
        total, denoised = state.config.edit_from + 1, None
        for denoised in stages.denoise_unedited(branch.store):
            yield Progress("rendering", state.config.edit_from - denoised.step, total, denoised)
        if denoised is not None:
            picture = stages.picture_of(branch.store, denoised.latents)
            yield Progress("rendering", total, total)
            self.done(state, picture)
        return ""
