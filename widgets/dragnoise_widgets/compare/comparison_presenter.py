"""The presenter of the pictures: the iteration shown, what it is compared with, and the reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from dragnoise.identity import Identity
from dragnoise.images.difference import difference
from dragnoise_widgets.branching.branches import Branches
from dragnoise_widgets.compare.choice import BRANCH, GIVEN, ITERATION, RECONSTRUCTION, SHOWN
from dragnoise_widgets.compare.preview import Preview
from dragnoise_widgets.compare.reconstruction import Reconstruct
from dragnoise_widgets.export import pictures
from dragnoise_widgets.export.picture_cache import Album
from dragnoise_widgets.export.quick_looks import StudioQuickLooks

if TYPE_CHECKING:
    from dragnoise import DragSession, Model
    from dragnoise.inspection.limits import Limit
    from dragnoise.session.history import History
    from dragnoise.session.state import SessionState


BLANK = (128, 128, 128)
"""The colour of a half that there is no picture of."""


@dataclass(frozen=True, eq=False)
class Half:
    """A picture to compare, None if there is none yet, and its name."""

    picture: Image.Image | None
    name: str


class ComparisonPresenter:
    """Fills a preview from a session.

    limit: the reconstruction of the session shown, None before it has been made.  sentence: what the model cannot do
    with the picture, by that, and before it by `limits.at_upload`; "" if it can.
    """

    def __init__(self, preview: Preview, looks: StudioQuickLooks, branches: Callable[[], Branches]) -> None:
        self._preview, self._looks, self._branches = preview, looks, branches
        self._made: dict[tuple[Any, ...], Limit] = {}
        self._asked: tuple[Any, ...] = ()
        self._differs: tuple[Any, ...] = ()
        self.limit: Limit | None = None
        self.sentence = ""
        self._at_upload: tuple[Any, ...] = ()  # model, picture and sentence

    def show(self, session: DragSession, history: History, k: int, album: Album) -> None:
        """Show the picture of iteration k, or its quick look, or the nearest there is, and the chosen comparison."""
        preview, choice, branches = self._preview, self._preview.choice, self._branches()
        self.limit = self._made.get(_key(session.state))
        decibels = None if self.limit is None else self.limit.psnr
        self.sentence = self._judge_at_upload(session) if self.limit is None else self.limit.sentence
        compared = branches.index(branches.compared)
        choice.show(branches.names, branches.index(session) or 0, compared, max(len(history) - 1, 0), decibels)
        self._show_iteration(session, history, k, album)
        left, right = (
            self._half(field.value, field is choice.left, session, history, album)
            for field in (choice.left, choice.right)
        )
        nothing = _blank(session.image.size)
        preview.before = left.picture or nothing
        preview.name_halves(left.name, right.name)
        if choice.difference.value and left.picture is not None and right.picture is not None:
            preview.replace(*self._difference(left, right))
        else:
            preview.replace(None if choice.right.value == SHOWN else right.picture or nothing)

    def wanted(self, session: DragSession) -> Reconstruct | None:
        """The command that makes the reconstruction, None if it is there or has been asked for."""
        state = session.state
        asked = (*_key(state), len(state.history))
        if not state.inverted or session.model is None or _key(state) in self._made or asked == self._asked:
            return None
        self._asked = asked

        def done(state: SessionState, picture: Image.Image) -> None:
            from dragnoise.inspection import limits

            self._made = {_key(state): limits.judged(session, picture)}

        return Reconstruct(done)

    def _judge_at_upload(self, session: DragSession) -> str:
        model: Model | None = session.model
        image = session.image
        if model is None:
            return ""
        if self._at_upload[:2] != (key := (Identity(model), Identity(image))):
            from dragnoise.inspection import limits

            limit = limits.at_upload(model, image, session.config)
            self._at_upload = *key, "" if limit is None else limit.sentence
        return str(self._at_upload[2])

    def _show_iteration(self, session: DragSession, history: History, k: int, album: Album) -> None:
        preview = self._preview
        found = pictures.nearest(album, self._looks, history, k, session.state)
        if found is None:
            if self.limit is not None and not history:
                preview.show(self.limit.picture, f"reconstruction, {self.limit.psnr:.1f} dB")
            else:
                preview.show(session.image, "given")
        elif found.iteration == k or found.quick:
            caption = f"iteration {found.iteration}" if found.iteration else "before any iteration"
            preview.show(found.picture, caption, quick=found.quick)
        else:
            preview.show(found.picture, f"iteration {found.iteration}, the nearest to {k} that has been rendered")

    def _half(self, key: str, left: bool, session: DragSession, history: History, album: Album) -> Half:
        if key == GIVEN:
            return Half(session.image, "given")
        if key == RECONSTRUCTION:
            limit = self.limit
            return Half(None, "not reconstructed yet") if limit is None else Half(limit.picture, "reconstruction")
        if key == SHOWN:
            return Half(self._preview.picture, self._preview.caption.value)
        if key == ITERATION:
            k = (self._preview.choice.number if left else self._preview.choice.other_number).value
            found = pictures.nearest(album, self._looks, history, k, session.state)
            if found is None:
                return Half(None, f"no picture of iteration {k} yet")
            return Half(found.picture, f"iteration {found.iteration}{', quick look' if found.quick else ''}")
        branches = self._branches()
        i = int(key.removeprefix(BRANCH))
        if i >= len(branches.sessions):
            return Half(None, "this branch has gone")
        branch, name = branches.sessions[i], f"branch {branches.names[i]}"
        picture = branches.newest_picture(branch)
        return Half(branch.image, f"{name}, given") if picture is None else Half(picture, name)

    def _difference(self, left: Half, right: Half) -> tuple[Image.Image, str]:
        key = Identity(left.picture), Identity(right.picture)
        if not self._differs or self._differs[0] != key:
            found = difference(left.picture, right.picture)
            self._differs = key, found.picture, found.caption
        return self._differs[1:]


@lru_cache(maxsize=4)
def _blank(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, BLANK)


def _key(state: SessionState) -> tuple[Any, ...]:
    """What a reconstruction depends on: whatever makes another inversion makes another trajectory."""
    return (Identity(state.trajectory[-1]) if state.trajectory else None,)
