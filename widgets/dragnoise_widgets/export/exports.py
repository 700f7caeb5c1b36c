"""Export of the shown session: picture, drags, GIF and code, as files or in the export panel."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from dragnoise import atomic_write
from dragnoise.validation import as_path
from dragnoise_widgets.compare.preview import Preview
from dragnoise_widgets.export import downloads
from dragnoise_widgets.export.clipboard import Clipboard
from dragnoise_widgets.export.export_panel import ExportPanel
from dragnoise_widgets.panels.messages import Messages

if TYPE_CHECKING:
    from dragnoise import DragSession
    from dragnoise_widgets.export.code import Code


class StudioProtocol(Protocol):
    """The part of `DragStudio` that exports use."""

    messages: Messages
    preview: Preview
    session: DragSession

    @property
    def presenter(self) -> Any: ...

    @property
    def runner(self) -> Any: ...

    @property
    def image(self) -> Image.Image | None: ...

    @property
    def iteration(self) -> int: ...

    def refresh(self) -> None: ...


class Exports:
    """panel: links and buttons.  clipboard: the widget that copies the code on the page."""

    def __init__(self, shown: StudioProtocol) -> None:
        guarded: Callable[..., Any] = partial(partial, shown.messages.guarded)
        self.panel = ExportPanel(
            {"gif": guarded(self.make_gif), "code": guarded(self.show_code), "sample": guarded(self.save_sample)}
        )
        self.clipboard = Clipboard(self._copied)
        self._shown = shown
        self._gif: Future[bytes] | None = None  # the GIF that is being made
        self._code: Code | None = None  # the code that is being copied

    @property
    def making_gif(self) -> bool:
        """Is a GIF being made?"""
        return self._gif is not None

    def cancel_gif(self) -> None:
        """Cancel the GIF that is being made."""
        if self._gif is not None:
            self._gif.cancel()

    def save_picture(self, path: str | Path) -> None:
        """Save the picture shown.  Raises RuntimeError if there is none, OSError where it cannot be written."""
        picture = self._shown.image
        if picture is None:
            raise RuntimeError("there is no picture yet; run some iterations first.")
        if self._shown.preview.quick:
            raise RuntimeError("there is only a quick look yet; pause or wait until the picture is rendered.")
        atomic_write.write_picture(as_path(path, what="a picture, such as 'edited.png'"), picture)

    def save_drags(self, path: str | Path) -> None:
        """Save the drags as JSON."""
        session = self._shown.session
        text = downloads.drags_json(session.drags, session.image.size)
        atomic_write.write_text(as_path(path, what="a file, such as 'drags.json'"), text)

    def save_sample(self, folder: str | Path) -> None:
        """Save picture, drags, prompt and mask as a sample of a data set; the panel then names the next folder.

        Raises FileExistsError where there is a sample already, and as `bench.save_sample` does.
        """
        from dragnoise.bench.export import save_sample

        place = as_path(folder, name="folder", what="a sample's folder, such as 'samples/mine/1'")
        if (place / "drags.json").exists():
            raise FileExistsError(f"there is a sample in {str(place)!r} already; name another folder.")
        save_sample(self._shown.session, place)
        self._shown.messages.tell(f"saved as a sample to {place}")
        if place.name.isdecimal():
            self.panel.folder.value = str(place.with_name(str(int(place.name) + 1)))

    def save_gif(self, path: str | Path, iterations: Any = None) -> None:
        """Render the trajectory as a GIF and save it, when that is done."""
        found = as_path(path, what="a file, such as 'drag.gif'")
        atomic_write.require_writable(found)  # before minutes of rendering
        atomic_write.write_bytes(found, self.render_gif(iterations).result())

    def render_gif(self, iterations: Any = None) -> Future[bytes]:
        """The bytes of that GIF, of quick looks where there are any; the others are rendered between two iterations.

        Raises IndexError for an iteration that is not there.
        """
        session = self._shown.session
        return downloads.render_gif(
            self._shown.runner.call, downloads.iterations_of(session.history, iterations), session.drags,
            self.panel.say, self._shown.presenter.known(),
        )  # fmt: skip

    def make_gif(self) -> None:
        """Show a GIF in the panel when it is made; or give up the one that is being made."""
        if self._gif is not None:
            self._gif.cancel()
            return

        def done(future: Future[bytes]) -> None:  # the runner reports errors
            self._gif = None
            self._shown.refresh()
            if future.cancelled() or future.exception() is not None:
                self.panel.say("")
            else:
                self.panel.show_gif(future.result())

        self.panel.say("…")
        self._gif = self.render_gif()
        self._gif.add_done_callback(done)
        self._shown.refresh()

    def code(self, folder: str | Path) -> Code:
        """The Python that repeats the edit up to the iteration shown; its files are saved in the folder."""
        from dragnoise_widgets.export.code import code_of

        return code_of(self._shown.session, as_path(folder, name="folder", what="a folder"), k=self._shown.iteration)

    def show_code(self) -> None:
        """Show the code in the panel and copy it."""
        self._code = self.code("edit")
        self.panel.show_code(self._code.text)
        self._shown.messages.tell(f"the code is shown under Download and code; {self._code.needs}")
        self.clipboard.copy(self._code.text)

    def _copied(self, reason: str) -> None:
        """Tell whether the page has copied the code.  reason: why it has not, empty if it has."""
        if self._code is not None:
            how = f"the code could not be copied ({reason}); select it and press Ctrl+C" if reason else "Copied"
            self._shown.messages.tell(f"{how}; {self._code.needs}")
